//! Arithmetic on pointers: what may be added to or subtracted from which.

use alloc::format;

use ebpf_isa::{AluOp, Reg, Width};

use super::alu::kernel_text;
use super::{FAR, Machine};
use crate::domain::{Scalar, offset_add, offset_sub};
use crate::error::{Checked, ErrorCode, Fault};
use crate::state::{PacketRange, Pointer, PointerKind, ScalarValue, Value};

impl Machine<'_> {
    /// `pointer op number`, or `number op pointer` if `reversed`.
    pub(super) fn pointer_alu(
        &mut self,
        op: AluOp,
        width: Width,
        dst: Reg,
        pointer: Pointer,
        number: &ScalarValue,
        reversed: bool,
    ) -> Checked<Value> {
        let by = &number.bounds;
        let prohibited = |message| {
            let message = format!("R{} {message}", dst.number());
            Err(Fault::new(ErrorCode::PointerArithmetic, message))
        };
        let is_empty = by.smin() > by.smax() || by.umin() > by.umax();
        let is_point = by.smin() == by.smax() && by.umin() == by.umax();
        if is_empty || (by.as_const().is_some() && !is_point) {
            // A path that cannot be: the kernel forgets the register.
            return Ok(Value::UNKNOWN);
        }
        if width == Width::W32 {
            return match op {
                AluOp::Sub => Ok(Value::UNKNOWN),
                _ => prohibited(format_args!("32-bit pointer arithmetic prohibited")),
            };
        }
        let name = pointer.kind.name();
        if pointer.kind.may_be_null() {
            let message =
                format_args!("pointer arithmetic on {name} prohibited, null-check it first");
            return prohibited(message);
        }
        let is_map_plus_zero = matches!(pointer.kind, PointerKind::Map(_))
            && op == AluOp::Add
            && by.as_const() == Some(0);
        let is_known_step = matches!(pointer.kind, PointerKind::Object { object, .. } if object.is_memory())
            && by.as_const().is_some();
        if !may_move(pointer.kind) && !is_map_plus_zero && !is_known_step {
            return prohibited(format_args!("pointer arithmetic on {name} prohibited"));
        }
        // The kernel keeps a number's distance from its group where a pointer has its offset.
        let distance = number.link.and_then(|link| link.distance).map_or(0, |distance| distance.by);
        check_sane(by, distance, name)?;
        check_sane(&pointer.var, pointer.off, name)?;
        let moved = match op {
            AluOp::Add => self.moved_up(pointer, by),
            AluOp::Sub if reversed => {
                return prohibited(format_args!("tried to subtract pointer from scalar"));
            }
            AluOp::Sub if matches!(pointer.kind, PointerKind::Stack { .. }) => {
                return prohibited(format_args!("subtraction from stack pointer prohibited"));
            }
            AluOp::Sub => self.moved_down(pointer, by),
            AluOp::And | AluOp::Or | AluOp::Xor => {
                let op = kernel_text(op);
                return prohibited(format_args!("bitwise operator {op} on pointer prohibited"));
            }
            AluOp::Mul
            | AluOp::Div
            | AluOp::SDiv
            | AluOp::Lsh
            | AluOp::Rsh
            | AluOp::Mod
            | AluOp::SMod
            | AluOp::Arsh => {
                let op = kernel_text(op);
                return prohibited(format_args!(
                    "pointer arithmetic with {op} operator prohibited"
                ));
            }
        };
        check_sane(&moved.var, moved.off, name)?;
        Ok(Value::Pointer(moved))
    }

    fn moved_up(&mut self, pointer: Pointer, by: &Scalar) -> Pointer {
        let off = by.as_const().and_then(|by| i64::from(pointer.off).checked_add(by.cast_signed()));
        if let Some(off) = off.and_then(|off| i32::try_from(off).ok()) {
            return Pointer { off, ..pointer };
        }
        Pointer { var: offset_add(&pointer.var, by), ..self.rebased(pointer, false) }
    }

    fn moved_down(&mut self, pointer: Pointer, by: &Scalar) -> Pointer {
        let off = by.as_const().and_then(|by| i64::from(pointer.off).checked_sub(by.cast_signed()));
        if let Some(off) = off.and_then(|off| i32::try_from(off).ok()) {
            return Pointer { off, ..pointer };
        }
        let is_lower = by.smin() >= 0;
        Pointer { var: offset_sub(&pointer.var, by), ..self.rebased(pointer, is_lower) }
    }

    /// The pointer with a variable offset of its own. If it is `lower` than before, as many bytes
    /// exist behind it as before; otherwise nothing is known of the packet behind it.
    fn rebased(&mut self, pointer: Pointer, lower: bool) -> Pointer {
        match pointer.kind {
            PointerKind::Packet { region, range, .. } => {
                let id = self.new_packet_id();
                let range = match range {
                    PacketRange::Bytes(_) if lower => range,
                    _ => PacketRange::NONE,
                };
                Pointer { kind: PointerKind::Packet { region, id, range }, ..pointer }
            }
            _ => pointer,
        }
    }
}

const fn may_move(kind: PointerKind) -> bool {
    match kind {
        PointerKind::Context
        | PointerKind::MapValue(_)
        | PointerKind::Packet { .. }
        | PointerKind::Stack { .. } => true,
        PointerKind::Map(_) | PointerKind::Object { .. } | PointerKind::PacketEnd => false,
    }
}

/// Whether an offset is small enough that nothing computed from it overflows.
fn check_sane(var: &Scalar, off: i32, name: &str) -> Checked {
    let fault = |message: core::fmt::Arguments<'_>| -> Checked {
        Err(Fault::new(ErrorCode::PointerRange, alloc::fmt::format(message)))
    };
    let too_far = |off: i64| off <= -FAR || off >= FAR;
    if let Some(value) = var.as_const().map(u64::cast_signed).filter(|&value| too_far(value)) {
        return fault(format_args!("math between {name} pointer and {value} is not allowed"));
    }
    if too_far(off.into()) {
        return fault(format_args!("{name} pointer offset {off} is not allowed"));
    }
    let smin = var.smin();
    if smin == i64::MIN {
        return fault(format_args!(
            "math between {name} pointer and register with unbounded min value is not allowed"
        ));
    }
    if too_far(smin) {
        return fault(format_args!("value {smin} makes {name} pointer be out of bounds"));
    }
    Ok(())
}

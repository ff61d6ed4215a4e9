//! Arithmetic on pointers: what may be added to or subtracted from which.

use ebpf_isa::{AluOp, Reg, Width};

use super::{FAR, Machine};
use crate::domain::{Scalar, offset_add, offset_sub};
use crate::error::{ArithmeticRule, Checked, FarOffset, Payload, Unsupported};
use crate::state::{Origin, PacketRange, Pointer, PointerKind, ScalarValue, Value};

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
        let kind = pointer.kind.name();
        let prohibited = |rule| {
            let register = dst;
            Err(Payload::PointerArithmetic { register, op, kind, rule }.into())
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
                _ => prohibited(ArithmeticRule::Narrow),
            };
        }
        if pointer.kind.may_be_null() {
            return prohibited(ArithmeticRule::MayBeNull);
        }
        if pointer.kind == PointerKind::Guarded {
            // The kernel lets the result be what the left operand was, also where that is a number.
            return match reversed {
                true => Err(Unsupported::NumberPlusGuarded.into()),
                false => Ok(Value::Pointer(pointer)),
            };
        }
        let is_map_plus_zero = matches!(pointer.kind, PointerKind::Map(_))
            && op == AluOp::Add
            && by.as_const() == Some(0);
        let is_known_step = matches!(pointer.kind, PointerKind::Object { object, .. } if object.is_memory())
            && by.as_const().is_some();
        if !may_move(pointer.kind) && !is_map_plus_zero && !is_known_step {
            return prohibited(ArithmeticRule::Kind);
        }
        // The kernel keeps a number's distance from its group where a pointer has its offset.
        let distance = number.link.and_then(|link| link.distance).map_or(0, |distance| distance.by);
        check_sane(by, distance, kind)?;
        check_sane(&pointer.var, pointer.off, kind)?;
        let moved = match op {
            // The kernel takes the sum for a pointer into the main program's frame.
            AluOp::Add if reversed && in_called_frame(pointer.kind) => {
                return Err(Unsupported::NumberPlusFrame.into());
            }
            // Of the sum, the kernel does not know that it ends with what was acquired.
            AluOp::Add if reversed && ends_unnoticed(pointer.kind) => {
                return Err(Unsupported::NumberPlusSlice.into());
            }
            AluOp::Add if reversed && is_acquired_structure(pointer.kind) => {
                return Err(Unsupported::NumberPlusAcquired.into());
            }
            AluOp::Add if reversed => sum(self.moved_up(pointer, by)),
            AluOp::Add => self.moved_up(pointer, by),
            AluOp::Sub if reversed => return prohibited(ArithmeticRule::FromNumber),
            AluOp::Sub if matches!(pointer.kind, PointerKind::Stack { .. }) => {
                return prohibited(ArithmeticRule::FromStack);
            }
            AluOp::Sub => self.moved_down(pointer, by),
            AluOp::And
            | AluOp::Or
            | AluOp::Xor
            | AluOp::Mul
            | AluOp::Div
            | AluOp::SDiv
            | AluOp::Lsh
            | AluOp::Rsh
            | AluOp::Mod
            | AluOp::SMod
            | AluOp::Arsh => return prohibited(ArithmeticRule::Operator),
        };
        check_sane(&moved.var, moved.off, kind)?;
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

/// What a number becomes to which a pointer is added.
fn sum(mut pointer: Pointer) -> Pointer {
    if let PointerKind::Ringbuf { origin: origin @ Origin::Acquired, .. } = &mut pointer.kind {
        *origin = Origin::Sum;
    }
    pointer
}

const fn may_move(kind: PointerKind) -> bool {
    match kind {
        PointerKind::Context
        | PointerKind::Function(_)
        | PointerKind::MapKey(_)
        | PointerKind::MapValue(_)
        | PointerKind::Packet { .. }
        | PointerKind::Structure { .. }
        | PointerKind::Guarded
        | PointerKind::Buffer { .. }
        | PointerKind::Ringbuf { .. }
        | PointerKind::Argument { .. }
        | PointerKind::Slice { .. }
        | PointerKind::Item { .. }
        | PointerKind::Dynptr(_)
        | PointerKind::Stack { .. } => true,
        PointerKind::Map(_)
        | PointerKind::Element { .. }
        | PointerKind::Object { .. }
        | PointerKind::Opaque { .. }
        | PointerKind::PacketEnd => false,
    }
}

/// Whether an offset is small enough that nothing computed from it overflows.
fn check_sane(var: &Scalar, off: i32, kind: &'static str) -> Checked {
    let too_far = |off: i64| off <= -FAR || off >= FAR;
    let offset = match (var.as_const().map(u64::cast_signed), var.smin()) {
        (Some(value), _) if too_far(value) => FarOffset::Number(value),
        _ if too_far(off.into()) => FarOffset::Constant(off),
        (_, i64::MIN) => FarOffset::Unbounded,
        (_, smin) if too_far(smin) => FarOffset::Least(smin),
        _ => return Ok(()),
    };
    Err(Payload::PointerRange { kind, offset }.into())
}

/// Whether it is memory of which the kernel forgets what it ends with, where it is added to a number.
const fn ends_unnoticed(kind: PointerKind) -> bool {
    matches!(kind, PointerKind::Slice { reference: Some(_), .. } | PointerKind::Item { .. })
}

/// Whether it points to a structure that was acquired: of the sum, the kernel does not know that.
const fn is_acquired_structure(kind: PointerKind) -> bool {
    matches!(kind, PointerKind::Structure { reference: Some(_), .. })
}

/// Whether it points into the frame of a function that was called.
const fn in_called_frame(kind: PointerKind) -> bool {
    matches!(kind, PointerKind::Stack { frame } if frame > 0)
}

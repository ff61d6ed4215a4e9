//! States in the spelling of the kernel's verifier log.

use core::fmt::{self, Display, Formatter};

use ebpf_isa::{Reg, Width};

use crate::domain::{Attributes, Scalar, Unsigned};
use crate::environment::Environment;
use crate::state::{
    ByteKind, Cell, CellSet, Distance, Link, PacketRange, Pointer, PointerKind, ScalarValue, Slot,
    SlotMask, State, Value,
};

/// What of a frame is printed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shown {
    /// Registers, as bits.
    pub(super) regs: u16,
    pub(super) slots: SlotMask,
}

impl Shown {
    pub(super) const ALL: Self = Self { regs: u16::MAX, slots: SlotMask::MAX };
    pub(super) const NOTHING: Self = Self { regs: 0, slots: 0 };

    pub(super) fn is_nothing(self) -> bool {
        self.regs == 0 && self.slots == 0
    }
}

/// A frame of a state: ` frame1: R0=1 R10=fp0 fp-8=ctx()`.
pub(super) struct FrameText<'a> {
    pub(super) env: &'a Environment,
    pub(super) state: &'a State,
    pub(super) index: usize,
    pub(super) shown: Shown,
    /// Numbers that are marked.
    pub(super) precise: &'a CellSet,
}

impl Display for FrameText<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let frame = self.state.frame_at(self.index);
        if self.index > 0 {
            write!(f, " frame{}:", self.index)?;
        }
        for reg in Reg::ALL {
            let value = &frame.regs[reg.index()];
            if *value == Value::Uninit || self.shown.regs & 1 << reg.index() == 0 {
                continue;
            }
            write!(f, " R{}=", reg.number())?;
            self.value(f, value, self.precise.contains(Cell::reg(self.index, reg)))?;
        }
        for (index, slot) in frame.stack.slots().enumerate() {
            let is_touched = slot.bytes().iter().any(|&byte| byte != ByteKind::Invalid);
            if !is_touched || self.shown.slots & 1 << index == 0 {
                continue;
            }
            write!(f, " fp-{}=", (index + 1) * 8)?;
            self.slot(f, slot, self.precise.contains(Cell::slot(self.index, index)))?;
        }
        Ok(())
    }
}

impl FrameText<'_> {
    fn slot(&self, f: &mut Formatter<'_>, slot: &Slot, precise: bool) -> fmt::Result {
        // From the highest byte down; a spilled value stands for its bytes.
        for byte in slot.bytes().iter().rev() {
            f.write_str(match byte {
                ByteKind::Invalid => "?",
                ByteKind::Misc => "m",
                ByteKind::Zero => "0",
                ByteKind::Spill => break,
            })?;
        }
        slot.spilled().map_or(Ok(()), |value| self.value(f, value, precise))
    }

    fn value(&self, f: &mut Formatter<'_>, value: &Value, precise: bool) -> fmt::Result {
        match value {
            Value::Uninit => Ok(()),
            Value::Scalar(scalar) => number(f, scalar, precise),
            Value::Pointer(pointer) => self.pointer(f, pointer),
        }
    }

    fn pointer(&self, f: &mut Formatter<'_>, pointer: &Pointer) -> fmt::Result {
        f.write_str(pointer.kind.name())?;
        if let PointerKind::Opaque { ty, .. } = pointer.kind {
            f.write_str(self.env.modules.object_types()[ty.0 as usize].name())?;
        }
        if let PointerKind::Stack { frame } = pointer.kind {
            if frame != self.index {
                write!(f, "[{frame}]")?;
            }
            if let Some(off) = pointer.const_off() {
                return write!(f, "{}", signed(off));
            }
        }
        f.write_str("(")?;
        let mut list = List { separator: "" };
        match pointer.kind {
            PointerKind::MapValue(value) => {
                if let Some(id) = value.null {
                    list.item(f, format_args!("id={}", id.0))?;
                }
                self.map(f, &mut list, value.map)?;
            }
            PointerKind::Map(map) => self.map(f, &mut list, map)?,
            PointerKind::Object { null, reference, .. }
            | PointerKind::Opaque { null, reference, .. } => {
                if let Some(id) = null {
                    list.item(f, format_args!("id={}", id.0))?;
                }
                if let Some(id) = reference {
                    list.item(f, format_args!("ref_obj_id={}", id.0))?;
                }
            }
            PointerKind::Packet { id, .. } if id.0 != 0 => {
                list.item(f, format_args!("id={}", id.0))?;
            }
            _ => {}
        }
        if pointer.off != 0 {
            list.item(f, format_args!("off={}", signed(pointer.off.into())))?;
        }
        if let PointerKind::Packet { range, .. } = pointer.kind {
            // Behind the end the kernel has a negative number of bytes.
            let bytes: i64 = match range {
                PacketRange::Bytes(bytes) => bytes.into(),
                PacketRange::AtEnd => -1,
                PacketRange::BeyondEnd => -2,
            };
            list.item(f, format_args!("r={}", Unsigned(bytes.cast_unsigned())))?;
        }
        match pointer.var.as_const() {
            Some(0) => {}
            Some(_) => list.item(f, format_args!("imm={}", pointer.var))?,
            None => list.attributes(f, &pointer.var)?,
        }
        f.write_str(")")
    }

    fn map(&self, f: &mut Formatter<'_>, list: &mut List, map: ebpf_isa::MapIdx) -> fmt::Result {
        let Some(info) = self.env.map(map) else {
            return Ok(());
        };
        if !info.name.is_empty() {
            list.item(f, format_args!("map={}", info.name))?;
        }
        let (key, value) = (info.desc.key_size, info.desc.value_size);
        list.item(f, format_args!("ks={key},vs={value}"))
    }
}

fn number(f: &mut Formatter<'_>, scalar: &ScalarValue, precise: bool) -> fmt::Result {
    if precise {
        f.write_str("P")?;
    }
    if scalar.bounds.as_const().is_some() {
        return write!(f, "{}", scalar.bounds);
    }
    f.write_str("scalar(")?;
    let mut list = List { separator: "" };
    if let Some(Link { id, distance, .. }) = scalar.link {
        list.item(f, format_args!("id={}", id.0))?;
        if let Some(Distance { by, width: Width::W32 | Width::W64 }) = distance {
            write!(f, "{by:+}")?;
        }
    }
    list.attributes(f, &scalar.bounds)?;
    f.write_str(")")
}

/// A number as the kernel prints signed ones.
fn signed(number: i64) -> Scalar {
    Scalar::constant(number.cast_unsigned())
}

/// Items with commas between them.
struct List {
    separator: &'static str,
}

impl List {
    fn item(&mut self, f: &mut Formatter<'_>, item: fmt::Arguments<'_>) -> fmt::Result {
        f.write_str(self.separator)?;
        self.separator = ",";
        f.write_fmt(item)
    }

    fn attributes(&mut self, f: &mut Formatter<'_>, scalar: &Scalar) -> fmt::Result {
        if *scalar == Scalar::UNKNOWN {
            return Ok(());
        }
        self.item(f, format_args!("{}", Attributes(scalar)))
    }
}

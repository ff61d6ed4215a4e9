//! Memory that helpers are given: which of it there must be, and what is known of it afterwards.

use ebpf_isa::{Reg, Size};

use super::{CallFacts, wrong_kind};
use crate::domain::Scalar;
use crate::error::{BadSize, Checked, Payload, Region, Unsupported};
use crate::rules::{ArgKind, HelperProto};
use crate::state::{MapValueRef, PointerKind, SliceOf, Value};
use crate::step::memory::{Place, check_region, check_there};
use crate::step::packet::check_packet;
use crate::step::structure::check_buffer;
use crate::step::{FAR, Machine};

/// What a helper does with memory that it is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::step) enum MemoryUse {
    Read,
    /// Fills all of it.
    Fill,
    /// May fill some of it.
    FillPart,
}

/// A piece of memory given to a helper.
#[derive(Debug, Clone, Copy)]
pub(in crate::step) struct Piece {
    pub(in crate::step) reg: Reg,
    pub(in crate::step) size: i64,
    pub(in crate::step) zero_size_allowed: bool,
    /// Whether a value of a map may be missing: the helper then takes null for it.
    pub(in crate::step) null_allowed: bool,
    pub(in crate::step) usage: MemoryUse,
}

impl Machine<'_> {
    /// A size argument, and with it the memory of the argument before.
    pub(super) fn check_size(
        &mut self,
        proto: &HelperProto,
        index: usize,
        reg: Reg,
        value: &Value,
        facts: &mut CallFacts,
    ) -> Checked {
        let Some(scalar) = value.as_scalar() else {
            return Err(wrong_kind(reg, value, &["scalar"]));
        };
        let bounds = scalar.bounds;
        let zero_size_allowed = proto.args[index] == ArgKind::SizeOrZero;
        check_size_bounds(reg, &bounds, zero_size_allowed)?;
        let before = index.checked_sub(1).map(|index| (proto.args[index], Reg::ARGS[index]));
        let (kind, memory) = before.ok_or(Unsupported::LoneSize)?;
        let usage = match (kind, bounds.as_const()) {
            (ArgKind::Output, Some(_)) => MemoryUse::Fill,
            (ArgKind::Output, None) | (ArgKind::Update | ArgKind::UpdateOrNull, _) => {
                MemoryUse::FillPart
            }
            _ => MemoryUse::Read,
        };
        let size = bounds.umax().cast_signed();
        facts.max_size = size;
        let piece = Piece { zero_size_allowed, ..Piece::new(memory, size, usage) };
        self.check_piece(piece, facts)?;
        self.rely_on(reg);
        Ok(())
    }

    /// A number in memory, of so many bytes, which a helper writes.
    pub(super) fn check_number(
        &mut self,
        reg: Reg,
        size: u8,
        usage: MemoryUse,
        facts: &mut CallFacts,
    ) -> Checked {
        self.check_piece(Piece::new(reg, size.into(), usage), facts)?;
        let value = self.read(reg)?;
        let size = Size::from_bytes(size.into()).expect("numbers have the size of an access");
        self.check_alignment(&value, Place { reg, off: 0, size }, true)
    }

    /// Checks memory that a helper reads or writes.
    pub(in crate::step) fn check_piece(&mut self, piece: Piece, facts: &mut CallFacts) -> Checked {
        let Piece { reg, size, zero_size_allowed, null_allowed, usage } = piece;
        let value = self.read(reg)?;
        let pointer = match value {
            Value::Pointer(pointer) => pointer,
            _ if zero_size_allowed && size == 0 && value.is_zero() => return Ok(()),
            _ => return Err(wrong_kind(reg, &value, &["fp"])),
        };
        match pointer.kind {
            PointerKind::Packet { id, range, .. } => {
                check_packet(reg, &pointer, id, range, 0, size, zero_size_allowed)
            }
            PointerKind::MapKey(_) if usage != MemoryUse::Read => {
                Err(Payload::MapKeyOutput { register: reg }.into())
            }
            PointerKind::MapKey(map) => {
                let region = Region::MapKey { key_size: self.map(map).desc.key_size };
                check_region(reg, region, &pointer, 0, size, zero_size_allowed)
            }
            PointerKind::MapValue(MapValueRef { map, null, .. })
                if null.is_none() || null_allowed =>
            {
                self.check_map_flags(map, &pointer, 0, size, usage != MemoryUse::Read)?;
                self.check_map_value(reg, map, &pointer, 0, size, zero_size_allowed)
            }
            PointerKind::Structure { null: None, .. } if usage == MemoryUse::Read => {
                self.check_structure_piece(reg, &pointer, size)
            }
            PointerKind::Buffer { null: None, writable } => {
                check_buffer(reg, writable, &pointer, pointer.off.into(), size)
            }
            PointerKind::Item { .. }
            | PointerKind::Slice {
                null: None, of: SliceOf::Kind { writable: false, .. }, ..
            } if usage != MemoryUse::Read => {
                Err(Payload::MemoryReadOnly { register: reg, kind: pointer.kind.name() }.into())
            }
            PointerKind::Argument { size: bytes, null: None }
            | PointerKind::Slice { size: bytes, null: None, .. }
            | PointerKind::Item { size: bytes, .. } => {
                let region = Region::Argument { size: bytes };
                check_region(reg, region, &pointer, 0, size, zero_size_allowed)
            }
            PointerKind::Ringbuf { size: bytes, null: None, origin, .. } => {
                let region = Region::Ringbuf { size: bytes };
                check_region(reg, region, &pointer, 0, size, zero_size_allowed)?;
                check_there(origin)
            }
            PointerKind::Stack { frame } => {
                if size == 0 && !zero_size_allowed {
                    return Err(Payload::HelperSize { register: reg, bad: BadSize::Zero }.into());
                }
                let write = usage != MemoryUse::Read;
                let range = self.check_stack_range(reg, &pointer, frame, 0, size, write)?;
                let is_fixed = pointer.var.as_const().is_some();
                let fills_later = usage == MemoryUse::Fill && is_fixed;
                match fills_later {
                    true => self.check_fills_no_dynptr(frame, range)?,
                    false => self.check_range_readable(reg, &pointer, frame, range, size)?,
                }
                if fills_later {
                    facts.fill = Some((reg, size));
                }
                if !fills_later {
                    self.note_stack_reads(frame, range);
                }
                if write && !fills_later {
                    self.state.frame_at_mut(frame).stack.clobber(range.offs());
                }
                Ok(())
            }
            PointerKind::Context
            | PointerKind::Map(_)
            | PointerKind::Element { .. }
            | PointerKind::MapValue(_)
            | PointerKind::Object { .. }
            | PointerKind::Opaque { .. }
            | PointerKind::Structure { .. }
            | PointerKind::Guarded
            | PointerKind::Buffer { .. }
            | PointerKind::Ringbuf { .. }
            | PointerKind::Function(_)
            | PointerKind::Argument { .. }
            | PointerKind::Slice { .. }
            | PointerKind::Dynptr(_)
            | PointerKind::PacketEnd => Err(wrong_kind(reg, &value, &["fp"])),
        }
    }

    /// The stack memory that a helper fills as a whole, once all arguments have been checked.
    pub(super) fn fill_output(&mut self, facts: &CallFacts) -> Checked {
        let Some((reg, size)) = facts.fill else {
            return Ok(());
        };
        let Value::Pointer(pointer) = self.read(reg)? else {
            return Ok(());
        };
        if let PointerKind::Stack { frame } = pointer.kind {
            let range = self.check_stack_range(reg, &pointer, frame, 0, size, true)?;
            self.overwrite_objects(frame, range, true, false)?;
            range.offs().for_each(|off| self.effects.fill_slot(off.slot()));
            self.state.frame_at_mut(frame).stack.clobber(range.offs());
        }
        Ok(())
    }
}

/// Checks that a number can be the size of memory.
pub(in crate::step) fn check_size_bounds(
    reg: Reg,
    bounds: &Scalar,
    zero_size_allowed: bool,
) -> Checked {
    let max = bounds.umax();
    let bad = match bounds.smin() {
        min @ ..0 => BadSize::Negative { min },
        _ if bounds.umin() == 0 && !zero_size_allowed => BadSize::MayBeZero { max },
        _ if max >= FAR.cast_unsigned() => BadSize::Unbounded { max },
        _ => return Ok(()),
    };
    Err(Payload::HelperSize { register: reg, bad }.into())
}

impl Piece {
    /// A piece whose size is not 0.
    pub(in crate::step) const fn new(reg: Reg, size: i64, usage: MemoryUse) -> Self {
        Self { reg, size, zero_size_allowed: false, null_allowed: false, usage }
    }
}

//! Packet pointers: what comparisons with the end teach, and what may then be accessed.

use ebpf_isa::uapi::ProgramType;
use ebpf_isa::{CmpOp, Operand, Reg};

use super::memory::{check_unmodified, check_within};
use super::{Machine, Next};
use crate::error::{Checked, Ending, Extreme, Payload, Region};
use crate::state::{PacketId, PacketRange, PacketRegion, Pointer, PointerKind, State, Value};

/// Greatest offset of a packet pointer from which a range is learnt.
const OFFSET_MAX: u64 = 0xffff;

/// A comparison `packet op limit` of a pointer into the packet with its end, or of a pointer into
/// the metadata with the packet's start.
pub(super) struct PacketComparison<'a> {
    op: CmpOp,
    packet: &'a Pointer,
    limit_is_end: bool,
    packet_is_left: bool,
}

impl<'a> PacketComparison<'a> {
    /// `None` if it is another comparison.
    pub(super) fn new(op: CmpOp, left: &'a Pointer, right: &'a Pointer) -> Option<Self> {
        let limit_is_end = |packet: &Pointer, limit: &Pointer| match (packet.kind, limit.kind) {
            (PointerKind::Packet { .. }, PointerKind::PacketEnd) => Some(true),
            (PointerKind::Packet { region: PacketRegion::Meta, .. }, _) if is_start(limit) => {
                Some(false)
            }
            _ => None,
        };
        if let Some(limit_is_end) = limit_is_end(left, right) {
            return Some(Self { op, packet: left, limit_is_end, packet_is_left: true });
        }
        let limit_is_end = limit_is_end(right, left)?;
        Some(Self { op: op.mirrored(), packet: right, limit_is_end, packet_is_left: false })
    }

    /// Which way it goes: known only where an earlier comparison has found the same pointer to be
    /// at the end or beyond.
    pub(super) fn outcome(&self) -> Option<bool> {
        let PointerKind::Packet { range, .. } = self.packet.kind else {
            return None;
        };
        if !self.limit_is_end {
            return None;
        }
        match (self.op, range) {
            (CmpOp::Gt, PacketRange::BeyondEnd) => Some(true),
            (CmpOp::Le, PacketRange::BeyondEnd) => Some(false),
            (CmpOp::Ge, PacketRange::BeyondEnd | PacketRange::AtEnd) => Some(true),
            (CmpOp::Lt, PacketRange::BeyondEnd | PacketRange::AtEnd) => Some(false),
            _ => None,
        }
    }

    /// Takes what one outcome says into `state`. `lhs` and `rhs` are the registers compared.
    pub(super) fn learn(&self, state: &mut State, lhs: Reg, rhs: Operand, taken: bool) {
        let PointerKind::Packet { region, id, .. } = self.packet.kind else {
            return;
        };
        let is_meta_against_end = region == PacketRegion::Meta && self.limit_is_end;
        if is_meta_against_end {
            return;
        }
        let reg = if self.packet_is_left { Some(lhs) } else { rhs.reg() };
        match (self.op, taken) {
            (CmpOp::Lt, true) | (CmpOp::Ge, false) => self.extend_range(state, region, id, 1),
            (CmpOp::Le, true) | (CmpOp::Gt, false) => self.extend_range(state, region, id, 0),
            (CmpOp::Lt, false) | (CmpOp::Ge, true) => set_range(state, reg, PacketRange::AtEnd),
            (CmpOp::Le, false) | (CmpOp::Gt, true) => set_range(state, reg, PacketRange::BeyondEnd),
            _ => {}
        }
    }

    /// The packet reaches at least to the pointer, or `more` bytes beyond: so it does for every
    /// pointer with the same variable offset.
    fn extend_range(&self, state: &mut State, region: PacketRegion, id: PacketId, more: u32) {
        let Ok(off) = u32::try_from(self.packet.off) else {
            return;
        };
        let umax = self.packet.var.umax();
        let too_far = umax > OFFSET_MAX || umax + u64::from(off) > OFFSET_MAX;
        if too_far || (off == 0 && more > 0) {
            return;
        }
        let has_same_base = |value: &Value| {
            value.as_pointer().is_some_and(|pointer| match pointer.kind {
                PointerKind::Packet { region: r, id: i, .. } => (r, i) == (region, id),
                _ => false,
            })
        };
        state.update(has_same_base, |value| {
            if let Value::Pointer(Pointer { kind: PointerKind::Packet { range, .. }, .. }) = value {
                *range = range.at_least(off + more);
            }
        });
    }
}

impl Machine<'_> {
    /// A packet load of classic programs, whose context is in `r6`. It ends the function with 0 where
    /// the packet is too short.
    pub(super) fn load_packet(&mut self, index: Option<Reg>) -> Checked<Next> {
        let program_type = self.env.program_type.program_type();
        let has_packet_loads = matches!(
            program_type,
            ProgramType::SocketFilter | ProgramType::SchedCls | ProgramType::SchedAct
        );
        if !has_packet_loads {
            return Err(Payload::PacketLoadType { program_type }.into());
        }
        self.check_may_end()?;
        let value = self.read(Reg::R6)?;
        self.check_nothing_held(Ending::PacketLoad)?;
        let Some(context) = value.as_pointer().filter(|p| p.kind == PointerKind::Context) else {
            return Err(Payload::PacketLoadContext { kind: value.name() }.into());
        };
        if let Some(index) = index {
            self.read(index)?;
        }
        check_unmodified(Reg::R6, context)?;
        self.state.frame_mut().clear_caller_saved();
        self.set(Reg::R0, Value::UNKNOWN);
        Ok(self.may_return(Value::constant(0), |_| {}))
    }
}

fn is_start(pointer: &Pointer) -> bool {
    let is_base = matches!(
        pointer.kind,
        PointerKind::Packet { region: PacketRegion::Data, id: PacketId::START, .. }
    );
    is_base && pointer.const_off() == Some(0) && pointer.off == 0
}

/// Marks a pointer as lying at or beyond the end. The kernel does not do so for metadata.
fn set_range(state: &mut State, reg: Option<Reg>, new: PacketRange) {
    let Some(reg) = reg else {
        return;
    };
    if let Value::Pointer(Pointer {
        kind: PointerKind::Packet { region: PacketRegion::Data, range, .. },
        ..
    }) = &mut state.frame_mut().regs[reg.index()]
    {
        *range = new;
    }
}

/// All packet pointers become numbers: the packet may have moved.
pub(super) fn forget_packet_pointers(state: &mut State) {
    let is_packet =
        |value: &Value| value.as_pointer().is_some_and(|it| it.kind.moves_with_packet());
    state.update(is_packet, |value| *value = Value::UNKNOWN);
}

/// Checks an access of `size` bytes at `off` from the pointer in `reg`, of which `id` and `range`
/// are known.
pub(super) fn check_packet(
    reg: Reg,
    pointer: &Pointer,
    id: PacketId,
    range: PacketRange,
    off: i64,
    size: i64,
    zero_size_allowed: bool,
) -> Checked {
    let (register, off) = (reg, off + i64::from(pointer.off));
    let least = pointer.var.smin();
    if least < 0 {
        let (region, extreme) = (Region::Packet, Extreme::Negative);
        let off = least.saturating_add(off);
        return Err(Payload::MemoryBounds { register, region, extreme, off, size }.into());
    }
    let PacketRange::Bytes(range) = range else {
        return Err(Payload::PacketBeyondEnd { register, off, size }.into());
    };
    if check_within(off, size, range.into(), zero_size_allowed) {
        return Ok(());
    }
    Err(Payload::PacketBounds { register, id: id.0, off, size, range }.into())
}

//! What an instruction touches, as far as the log shows it.

use ebpf_isa::{CallTarget, Insn, Reg, RegSet, Size};

use super::state::Shown;
use crate::state::{PointerKind, SlotMask, StackOff, State};

/// Registers and slots that an instruction reads or writes in a state.
pub(super) fn by(insn: Insn, state: &State) -> Shown {
    let regs = match insn {
        Insn::Call(CallTarget::Helper(_) | CallTarget::Kfunc { .. }) => {
            Reg::ARGS.into_iter().chain([Reg::R0]).collect()
        }
        // A function's return shows nothing of its own.
        Insn::Exit if state.current() > 0 => RegSet::EMPTY,
        _ => insn.reads().union(insn.writes()),
    };
    let slots = match insn {
        // Of a load at a variable offset, the kernel notes the slot of the lowest.
        Insn::Load { base, off, .. } | Insn::LoadAcquire { base, off, .. }
            if is_variable(state, base) =>
        {
            lowest_slot(accessed_slots(state, base, off, Size::B))
        }
        Insn::Load { size, base, off, .. }
        | Insn::LoadAcquire { size, base, off, .. }
        | Insn::Store { size, base, off, .. }
        | Insn::StoreRelease { size, base, off, .. }
        | Insn::Atomic { size, base, off, .. } => accessed_slots(state, base, off, size),
        _ => 0,
    };
    Shown { regs: regs.bits(), slots }
}

fn is_variable(state: &State, base: Reg) -> bool {
    let pointer = state.frame().regs[base.index()].as_pointer();
    pointer.is_some_and(|pointer| pointer.var.as_const().is_none())
}

/// The slot that is farthest from the frame pointer.
fn lowest_slot(slots: SlotMask) -> SlotMask {
    slots.checked_ilog2().map_or(0, |slot| 1 << slot)
}

/// The slots that an access reaches through a stack pointer.
fn accessed_slots(state: &State, base: Reg, off: i16, size: Size) -> SlotMask {
    let Some(pointer) = state.frame().regs[base.index()].as_pointer() else {
        return 0;
    };
    if !matches!(pointer.kind, PointerKind::Stack { .. }) {
        return 0;
    }
    let fixed = i64::from(pointer.off) + i64::from(off);
    let (min, max) = (pointer.var.smin(), pointer.var.smax());
    let end = max.saturating_add(fixed).saturating_add(size.bytes().into()).min(0);
    let start = min.saturating_add(fixed).max(-512);
    (start..end).filter_map(StackOff::new).fold(0, |slots, off| slots | 1 << off.slot())
}

/// The slots of the current frame in which two states differ.
pub(super) fn changed_slots(before: &State, after: &State) -> SlotMask {
    let (before, after) = (&before.frame().stack, &after.frame().stack);
    let changed = after.slots().enumerate().filter(|(index, slot)| {
        let earlier = before.get(*index);
        earlier.is_none_or(|earlier| {
            earlier.bytes() != slot.bytes() || earlier.spilled() != slot.spilled()
        })
    });
    changed.fold(0, |slots, (index, _)| slots | 1 << index)
}

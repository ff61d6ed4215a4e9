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

#[cfg(test)]
mod tests {
    use ebpf_isa::text::assemble;
    use ebpf_isa::{Pc, SubprogIdx};

    use super::*;
    use crate::domain::Scalar;
    use crate::state::{Frame, Pointer, Value};

    /// What the first instruction of a program touches: registers by number, and slots.
    fn touched(text: &str, state: &State) -> (Vec<u8>, SlotMask) {
        let program = assemble(&format!("{text}\nr0 = 0\nexit")).expect("it is a program");
        let Shown { regs, slots } = by(program.get(Pc::ENTRY).expect("it has one"), state);
        ((0..16).filter(|reg| regs & 1 << reg != 0).collect(), slots)
    }

    #[test]
    fn registers_that_are_read_or_written() {
        let state = State::entry();
        assert_eq!(touched("r3 += r4", &state), (vec![3, 4], 0));
        assert_eq!(touched("r3 = 5", &state), (vec![3], 0));
        assert_eq!(touched("call bpf_ktime_get_ns#5", &state), (vec![0, 1, 2, 3, 4, 5], 0));
        assert_eq!(touched("exit", &state), (vec![0], 0));
    }

    #[test]
    fn a_return_into_a_function_touches_nothing() {
        let mut state = State::entry();
        state.push_frame(Frame::new(SubprogIdx(1), 1, Some(Pc(1))));
        assert_eq!(touched("exit", &state), (vec![], 0));
    }

    #[test]
    fn slots_that_an_access_may_reach() {
        let mut state = State::entry();
        assert_eq!(touched("r3 = *(u64 *)(r10 -8)", &state), (vec![3, 10], 1));
        assert_eq!(touched("*(u8 *)(r10 -9) = r1", &state), (vec![1, 10], 0b10));
        assert_eq!(touched("r3 = *(u32 *)(r1 +0)", &state), (vec![1, 3], 0));
        // fp - 32 and up to 16 more, and then four bytes: slots 3, 2 and 1.
        let (kind, var) = (PointerKind::Stack { frame: 0 }, Scalar::UNKNOWN.within_unsigned(0, 16));
        state.frame_mut().regs[2] = Value::Pointer(Pointer { kind, off: -32, var });
        assert_eq!(touched("*(u32 *)(r2 +0) = 1", &state), (vec![2], 0b1110));
    }
}

//! Calls and returns.

use ebpf_isa::{Pc, Reg};

use super::{jump, op};
use crate::code::Cell;
use crate::dispatch::Cold;
use crate::state::{Outcome, State};

/// Calls a subprogram: `off` bytes of stack, the return is to the instruction `imm`.
pub(crate) struct CallSubprog;

impl Cold for CallSubprog {
    unsafe fn run(at: *const Cell, state: &mut State<'_>) -> *const Cell {
        // SAFETY: the caller's promise.
        let (op, jump, behind) = unsafe { (op(at), jump(at), at.add(2)) };
        let return_to = Pc(op.imm as u32);
        let here = i64::from(jump.here);
        let pushed = state
            .charge_total(state.count + here)
            .and_then(|()| state.push_caller(state.as_caller(return_to, behind, here)));
        if let Err(fault) = pushed {
            return state.trap(Pc(return_to.0 - 1), fault);
        }
        state.enter(state.frame.low, op.off as u16);
        state.count += i64::from(jump.gain);
        // SAFETY: the target is in the same code.
        unsafe { at.offset(jump.target as isize) }
    }
}

/// Returns, from the instruction `imm`. The second cell tells how many instructions there are up to
/// it.
pub(crate) struct Exit;

impl Cold for Exit {
    unsafe fn run(at: *const Cell, state: &mut State<'_>) -> *const Cell {
        // SAFETY: the caller's promise; the second cell is a value.
        let (pc, here) = unsafe { (Pc(op(at).imm as u32), (*at.add(1)).value as i64) };
        let total = state.count + here;
        if state.depth == 0 {
            state.settle(here, total);
            return state.end(Outcome::Done(state.get(Reg::R0)));
        }
        if let Err(fault) = state.charge_total(total) {
            return state.trap(pc, fault);
        }
        let at = state.return_to_caller(total);
        state.unless_switched(at)
    }
}

/// Calls the native function `imm`.
pub(crate) struct CallNative;

impl Cold for CallNative {
    unsafe fn run(at: *const Cell, state: &mut State<'_>) -> *const Cell {
        // SAFETY: the caller's promise.
        let index = unsafe { op(at) }.imm as u32;
        state.call_native(index);
        // SAFETY: another operation follows.
        unsafe { at.add(1) }
    }
}

/// Ends the run with `value`.
pub(crate) fn done(pc: Pc, value: u64, state: &mut State<'_>) -> *const Cell {
    state.settle(state.vm.place(pc) + 1, state.total(pc));
    state.end(Outcome::Done(value))
}

impl State<'_> {
    /// The operation at [`Self::pc`], where control moved to, maybe in another program.
    pub(crate) fn go_on(&mut self) -> *const Cell {
        self.unless_switched(self.code().at(self.pc))
    }

    /// `at`, unless another dispatcher goes on there.
    fn unless_switched(&mut self, at: *const Cell) -> *const Cell {
        if self.vm.dispatcher == self.dispatcher { at } else { self.end(Outcome::Switch) }
    }
}

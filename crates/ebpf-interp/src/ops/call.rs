//! Calls and returns.

use ebpf_isa::Pc;

use super::{jump, op};
use crate::code::Cell;
use crate::dispatch::Cold;
use crate::state::{Outcome, State};
use crate::step::Next;

/// Calls a subprogram: `off` bytes of stack, the return is to the instruction `imm`.
pub(crate) struct CallSubprog;

impl Cold for CallSubprog {
    unsafe fn run(at: *const Cell, state: &mut State<'_>) -> *const Cell {
        // SAFETY: the caller's promise.
        let (op, jump, behind) = unsafe { (op(at), jump(at), at.add(2)) };
        let return_to = Pc(op.imm as u32);
        let call = Pc(return_to.0 - 1);
        let pushed = state.charge(call).and_then(|()| state.push_caller(return_to, behind));
        if let Err(fault) = pushed {
            return state.trap(call, fault);
        }
        state.enter(state.frame.low, op.off as u16);
        state.count += i64::from(jump.gain);
        // SAFETY: the target is in the same code.
        unsafe { at.offset(jump.target as isize) }
    }
}

/// Returns, from the instruction `imm`.
pub(crate) struct Exit;

impl Cold for Exit {
    unsafe fn run(at: *const Cell, state: &mut State<'_>) -> *const Cell {
        // SAFETY: the caller's promise.
        let pc = Pc(unsafe { op(at) }.imm as u32);
        match state.exit(pc) {
            Ok(Next::Done(value)) => done(pc, value, state),
            Err(fault) => state.trap(pc, fault),
            Ok(_) => state.return_to_caller(),
        }
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
    state.settle(pc, state.total(pc));
    state.end(Outcome::Done(value))
}

impl State<'_> {
    /// The operation behind the call that was just returned from.
    fn return_to_caller(&mut self) -> *const Cell {
        let at = self.callers[self.depth].at;
        if self.vm.dispatcher == self.dispatcher { at } else { self.end(Outcome::Switch) }
    }

    /// The operation at [`Self::pc`], where control moved to, maybe in another program.
    pub(crate) fn go_on(&mut self) -> *const Cell {
        let at = self.code().at(self.pc);
        if self.vm.dispatcher == self.dispatcher { at } else { self.end(Outcome::Switch) }
    }
}

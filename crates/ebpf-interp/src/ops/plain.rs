//! Operations that are run instruction by instruction.

use ebpf_isa::abi::TrapKind;

use crate::code::Cell;
use crate::dispatch::Cold;
use crate::state::State;
use crate::step::Next;

/// The operation itself.
pub(crate) struct Plain;

impl Cold for Plain {
    unsafe fn run(at: *const Cell, state: &mut State<'_>) -> *const Cell {
        window(at, state)
    }
}

/// The operation that is pending: its handler could not do it.
pub(crate) struct Plainly;

impl Cold for Plainly {
    #[cold]
    unsafe fn run(_: *const Cell, state: &mut State<'_>) -> *const Cell {
        window(state.pending, state)
    }
}

/// Runs the window of the operation at `at`, until it ends or a jump leaves it.
pub(super) fn window(at: *const Cell, state: &mut State<'_>) -> *const Cell {
    let (code, vm) = (state.code(), state.vm);
    let origin = code.origin(at);
    let mut pc = origin.start();
    while pc < origin.end() {
        pc = match state.step(pc) {
            Ok(Next::Insn) => state.vm.next(pc),
            Ok(Next::At(target)) => return code.at(target),
            Ok(Next::Moved) => return state.go_on(vm),
            Ok(Next::Done) => return super::call::done(pc, state),
            Err(fault) => return state.trap(pc, fault),
        };
    }
    code.behind(at)
}

/// Ends a run whose fuel is used up at the jump in the pending operation, before that did anything.
pub(crate) struct WithoutFuel;

impl Cold for WithoutFuel {
    #[cold]
    unsafe fn run(_: *const Cell, state: &mut State<'_>) -> *const Cell {
        let origin = state.code().origin(state.pending);
        // A jump is the last instruction of its window, and has one slot.
        let jump = ebpf_isa::Pc(origin.end().0 - 1);
        let end = state.trap(jump, (TrapKind::OutOfFuel, 0));
        state.pc = origin.start();
        end
    }
}

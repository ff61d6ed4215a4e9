//! Calls and returns.

use core::marker::PhantomData;
use core::ptr;

use ebpf_isa::{Insn, Pc, Reg, semantics};

use super::plain::window;
use super::value::{Inputs, Value, width};
use super::{jump, op};
use crate::code::{CALL_CELLS, Cell, HOT, Saved};
use crate::dispatch::{Body, Cold, Regs};
use crate::memory::Frame;
use crate::state::{Outcome, State};
use crate::vm::Vm;

/// Calls a subprogram: `off` bytes of stack, the return is to the instruction `imm`; the rest says
/// what is [`Saved`].
pub(crate) struct CallSubprog;

impl Cold for CallSubprog {
    unsafe fn run(at: *const Cell, state: &mut State<'_>) -> *const Cell {
        // SAFETY: the caller's promise.
        let (op, jump) = unsafe { (op(at), jump(at)) };
        let return_to = Pc(op.imm as u32);
        let charged = state.charge_total(state.count + i64::from(jump.here));
        // SAFETY: this is the operation of a call.
        let pushed = charged.and_then(|()| unsafe { state.push_caller(at) });
        if let Err(fault) = pushed {
            return state.trap(Pc(return_to.0 - 1), fault);
        }
        state.enter(state.frame.low, op.off as u16);
        state.count += i64::from(jump.gain);
        // SAFETY: the target is in the same code.
        unsafe { at.byte_offset(jump.target as isize) }
    }
}

/// Returns, from the instruction `imm`.
pub(crate) struct Exit;

impl Cold for Exit {
    unsafe fn run(at: *const Cell, state: &mut State<'_>) -> *const Cell {
        // SAFETY: the caller's promise.
        let (pc, here) = unsafe { (Pc(op(at).imm as u32), i64::from(jump(at).here)) };
        let total = state.count + here;
        if state.depth == 0 {
            state.settle(here, total);
            return state.end(Outcome::Done);
        }
        if let Err(fault) = state.charge_total(total) {
            return state.trap(pc, fault);
        }
        let left = state.vm;
        let at = state.return_to_caller(total);
        if state.is_switched() { state.switch(left) } else { at }
    }
}

/// The same with the number in the second cell as `r0`.
pub(crate) struct ExitWith<const WIDE: bool>;

impl<const WIDE: bool> Cold for ExitWith<WIDE> {
    unsafe fn run(at: *const Cell, state: &mut State<'_>) -> *const Cell {
        // SAFETY: the caller's promise.
        let value = unsafe { semantics::immediate(jump(at).imm) };
        state.set(Reg::R0, semantics::truncate(const { width(WIDE) }, value));
        // SAFETY: the caller's promise.
        unsafe { Exit::run(at, state) }
    }
}

/// [`CallSubprog`] in unchecked code of the threaded dispatcher, unless it is a difficult one. It
/// saves `COUNT` registers; `HOT_ONES` tells whether one of them, or `r10`, is in the first places.
pub(crate) struct FastCall<const COUNT: usize, const HOT_ONES: bool>;

impl<const COUNT: usize, const HOT_ONES: bool> Body for FastCall<COUNT, HOT_ONES> {
    #[inline(always)]
    unsafe fn run<const A: usize, const B: usize, const C: usize>(
        at: *const Cell,
        regs: &mut Regs<'_, '_>,
    ) -> *const Cell {
        // SAFETY: the caller's promise.
        let (op, jump, saved) = unsafe { (op(at), jump(at), Saved::of(at)) };
        let Regs { hot, state } = regs;
        let (here, size) = (i64::from(jump.here), op.off as u16);
        let has_fuel = state.count + here <= state.fuel();
        if !(has_fuel && state.has_room() && state.is_cleared(size)) {
            state.pending = at;
            return &raw const state.vm.exits.slowly;
        }
        if HOT_ONES {
            state.regs[..HOT].copy_from_slice(hot);
        }
        // In a verified program, it is what it was when the function was entered.
        let fp = state.frame.top;
        // SAFETY: there is room, and this is the operation of a call that saves so many.
        unsafe { state.push(at, fp, saved.first::<COUNT>()) };
        let top = state.frame.low;
        state.frame = Frame { low: top - u64::from(size), top };
        let fp = state.vm.slots.of(Reg::FP);
        state.set_reg(fp, top);
        if HOT_ONES {
            for (slot, reg) in (0..).zip(hot.iter_mut()) {
                *reg = if slot == fp { top } else { *reg };
            }
        }
        state.count += i64::from(jump.gain);
        // SAFETY: the target is in the same code.
        unsafe { at.byte_offset(jump.target as isize) }
    }
}

/// What follows a [`FastCall`]: restores what it saved. [`FastExit`] leads here.
pub(crate) struct Landing<const COUNT: usize, const HOT_ONES: bool>;

impl<const COUNT: usize, const HOT_ONES: bool> Body for Landing<COUNT, HOT_ONES> {
    #[inline(always)]
    unsafe fn run<const A: usize, const B: usize, const C: usize>(
        at: *const Cell,
        regs: &mut Regs<'_, '_>,
    ) -> *const Cell {
        let Regs { hot, state } = regs;
        if HOT_ONES {
            state.regs[..HOT].copy_from_slice(hot);
        }
        // SAFETY: the call is in front, and was left by a return just now.
        unsafe {
            let saved = Saved::of(at.sub(CALL_CELLS));
            state.restore(state.depth, saved.first::<COUNT>());
        }
        if HOT_ONES {
            hot.copy_from_slice(&state.regs[..HOT]);
        }
        // SAFETY: another operation follows.
        unsafe { at.add(1) }
    }
}

/// [`Landing`], where returns restore themselves: no control comes here.
pub(crate) struct Landed;

impl Cold for Landed {
    unsafe fn run(at: *const Cell, _: &mut State<'_>) -> *const Cell {
        // SAFETY: another operation follows.
        unsafe { at.add(1) }
    }
}

/// [`Exit`], likewise, from a function that is no main program.
pub(crate) struct FastExit;

impl Body for FastExit {
    #[inline(always)]
    unsafe fn run<const A: usize, const B: usize, const C: usize>(
        at: *const Cell,
        regs: &mut Regs<'_, '_>,
    ) -> *const Cell {
        // SAFETY: the caller's promise.
        let here = i64::from(unsafe { jump(at) }.here);
        let state = &mut *regs.state;
        let total = state.count + here;
        if let Some(caller) = state.caller()
            && total <= state.fuel()
            // SAFETY: the caller was pushed.
            && ptr::eq(unsafe { (*caller).vm }, state.vm)
        {
            // SAFETY: as above; what it notes is the operation of a call in this code.
            unsafe {
                let call = (*caller).call;
                state.frame = Frame { low: state.frame.top, top: (*caller).frame_top };
                state.count = total - i64::from(jump(call).here);
                state.depth -= 1;
                return call.add(CALL_CELLS);
            }
        }
        state.pending = at;
        &raw const state.vm.exits.slowly
    }
}

/// [`Exit`], likewise, from a main program with `V` as `r0`, which is `a`.
pub(crate) struct FastEnd<V, const METERED: bool>(PhantomData<V>);

impl<V: Value, const METERED: bool> Body for FastEnd<V, METERED> {
    #[inline(always)]
    unsafe fn run<const A: usize, const B: usize, const C: usize>(
        at: *const Cell,
        regs: &mut Regs<'_, '_>,
    ) -> *const Cell {
        // SAFETY: the caller's promise.
        let (op, jump) = unsafe { (op(at), jump(at)) };
        if regs.state.depth != 0 {
            regs.state.pending = at;
            return &raw const regs.state.vm.exits.slowly;
        }
        let value = V::of::<A, B, C>(&Inputs { op, regs, loaded: 0, second: jump.imm });
        let state = &mut *regs.state;
        // Nobody asks for the others.
        state.set_reg(op.a, value);
        if METERED {
            let here = i64::from(jump.here);
            state.settle(here, state.count + here);
        }
        state.outcome = Outcome::Done;
        ptr::null()
    }
}

/// Ends the dispatching, with all registers in the file.
pub(crate) struct End;

impl Cold for End {
    unsafe fn run(_: *const Cell, _: &mut State<'_>) -> *const Cell {
        ptr::null()
    }
}

impl Body for End {
    #[inline(always)]
    unsafe fn run<const A: usize, const B: usize, const C: usize>(
        _: *const Cell,
        regs: &mut Regs<'_, '_>,
    ) -> *const Cell {
        regs.state.regs[..HOT].copy_from_slice(&regs.hot);
        ptr::null()
    }
}

/// The call or return that is pending: it is a difficult one.
pub(crate) struct Slowly;

impl Cold for Slowly {
    unsafe fn run(_: *const Cell, state: &mut State<'_>) -> *const Cell {
        let at = state.pending;
        let last = Pc(state.code().origin(at).end().0 - 1);
        if state.vm.program.insn(last) == Insn::Exit {
            return window(at, state);
        }
        // SAFETY: only fast calls and returns are pending here; a call has the cells of a slow one.
        unsafe { CallSubprog::run(at, state) }
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

/// Ends the run with what is in `r0`.
pub(crate) fn done(pc: Pc, state: &mut State<'_>) -> *const Cell {
    state.settle(state.vm.place(pc) + 1, state.total(pc));
    state.end(Outcome::Done)
}

impl State<'_> {
    /// The operation at [`Self::pc`], where control moved to from `left`, maybe in another program.
    pub(crate) fn go_on(&mut self, left: &Vm) -> *const Cell {
        if self.is_switched() { self.switch(left) } else { self.code().at(self.pc) }
    }

    /// Ends the dispatching so that another dispatcher goes on. What follows is an operation of the
    /// program that was `left`: those of the one that runs now are not for this dispatcher.
    fn switch(&mut self, left: &Vm) -> *const Cell {
        self.outcome = Outcome::Switch;
        &raw const left.exits.end
    }

    /// Whether the program that runs now is one that this dispatcher has no operations of.
    fn is_switched(&self) -> bool {
        self.vm.dispatcher != self.dispatcher || !self.code().is_there()
    }
}

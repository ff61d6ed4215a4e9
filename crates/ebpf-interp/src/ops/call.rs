//! Calls and returns.

use ebpf_isa::{Insn, Pc, Reg};

use super::{jump, op};
use crate::code::{Cell, HOT};
use crate::dispatch::{Body, Cold, Regs};
use crate::link::Linked;
use crate::memory::Frame;
use crate::state::{Outcome, PRESERVED, State};

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
            .and_then(|()| state.push_caller(return_to, behind, here));
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

/// [`CallSubprog`] in unchecked code of the threaded dispatcher, unless it is a difficult one.
pub(crate) struct FastCall;

impl Body for FastCall {
    #[inline(always)]
    unsafe fn run<const A: usize, const B: usize, const C: usize>(
        at: *const Cell,
        regs: &mut Regs<'_, '_>,
    ) -> *const Cell {
        // SAFETY: the caller's promise.
        let (op, jump, behind) = unsafe { (op(at), jump(at), at.add(2)) };
        let Regs { hot, state } = regs;
        let (here, size) = (i64::from(jump.here), op.off as u16);
        let has_fuel = !state.vm.is_metered || state.count + here <= state.fuel();
        if !(has_fuel && state.has_room() && state.is_cleared(size)) {
            state.pending = at;
            return &raw const state.vm.exits.slowly;
        }
        state.regs[..HOT].copy_from_slice(hot);
        let pushed = state.push_caller(Pc(op.imm as u32), behind, here);
        debug_assert!(pushed.is_ok(), "there is room");
        let top = state.frame.low;
        state.frame = Frame { low: top - u64::from(size), top };
        let fp = state.vm.slots.of(Reg::FP);
        state.set_reg(fp, top);
        for (slot, reg) in (0..).zip(hot.iter_mut()) {
            *reg = if slot == fp { top } else { *reg };
        }
        state.count += i64::from(jump.gain);
        // SAFETY: the target is in the same code.
        unsafe { at.offset(jump.target as isize) }
    }
}

/// [`Exit`], likewise.
pub(crate) struct FastExit;

impl Body for FastExit {
    #[inline(always)]
    unsafe fn run<const A: usize, const B: usize, const C: usize>(
        at: *const Cell,
        regs: &mut Regs<'_, '_>,
    ) -> *const Cell {
        // SAFETY: the caller's promise; the second cell is a value.
        let here = unsafe { (*at.add(1)).value } as i64;
        let Regs { hot, state } = regs;
        let total = state.count + here;
        if state.depth == 0 {
            state.regs[..HOT].copy_from_slice(hot);
            state.settle(here, total);
            return state.end(Outcome::Done(state.get(Reg::R0)));
        }
        let has_fuel = !state.vm.is_metered || total <= state.fuel();
        let caller = match state.caller() {
            Some(caller) if has_fuel && core::ptr::eq(caller.vm, state.vm) => caller,
            _ => {
                state.pending = at;
                return &raw const state.vm.exits.slowly;
            }
        };
        let (next, place, top) = (caller.at, caller.place, caller.frame_top);
        let caller = core::ptr::from_ref(caller);
        // One by one, as they were stored: loads of several at once would wait for these stores.
        for (index, slot) in state.vm.preserved.into_iter().enumerate() {
            // SAFETY: the caller stays where it is, and nobody changes it.
            let value = unsafe { (*caller).preserved[index] };
            state.set_reg(slot, value);
        }
        for (reg, from) in hot.iter_mut().zip(state.vm.preserved_hot) {
            if usize::from(from) < PRESERVED.len() {
                // SAFETY: as above.
                *reg = unsafe { (*caller).preserved[usize::from(from)] };
            }
        }
        state.frame = Frame { low: state.frame.top, top };
        state.count = total - place;
        state.depth -= 1;
        next
    }
}

/// The call or return that is pending: it is a difficult one.
pub(crate) struct Slowly;

impl Cold for Slowly {
    unsafe fn run(_: *const Cell, state: &mut State<'_>) -> *const Cell {
        let at = state.pending;
        let is_exit = matches!(
            state.vm.linked[state.code().origin(at).start.index()],
            Linked::Insn(Insn::Exit)
        );
        // SAFETY: only fast calls and returns are pending here, which have the cells of slow ones.
        unsafe { if is_exit { Exit::run(at, state) } else { CallSubprog::run(at, state) } }
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

//! Jumps, calls and returns, and the fuel that they charge.

use core::sync::atomic::Ordering;

use ebpf_isa::abi::{MAX_TAIL_CALLS, TrapKind};
use ebpf_isa::{Pc, Reg};

use super::{Fault, Next, Run};
use crate::link::Vm;
use crate::memory::{Access, Frame};

/// What a return restores.
#[derive(Clone, Copy)]
pub(super) struct Caller<'a> {
    /// Its program: a callee may have gone on to another one by a tail call.
    vm: &'a Vm,
    return_to: Pc,
    preserved: [u64; 5],
    /// One past the highest byte of its frame; the lowest is where the callee's begins.
    frame_top: u64,
}

impl<'a> Caller<'a> {
    /// Fills the place of a call that was not made yet.
    pub(super) fn none(vm: &'a Vm) -> Self {
        Self { vm, return_to: Pc::ENTRY, preserved: [0; 5], frame_top: 0 }
    }
}

/// `r10` is preserved like the others: only a verifier keeps a program from writing it.
const PRESERVED: [Reg; 5] = [Reg::R6, Reg::R7, Reg::R8, Reg::R9, Reg::FP];

impl<A: Access> Run<'_, A> {
    /// Charges what was run since the last time; traps where nothing is left.
    fn charge(&mut self) -> Result<(), Fault> {
        let charged = core::mem::take(&mut self.uncharged);
        if self.env.fuel.fetch_sub(charged, Ordering::Relaxed) < charged {
            return Err((TrapKind::OutOfFuel, 0));
        }
        Ok(())
    }

    pub(super) fn jump(&mut self, pc: Pc, target: Pc) -> Result<Next, Fault> {
        if target <= pc {
            self.charge()?;
        }
        Ok(Next::At(target))
    }

    /// Falls through as long as the budget lasts.
    pub(super) fn may_goto(&mut self, pc: Pc, target: Pc) -> Result<Next, Fault> {
        match self.env.may_goto.checked_sub(1) {
            None => self.jump(pc, target),
            Some(rest) => {
                self.env.may_goto = rest;
                Ok(Next::Insn)
            }
        }
    }

    /// Makes a frame of `size` bytes below `top`.
    pub(super) fn enter(&mut self, top: u64, size: u16) {
        self.frame = self.stack.frame(top, size);
        self.set(Reg::FP, top);
        self.access.set_stack(self.frame.low, self.stack.top());
    }

    pub(super) fn call_subprog(&mut self, pc: Pc, target: Pc, size: u16) -> Result<Next, Fault> {
        self.charge()?;
        let preserved = PRESERVED.map(|reg| self.reg(reg));
        let (vm, frame_top) = (self.vm, self.frame.top);
        let caller = self.callers.get_mut(self.depth).ok_or((TrapKind::CallDepth, 0))?;
        *caller = Caller { vm, return_to: Pc(pc.0 + 1), preserved, frame_top };
        self.depth += 1;
        self.enter(self.frame.low, size);
        Ok(Next::At(target))
    }

    pub(super) fn exit(&mut self) -> Result<Next, Fault> {
        let Some(depth) = self.depth.checked_sub(1) else {
            return Ok(Next::Done(self.reg(Reg::R0)));
        };
        self.charge()?;
        self.depth = depth;
        let Caller { vm, return_to, preserved, frame_top } = self.callers[depth];
        self.vm = vm;
        for (reg, value) in PRESERVED.into_iter().zip(preserved) {
            self.set(reg, value);
        }
        self.frame = Frame { low: self.frame.top, top: frame_top };
        self.access.set_stack(self.frame.low, self.stack.top());
        Ok(Next::At(return_to))
    }

    #[allow(unsafe_code, reason = "calls of native functions are here")]
    pub(super) fn call_native(&mut self, index: u32) {
        let function = self.vm.natives[index as usize];
        let [a, b, c, d, e] = Reg::ARGS.map(|reg| self.reg(reg));
        let env = core::ptr::from_mut(self.env);
        // SAFETY: whoever registered the function promised that it is sound: for any arguments
        // where the program is not verified, otherwise for those that the verifier let through.
        let result = unsafe { function(a, b, c, d, e, env) };
        self.set(Reg::R0, result);
    }

    /// Calls a native function that may end the run, from any depth.
    pub(super) fn call_ending(&mut self, index: u32) -> Next {
        self.call_native(index);
        if self.env.ended == 0 { Next::Insn } else { Next::Done(self.reg(Reg::R0)) }
    }

    /// Goes on with another program in place of the function that is running; falls through where
    /// there is none, or there were too many of these calls.
    ///
    /// Nothing is charged: as there are few such calls in a run, they make no loop.
    pub(super) fn tail_call(&mut self) -> Next {
        let Some(target) = self.tail_target() else { return Next::Insn };
        self.env.tail_calls += 1;
        self.vm = target;
        let ctx = self.reg(Reg::R1);
        self.regs = [0; Reg::COUNT];
        self.set(Reg::R1, ctx);
        self.enter(self.frame.top, target.main_frame);
        Next::At(Pc::ENTRY)
    }
}

impl<'a, A: Access> Run<'a, A> {
    #[allow(unsafe_code, reason = "tail calls ask the host for the program here")]
    fn tail_target(&mut self) -> Option<&'a Vm> {
        if self.env.tail_calls >= MAX_TAIL_CALLS {
            return None;
        }
        let find = self.vm.tail_target?;
        let (map, index) = (self.reg(Reg::R2), self.reg(Reg::R3) as u32);
        let env = core::ptr::from_mut(self.env);
        // SAFETY: whoever made the `TailTarget` promised that it is sound: for any arguments where
        // the program is not verified, otherwise for those that the verifier let through.
        let target = unsafe { find(map, u64::from(index), env) };
        // SAFETY: it also promised that this is 0, or what `Vm::as_tail_target` gave for a program
        // that is there until the run ends.
        unsafe { core::ptr::with_exposed_provenance::<Vm>(target as usize).as_ref() }
    }
}

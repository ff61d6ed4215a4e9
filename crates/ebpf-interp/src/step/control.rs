//! Jumps, calls and returns, and the fuel that they charge.

use ebpf_isa::abi::MAX_TAIL_CALLS;
use ebpf_isa::{Pc, Reg};

use super::Next;
use crate::code::{CALL_CELLS, Cell, Saved};
use crate::link::Callee;
use crate::memory::Frame;
use crate::state::{Caller, Fault, State};
use crate::vm::Vm;

impl State<'_> {
    /// What a jump from `pc` to `target` makes of the count: places do not follow one another.
    fn move_count(&mut self, pc: Pc, target: Pc) {
        self.count += self.vm.place(pc) + 1 - self.vm.place(target);
    }

    pub(super) fn jump(&mut self, pc: Pc, target: Pc) -> Result<Next, Fault> {
        if target <= pc {
            self.charge(pc)?;
        }
        self.move_count(pc, target);
        Ok(Next::At(target))
    }

    /// Falls through as long as the budget lasts.
    #[allow(unsafe_code, reason = "the budget is in the environment")]
    pub(super) fn may_goto(&mut self, pc: Pc, target: Pc) -> Result<Next, Fault> {
        // SAFETY: the environment is lent to the run.
        let budget = unsafe { &mut (*self.env).may_goto };
        match budget.checked_sub(1) {
            None => self.jump(pc, target),
            Some(rest) => {
                *budget = rest;
                Ok(Next::Insn)
            }
        }
    }

    #[allow(unsafe_code, reason = "the operation of the call tells what to save")]
    pub(super) fn call_subprog(&mut self, pc: Pc, callee: Callee) -> Result<Next, Fault> {
        let Callee { start: target, frame } = callee;
        self.charge(pc)?;
        // SAFETY: a call is an operation of its own.
        unsafe { self.push_caller(self.call_at(pc))? };
        self.enter(self.frame.low, frame);
        self.move_count(pc, target);
        Ok(Next::At(target))
    }

    pub(crate) fn exit(&mut self, pc: Pc) -> Result<Next, Fault> {
        if self.depth == 0 {
            return Ok(Next::Done);
        }
        self.charge(pc)?;
        self.return_to_caller(self.total(pc));
        Ok(Next::Moved)
    }

    #[allow(unsafe_code, reason = "calls of native functions are here")]
    pub(crate) fn call_native(&mut self, index: u32) {
        let function = self.vm.program.natives[index as usize];
        let [a, b, c, d, e] = Reg::ARGS.map(|reg| self.get(reg));
        // SAFETY: whoever registered the function promised that it is sound: for any arguments
        // where the program is not verified, otherwise for those that the verifier let through.
        let result = unsafe { function(a, b, c, d, e, self.env) };
        self.set(Reg::R0, result);
    }

    /// Calls a native function that may end the run, from any depth.
    #[allow(unsafe_code, reason = "the function says so in the environment")]
    pub(crate) fn call_ending(&mut self, index: u32) -> Next {
        self.call_native(index);
        // SAFETY: the environment is lent to the run.
        let ended = unsafe { (*self.env).ended };
        if ended == 0 { Next::Insn } else { Next::Done }
    }
}

impl<'a> State<'a> {
    /// Goes on in the caller, after `total` instructions; gives the operation.
    #[allow(unsafe_code, reason = "callers are noted by the operations of their calls")]
    pub(crate) fn return_to_caller(&mut self, total: i64) -> *const Cell {
        let caller = self.caller().expect("the main program returns to nobody");
        // SAFETY: the caller was pushed, with the operation of its call; its program is the one that
        // runs from here on.
        unsafe {
            let Caller { vm, call, frame_top, .. } = *caller;
            self.depth -= 1;
            self.change_vm(vm);
            let saved = Saved::of(call);
            self.restore(self.depth, saved.slots());
            self.move_frame(Frame { low: self.frame.top, top: frame_top });
            self.pc = Pc((*call).op.imm as u32);
            self.count = total - i64::from((*call.add(1)).jump.here);
            // What is in between is for a return that leaves this to it.
            call.add(CALL_CELLS + 1)
        }
    }

    /// Goes on with another program in place of the function that is running; falls through where
    /// there is none, or there were too many of these calls.
    ///
    /// Nothing is charged: as there are few such calls in a run, they make no loop.
    #[allow(unsafe_code, reason = "tail calls are counted in the environment")]
    pub(crate) fn tail_call(&mut self, pc: Pc) -> Next {
        let Some(target) = self.tail_target() else { return Next::Insn };
        // SAFETY: the environment is lent to the run.
        unsafe { (*self.env).tail_calls += 1 };
        let (ctx, total) = (self.get(Reg::R1), self.total(pc));
        self.vm = target;
        self.regs = [0; Reg::COUNT];
        self.set(Reg::R1, ctx);
        self.enter_cleared(self.frame.top, target.program.main_frame);
        self.pc = Pc::ENTRY;
        self.count = total;
        Next::Moved
    }

    /// Goes on with another program, whose registers may be in other slots.
    fn change_vm(&mut self, vm: &'a Vm) {
        let from = core::mem::replace(&mut self.vm, vm);
        if core::ptr::eq(from, vm) || from.slots == vm.slots {
            return;
        }
        let returned = [Reg::R0, Reg::R1, Reg::R2, Reg::R3, Reg::R4, Reg::R5];
        let values = returned.map(|reg| self.reg(from.slots.of(reg)));
        for (reg, value) in returned.into_iter().zip(values) {
            self.set(reg, value);
        }
    }

    #[allow(unsafe_code, reason = "tail calls ask the host for the program here")]
    fn tail_target(&mut self) -> Option<&'a Vm> {
        // SAFETY: the environment is lent to the run.
        if unsafe { (*self.env).tail_calls } >= MAX_TAIL_CALLS {
            return None;
        }
        let find = self.vm.program.tail_target?;
        let (map, index) = (self.get(Reg::R2), self.get(Reg::R3) as u32);
        // SAFETY: whoever made the `TailTarget` promised that it is sound: for any arguments where
        // the program is not verified, otherwise for those that the verifier let through.
        let target = unsafe { find(map, u64::from(index), self.env) };
        // SAFETY: it also promised that this is 0, or what `Vm::as_tail_target` gave for a program
        // that is there until the run ends.
        unsafe { core::ptr::with_exposed_provenance::<Vm>(target as usize).as_ref() }
    }
}

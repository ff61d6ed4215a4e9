//! Calls of subprograms, and returns.

use ebpf_isa::{Pc, Reg, SubprogIdx};

use super::{Machine, Next};
use crate::error::{Checked, Ending, Held, LockFault, Payload, Unsupported};
use crate::function::Binding;
use crate::state::{Frame, PointerKind, Reference, State, Value};

impl Machine<'_> {
    /// The path goes on in the callee, in a frame of its own, or behind the call of a global function.
    pub(super) fn call_subprog(&mut self, target: Pc) -> Checked<Next> {
        let subprog = self.program.subprog_of(target);
        match self.functions.get(subprog).binding {
            Binding::Static => self.remark_on_static(subprog),
            Binding::Global => return self.call_global(subprog),
            Binding::Unknown => return Err(Unsupported::UntypedFunction.into()),
        }
        let depth = self.state.depth();
        if depth >= self.env.profile.frames() {
            return Err(Payload::LimitFrames { frames: depth + 1 }.into());
        }
        let mut callee = Frame::new(subprog, depth, Some(self.fall_through));
        let caller = self.state.frame_mut();
        for reg in Reg::ARGS {
            callee.regs[reg.index()] = caller.regs[reg.index()];
        }
        caller.clear_caller_saved();
        self.state.push_frame(callee);
        Ok(Next::Goto(target))
    }

    pub(super) fn exit(&mut self) -> Checked<Next> {
        let Some(return_to) = self.state.frame().return_to else {
            self.check_nothing_held(Ending::Exit)?;
            match self.state.frame().subprog {
                _ if self.state.frame().async_entry > 0 => self.check_later_result()?,
                SubprogIdx::MAIN => self.check_exit_value()?,
                _ => self.check_function_result()?,
            }
            return Ok(Next::End);
        };
        let result = *self.value(Reg::R0);
        if result.as_pointer().is_some_and(|p| matches!(p.kind, PointerKind::Stack { .. })) {
            return Err(Payload::PointerReturned.into());
        }
        if self.state.frame().is_callback {
            return self.leave_callback();
        }
        Ok(self.return_to(return_to, result))
    }

    /// The caller goes on, with the callee's result.
    fn return_to(&mut self, pc: Pc, result: Value) -> Next {
        self.effects.of_call().left = self.state.pop_frame();
        self.set(Reg::R0, result);
        Next::Goto(pc)
    }

    /// Behind an instruction that may end the function at once, with this result: the program does so
    /// if it is the main program, whose path need not be followed any further; a subprogram returns
    /// to its caller. The other way, on which the instruction did not end it, waits.
    pub(super) fn may_return(&mut self, result: Value, forget: fn(&mut State)) -> Next {
        let Some(return_to) = self.state.frame().return_to else {
            return Next::Goto(self.fall_through);
        };
        self.taken_state = Some(self.state.clone());
        forget(&mut self.state);
        self.set(Reg::R0, result);
        self.return_to(return_to, result);
        Next::Fork { fall_through: return_to, taken: self.fall_through }
    }

    /// Checks that everything that was acquired has been released, before the program ends. What ends a
    /// subprogram leaves it to the callers, but for a lock.
    pub(super) fn check_nothing_held(&self, ending: Ending) -> Checked {
        self.check_unlocked(LockFault::End(ending))?;
        let refs = self.state.refs.iter();
        if refs.len() == 0 || self.state.depth() > 1 {
            return Ok(());
        }
        let held = refs.map(|Reference { id, acquired_at }| Held { id: id.0, acquired_at });
        Err(Payload::ReferenceLeak { ending, held: held.collect() }.into())
    }

    fn check_exit_value(&mut self) -> Checked {
        let value = self.read(Reg::R0)?;
        let Some(allowed) = self.env.program_type.exit_range(self.env.attach_type) else {
            return Ok(());
        };
        let Value::Scalar(scalar) = value else {
            return Err(Payload::ExitPointer { kind: value.name() }.into());
        };
        self.rely_on(Reg::R0);
        let (smin, smax) = (scalar.bounds.smin(), scalar.bounds.smax());
        if smin >= allowed.min.into() && smax <= allowed.max.into() {
            return Ok(());
        }
        Err(Payload::ExitValue { smin, smax, allowed }.into())
    }
}

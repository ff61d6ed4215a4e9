//! Calls of subprograms, and returns.

use alloc::format;

use ebpf_isa::{Pc, Reg};

use super::{Machine, Next};
use crate::error::{Checked, ErrorCode, Fault};
use crate::rules::ExitRange;
use crate::state::{FRAMES_MAX, Frame, PointerKind, Value};

impl Machine<'_> {
    /// The path goes on in the callee, in a frame of its own.
    pub(super) fn call_subprog(&mut self, target: Pc) -> Checked<Next> {
        let subprog = self.program.subprog_of(target);
        let info = &self.program.subprogs()[subprog.index()].info;
        match self.env.is_static(info) {
            Some(true) => {}
            Some(false) => return Err(Fault::unsupported("a call of a global function")),
            None => {
                return Err(Fault::unsupported("a call of a function whose type is not given"));
            }
        }
        let depth = self.state.depth();
        if depth >= FRAMES_MAX.min(self.env.profile.max_frames as usize) {
            let message = format!("the call stack of {} frames is too deep", depth + 1);
            return Err(Fault::new(ErrorCode::LimitCallDepth, message));
        }
        let mut callee = Frame::new(subprog, depth, Some(self.after()));
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
            self.check_exit_value()?;
            return Ok(Next::End);
        };
        let result = *self.value(Reg::R0);
        if result.as_pointer().is_some_and(|p| matches!(p.kind, PointerKind::Stack { .. })) {
            let message = "cannot return stack pointer to the caller";
            return Err(Fault::new(ErrorCode::PointerReturned, message));
        }
        self.state.pop_frame();
        self.set(Reg::R0, result);
        Ok(Next::Goto(return_to))
    }

    fn check_exit_value(&mut self) -> Checked {
        let value = self.read(Reg::R0)?;
        let Some(ExitRange { min, max }) = self.env.program_type.exit_range(self.env.attach_type)
        else {
            return Ok(());
        };
        let fault = |message| Err(Fault::new(ErrorCode::ExitValue, message));
        let Value::Scalar(scalar) = value else {
            let name = value.name();
            return fault(format!("At program exit the register R0 is not a known value ({name})"));
        };
        self.rely_on(Reg::R0);
        let (smin, smax) = (scalar.bounds.smin(), scalar.bounds.smax());
        if smin >= min.into() && smax <= max.into() {
            return Ok(());
        }
        let mut has = alloc::string::String::new();
        if smin > i64::MIN {
            has += &format!(" smin={smin}");
        }
        if smax < i64::MAX {
            has += &format!(" smax={smax}");
        }
        if has.is_empty() {
            has += " unknown scalar value";
        }
        fault(format!(
            "At program exit the register R0 has{has} should have been in [{min}, {max}]"
        ))
    }
}

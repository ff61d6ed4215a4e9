//! Timers, and the functions that they run.

use ebpf_isa::{MapIdx, Reg, SubprogIdx};

use super::Machine;
use super::callback::element;
use crate::error::{Checked, FieldFault, LaterFault, Payload, Unsupported};
use crate::rules::LATER_RANGE;
use crate::state::{Frame, PointerKind, State, Value};

impl Machine<'_> {
    /// Has the function in `r2` run some time, with the map, the key and the value that the timer is in.
    /// It knows nothing of this path: another one begins there, in a stack of its own.
    pub(super) fn run_later(&mut self, map: Option<MapIdx>) -> Checked {
        let subprog = self.given_function();
        let Some(map) = map else { unreachable!("timers are in maps") };
        if subprog == SubprogIdx::MAIN {
            return Err(Unsupported::MainLater.into());
        }
        // Of what the helper is given, as if it were the function that is called.
        self.remark_on_static(subprog);
        let mut frame = Frame::new(subprog, 0, None);
        frame.async_entry = self.state.frame().async_entry.saturating_add(1);
        let [key, value] = element(map);
        let arguments = [Value::pointer(PointerKind::Map(map)), key, value];
        for (reg, value) in Reg::ARGS.into_iter().zip(arguments) {
            frame.regs[reg.index()] = value;
        }
        self.taken_state = Some(State::of(frame));
        self.runs_later[subprog.index()] = true;
        let call = self.effects.of_call();
        call.called_back = Some(self.program.subprogs()[subprog.index()].start);
        call.runs_later = true;
        Ok(())
    }

    /// Whether the program may sleep here: what a timer runs may not.
    pub(super) fn may_sleep(&self) -> bool {
        self.env.sleepable && self.state.frame_at(0).async_entry == 0
    }

    /// Checks that a timer is initialised with the map that it is in.
    pub(super) fn check_map_of_timer(&self, timer: Option<MapIdx>, map: Option<MapIdx>) -> Checked {
        match timer.is_some() && timer != map {
            true => Err(Payload::Field { fault: FieldFault::OtherMap }.into()),
            false => Ok(()),
        }
    }

    /// A function that runs later returns 0.
    pub(super) fn check_later_result(&mut self) -> Checked {
        let value = self.read(Reg::R0)?;
        let Value::Scalar(scalar) = value else {
            let fault = LaterFault::Pointer { kind: value.name() };
            return Err(Payload::LaterResult { fault }.into());
        };
        self.rely_on(Reg::R0);
        let (smin, smax) = (scalar.bounds.smin(), scalar.bounds.smax());
        match smin >= LATER_RANGE.min.into() && smax <= LATER_RANGE.max.into() {
            true => Ok(()),
            false => Err(Payload::LaterResult { fault: LaterFault::Value { smin, smax } }.into()),
        }
    }
}

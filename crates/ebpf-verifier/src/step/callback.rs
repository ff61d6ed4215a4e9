//! Functions that helpers call back.
//!
//! How often a helper calls back is not known. So the path goes on behind the call, as after the last
//! round, and another one through the function, which comes back to the call and starts over. The
//! second ends where a round leads to a state that an earlier one covers.

use alloc::collections::BTreeSet;
use alloc::vec;
use alloc::vec::Vec;

use ebpf_isa::uapi::{HelperId, MapType};
use ebpf_isa::{Insn, MapIdx, Pc, Reg, SubprogIdx};

use super::{Machine, Next};
use crate::error::{Checked, Payload, Unsupported};
use crate::rules::{CALLBACK_RANGE, HelperProto};
use crate::state::{Frame, MapValueRef, PointerKind, Value};

/// What the calls of a helper that calls back have in common at one place, on all paths so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CallbackCall {
    /// The function, if it is always the same.
    pub(crate) function: Option<SubprogIdx>,
    /// Whether the kernel puts a loop in its place: it does for `bpf_loop` without flags that always
    /// calls back the same function.
    pub(crate) kernel_inlines: bool,
}

impl Machine<'_> {
    /// The address of a function, which only helpers that call it back can use.
    pub(super) fn function_address(&self, start: Pc) -> Checked<Value> {
        let subprogs = self.program.subprogs();
        if subprogs.iter().all(|subprog| subprog.info.btf_id.is_none()) {
            return Err(Payload::FunctionUntyped.into());
        }
        let subprog = self.program.subprog_of(start);
        let info = &subprogs[subprog.index()].info;
        match self.env.is_static(info).filter(|_| info.btf_id.is_some()) {
            None => Err(Unsupported::UntypedFunction.into()),
            Some(false) => Err(Payload::FunctionNotStatic.into()),
            Some(true) => Ok(Value::pointer(PointerKind::Function(subprog))),
        }
    }

    /// Has the helper call back the function in `r2`, if this is a call that does: another path goes on
    /// there.
    pub(super) fn call_back(&mut self, proto: &HelperProto, map: Option<MapIdx>) -> Checked {
        if proto.id == HelperId::TIMER_SET_CALLBACK {
            return self.run_later(map);
        }
        let is_loop = proto.id == HelperId::LOOP;
        if !is_loop && proto.id != HelperId::FOR_EACH_MAP_ELEM {
            return Ok(());
        }
        let subprog = self.given_function();
        self.note_callback(is_loop, subprog);
        if is_loop && !self.has_rounds_left()? {
            self.state.frame_mut().rounds = 0;
            self.effects.of_call().was_last_round = true;
            return Ok(());
        }
        // Of what the helper is given, as if it were the function that is called.
        self.remark_on_static(subprog);
        let depth = self.state.depth();
        if depth >= self.env.profile.frames() {
            return Err(Payload::LimitFrames { frames: depth + 1 }.into());
        }
        let mut callee = Frame::new(subprog, depth, Some(self.fall_through));
        callee.is_callback = true;
        let context = *self.value(Reg::R3);
        let arguments = match map {
            Some(map) => self.element_arguments(map, context)?,
            None => [Value::UNKNOWN, context, Value::Uninit, Value::Uninit],
        };
        for (reg, value) in Reg::ARGS.into_iter().zip(arguments) {
            callee.regs[reg.index()] = value;
        }
        let mut state = self.state.clone();
        state.rounds = state.rounds.saturating_add(1);
        let caller = state.frame_mut();
        caller.rounds = caller.rounds.saturating_add(1);
        state.push_frame(callee);
        self.taken_state = Some(state);
        self.state.frame_mut().rounds = 0;
        self.effects.of_call().called_back = Some(self.program.subprogs()[subprog.index()].start);
        Ok(())
    }

    /// The function in `r2`.
    pub(super) fn given_function(&self) -> SubprogIdx {
        match self.value(Reg::R2).as_pointer().map(|pointer| pointer.kind) {
            Some(PointerKind::Function(subprog)) => subprog,
            _ => unreachable!("the argument was found to be a function"),
        }
    }

    fn note_callback(&mut self, is_loop: bool, subprog: SubprogIdx) {
        let before = self.callback_calls.get(&self.pc).copied();
        let is_same = before.is_none_or(|before| before.function == Some(subprog));
        let mut kernel_inlines = is_loop && before.is_none_or(|before| before.kernel_inlines);
        if kernel_inlines {
            let has_no_flags = self.value(Reg::R4).is_zero();
            if has_no_flags {
                self.rely_on(Reg::R4);
            }
            kernel_inlines = has_no_flags && is_same;
        }
        let function = is_same.then_some(subprog);
        self.callback_calls.insert(self.pc, CallbackCall { function, kernel_inlines });
    }

    /// Whether `bpf_loop` may go through another round.
    fn has_rounds_left(&mut self) -> Checked<bool> {
        let Some(rounds) = self.value(Reg::R1).as_scalar() else {
            return Err(Payload::PointerRounds.into());
        };
        let max = rounds.bounds.umax();
        self.rely_on(Reg::R1);
        Ok(u64::from(self.state.frame().rounds) < max)
    }

    /// By subprogram, the bytes of stack that the kernel adds for loops. Those that it puts in the place
    /// of calls of `bpf_loop` save three registers there; `may_goto` counts and looks at the time.
    pub(crate) fn stack_of_loops(&self, reached: &[bool]) -> Vec<u16> {
        let mut added = vec![0; self.program.subprogs().len()];
        let inlined = self.callback_calls.iter().filter(|(_, call)| call.kernel_inlines);
        for (&pc, _) in inlined {
            added[self.program.subprog_of(pc).index()] = 3 * 8;
        }
        // One that leads to the next instruction is removed.
        let counts = |pc: Pc, insn: Insn| match insn {
            Insn::MayGoto { target } => reached[pc.index()] && target.0 != pc.0 + insn.slots(),
            _ => false,
        };
        let counting = self.program.insns().filter(|&(pc, insn)| counts(pc, insn));
        let counting: BTreeSet<_> =
            counting.map(|(pc, _)| self.program.subprog_of(pc).index()).collect();
        for subprog in counting {
            added[subprog] += 2 * 8;
        }
        added
    }

    /// The map, the key and the value of an element, and what the program hands on.
    fn element_arguments(&self, map: MapIdx, context: Value) -> Checked<[Value; 4]> {
        let map_type = self.map(map).desc.map_type;
        if !has_elements(map_type) {
            return Err(Payload::CallbackMap { map_type }.into());
        }
        let [key, value] = element(map);
        Ok([*self.value(Reg::R1), key, value, context])
    }

    /// A callback returns to the helper, which may call it again.
    pub(super) fn leave_callback(&mut self) -> Checked<Next> {
        let result = *self.value(Reg::R0);
        let Value::Scalar(scalar) = result else {
            return Err(Payload::CallbackPointer { kind: result.name() }.into());
        };
        self.rely_on(Reg::R0);
        let (smin, smax) = (scalar.bounds.smin(), scalar.bounds.smax());
        if smin < CALLBACK_RANGE.min.into() || smax > CALLBACK_RANGE.max.into() {
            return Err(Payload::CallbackValue { smin, smax }.into());
        }
        let callsite = self.state.frame().leads_to().expect("callbacks are called");
        let call = self.effects.of_call();
        call.left = self.state.pop_frame();
        call.left_callback = true;
        Ok(Next::Goto(callsite))
    }

    /// Refuses what may end the program in the middle of a helper.
    pub(super) fn check_may_end(&self) -> Checked {
        let mut frames = (0..self.state.depth()).map(|index| self.state.frame_at(index));
        match frames.any(|frame| frame.is_callback) {
            true => Err(Unsupported::EndInCallback.into()),
            false => Ok(()),
        }
    }
}

/// The key and the value of an element that a callback is given.
pub(super) fn element(map: MapIdx) -> [Value; 2] {
    let value = MapValueRef { map, null: None, element: None };
    [PointerKind::MapKey(map), PointerKind::MapValue(value)].map(Value::pointer)
}

/// Whether the elements of such a map can be gone through.
const fn has_elements(map_type: MapType) -> bool {
    matches!(
        map_type,
        MapType::Hash
            | MapType::Array
            | MapType::PercpuHash
            | MapType::PercpuArray
            | MapType::LruHash
            | MapType::LruPercpuHash
    )
}

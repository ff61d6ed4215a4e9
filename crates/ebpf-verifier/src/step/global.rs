//! Calls of functions that are verified on their own, and arguments as prototypes have them.

use alloc::boxed::Box;

use ebpf_isa::uapi::ProgramType;
use ebpf_isa::{Reg, SubprogIdx};

use super::helper::{CallFacts, MemoryUse, Piece};
use super::memory::check_unmodified;
use super::packet::forget_packet_pointers;
use super::{Machine, Next};
use crate::domain::Scalar;
use crate::error::{ArgumentRule, Checked, ErrorCode, LockFault, Payload, Unsupported};
use crate::function::{Argument, Function, Unread};
use crate::rules::PacketAccess;
use crate::state::{Frame, Pointer, PointerKind, SliceOf, State, Value};

impl Machine<'_> {
    /// The state in which a global function is explored: its arguments are whatever its prototype
    /// allows.
    pub(crate) fn state_of_global(&mut self, subprog: SubprogIdx) -> Checked<State> {
        let arguments = match &self.functions.get(subprog).prototype {
            Ok(prototype) => &prototype.arguments,
            Err(unread) => return Err(fault(unread)),
        };
        let mut frame = Frame::new(subprog, 0, None);
        for (&argument, reg) in arguments.iter().zip(Reg::ARGS) {
            frame.regs[reg.index()] = match argument {
                Argument::Number => Value::UNKNOWN,
                Argument::Context => Value::pointer(PointerKind::Context),
                Argument::Dynptr => Value::pointer(PointerKind::Dynptr(self.new_dynptr_id())),
                Argument::Memory { size, nullable } => {
                    let null = nullable.then(|| self.new_null_id());
                    Value::pointer(PointerKind::Argument { size, null })
                }
            };
        }
        Ok(State::of(frame))
    }

    /// The path goes on behind the call: what the function does is looked at later.
    pub(super) fn call_global(&mut self, subprog: SubprogIdx) -> Checked<Next> {
        let function = self.functions.get(subprog);
        let refused = self.check_arguments(function).err();
        self.check_unlocked(LockFault::GlobalCall)?;
        if let Some(cause) = refused {
            let is_known = cause.code() != ErrorCode::Unsupported;
            return Err(if is_known { refuse(subprog, function, cause) } else { cause });
        }
        if function.may_sleep && !self.may_sleep() {
            return Err(Payload::GlobalSleeps { function: subprog }.into());
        }
        if function.moves_packet {
            forget_packet_pointers(&mut self.state);
        }
        self.called[subprog.index()] = true;
        self.state.frame_mut().clear_caller_saved();
        self.set(Reg::R0, Value::UNKNOWN);
        Ok(Next::Goto(self.fall_through))
    }

    /// What the kernel remarks on the arguments of a static function. Calls are possible all the same;
    /// after the first remark it says no more about that function.
    pub(super) fn remark_on_static(&mut self, subprog: SubprogIdx) {
        let function = self.functions.get(subprog);
        if self.remarked[subprog.index()] || function.prototype == Err(Unread::Ignored) {
            return;
        }
        if let Err(cause) = self.check_arguments(function) {
            self.remarked[subprog.index()] = true;
            let remark = Some(cause).filter(|it| it.code() != ErrorCode::Unsupported);
            self.effects.of_call().remark = remark;
        }
    }

    fn check_arguments(&mut self, function: &Function) -> Checked {
        let prototype = function.prototype.as_ref().map_err(fault)?;
        for (&argument, reg) in prototype.arguments.iter().zip(Reg::ARGS) {
            self.check_prototype_argument(argument, reg)?;
        }
        Ok(())
    }

    fn check_prototype_argument(&mut self, argument: Argument, reg: Reg) -> Checked {
        let value = *self.value(reg);
        let expect = |fits, rule| match fits {
            true => Ok(()),
            false => Err(Payload::Argument { register: reg, rule }.into()),
        };
        match argument {
            Argument::Number => expect(value.as_scalar().is_some(), ArgumentRule::Number),
            Argument::Context => {
                check_moved(reg, &value)?;
                let kind = value.as_pointer().map(|pointer| pointer.kind);
                expect(kind == Some(PointerKind::Context), ArgumentRule::Context)
            }
            Argument::Dynptr => {
                check_moved(reg, &value)?;
                let dynptr = self.check_given_dynptr(reg)?;
                // For the function it is one of memory, which does not move.
                match dynptr.kind.is_packet() {
                    true => Err(Unsupported::PacketDynptr.into()),
                    false => Ok(()),
                }
            }
            Argument::Memory { size, nullable } => {
                check_moved(reg, &value)?;
                if value.is_zero() {
                    return self.give_null(reg, nullable);
                }
                self.check_given_memory(reg, value, size.into())?;
                expect(nullable || value.null_id().is_none(), ArgumentRule::NotNull)
            }
        }
    }

    /// Null is given as memory. The kernel takes it also where there must be some, and does not mind if
    /// another path comes here with another number.
    fn give_null(&mut self, reg: Reg, nullable: bool) -> Checked {
        if self.shares_mistakes {
            return Ok(());
        }
        self.rely_on(reg);
        if nullable { Ok(()) } else { Err(Unsupported::NullArgument.into()) }
    }

    /// Memory that a function may read and write; it may be null.
    fn check_given_memory(&mut self, reg: Reg, value: Value, size: i64) -> Checked {
        match value.as_pointer().map(|pointer| pointer.kind) {
            Some(PointerKind::Context) if !self.converts_context() => {
                return self.check_whole_context(size);
            }
            Some(
                PointerKind::Opaque { .. }
                | PointerKind::Structure { .. }
                | PointerKind::Guarded
                | PointerKind::Buffer { .. },
            ) => return Err(Unsupported::ObjectArgument.into()),
            _ => {}
        }
        // For the time being it is there.
        if let Value::Pointer(pointer) = &mut self.state.frame_mut().regs[reg.index()] {
            pointer.kind.settle_not_null();
        }
        let checked = [MemoryUse::Read, MemoryUse::FillPart].into_iter().try_for_each(|usage| {
            let piece = Piece { zero_size_allowed: true, ..Piece::new(reg, size, usage) };
            self.check_piece(piece, &mut CallFacts::default())
        });
        self.set(reg, value);
        checked?;
        self.check_given_packet(&value)
    }

    /// A packet that is given as memory may be written.
    fn check_given_packet(&mut self, value: &Value) -> Checked {
        let is_packet = |pointer: &Pointer| matches!(pointer.kind, PointerKind::Packet { .. });
        if !value.as_pointer().is_some_and(is_packet) {
            return Ok(());
        }
        let is_writable = matches!(
            self.env.program_type.packet_access(),
            PacketAccess::ReadWrite | PacketAccess::Buffer
        );
        self.writes_packet = true;
        match is_writable || self.shares_mistakes {
            true => Ok(()),
            false => Err(Unsupported::PacketArgument.into()),
        }
    }

    /// Whether accesses to the context become others when the program is rewritten.
    fn converts_context(&self) -> bool {
        !matches!(
            self.env.program_type.program_type(),
            ProgramType::Kprobe
                | ProgramType::Tracepoint
                | ProgramType::RawTracepoint
                | ProgramType::RawTracepointWritable
                | ProgramType::CgroupDevice
        )
    }

    /// A context that is memory as it is may be given as such, if all of it may be written: nothing.
    fn check_whole_context(&self, size: i64) -> Checked {
        match i16::try_from(size - 1) {
            Ok(..0) => Ok(()),
            Ok(off) => Err(Payload::ContextAccess { off, size: 1, write: true }.into()),
            Err(_) => Err(Unsupported::ContextField(i16::MAX).into()),
        }
    }

    /// A global function returns a number.
    pub(super) fn check_function_result(&self) -> Checked {
        match self.read(Reg::R0)? {
            Value::Scalar(_) => Ok(()),
            value => Err(Payload::FunctionResult { kind: value.name() }.into()),
        }
    }
}

/// The call of a function with arguments that are not what they must be.
fn refuse(subprog: SubprogIdx, function: &Function, cause: Box<Payload>) -> Box<Payload> {
    if function.may_sleep {
        return Payload::GlobalSleeps { function: subprog }.into();
    }
    let (function, name) = (subprog, function.name.clone());
    match cause.code() {
        ErrorCode::ContextModified => Payload::GlobalArgumentMoved { function, name, cause }.into(),
        _ => Payload::GlobalArguments { function, name, cause }.into(),
    }
}

/// Why a function cannot be called.
fn fault(unread: &Unread) -> Box<Payload> {
    match unread {
        Unread::Refused(fault) => Payload::Prototype { fault: fault.clone() }.into(),
        Unread::Ignored | Unread::Unknown => Unsupported::FunctionPrototype.into(),
    }
}

/// Checks that an argument is where it was, if it is of a kind that must be.
fn check_moved(reg: Reg, value: &Value) -> Checked {
    match value {
        Value::Scalar(_) => Ok(()),
        // The kernel takes it for a pointer of which it knows nothing.
        Value::Uninit => {
            let (kind, var_off) = (value.name(), Scalar::UNKNOWN.tnum());
            Err(Payload::ContextModified { register: reg, kind, off: 0, var_off }.into())
        }
        Value::Pointer(pointer) if may_have_moved(pointer) => Ok(()),
        Value::Pointer(pointer) => check_unmodified(reg, pointer),
    }
}

fn may_have_moved(pointer: &Pointer) -> bool {
    match pointer.kind {
        PointerKind::Stack { .. } | PointerKind::Packet { .. } => true,
        PointerKind::MapValue(_)
        | PointerKind::Buffer { .. }
        | PointerKind::Ringbuf { .. }
        | PointerKind::Argument { .. }
        | PointerKind::Slice { of: SliceOf::Memory, .. }
        | PointerKind::Item { .. } => !pointer.kind.may_be_null(),
        PointerKind::Guarded => true,
        PointerKind::Context
        | PointerKind::Map(_)
        | PointerKind::MapKey(_)
        | PointerKind::Function(_)
        | PointerKind::Element { .. }
        | PointerKind::PacketEnd
        | PointerKind::Object { .. }
        | PointerKind::Dynptr(_)
        | PointerKind::Structure { .. }
        | PointerKind::Slice { .. }
        | PointerKind::Opaque { .. } => false,
    }
}

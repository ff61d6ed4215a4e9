//! Calls of kernel functions, checked against their prototypes.

use ebpf_isa::Reg;

use super::helper::{CallFacts, MemoryUse, Piece, check_size_bounds};
use super::memory::check_unmodified;
use super::{Machine, Next};
use crate::error::{Checked, ErrorCode, LockFault, Payload, Unsupported};
use crate::kfunc::{KfuncArg, KfuncArgKind, KfuncProto, KfuncRet, ObjectType};
use crate::rules::PacketAccess;
use crate::state::{NullId, OpaqueId, Pointer, PointerKind, RefId, Reference, Value};

/// An argument of a call.
struct Argument<'a> {
    function: &'a KfuncProto,
    /// Its place, from 0.
    index: usize,
    arg: &'a KfuncArg,
    reg: Reg,
    value: Value,
}

impl Machine<'_> {
    pub(super) fn call_kfunc(&mut self, btf_id: u32, module: i16) -> Checked<Next> {
        let env = self.env;
        let function = env.modules.function(module, btf_id).expect("calls were checked before");
        if !function.may_be_locked() {
            self.check_unlocked(LockFault::Call)?;
        }
        let (mut released, mut iter, mut dynptr) = (None, None, None);
        for (index, (arg, reg)) in function.args.iter().zip(Reg::ARGS).enumerate() {
            match arg.kind {
                KfuncArgKind::Iter(usage, ty) => {
                    iter = Some(self.check_iter(index, reg, usage, ty)?);
                    continue;
                }
                KfuncArgKind::Dynptr => {
                    dynptr = Some(self.check_given_dynptr(reg)?);
                    continue;
                }
                KfuncArgKind::NewDynptr(of) => {
                    self.check_not_null(function, index, self.value(reg))?;
                    self.create_dynptr_of(reg, of, dynptr)?;
                    continue;
                }
                _ => {}
            }
            let argument = Argument { function, index, arg, reg, value: *self.value(reg) };
            self.check_kfunc_argument(&argument)?;
            if let Some(reference) = argument.value.acquired().filter(|_| function.flags.release)
                && released.replace(reference).is_some()
            {
                return Err(Unsupported::TwoReleased.into());
            }
        }
        if function.flags.release
            && !released.is_some_and(|it| self.state.release(it, self.shares_mistakes))
        {
            return Err(Payload::KfuncNotAcquired { function: function.name.clone() }.into());
        }
        if let (Some(iter), &KfuncRet::Item(size)) = (iter, &function.ret) {
            self.state.frame_mut().clear_caller_saved();
            return Ok(self.get_next(&iter, size));
        }
        let result = match (dynptr, &function.ret) {
            (Some(dynptr), &KfuncRet::Slice { writable }) => {
                self.slice_of(function, dynptr, writable)?
            }
            _ => self.kfunc_result(function),
        };
        self.state.frame_mut().clear_caller_saved();
        self.set(Reg::R0, result);
        Ok(Next::Goto(self.fall_through))
    }

    fn kfunc_result(&mut self, function: &KfuncProto) -> Value {
        let ty = match &function.ret {
            KfuncRet::Void | KfuncRet::Item(_) | KfuncRet::Slice { .. } => return Value::Uninit,
            KfuncRet::Scalar => return Value::UNKNOWN,
            KfuncRet::Object(ty) => self.opaque_id(ty),
        };
        // Where both are there, they are one number.
        let null = function.flags.ret_null.then(|| self.new_null_id());
        let reference = function.flags.acquire.then(|| self.acquire());
        let null = null.map(|null| reference.map_or(null, |reference| NullId(reference.0)));
        Value::pointer(PointerKind::Opaque { ty, null, reference })
    }

    /// Something that this instruction acquires.
    pub(super) fn acquire(&mut self) -> RefId {
        let id = RefId(self.new_id());
        self.state.refs.acquire(Reference { id, acquired_at: self.pc });
        id
    }

    fn check_kfunc_argument(&mut self, argument: &Argument<'_>) -> Checked {
        let Argument { index, arg, reg, ref value, .. } = *argument;
        if matches!(arg.kind, KfuncArgKind::Scalar | KfuncArgKind::Size | KfuncArgKind::SliceSize) {
            if value.as_scalar().is_none() {
                return Err(Payload::KfuncNumber { register: reg }.into());
            }
            return match arg.kind {
                KfuncArgKind::Size => self.check_buffer(argument),
                KfuncArgKind::SliceSize => {
                    self.check_buffer(argument)?;
                    self.check_slice_size(reg)
                }
                _ => Ok(()),
            };
        }
        if arg.kind == KfuncArgKind::Ignored {
            return Ok(());
        }
        if arg.nullable && value.is_zero() {
            self.rely_on(reg);
            return Ok(());
        }
        if value.is_zero() || value.null_id().is_some() {
            return Err(Payload::KfuncNull { argument: index }.into());
        }
        match &arg.kind {
            KfuncArgKind::Scalar
            | KfuncArgKind::Size
            | KfuncArgKind::SliceSize
            | KfuncArgKind::Ignored
            | KfuncArgKind::Dynptr
            | KfuncArgKind::NewDynptr(_)
            | KfuncArgKind::Iter(..) => Ok(()),
            KfuncArgKind::Buffer => {
                argument.check_memory_kind()?;
                match self.value(Reg::ARGS[index + 1]).as_scalar() {
                    Some(_) => Ok(()),
                    None => Err(Payload::KfuncPointer { argument: index, wanted: None }.into()),
                }
            }
            KfuncArgKind::Context => match value {
                Value::Pointer(pointer) if pointer.kind == PointerKind::Context => {
                    check_unmodified(reg, pointer)
                }
                _ => Err(Payload::KfuncContext { argument: index, kind: value.name() }.into()),
            },
            KfuncArgKind::Memory(bytes) => {
                argument.check_memory_kind()?;
                self.check_kfunc_memory(reg, (*bytes).into())
            }
            KfuncArgKind::Object(ty) => self.check_object(argument, ty),
        }
    }

    fn check_not_null(&self, function: &KfuncProto, argument: usize, value: &Value) -> Checked {
        let may_be_null = value.is_zero() || value.null_id().is_some();
        match function.flags.trusted_args && may_be_null {
            true => Err(Payload::KfuncNull { argument }.into()),
            false => Ok(()),
        }
    }

    fn check_object(&self, argument: &Argument<'_>, wanted: &ObjectType) -> Checked {
        let Argument { function, index, reg, value, .. } = argument;
        let (index, wanted_id) = (*index, self.opaque_id(wanted));
        let found = match value.as_pointer().map(|pointer| pointer.kind) {
            Some(PointerKind::Opaque { ty, reference, .. }) => {
                let trusted_only = function.flags.trusted_args || function.flags.release;
                if trusted_only && reference.is_none() {
                    return Err(Payload::KfuncUntrusted { register: *reg }.into());
                }
                if ty == wanted_id {
                    return Ok(());
                }
                self.opaque_type(ty).name()
            }
            Some(PointerKind::Structure { .. }) => return Err(Unsupported::KernelFunction.into()),
            Some(PointerKind::Map(_)) => "bpf_map",
            Some(PointerKind::Object { object, .. }) if !object.is_memory() => object.name(),
            _ => {
                let wanted = Some(wanted.clone());
                return Err(Payload::KfuncPointer { argument: index, wanted }.into());
            }
        };
        let (function, wanted) = (function.name.clone(), wanted.clone());
        Err(Payload::KfuncType { function, argument: index, wanted, found: found.into() }.into())
    }

    /// A size argument, and with it the buffer before.
    fn check_buffer(&mut self, argument: &Argument<'_>) -> Checked {
        let Argument { function, index, reg, ref value, .. } = *argument;
        let size = value.as_scalar().expect("sizes are numbers, as checked").bounds;
        let buffer = index.checked_sub(1).expect("a size has a buffer before it");
        let memory = Reg::ARGS[buffer];
        if function.args[buffer].nullable && self.value(memory).is_zero() {
            return Ok(());
        }
        let checked = check_size_bounds(reg, &size, true)
            .and_then(|()| self.check_kfunc_memory(memory, size.umax().cast_signed()));
        self.rely_on(reg);
        checked.map_err(|cause| match cause.code() {
            ErrorCode::StackAbove => Payload::KfuncBufferAbove { argument: buffer, cause }.into(),
            _ => Payload::KfuncBuffer { argument: buffer, cause }.into(),
        })
    }

    /// Memory that a function reads and writes.
    fn check_kfunc_memory(&mut self, reg: Reg, size: i64) -> Checked {
        let is_packet = |pointer: &Pointer| matches!(pointer.kind, PointerKind::Packet { .. });
        let may_write = matches!(
            self.env.program_type.packet_access(),
            PacketAccess::ReadWrite | PacketAccess::Buffer
        );
        if self.value(reg).as_pointer().is_some_and(is_packet) && !may_write {
            return Err(Payload::PacketReadOnly { register: reg }.into());
        }
        for usage in [MemoryUse::Read, MemoryUse::FillPart] {
            let piece = Piece { zero_size_allowed: true, ..Piece::new(reg, size, usage) };
            self.check_piece(piece, &mut CallFacts::default())?;
        }
        Ok(())
    }

    fn opaque_id(&self, ty: &ObjectType) -> OpaqueId {
        let place = self.object_types.iter().position(|other| other == ty);
        OpaqueId(place.expect("all types of the environment are in the list") as u32)
    }

    /// The type of an object.
    pub(super) fn opaque_type(&self, OpaqueId(place): OpaqueId) -> &ObjectType {
        &self.object_types[place as usize]
    }
}

impl Argument<'_> {
    /// Refuses structures that the kernel knows, which are no memory for it.
    fn check_memory_kind(&self) -> Checked {
        let kind = self.value.as_pointer().map(|pointer| pointer.kind);
        if let Some(
            PointerKind::Function(_)
            | PointerKind::MapKey(_)
            | PointerKind::Slice { .. }
            | PointerKind::Item { .. }
            | PointerKind::Dynptr(_)
            | PointerKind::Structure { .. }
            | PointerKind::Guarded
            | PointerKind::Buffer { .. },
        ) = kind
        {
            return Err(Unsupported::KernelFunction.into());
        }
        let is_structure = self.value.as_pointer().is_some_and(|pointer| match pointer.kind {
            PointerKind::Map(_) | PointerKind::Opaque { .. } | PointerKind::Structure { .. } => {
                true
            }
            PointerKind::Object { object, .. } => !object.is_memory(),
            PointerKind::Context
            | PointerKind::Function(_)
            | PointerKind::MapKey(_)
            | PointerKind::MapValue(_)
            | PointerKind::Element { .. }
            | PointerKind::Packet { .. }
            | PointerKind::PacketEnd
            | PointerKind::Guarded
            | PointerKind::Buffer { .. }
            | PointerKind::Ringbuf { .. }
            | PointerKind::Argument { .. }
            | PointerKind::Slice { .. }
            | PointerKind::Item { .. }
            | PointerKind::Dynptr(_)
            | PointerKind::Stack { .. } => false,
        });
        if is_structure {
            let function = self.function.name.clone();
            let (argument, kind) = (self.index, self.value.name());
            return Err(Payload::KfuncStructure { function, argument, kind }.into());
        }
        Ok(())
    }
}

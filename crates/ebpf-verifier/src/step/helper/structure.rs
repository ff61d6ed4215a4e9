//! Structures of the kernel as arguments of helpers.

use ebpf_btf::{Kind, TypeId};
use ebpf_isa::Reg;

use super::{SOCK_KINDS, check_kind, wrong_kind};
use crate::error::{Checked, Payload, Unsupported};
use crate::kernel_types::{Trust, is_at};
use crate::rules::{ArgKind, HelperProto, Structure};
use crate::state::{Pointer, PointerKind, Value};
use crate::step::Machine;
use crate::step::memory::check_unmodified;

impl Machine<'_> {
    /// The type of a structure.
    pub(super) fn structure_type(&self, structure: Structure) -> Checked<TypeId> {
        let found = self.kernel_types()?.index().find(Kind::Struct, structure.name());
        found.ok_or_else(|| Unsupported::StructureMember.into())
    }

    /// Checks an argument that is a structure of the kernel, or for [`ArgKind::Sock`] a socket as
    /// programs see it.
    pub(super) fn check_structure_argument(
        &self,
        kind: ArgKind,
        wanted: Structure,
        reg: Reg,
        value: &Value,
    ) -> Checked {
        let pointer = value.as_pointer();
        let Some((pointer, ty, trust)) = pointer.and_then(structure_behind) else {
            return check_kind(kind, reg, value);
        };
        if kind == ArgKind::Sock && trust == Trust::Rcu {
            return Err(wrong_kind(reg, value, SOCK_KINDS));
        }
        let (types, expected) = (self.kernel_types()?, self.structure_type(wanted)?);
        let off = u32::try_from(pointer.off).ok();
        if !off.is_some_and(|off| is_at(types.btf(), ty, off, expected)) {
            let (found, wanted) = (types.btf().type_name(ty).into(), wanted.name());
            return Err(Payload::HelperStructure { register: reg, found, wanted }.into());
        }
        check_unmodified(reg, &Pointer { off: 0, ..*pointer })
    }

    /// Checks an argument of another kind: structures of the kernel are memory that is only read.
    pub(super) fn check_memory_of_kernel(
        &self,
        proto: &HelperProto,
        kind: ArgKind,
        register: Reg,
        value: &Value,
    ) -> Checked {
        let structure = value.as_pointer().filter(|it| is_structure(it.kind));
        let is_unknown = matches!(
            kind,
            ArgKind::SockCommon
                | ArgKind::ReleasedSock
                | ArgKind::SockOrNull
                | ArgKind::MapValueOrNull
                | ArgKind::UpdateOrNull
                | ArgKind::Header20
                | ArgKind::Header40
        );
        if structure.is_some() && is_unknown {
            return Err(Unsupported::StructureArgument.into());
        }
        check_kind(kind, register, value)?;
        let may_be_written = matches!(
            kind,
            ArgKind::MapKey
                | ArgKind::MapValue
                | ArgKind::MapValueOutput
                | ArgKind::Output
                | ArgKind::Update
                | ArgKind::U32Update
                | ArgKind::U64Output
        );
        match structure {
            Some(_) if may_be_written => {
                let (helper, kind) = (proto.name.clone(), value.name());
                Err(Payload::HelperWritesStructure { register, helper, kind }.into())
            }
            Some(pointer) => check_unmodified(register, &Pointer { off: 0, ..*pointer }),
            None => Ok(()),
        }
    }
}

fn is_structure(kind: PointerKind) -> bool {
    matches!(kind, PointerKind::Structure { .. })
}

/// The structure behind a pointer that helpers take for one.
fn structure_behind(pointer: &Pointer) -> Option<(&Pointer, TypeId, Trust)> {
    match pointer.kind {
        PointerKind::Structure { ty, trust, null: None, .. } if trust.is_for_helpers() => {
            Some((pointer, ty, trust))
        }
        _ => None,
    }
}

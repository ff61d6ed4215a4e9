//! Structures of the kernel, and arguments of what the program is attached to.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;

use ebpf_btf::TypeId;
use ebpf_isa::Reg;

use super::Machine;
use super::memory::{Access, Place};
use crate::domain;
use crate::error::{Checked, Payload, Unsupported, WalkFault};
use crate::kernel_types::{Argument, Found, KernelTypes, Parent, Stuck, Trust, behind, walk};
use crate::state::{Pointer, PointerKind, RefId, Value};

/// A structure that a pointer points to, and how.
#[derive(Clone, Copy)]
pub(super) struct Structure {
    pub(super) ty: TypeId,
    pub(super) trust: Trust,
    pub(super) reference: Option<RefId>,
}

impl Structure {
    /// The structure behind a pointer that is known not to be null.
    pub(super) fn behind(pointer: &Pointer) -> Option<Self> {
        match pointer.kind {
            PointerKind::Structure { ty, trust, null: None, reference } => {
                Some(Self { ty, trust, reference })
            }
            _ => None,
        }
    }
}

impl Machine<'_> {
    /// The types of the kernel.
    pub(super) fn kernel_types(&self) -> Checked<Arc<KernelTypes>> {
        self.env.kernel_types.clone().ok_or_else(|| Unsupported::KernelTypes.into())
    }

    /// A load of an argument from the context.
    pub(super) fn access_argument(&mut self, place: Place, access: Access) -> Checked<Value> {
        let types = self.kernel_types()?;
        let (off, size) = (place.off, place.size.bytes());
        let target = self.target.as_ref().ok_or(Unsupported::AttachTarget)?;
        let argument = target.argument(&types, off, size).map_err(|fault| {
            Payload::ContextArgument { target: target.name.clone(), fault, off, size }
        })?;
        let argument = argument.ok_or(Unsupported::AttachTarget)?;
        let mut null = |may_be_null: bool| may_be_null.then(|| self.new_null_id());
        Ok(match argument {
            Argument::Number => Value::scalar(domain::load(place.size, access.extend())),
            Argument::Buffer { writable } => {
                Value::pointer(PointerKind::Buffer { writable, null: null(true) })
            }
            Argument::Structure { ty, trust, may_be_null, note } => {
                let null = null(may_be_null);
                self.effects.of_call().note = note;
                Value::pointer(PointerKind::Structure { ty, trust, null, reference: None })
            }
        })
    }

    /// An access through a pointer to a structure.
    pub(super) fn access_structure(
        &mut self,
        place: Place,
        pointer: &Pointer,
        access: Access,
    ) -> Checked<Value> {
        let structure = Structure::behind(pointer).expect("the pointer is one to a structure");
        let off = pointer.off.saturating_add(place.off.into());
        let size = place.size.bytes().into();
        let types = self.kernel_types()?;
        let off = self.check_structure(place.reg, pointer, structure, off, access.is_write())?;
        let found = match walk(types.btf(), structure.ty, off, size).map_err(stuck)? {
            Found::Bytes => {
                return Ok(Value::scalar(domain::load(place.size, access.extend())));
            }
            Found::Pointer => return Ok(Value::pointer(PointerKind::Guarded)),
            Found::Structure(found) => found,
        };
        let parent = Parent {
            ty: structure.ty,
            trust: structure.trust,
            is_acquired: structure.reference.is_some(),
            in_rcu: !self.env.sleepable,
        };
        let known = behind(types.index(), parent, &found).ok_or(Unsupported::StructureMember)?;
        let (trust, may_be_null) = known;
        // The writing half of an atomic operation is refused in any case.
        let null = may_be_null.then(|| self.new_null_id());
        Ok(Value::pointer(PointerKind::Structure { ty: found.to, trust, null, reference: None }))
    }

    /// Checks an access to a structure, but for what is there; gives its offset.
    fn check_structure(
        &self,
        register: Reg,
        pointer: &Pointer,
        structure: Structure,
        off: i32,
        write: bool,
    ) -> Checked<u32> {
        let name: String = self.kernel_types()?.btf().type_name(structure.ty).into();
        if !self.env.license_gpl {
            return Err(Payload::StructureLicense { structure: name }.into());
        }
        let Ok(at) = u32::try_from(off) else {
            return Err(Payload::StructureBefore { register, structure: name, off }.into());
        };
        let var_off = pointer.var.tnum();
        if var_off.as_const() != Some(0) {
            let structure = name;
            return Err(Payload::StructureVariable { register, structure, off, var_off }.into());
        }
        match write {
            // The kernel asks the program's type.
            true if structure.trust != Trust::Untrusted && self.target.is_none() => {
                Err(Unsupported::StructureStore.into())
            }
            true => Err(Payload::StructureWrite { structure: name }.into()),
            false => Ok(at),
        }
    }

    /// Checks that a helper may read so many bytes of a structure.
    pub(super) fn check_structure_piece(&self, reg: Reg, pointer: &Pointer, size: i64) -> Checked {
        let structure = Structure::behind(pointer).ok_or(Unsupported::StructureArgument)?;
        let size = u32::try_from(size).map_err(|_| Unsupported::StructureArgument)?;
        let types = self.kernel_types()?;
        let off = self.check_structure(reg, pointer, structure, pointer.off, false)?;
        walk(types.btf(), structure.ty, off, size).map_err(stuck)?;
        Ok(())
    }
}

/// The fault of a walk that does not come to an end.
fn stuck(stuck: Stuck) -> Box<Payload> {
    match stuck {
        Stuck::Fault(fault @ WalkFault::NoMember { .. }) => {
            Payload::StructureMember { fault }.into()
        }
        Stuck::Fault(fault) => Payload::StructureAccess { fault }.into(),
        Stuck::Unknown => Unsupported::StructureMember.into(),
    }
}

/// Checks an access to a buffer of an iterator. How long it is, is found out when the iterator is made.
pub(super) fn check_buffer(
    register: Reg,
    writable: bool,
    pointer: &Pointer,
    off: i64,
    size: i64,
) -> Checked {
    let buffer = if writable { "rdwr" } else { "rdonly" };
    if off < 0 {
        return Err(Payload::BufferBefore { register, buffer, off, size }.into());
    }
    match pointer.const_off() {
        Some(_) if pointer.var.as_const() == Some(0) => Ok(()),
        _ => Err(Unsupported::BufferOffset.into()),
    }
}

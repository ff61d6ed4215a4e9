//! Accesses to objects of the kernel.

use alloc::boxed::Box;

use super::Machine;
use super::memory::{Access, Place};
use crate::domain;
use crate::error::{Checked, Payload};
use crate::rules::Object;
use crate::state::{OpaqueId, Pointer, Value};

impl Machine<'_> {
    /// An access through a pointer to an object, which only has a constant offset.
    pub(super) fn access_object(
        &self,
        place: Place,
        pointer: &Pointer,
        object: Object,
        access: Access,
    ) -> Checked<Value> {
        let off = i32::from(place.off).saturating_add(pointer.off);
        let write = access.is_write();
        let forbidden = write && !object.is_memory();
        if !forbidden && object.may_load(off, place.size) {
            return Ok(Value::scalar(domain::load(place.size, access.extend())));
        }
        let (register, size) = (place.reg, place.size.bytes());
        Err(Payload::ObjectAccess { register, object, off, size, write }.into())
    }

    /// The fault of an access through a pointer to an object that programs cannot look into: for the
    /// kernel, one without fields.
    pub(super) fn look_into(
        &self,
        place: Place,
        pointer: &Pointer,
        ty: OpaqueId,
        access: Access,
    ) -> Box<Payload> {
        let object = self.opaque_type(ty).clone();
        let (register, size) = (place.reg, place.size.bytes());
        let off = i32::from(place.off).saturating_add(pointer.off);
        match (access.is_write(), off) {
            (true, _) => Payload::ObjectWrite { object },
            (false, ..0) => Payload::ObjectBefore { register, object, off },
            (false, _) => Payload::ObjectBeyond { object, off, size },
        }
        .into()
    }
}

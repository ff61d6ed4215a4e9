//! Accesses to objects of the kernel.

use super::Machine;
use super::memory::{Access, Place};
use crate::domain;
use crate::error::{Checked, Payload};
use crate::rules::Object;
use crate::state::{Pointer, Value};

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
}

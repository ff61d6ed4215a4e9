//! Accesses to objects of the kernel.

use alloc::format;

use super::Machine;
use super::memory::{Access, Place};
use crate::domain;
use crate::error::{Checked, ErrorCode, Fault};
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
        let (number, name, size) = (place.reg.number(), object.name(), place.size.bytes());
        if access.is_write() && !object.is_memory() {
            let message = format!("R{number} cannot write into {name}");
            return Err(Fault::new(ErrorCode::ObjectAccess, message));
        }
        let off = i32::from(place.off).saturating_add(pointer.off);
        if object.may_load(off, place.size) {
            return Ok(Value::scalar(domain::load(place.size, access.extend())));
        }
        let message = match object.is_memory() {
            true => format!("invalid access to flow keys off={off} size={size}"),
            false => format!("R{number} invalid {name} access off={off} size={size}"),
        };
        Err(Fault::new(ErrorCode::ObjectAccess, message))
    }
}

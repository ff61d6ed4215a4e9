//! Fields of map values that the kernel guards: who may touch them, and locks.

use alloc::string::ToString;

use ebpf_isa::uapi::{HelperId, MapType};
use ebpf_isa::{MapIdx, Reg};

use super::Machine;
use crate::environment::MapInfo;
use crate::error::{Checked, FieldFault, LockFault, Payload, Unsupported};
use crate::map_fields::{SpecialField, ValueFields};
use crate::state::{ElementId, HeldLock, MapValueRef, Pointer, PointerKind, Value};

impl Machine<'_> {
    /// What ties the pointers to an element that is there, if the map's elements have locks. Two lookups may
    /// give the same one, but it is taken for two.
    pub(super) fn new_element(&mut self, map: MapIdx) -> Option<ElementId> {
        self.map(map).fields.has_lock().then(|| ElementId(self.new_id()))
    }

    /// Checks that an access to `size` bytes of a map's value, at `off` from where the pointer's
    /// variable part starts, touches no field.
    pub(super) fn check_fields(
        &self,
        map: MapIdx,
        pointer: &Pointer,
        off: i64,
        size: i64,
    ) -> Checked {
        let fields = self.map(map).fields.known();
        let (first, last) = (pointer.var.smin(), pointer.var.umax().cast_signed());
        for field in fields {
            let bytes = field.bytes();
            let is_before = first.saturating_add(off) < bytes.end.into();
            if !is_before || last.saturating_add(off + size) <= bytes.start.into() {
                continue;
            }
            return Err(match field.kind {
                SpecialField::Pointer => Unsupported::PointerField.into(),
                field => Payload::FieldAccess { field }.into(),
            });
        }
        Ok(())
    }

    /// Checks that a helper's argument points to a field of this kind, and gives the value that it is
    /// in.
    pub(super) fn check_field(
        &self,
        register: Reg,
        value: &Value,
        field: SpecialField,
    ) -> Checked<MapValueRef> {
        let Some(&pointer @ Pointer { kind: PointerKind::MapValue(value), .. }) =
            value.as_pointer()
        else {
            unreachable!("the argument was found to be a map's value");
        };
        let info = self.map(value.map);
        let fault = match (pointer.const_off(), info.fields.place_of(field)) {
            (None, _) => FieldFault::Variable { register, field },
            (Some(_), None) => missing(info, field),
            (Some(off), Some(at)) if off != i64::from(at) => {
                FieldFault::Elsewhere { off, at, field }
            }
            (Some(_), Some(_)) => return Ok(value),
        };
        Err(Payload::Field { fault }.into())
    }

    /// Takes or gives back the lock that an argument points to.
    pub(super) fn process_lock(&mut self, helper: HelperId, reg: Reg, value: &Value) -> Checked {
        let MapValueRef { map, element, .. } =
            self.check_field(reg, value, SpecialField::SpinLock)?;
        if element.is_none() && !self.is_only_element(map) && !self.shares_mistakes {
            return Err(Unsupported::CallbackLock.into());
        }
        let lock = HeldLock { map, element };
        if helper == HelperId::SPIN_LOCK {
            self.state.lock = Some(lock);
            return Ok(());
        }
        let fault = match self.state.lock {
            None => LockFault::NotHeld,
            Some(held) if held != lock => LockFault::OfAnother,
            Some(_) => {
                self.state.lock = None;
                return Ok(());
            }
        };
        Err(Payload::Lock { fault }.into())
    }

    /// Whether all pointers to values of a map that the kernel does not number are to the same one on
    /// this path: that of an array with one, or the one that a timer is in. Where callbacks are given
    /// others, it does not tell them apart.
    fn is_only_element(&self, map: MapIdx) -> bool {
        let desc = &self.map(map).desc;
        let has_one = desc.map_type == MapType::Array && desc.max_entries == 1;
        has_one || !self.goes_through_maps
    }

    /// Refuses what is not possible while a lock is held.
    pub(super) fn check_unlocked(&self, fault: LockFault) -> Checked {
        match self.state.lock {
            Some(_) => Err(Payload::Lock { fault }.into()),
            None => Ok(()),
        }
    }
}

fn missing(info: &MapInfo, field: SpecialField) -> FieldFault {
    let map = info.name.to_string();
    match info.fields {
        ValueFields::Untyped => FieldFault::Untyped { map, field },
        ValueFields::Known(_) | ValueFields::Unknown => FieldFault::Missing { map, field },
    }
}

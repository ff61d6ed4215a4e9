//! What helpers leave in `r0`.

use ebpf_isa::uapi::{MapType, map_flags};
use ebpf_isa::{MapIdx, Reg};

use super::{CallFacts, map_of};
use crate::domain::Scalar;
use crate::error::Checked;
use crate::kernel_types::Trust;
use crate::profile::Feature;
use crate::rules::{HelperProto, Object, RetKind, Structure, holds_sockets};
use crate::state::{
    Cell, ElementId, Holds, MapValueRef, NullId, Origin, PointerKind, RefId, StackOff, Value,
};
use crate::step::Machine;

/// The greatest error number that helpers give.
const MAX_ERRNO: i64 = 4095;

impl Machine<'_> {
    pub(super) fn helper_result(
        &mut self,
        proto: &HelperProto,
        facts: &CallFacts,
    ) -> Checked<Value> {
        match proto.ret {
            RetKind::Integer => Ok(Value::UNKNOWN),
            RetKind::Processor => Ok(match self.processors {
                Some(processors) => {
                    let last = u64::from(processors.saturating_sub(1));
                    Value::scalar(Scalar::UNKNOWN.within_unsigned(0, last))
                }
                None => Value::UNKNOWN,
            }),
            RetKind::ErrorOrLength => {
                let least = (-MAX_ERRNO).cast_unsigned();
                let bounds = Scalar::UNKNOWN.within_signed(least, facts.max_size.cast_unsigned());
                Ok(Value::scalar(bounds))
            }
            RetKind::Void => Ok(Value::Uninit),
            RetKind::ObjectOrNull(object) => {
                let null = Some(self.new_null_id());
                Ok(Value::pointer(PointerKind::object(object, null, None)))
            }
            RetKind::AcquiredOrNull(object) => {
                let (reference, null) = self.acquire_or_null();
                Ok(Value::pointer(PointerKind::object(object, null, Some(reference))))
            }
            RetKind::ReservedOrNull => {
                let (reference, null) = self.acquire_or_null();
                let size = facts.reserved;
                Ok(Value::pointer(PointerKind::Ringbuf {
                    size,
                    null,
                    reference,
                    origin: Origin::Acquired,
                }))
            }
            RetKind::SliceOrNull => Ok(self.slice(facts.reserved)),
            RetKind::CastOrNull(object) => {
                let null = Some(self.new_null_id());
                let reference = facts.reference;
                Ok(Value::pointer(PointerKind::object(object, null, reference)))
            }
            RetKind::Trusted(structure) => {
                self.structure_result(structure, Trust::Trusted, None, None)
            }
            RetKind::Structure(structure) => {
                self.structure_result(structure, Trust::Plain, None, None)
            }
            RetKind::StructureOrNull(structure) => {
                let null = Some(self.new_null_id());
                self.structure_result(structure, Trust::Plain, null, None)
            }
            RetKind::CastToStructureOrNull(structure) => {
                let null = Some(self.new_null_id());
                self.structure_result(structure, Trust::Plain, null, facts.reference)
            }
            RetKind::MapValue => {
                let map = map_of(facts)?;
                let value = MapValueRef { map, null: None, element: self.new_element(map) };
                Ok(Value::pointer(PointerKind::MapValue(value)))
            }
            RetKind::MapValueOrNull => {
                let map = map_of(facts)?;
                if let Some(element) = self.object_in(map) {
                    return Ok(Value::pointer(element));
                }
                let entries = u64::from(self.map(map).desc.max_entries);
                let exists = facts.key.is_some_and(|key| key < entries);
                let has_lock = self.map(map).fields.has_lock();
                let id = (!exists || has_lock).then(|| self.new_id());
                let null = id.filter(|_| !exists).map(NullId);
                let element = id.filter(|_| has_lock).map(ElementId);
                Ok(Value::pointer(PointerKind::MapValue(MapValueRef { map, null, element })))
            }
        }
    }

    fn structure_result(
        &self,
        structure: Structure,
        trust: Trust,
        null: Option<NullId>,
        reference: Option<RefId>,
    ) -> Checked<Value> {
        let ty = self.structure_type(structure)?;
        Ok(Value::pointer(PointerKind::Structure { ty, trust, null, reference }))
    }

    /// What a lookup gives in a map that holds objects; `None` for other maps.
    fn object_in(&mut self, map: MapIdx) -> Option<PointerKind> {
        let info = self.map(map);
        if let Some(inner) = info.inner {
            let (holds, null) = (Holds::Map(inner), self.new_null_id());
            return Some(PointerKind::Element { map, holds, null, reference: None });
        }
        if info.desc.map_type == MapType::Xskmap {
            let (holds, null) = (Holds::Socket(Object::XdpSock), self.new_null_id());
            return Some(PointerKind::Element { map, holds, null, reference: None });
        }
        if !holds_sockets(info.desc.map_type) {
            return None;
        }
        self.new_null_id();
        let reference = self.acquire();
        let (holds, null) = (Holds::Socket(Object::Socket), NullId(reference.0));
        Some(PointerKind::Element { map, holds, null, reference: Some(reference) })
    }

    /// Something that is acquired if there is any, and what ties copies of its pointer.
    fn acquire_or_null(&mut self) -> (RefId, Option<NullId>) {
        // The number that it has as a pointer that may be null is not used.
        self.new_null_id();
        let reference = self.acquire();
        (reference, Some(NullId(reference.0)))
    }

    /// The key of an array's element, where it is a constant at a constant place in the stack.
    pub(super) fn constant_key(&mut self, reg: Reg, map: MapIdx) -> Option<u64> {
        let desc = &self.map(map).desc;
        let is_array = matches!(desc.map_type, MapType::Array | MapType::PercpuArray);
        // In the place of this one there may be an array of another size.
        let may_differ = desc.flags & map_flags::INNER_MAP != 0;
        if !is_array || may_differ || !self.env.profile.features.has(Feature::ConstantKeys) {
            return None;
        }
        let pointer = self.value(reg).as_pointer()?;
        let PointerKind::Stack { frame } = pointer.kind else {
            return None;
        };
        let at = StackOff::new(pointer.const_off()?)?;
        let size = usize::try_from(desc.key_size).ok()?;
        let slot = self.state.frame_at(frame).stack.slot(at);
        if slot.are_zero(at.in_slot(), size) {
            return Some(0);
        }
        // Above the lowest byte, too, the kernel takes the key to be the whole spilled number. A
        // number below 2^32 has zeroes there, so that the key exists if that number does.
        if slot.spill_size() != at.in_slot() + size {
            return None;
        }
        let key = slot.spilled()?.as_scalar()?.bounds.as_const()?;
        self.effects.relied_on.push(Cell::slot(frame, at.slot()));
        Some(key)
    }
}

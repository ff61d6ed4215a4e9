//! Pointers of two states.

use super::{Comparison, Depth, named};
use crate::state::{MapValueRef, PacketRange, Pointer, PointerKind};

impl Comparison<'_> {
    pub(super) fn pointer(&mut self, old: &Pointer, current: &Pointer) -> bool {
        if old.off != current.off {
            return false;
        }
        let may_narrow = match (old.kind, current.kind) {
            (PointerKind::MapValue(old), PointerKind::MapValue(current)) => {
                if !self.map_value(old, current) {
                    return false;
                }
                true
            }
            (
                PointerKind::Packet { region, id, range },
                PointerKind::Packet {
                    region: current_region,
                    id: current_id,
                    range: current_range,
                },
            ) => {
                let id_of = |id: u32| (id != 0).then_some(named(id));
                let fits = region == current_region
                    && self.has_range(range, current_range)
                    && self.ids.relate_both(id_of(id.0), id_of(current_id.0));
                if !fits {
                    return false;
                }
                true
            }
            (
                old_kind @ PointerKind::Element { map, .. },
                PointerKind::Element { map: current_map, .. },
            ) => {
                if map != current_map || !self.ties(old_kind, current.kind) {
                    return false;
                }
                true
            }
            (
                old_kind @ PointerKind::Object { object, stored_in, .. },
                PointerKind::Object { object: current_object, stored_in: current_map, .. },
            ) => {
                let is_same = object == current_object && stored_in == current_map;
                if !is_same || !self.ties(old_kind, current.kind) {
                    return false;
                }
                false
            }
            (
                old_kind @ PointerKind::Opaque { ty, .. },
                PointerKind::Opaque { ty: current_ty, .. },
            ) => {
                if ty != current_ty || !self.ties(old_kind, current.kind) {
                    return false;
                }
                false
            }
            (
                old_kind @ PointerKind::Structure { ty, trust, .. },
                PointerKind::Structure { ty: current_ty, trust: current_trust, .. },
            ) => {
                let is_same = ty == current_ty && trust == current_trust;
                if !is_same || !self.ties(old_kind, current.kind) {
                    return false;
                }
                false
            }
            (
                old_kind @ PointerKind::Buffer { writable, .. },
                PointerKind::Buffer { writable: current_writable, .. },
            ) => {
                if writable != current_writable || !self.ties(old_kind, current.kind) {
                    return false;
                }
                true
            }
            (PointerKind::Guarded, PointerKind::Guarded) => true,
            (
                old_kind @ PointerKind::Ringbuf { size, origin, .. },
                PointerKind::Ringbuf { size: current_size, origin: current_origin, .. },
            ) => {
                let is_same = size == current_size && origin == current_origin;
                if !is_same || !self.ties(old_kind, current.kind) {
                    return false;
                }
                true
            }
            (PointerKind::MapKey(old), PointerKind::MapKey(current)) => {
                if old != current {
                    return false;
                }
                true
            }
            (
                old_kind @ PointerKind::Slice { size, dynptr, of, .. },
                PointerKind::Slice {
                    size: current_size,
                    dynptr: current_dynptr,
                    of: current_of,
                    ..
                },
            ) => {
                // As the kernel, which knows the dynptr by its number.
                let is_same = (size, dynptr, of) == (current_size, current_dynptr, current_of);
                if !is_same || !self.ties(old_kind, current.kind) {
                    return false;
                }
                true
            }
            (
                PointerKind::Item { size, id, iter },
                PointerKind::Item { size: current_size, id: current_id, iter: current_iter },
            ) => {
                let fits = size == current_size
                    && self.ids.relate(named(id.0), named(current_id.0))
                    && self.ids.relate(named(iter.0), named(current_iter.0));
                if !fits {
                    return false;
                }
                true
            }
            (PointerKind::Dynptr(old), PointerKind::Dynptr(current)) => {
                if !self.ids.relate(named(old.number()), named(current.number())) {
                    return false;
                }
                false
            }
            (
                old_kind @ PointerKind::Argument { size, .. },
                PointerKind::Argument { size: current_size, .. },
            ) => {
                if size != current_size || !self.ties(old_kind, current.kind) {
                    return false;
                }
                true
            }
            (old, current) => {
                if old != current {
                    return false;
                }
                false
            }
        };
        match may_narrow && self.depth != Depth::Exact {
            true => current.var.is_subset_of(&old.var),
            false => current.var == old.var,
        }
    }

    /// Whether a pointer is tied to others as an earlier one was.
    fn ties(&mut self, old: PointerKind, current: PointerKind) -> bool {
        let null = |kind: PointerKind| kind.null_id().map(|id| named(id.0));
        let reference = |kind: PointerKind| kind.reference().map(|id| named(id.0));
        self.ids.relate_both(null(old), null(current))
            && self.ids.relate_both(reference(old), reference(current))
    }

    fn map_value(&mut self, old: MapValueRef, current: MapValueRef) -> bool {
        let id_of = |value: MapValueRef| value.null.map(|id| named(id.0));
        old.map == current.map
            && self.ids.relate_both(id_of(old), id_of(current))
            && self.element(old.element, current.element)
    }

    /// Whether at least as many bytes exist behind a packet pointer.
    fn has_range(&self, old: PacketRange, current: PacketRange) -> bool {
        match (old, current) {
            (PacketRange::Bytes(old), PacketRange::Bytes(current))
                if self.depth != Depth::Exact =>
            {
                old <= current
            }
            (old, current) => old == current,
        }
    }
}

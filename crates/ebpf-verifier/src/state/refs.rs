//! What a program has acquired and must release.

use alloc::rc::Rc;
use alloc::vec::Vec;

use ebpf_isa::{MapIdx, Pc};

use super::value::ElementId;

/// Ties together the copies of a pointer to what was acquired, and the pointers made from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RefId(pub(crate) u32);

/// Something that was acquired and not yet released.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Reference {
    pub(crate) id: RefId,
    /// The call that acquired it.
    pub(crate) acquired_at: Pc,
}

/// The lock that is held: that of an element of a map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct HeldLock {
    pub(crate) map: MapIdx,
    pub(crate) element: Option<ElementId>,
}

/// All that a program holds, in the order in which it was acquired. Nothing takes no memory, and copies
/// share what they have.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Refs(Option<Rc<Vec<Reference>>>);

impl Refs {
    pub(crate) fn iter(&self) -> impl ExactSizeIterator<Item = Reference> + '_ {
        self.0.as_deref().map_or(&[][..], Vec::as_slice).iter().copied()
    }

    /// Its share of the memory that it and its copies take.
    pub(super) fn bytes(&self) -> usize {
        let of = |held: &Rc<Vec<Reference>>| size_of_val(held.as_slice()) / Rc::strong_count(held);
        self.0.as_ref().map_or(0, of)
    }

    /// At most so many bytes are not shared with `other`.
    pub(super) fn bytes_beside(&self, other: &Self) -> usize {
        match (&self.0, &other.0) {
            (Some(held), Some(others)) if Rc::ptr_eq(held, others) => 0,
            (Some(held), _) => size_of_val(held.as_slice()),
            (None, _) => 0,
        }
    }

    pub(crate) fn acquire(&mut self, reference: Reference) {
        Rc::make_mut(self.0.get_or_insert_default()).push(reference);
    }

    /// Takes one out; says whether it was there.
    pub(crate) fn release(&mut self, id: RefId) -> bool {
        let Some(held) = &mut self.0 else { return false };
        let Some(at) = held.iter().position(|reference| reference.id == id) else {
            return false;
        };
        if held.len() == 1 {
            self.0 = None;
        } else {
            Rc::make_mut(held).remove(at);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_is_in_order_and_nothing_takes_no_memory() {
        let mut refs = Refs::default();
        let reference = |id| Reference { id: RefId(id), acquired_at: Pc(id * 10) };
        [4, 2, 7].into_iter().for_each(|id| refs.acquire(reference(id)));
        let copy = refs.clone();
        assert!(refs.release(RefId(2)) && !refs.release(RefId(2)));
        assert_eq!(refs.iter().collect::<Vec<_>>(), [reference(4), reference(7)]);
        assert_eq!(copy.iter().len(), 3);
        assert!(refs.release(RefId(7)) && refs.release(RefId(4)));
        assert_eq!(refs, Refs::default());
        assert!(!refs.release(RefId(4)));
    }
}

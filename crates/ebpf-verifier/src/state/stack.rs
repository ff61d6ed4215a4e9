//! A stack frame's memory: slots of eight bytes, each byte of a kind, with at most one register
//! spilled into a slot.

use alloc::rc::Rc;
use alloc::vec::Vec;

use super::object::{Dynptr, Iter};
use super::owned;
use super::value::Value;
use crate::domain::Scalar;
use ebpf_isa::abi::STACK_SIZE;

/// Bytes of a slot.
const SLOT: usize = 8;

/// The place of a byte in a frame, below the frame pointer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct StackOff(i16);

impl StackOff {
    /// `off` counts from the frame pointer; `None` unless it is in `-512..0`.
    pub(crate) fn new(off: i64) -> Option<Self> {
        if (-(STACK_SIZE as i64)..0).contains(&off) { Some(Self(off as i16)) } else { None }
    }

    /// Bytes from here to the frame pointer.
    pub(crate) fn depth(self) -> u16 {
        self.0.unsigned_abs()
    }

    /// Index of the slot, from the top of the stack down.
    pub(crate) fn slot(self) -> usize {
        (-i32::from(self.0) - 1) as usize / SLOT
    }

    /// Place of the byte in its slot, from the lowest address up.
    pub(crate) fn in_slot(self) -> usize {
        i32::from(self.0).rem_euclid(SLOT as i32) as usize
    }
}

/// What is known of a byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ByteKind {
    /// Never written.
    Invalid,
    /// Written with something.
    Misc,
    /// Zero.
    Zero,
    /// Part of the spilled register, which starts at the lowest byte of the slot.
    Spill,
    /// Part of a dynptr: then the whole slot is.
    Dynptr,
    /// Part of an iterator: then the whole slot is.
    Iter,
}

/// What a slot holds besides plain bytes.
#[derive(Debug, Clone)]
enum Content {
    /// A spilled register.
    Spill(Value),
    Dynptr(Dynptr),
    Iter(Iter),
}

/// Eight bytes of stack.
#[derive(Debug, Clone)]
pub(crate) struct Slot {
    bytes: [ByteKind; SLOT],
    /// What the bytes of kind `Spill`, `Dynptr` or `Iter` are part of; there are such bytes where it is there.
    /// Copies of the slot share it.
    content: Option<Rc<Content>>,
}

impl Slot {
    const INVALID: Self = Self { bytes: [ByteKind::Invalid; SLOT], content: None };

    /// The spilled register.
    pub(crate) fn spilled(&self) -> Option<&Value> {
        match self.content.as_deref()? {
            Content::Spill(value) => Some(value),
            Content::Dynptr(_) | Content::Iter(_) => None,
        }
    }

    pub(super) fn spilled_mut(&mut self) -> Option<&mut Value> {
        match Rc::make_mut(self.content.as_mut()?) {
            Content::Spill(value) => Some(value),
            Content::Dynptr(_) | Content::Iter(_) => None,
        }
    }

    /// The dynptr that it is part of.
    #[inline]
    pub(crate) fn dynptr(&self) -> Option<&Dynptr> {
        match self.content.as_deref()? {
            Content::Dynptr(dynptr) => Some(dynptr),
            Content::Spill(_) | Content::Iter(_) => None,
        }
    }

    /// The iterator that it is part of.
    #[inline]
    pub(crate) fn iter(&self) -> Option<&Iter> {
        match self.content.as_deref()? {
            Content::Iter(iter) => Some(iter),
            Content::Spill(_) | Content::Dynptr(_) => None,
        }
    }

    /// Whether it is the kernel's: programs may not read it.
    #[inline]
    pub(crate) fn is_kernels(&self) -> bool {
        self.content.as_deref().is_some_and(|content| !matches!(content, Content::Spill(_)))
    }

    fn set_iter(&mut self, iter: Iter) {
        self.bytes = [ByteKind::Iter; SLOT];
        self.content = Some(Rc::new(Content::Iter(iter)));
    }

    fn set_dynptr(&mut self, dynptr: Dynptr) {
        self.bytes = [ByteKind::Dynptr; SLOT];
        self.content = Some(Rc::new(Content::Dynptr(dynptr)));
    }

    fn spills_zero(&self) -> bool {
        self.spilled().is_some_and(Value::is_zero)
    }

    /// What is known of each byte, from the lowest address up.
    pub(crate) fn bytes(&self) -> &[ByteKind; SLOT] {
        &self.bytes
    }

    /// How many bytes of the register the slot holds.
    pub(crate) fn spill_size(&self) -> usize {
        self.bytes.iter().take_while(|&&byte| byte == ByteKind::Spill).count()
    }

    /// Whether these bytes are all zero, apart from a spilled register.
    pub(crate) fn are_zero(&self, from: usize, count: usize) -> bool {
        self.bytes.iter().skip(from).take(count).all(|&byte| byte == ByteKind::Zero)
            && from + count <= SLOT
    }

    /// Puts the low `size` bytes of a register into the lowest bytes.
    pub(crate) fn set_spill(&mut self, value: Value, size: usize) {
        let (spilled, rest) = self.bytes.split_at_mut(size);
        spilled.fill(ByteKind::Spill);
        for byte in rest {
            *byte = match *byte {
                kept @ (ByteKind::Invalid | ByteKind::Zero) => kept,
                ByteKind::Misc | ByteKind::Spill | ByteKind::Dynptr | ByteKind::Iter => {
                    ByteKind::Misc
                }
            };
        }
        let spill = Content::Spill(value);
        match self.content.as_mut().and_then(Rc::get_mut) {
            Some(content) => *content = spill,
            None => self.content = Some(Rc::new(spill)),
        }
    }

    /// Forgets a spilled register: its bytes hold something.
    fn scrub(&mut self) {
        if self.content.take().is_none() {
            return;
        }
        for byte in &mut self.bytes {
            if *byte != ByteKind::Invalid {
                *byte = ByteKind::Misc;
            }
        }
    }

    /// Stores bytes that are no register.
    pub(crate) fn set_bytes(&mut self, from: usize, count: usize, zero: bool) {
        self.scrub();
        let kind = if zero { ByteKind::Zero } else { ByteKind::Misc };
        self.bytes.iter_mut().skip(from).take(count).for_each(|byte| *byte = kind);
    }

    /// A store that may or may not hit this byte; says whether it stays zero.
    fn may_store(&mut self, at: usize, zero: bool) -> bool {
        let keeps_zero = self.bytes[at] == ByteKind::Spill && self.spills_zero();
        if zero && keeps_zero {
            return true;
        }
        let stays_zero = zero && self.bytes[at] == ByteKind::Zero;
        self.scrub();
        self.bytes[at] = if stays_zero { ByteKind::Zero } else { ByteKind::Misc };
        stays_zero
    }

    /// Something else writes this byte.
    fn clobber(&mut self, at: usize) {
        self.scrub();
        self.bytes[at] = ByteKind::Misc;
    }
}

/// The memory of a frame. Slots below all that were accessed are not there.
#[derive(Debug, Clone, Default)]
pub(crate) struct Stack {
    /// From the top of the stack down. Copies of the stack share it until one is written.
    slots: Rc<Vec<Slot>>,
}

impl Stack {
    /// Its share of the memory that it and its copies take.
    pub(super) fn bytes(&self) -> usize {
        let share = |content: &Rc<Content>| size_of::<Content>() / Rc::strong_count(content);
        let contents = self.slots.iter().filter_map(|slot| slot.content.as_ref()).map(share);
        let contents = contents.sum::<usize>();
        (size_of_val(self.slots.as_slice()) + contents) / Rc::strong_count(&self.slots)
    }

    /// At most so many bytes it takes.
    pub(super) fn bytes_max(&self) -> usize {
        self.slots.len() * (size_of::<Slot>() + size_of::<Content>())
    }

    /// The value spilled into a slot.
    pub(super) fn spilled(&self, slot: usize) -> Option<&Value> {
        self.slots.get(slot)?.spilled()
    }

    pub(super) fn spilled_mut(&mut self, slot: usize) -> Option<&mut Value> {
        owned(&mut self.slots).get_mut(slot)?.spilled_mut()
    }

    pub(crate) fn slots(&self) -> impl ExactSizeIterator<Item = &Slot> {
        self.slots.iter()
    }

    /// The values spilled that are `wanted`, for writing. The others stay shared with copies.
    pub(super) fn spilled_where(
        &mut self,
        wanted: impl Fn(&Value) -> bool,
    ) -> impl Iterator<Item = &mut Value> {
        let slots = owned(&mut self.slots).iter_mut();
        let slots = slots.filter(move |slot| slot.spilled().is_some_and(&wanted));
        slots.filter_map(Slot::spilled_mut)
    }

    /// A slot, by its index; `None` below everything that was accessed.
    pub(crate) fn get(&self, slot: usize) -> Option<&Slot> {
        self.slots.get(slot)
    }

    /// The slot with this byte.
    pub(crate) fn slot(&self, off: StackOff) -> &Slot {
        self.slots.get(off.slot()).unwrap_or(&Slot::INVALID)
    }

    /// The slot with this byte, for writing.
    pub(crate) fn slot_mut(&mut self, off: StackOff) -> &mut Slot {
        self.grow(off.depth());
        &mut owned(&mut self.slots)[off.slot()]
    }

    /// Puts a dynptr into the slot with this index, in which it starts, and the one above.
    pub(crate) fn set_dynptr(&mut self, slot: usize, dynptr: Dynptr) {
        let slots = owned(&mut self.slots);
        slots[slot].set_dynptr(Dynptr { first: true, ..dynptr });
        slots[slot - 1].set_dynptr(Dynptr { first: false, ..dynptr });
    }

    /// Takes out the dynptr that starts in a slot: nothing is there any more.
    pub(crate) fn remove_dynptr(&mut self, slot: usize) {
        owned(&mut self.slots)[slot - 1..=slot].fill(Slot::INVALID);
    }

    /// Puts an iterator into its slots, from the one with this index up.
    pub(crate) fn set_iter(&mut self, first: usize, iter: Iter) {
        let slots = owned(&mut self.slots);
        for slot in iter.ty.slots_from(first) {
            let reference = iter.reference.filter(|_| slot == first);
            slots[slot].set_iter(Iter { reference, ..iter });
        }
    }

    /// Changes the iterator that starts in a slot.
    pub(crate) fn set_iter_state(&mut self, first: usize, iter: Iter) {
        owned(&mut self.slots)[first].set_iter(iter);
    }

    /// Takes out the iterator that starts in a slot: nothing is there any more.
    pub(crate) fn remove_iter(&mut self, first: usize, iter: &Iter) {
        owned(&mut self.slots)[iter.ty.slots_from(first)].fill(Slot::INVALID);
    }

    /// Adds untouched slots until the stack is `depth` bytes deep.
    pub(crate) fn grow(&mut self, depth: u16) {
        let slots = usize::from(depth).div_ceil(SLOT);
        if self.slots.len() < slots {
            owned(&mut self.slots).resize(slots, Slot::INVALID);
        }
    }

    /// Bytes that were accessed, in whole slots.
    pub(crate) fn depth(&self) -> usize {
        self.slots.len() * SLOT
    }

    /// Whether all these bytes are known to be zero and belong to no spilled register.
    pub(crate) fn all_zero(&self, mut offs: impl Iterator<Item = StackOff>) -> bool {
        offs.all(|off| self.slot(off).are_zero(off.in_slot(), 1))
    }

    /// A store somewhere into these bytes; says whether zeroes stay known because it stores zero.
    pub(crate) fn may_store(&mut self, offs: impl Iterator<Item = StackOff>, zero: bool) -> bool {
        offs.fold(false, |kept, off| self.slot_mut(off).may_store(off.in_slot(), zero) | kept)
    }

    /// A helper that writes into these bytes.
    pub(crate) fn clobber(&mut self, offs: impl Iterator<Item = StackOff>) {
        offs.for_each(|off| self.slot_mut(off).clobber(off.in_slot()));
    }
}

impl Slot {
    /// What a load of `size` bytes from `from` on gives, if it does not give the spilled register
    /// as it is. `None` if nothing is known.
    pub(crate) fn constant_at(&self, from: usize, size: usize) -> Option<Scalar> {
        let bytes = self.bytes.get(from..from + size)?;
        let all = |kind| bytes.iter().all(|&byte| byte == kind);
        let zero = all(ByteKind::Zero) || (all(ByteKind::Spill) && self.spills_zero());
        zero.then(|| Scalar::constant(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(off: i64) -> StackOff {
        StackOff::new(off).unwrap()
    }

    #[test]
    fn offsets_lie_within_the_frame() {
        assert_eq!(StackOff::new(-513), None);
        assert_eq!(StackOff::new(0), None);
        assert_eq!((at(-512).slot(), at(-512).in_slot(), at(-512).depth()), (63, 0, 512));
        assert_eq!((at(-1).slot(), at(-1).in_slot(), at(-1).depth()), (0, 7, 1));
        assert_eq!((at(-8).slot(), at(-9).slot(), at(-9).in_slot()), (0, 1, 7));
    }

    #[test]
    fn a_narrow_spill_keeps_what_is_known_of_the_other_bytes() {
        let mut stack = Stack::default();
        stack.slot_mut(at(-8)).set_bytes(4, 4, true);
        stack.slot_mut(at(-8)).set_spill(Value::constant(7), 4);
        let slot = stack.slot(at(-8));
        assert_eq!((slot.spill_size(), slot.are_zero(4, 4), slot.are_zero(3, 4)), (4, true, false));
        assert_eq!(slot.spilled(), Some(&Value::constant(7)));
        assert_eq!(slot.constant_at(0, 8), None);
        assert_eq!(slot.constant_at(4, 4), Some(Scalar::constant(0)));
    }

    #[test]
    fn one_byte_destroys_a_spilled_register() {
        let mut stack = Stack::default();
        stack.slot_mut(at(-16)).set_spill(Value::constant(0), 8);
        stack.slot_mut(at(-16)).set_bytes(3, 1, true);
        let slot = stack.slot(at(-16));
        assert_eq!((slot.spilled(), slot.constant_at(3, 1)), (None, Some(Scalar::constant(0))));
        assert_eq!(slot.constant_at(2, 1), None);
    }

    #[test]
    fn a_store_that_may_miss_keeps_zeroes_only_if_it_stores_zero() {
        let mut stack = Stack::default();
        let bytes = || (-16..-8).map(at);
        stack.slot_mut(at(-16)).set_bytes(0, 8, true);
        stack.may_store(bytes(), true);
        assert!(stack.all_zero(bytes()));
        stack.may_store([at(-12)].into_iter(), false);
        assert!(!stack.all_zero(bytes()));
        assert!(stack.all_zero((-16..-12).map(at)));
    }

    #[test]
    fn helpers_leave_nothing_known() {
        let mut stack = Stack::default();
        stack.slot_mut(at(-8)).set_spill(Value::constant(0), 8);
        stack.clobber([at(-1)].into_iter());
        assert_eq!(stack.slot(at(-8)).spilled(), None);
        assert_eq!(stack.slot(at(-8)).constant_at(0, 8), None);
    }
}

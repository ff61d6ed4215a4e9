//! Sets of slots.

use alloc::vec;
use alloc::vec::Vec;

use ebpf_isa::Pc;

/// Slots of a program, in any order and number, in a bit for each slot.
#[derive(Debug, Clone)]
pub(crate) struct SlotMarks {
    words: Vec<u64>,
    end: Pc,
}

impl SlotMarks {
    /// None of `slots` slots is marked.
    pub(crate) fn new(slots: u32) -> Self {
        Self { words: vec![0; slots as usize / BITS + 1], end: Pc(slots) }
    }

    /// Marks a slot, or the end of the program, which no set has.
    #[inline]
    pub(crate) fn mark(&mut self, pc: Pc) {
        self.words[pc.index() / BITS] |= bit(pc);
    }

    /// The slots that are marked, as a set that numbers them.
    pub(crate) fn into_set(mut self) -> SlotSet {
        self.words[self.end.index() / BITS] &= !bit(self.end);
        let mut sum = 0;
        let before = |word: &u64| {
            let before = sum;
            sum += word.count_ones();
            before
        };
        let before = self.words.iter().map(before).collect();
        SlotSet { words: self.words, before, len: sum as usize }
    }
}

/// A set of slots of a program that numbers its elements.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlotSet {
    words: Vec<u64>,
    /// By word: how many elements are in front of it.
    before: Vec<u32>,
    len: usize,
}

const BITS: usize = u64::BITS as usize;

const fn bit(pc: Pc) -> u64 {
    1 << (pc.0 % u64::BITS)
}

impl SlotSet {
    /// Whether the slot is in the set.
    #[inline]
    #[must_use]
    pub fn contains(&self, pc: Pc) -> bool {
        self.words[pc.index() / BITS] & bit(pc) != 0
    }

    /// How many elements are in front of this slot: its number, if it is one of them.
    #[inline]
    #[must_use]
    pub fn rank(&self, pc: Pc) -> usize {
        let word = pc.index() / BITS;
        let in_word = self.words[word] & (bit(pc) - 1);
        (self.before[word] + in_word.count_ones()) as usize
    }

    /// How many elements there are.
    #[must_use]
    #[allow(clippy::len_without_is_empty, reason = "nobody asks whether a set is empty")]
    pub fn len(&self) -> usize {
        self.len
    }

    /// The elements, ascending.
    pub fn iter(&self) -> impl Iterator<Item = Pc> {
        let first = (0_u32..).step_by(BITS);
        first.zip(&self.words).flat_map(|(first, &word)| {
            let mut rest = word;
            core::iter::from_fn(move || {
                let bit = (rest != 0).then(|| rest.trailing_zeros())?;
                rest &= rest - 1;
                Some(Pc(first + bit))
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_are_numbered_in_their_order() {
        let mut marks = SlotMarks::new(200);
        for slot in [130, 0, 63, 64, 130, 199] {
            marks.mark(Pc(slot));
        }
        let set = marks.into_set();
        assert_eq!(set.iter().collect::<Vec<_>>(), [0, 63, 64, 130, 199].map(Pc));
        assert_eq!(set.len(), 5);
        let ranks = [0, 1, 62, 63, 64, 65, 130, 131, 199, 200].map(|slot| set.rank(Pc(slot)));
        assert_eq!(ranks, [0, 1, 1, 1, 2, 3, 3, 4, 4, 5]);
        assert!(set.contains(Pc(63)) && !set.contains(Pc(62)) && !set.contains(Pc(200)));
    }

    #[test]
    fn the_end_of_a_program_is_no_slot() {
        let mut marks = SlotMarks::new(64);
        marks.mark(Pc(64));
        assert_eq!(marks.into_set().len(), 0);
    }
}

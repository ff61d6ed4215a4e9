//! Where the map of a patch is more than the starts of code.

use alloc::vec;
use alloc::vec::Vec;

use ebpf_isa::Pc;

/// What code in front of an instruction, or its deletion, makes of its place in a map: new positions, or
/// [`PcMap::NOWHERE`](crate::map::PcMap::NOWHERE).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Detour {
    /// Where jumps to it lead.
    pub(crate) landing: u32,
    /// The instruction, or the start of its replacement.
    pub(crate) insn: u32,
}

/// The slots that have one: mostly few, so the others take a bit each.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Detours {
    /// A bit a slot; no words at all if there is no detour.
    words: Vec<u64>,
    /// By word, how many detours are in front of it.
    before: Vec<u32>,
    /// In the order of the slots.
    detours: Vec<Detour>,
}

const WORD: usize = u64::BITS as usize;

impl Detours {
    /// That of a slot.
    #[inline]
    pub(crate) fn get(&self, slot: Pc) -> Option<Detour> {
        let (index, bit) = (slot.index() / WORD, slot.index() % WORD);
        let rest = self.words.get(index)? >> bit;
        if rest & 1 == 0 {
            return None;
        }
        let in_word = (self.words[index] & !(u64::MAX << bit)).count_ones();
        Some(self.detours[(self.before[index] + in_word) as usize])
    }
}

/// Detours that are found from the end to the start.
#[derive(Debug)]
pub(crate) struct DetoursFromEnd {
    words: Vec<u64>,
    /// The last one first.
    detours: Vec<Detour>,
    /// The slot of the one that was found last.
    first: usize,
}

impl DetoursFromEnd {
    /// None yet of so many slots.
    pub(crate) fn new(slots: usize) -> Self {
        Self { words: vec![0; slots.div_ceil(WORD)], detours: Vec::new(), first: slots }
    }

    /// Adds one in front of those that there are.
    pub(crate) fn push(&mut self, slot: usize, detour: Detour) {
        debug_assert!(slot < self.first, "they come from the end");
        self.words[slot / WORD] |= 1 << (slot % WORD);
        self.detours.push(detour);
        self.first = slot;
    }

    /// The landing of this slot, behind which all that there are may be.
    pub(crate) fn landing(&self, slot: usize) -> Option<u32> {
        self.detours.last().filter(|_| slot == self.first).map(|first| first.landing)
    }

    pub(crate) fn finish(self) -> Detours {
        let Self { words, mut detours, .. } = self;
        detours.reverse();
        let mut sum = 0;
        let before = words.iter().map(|word| {
            let before = sum;
            sum += word.count_ones();
            before
        });
        Detours { before: before.collect(), words, detours }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_slot_has_its_own() {
        let slots = [3, 63, 64, 130, 199];
        let detour = |slot: usize| Detour { landing: slot as u32, insn: slot as u32 + 1 };
        let mut from_end = DetoursFromEnd::new(200);
        for slot in slots.into_iter().rev() {
            from_end.push(slot, detour(slot));
            assert_eq!(from_end.landing(slot), Some(slot as u32));
            assert_eq!(from_end.landing(slot - 1), None);
        }
        let detours = from_end.finish();
        for slot in 0..300 {
            let expected = slots.contains(&slot).then(|| detour(slot));
            assert_eq!(detours.get(Pc(slot as u32)), expected, "{slot}");
        }
        assert_eq!(Detours::default().get(Pc(0)), None);
    }
}

//! Instructions that need not make a program yet.

use alloc::vec::Vec;
use core::ops::{Deref, Range};

use crate::{Insn, Pc};

/// Instructions, one element a slot as in [`crate::Program::slots`], and a mark on each slot that holds
/// anything but a plain instruction ([`Insn::is_plain`]).
///
/// Most code is plain, and takes sixteen bytes a slot. Whoever asks only for the rest reads a bit of each
/// slot, and does not wait for the memory of the others.
#[derive(Debug, Clone, Default)]
pub struct Code {
    slots: Vec<Option<Insn>>,
    marks: Marks,
}

impl Code {
    /// No code.
    #[must_use]
    pub const fn new() -> Self {
        Self { slots: Vec::new(), marks: Marks(Vec::new()) }
    }

    /// No code, but memory for that of so many slots.
    #[must_use]
    pub fn with_capacity(slots: usize) -> Self {
        let marks = Marks(Vec::with_capacity(slots.div_ceil(WORD)));
        Self { slots: Vec::with_capacity(slots), marks }
    }

    /// The slots from `range.start` up to `range.end` that hold no plain instruction: wide loads, their second
    /// slots, and what can lead elsewhere than to the next instruction.
    ///
    /// # Panics
    /// The range ends beyond the code.
    #[inline]
    pub fn marked(&self, range: Range<usize>) -> impl Iterator<Item = Pc> {
        assert!(
            range.start <= range.end && range.end <= self.slots.len(),
            "the range is part of the code"
        );
        let Range { start: mut next, end } = range;
        let (mut first, mut rest) = (next, 0_u64);
        core::iter::from_fn(move || {
            while rest == 0 {
                if next == end {
                    return None;
                }
                let len = WORD.min(end - next);
                (first, rest) = (next, self.marks.get(next, len));
                next += len;
            }
            let bit = rest.trailing_zeros();
            rest &= rest - 1;
            Some(Pc(first as u32 + bit))
        })
    }

    /// Whether the slot holds no plain instruction. Where there is no slot, nothing is marked.
    #[inline]
    #[must_use]
    pub fn is_marked(&self, pc: Pc) -> bool {
        self.marks.get(pc.index(), 1) != 0
    }

    /// Adds an instruction at the end, with the second slot of a wide load.
    #[inline]
    pub fn push(&mut self, insn: Insn) {
        if insn.is_plain() {
            self.slots.push(Some(insn));
        } else {
            self.push_marked(insn);
        }
    }

    fn push_marked(&mut self, insn: Insn) {
        let at = self.slots.len();
        self.slots.push(Some(insn));
        self.marks.insert(at, 1);
        if insn.slots() == 2 {
            self.slots.push(None);
            self.marks.insert(at + 1, 1);
        }
    }

    /// Adds these slots at the end. Tells whether all of them are plain.
    #[inline]
    pub fn extend_from_slice(&mut self, slots: &[Option<Insn>]) -> bool {
        let old = self.slots.len();
        self.slots.extend_from_slice(slots);
        let mut is_plain = true;
        for (at, slots) in (old..).step_by(WORD).zip(slots.chunks(WORD)) {
            let marks = marks(slots);
            self.marks.insert(at, marks);
            is_plain &= marks == 0;
        }
        is_plain
    }

    /// Puts an instruction into a slot. Of a wide load, the second slot is left as it is.
    ///
    /// # Panics
    /// There is no such slot.
    #[inline]
    pub fn set(&mut self, at: usize, insn: Insn) {
        self.slots[at] = Some(insn);
        match insn.is_plain() {
            true => self.marks.remove(at),
            false => self.marks.insert(at, 1),
        }
    }

    /// Takes away what is behind the first `slots` slots.
    pub fn truncate(&mut self, slots: usize) {
        self.slots.truncate(slots);
        self.marks.truncate(slots);
    }
}

/// The code's slots.
impl Deref for Code {
    type Target = [Option<Insn>];

    #[inline]
    fn deref(&self) -> &Self::Target {
        &self.slots
    }
}

/// Marks follow from what is in the slots.
impl PartialEq for Code {
    fn eq(&self, other: &Self) -> bool {
        self.slots == other.slots
    }
}

impl Eq for Code {}

impl From<Vec<Option<Insn>>> for Code {
    fn from(slots: Vec<Option<Insn>>) -> Self {
        let marks = Marks(slots.chunks(WORD).map(marks).collect());
        Self { slots, marks }
    }
}

/// The marks of up to [`WORD`] slots.
#[inline]
fn marks(slots: &[Option<Insn>]) -> u64 {
    let is_marked = |slot: &Option<Insn>| !slot.as_ref().is_some_and(Insn::is_plain);
    let mark = |(bit, slot)| u64::from(is_marked(slot)) << bit;
    (0..).zip(slots).map(mark).fold(0, |all, mark| all | mark)
}

const WORD: usize = u64::BITS as usize;

/// A bit for each slot. Words may be missing at the end: there no bit is set.
#[derive(Debug, Clone, Default)]
struct Marks(Vec<u64>);

impl Marks {
    /// The `len` bits from `at` on, the first in the lowest; `len` is 1 to [`WORD`].
    #[inline]
    fn get(&self, at: usize, len: usize) -> u64 {
        let word = |index| self.0.get(index).copied().unwrap_or(0);
        let (index, bit) = (at / WORD, at % WORD);
        let mut bits = word(index) >> bit;
        if bit + len > WORD {
            bits |= word(index + 1) << (WORD - bit);
        }
        bits & u64::MAX >> (WORD - len)
    }

    /// Sets those bits from `at` on that are set in `bits`.
    #[inline]
    fn insert(&mut self, at: usize, bits: u64) {
        let (index, bit) = (at / WORD, at % WORD);
        self.insert_word(index, bits << bit);
        if bit > 0 {
            self.insert_word(index + 1, bits >> (WORD - bit));
        }
    }

    #[inline]
    fn insert_word(&mut self, index: usize, bits: u64) {
        if bits != 0 {
            if index >= self.0.len() {
                self.0.resize(index + 1, 0);
            }
            self.0[index] |= bits;
        }
    }

    /// Clears the bit at `at`.
    #[inline]
    fn remove(&mut self, at: usize) {
        if let Some(word) = self.0.get_mut(at / WORD) {
            *word &= !(1 << (at % WORD));
        }
    }

    /// No bit is set from `len` on.
    fn truncate(&mut self, len: usize) {
        self.0.truncate(len.div_ceil(WORD));
        if let Some(last) = self.0.get_mut(len / WORD) {
            *last &= !(u64::MAX << (len % WORD));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Imm64, Operand, Reg, WideSource, Width};

    const PLAIN: Insn = Insn::Mov { width: Width::W64, dst: Reg::R0, src: Operand::Imm(1) };
    const WIDE: Insn = Insn::LoadWide { dst: Reg::R0, source: WideSource::Imm(Imm64::new(1)) };

    fn marked(code: &Code) -> Vec<u32> {
        code.marked(0..code.len()).map(|pc| pc.0).collect()
    }

    /// Plain code with exits at these places.
    fn code(len: usize, exits: &[usize]) -> Code {
        let mut code = Code::new();
        (0..len).for_each(|at| code.push(if exits.contains(&at) { Insn::Exit } else { PLAIN }));
        code
    }

    #[test]
    fn all_but_plain_instructions_are_marked() {
        let mut code = Code::new();
        for insn in [PLAIN, Insn::Exit, WIDE, PLAIN, Insn::MayGoto { target: Pc(0) }] {
            code.push(insn);
        }
        let slots = [PLAIN.into(), Some(Insn::Exit), Some(WIDE), None, Some(PLAIN)];
        assert_eq!(code[..5], slots);
        assert_eq!(marked(&code), [1, 2, 3, 5]);
        assert_eq!(marked(&Code::from(code.to_vec())), [1, 2, 3, 5]);
        code.truncate(3);
        assert_eq!(marked(&code), [1, 2]);
        code.set(1, PLAIN);
        code.set(0, Insn::Exit);
        assert_eq!(marked(&code), [0, 2]);
    }

    #[test]
    fn marks_go_where_slots_go() {
        let exits = [0, 63, 64, 130];
        let from = code(140, &exits);
        let mut to = code(70, &[69]);
        assert!(!to.extend_from_slice(&from[60..131]));
        assert!(to.extend_from_slice(&from[131..]));
        assert_eq!(marked(&to), [69, 73, 74, 140]);
        assert_eq!(marked(&to), marked(&Code::from(to.to_vec())));
        assert!(to.is_marked(Pc(73)) && !to.is_marked(Pc(72)) && !to.is_marked(Pc(1000)));
    }

    #[test]
    fn a_part_is_searched_alone() {
        let code = code(200, &[0, 10, 100, 163, 164]);
        let marked: Vec<_> = code.marked(10..164).map(|pc| pc.0).collect();
        assert_eq!(marked, [10, 100, 163]);
        assert_eq!(code.marked(164..164).count(), 0);
        assert_eq!(Code::from([None; 3].to_vec()).marked(0..3).count(), 3);
    }
}

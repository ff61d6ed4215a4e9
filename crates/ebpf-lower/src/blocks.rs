//! Basic blocks.

use alloc::vec::Vec;

use ebpf_isa::Pc;

use crate::slots::{SlotMarks, SlotSet};

/// Where the basic blocks of a program start.
///
/// A block starts at the entry, at the first instruction of each subprogram, at each target of a
/// jump, and behind each jump, branch and `exit`. Calls are inside of blocks: they come back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blocks {
    starts: Vec<Pc>,
    numbers: SlotSet,
    len: u32,
}

impl Blocks {
    /// The blocks of a program of `len` slots that start at `leads`.
    pub(crate) fn new(leads: SlotMarks, len: u32) -> Self {
        let numbers = leads.into_set();
        let mut starts = Vec::with_capacity(numbers.len());
        starts.extend(numbers.iter());
        Self { starts, numbers, len }
    }

    /// First instructions, ascending.
    #[must_use]
    pub fn starts(&self) -> &[Pc] {
        &self.starts
    }

    /// The number of the block that starts at `pc`, as every target of a jump does.
    #[inline]
    #[must_use]
    pub fn at(&self, pc: Pc) -> usize {
        debug_assert!(self.numbers.contains(pc));
        self.numbers.rank(pc)
    }

    /// The number of the block behind the one that ends in the instruction at `pc`, of one slot.
    pub(crate) fn behind(&self, pc: Pc) -> usize {
        self.numbers.rank(Pc(pc.0 + 1))
    }

    /// First slot of each block and one past its last, ascending. Together they are the program.
    pub fn ranges(&self) -> impl DoubleEndedIterator<Item = (Pc, Pc)> + ExactSizeIterator {
        let end = |index: usize| self.starts.get(index + 1).copied().unwrap_or(Pc(self.len));
        self.starts.iter().enumerate().map(move |(index, &start)| (start, end(index)))
    }
}

#[cfg(test)]
mod tests {
    use ebpf_isa::text::assemble;

    use super::*;
    use crate::Outline;

    fn ranges(asm: &str) -> Vec<(u32, u32)> {
        let outline = Outline::new(&assemble(asm).unwrap());
        outline.blocks().ranges().map(|(start, end)| (start.0, end.0)).collect()
    }

    #[test]
    fn a_straight_line_is_one_block() {
        assert_eq!(ranges("r0 = 1 ll\ncall 1\nexit"), [(0, 4)]);
    }

    #[test]
    fn targets_and_what_follows_jumps_start_blocks() {
        let asm = "r0 = 0\nif r1 == 0 goto +1\nr0 = 1\ngoto -3\n";
        assert_eq!(ranges(asm), [(0, 1), (1, 2), (2, 3), (3, 4)]);
        let asm = "r0 = 0\nr0 = 1\nif r1 == 0 goto -2\nmay_goto +1\nr0 = 2\nexit";
        assert_eq!(ranges(asm), [(0, 1), (1, 3), (3, 4), (4, 5), (5, 6)]);
    }

    #[test]
    fn subprograms_start_blocks_and_calls_end_none() {
        assert_eq!(ranges("call f\nr0 = 1\nexit\nf:\nr0 = 2\nexit"), [(0, 3), (3, 5)]);
    }
}

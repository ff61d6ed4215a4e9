//! Basic blocks.

use alloc::vec::Vec;

use ebpf_isa::{Insn, Pc, Program};

use crate::{SlotMarks, SlotSet};

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
    /// The blocks of `program`.
    #[must_use]
    pub fn new(program: &Program) -> Self {
        let len = program.len();
        let mut leads = SlotMarks::new(len);
        for subprog in program.subprogs() {
            leads.mark(subprog.start);
        }
        for (slot, next) in program.slots().iter().zip(1_u32..) {
            let Some(insn) = slot else { continue };
            let target = insn.jump_target();
            if let Some(target) = target {
                leads.mark(target);
            }
            if (target.is_some() || insn.is_terminator()) && next < len {
                leads.mark(Pc(next));
            }
        }
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

    /// First slot of each block and one past its last, ascending. Together they are the program.
    pub fn ranges(&self) -> impl DoubleEndedIterator<Item = (Pc, Pc)> + ExactSizeIterator {
        let end = |index: usize| self.starts.get(index + 1).copied().unwrap_or(Pc(self.len));
        self.starts.iter().enumerate().map(move |(index, &start)| (start, end(index)))
    }
}

/// The last instruction of a block of `program` that ends before `end`: the only one that may jump.
pub(crate) fn last_before(program: &Program, end: Pc) -> Insn {
    let slots = &program.slots()[..end.index()];
    *slots.iter().rev().flatten().next().expect("a block starts with an instruction")
}

#[cfg(test)]
mod tests {
    use ebpf_isa::text::assemble;

    use super::*;

    fn ranges(asm: &str) -> Vec<(u32, u32)> {
        let blocks = Blocks::new(&assemble(asm).unwrap());
        blocks.ranges().map(|(start, end)| (start.0, end.0)).collect()
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

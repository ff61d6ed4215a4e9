//! Which registers are still read.
//!
//! The answer holds for the programs that [`Effects`] is right about.

use alloc::vec;
use alloc::vec::Vec;

use ebpf_isa::{Pc, Program, RegSet};

use crate::blocks::{Blocks, last_before};
use crate::effects::{Effect, Effects};

/// Registers that are read later on, by position.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Liveness {
    /// By slot.
    after: Vec<RegSet>,
}

impl Liveness {
    /// Solves the backward flow equations over the blocks of `program`, in time linear in the
    /// number of edges: a set grows at most as often as there are registers.
    #[must_use]
    pub fn new(program: &Program, blocks: &Blocks, effects: &Effects) -> Self {
        let effects = effects.by_slot();
        let flow = Flow::new(program, blocks, effects);
        let live_in = flow.solve();
        let mut after = vec![RegSet::EMPTY; effects.len()];
        for (block, (start, end)) in blocks.ranges().enumerate() {
            let mut live = flow.out(block, &live_in);
            let slots = start.index()..end.index();
            for (after, effect) in after[slots.clone()].iter_mut().zip(&effects[slots]).rev() {
                *after = live;
                live = effect.before(live);
            }
        }
        Self { after }
    }

    /// Registers that are read after the instruction at `pc`, before they are written.
    #[must_use]
    pub fn after(&self, pc: Pc) -> RegSet {
        self.after[pc.index()]
    }

    /// The same for each slot.
    #[must_use]
    pub fn by_slot(&self) -> &[RegSet] {
        &self.after
    }
}

/// The equations, one for each block.
struct Flow {
    effects: Vec<Effect>,
    /// Blocks that control goes on to: at most two.
    successors: Vec<[Option<u32>; 2]>,
}

impl Flow {
    /// `effects` are those of single instructions, by slot.
    fn new(program: &Program, blocks: &Blocks, effects: &[Effect]) -> Self {
        let count = blocks.starts().len();
        let mut flow =
            Self { effects: Vec::with_capacity(count), successors: Vec::with_capacity(count) };
        for (next, (start, end)) in (1_u32..).zip(blocks.ranges()) {
            let slots = start.index()..end.index();
            let whole = effects[slots].iter().rev().fold(Effect::NONE, |whole, effect| {
                let writes = whole.writes.union(effect.writes);
                Effect { reads: effect.before(whole.reads), writes }
            });
            let last = last_before(program, end);
            let next = (!last.is_terminator()).then_some(next);
            let target = last.jump_target().map(|target| blocks.at(target) as u32);
            flow.effects.push(whole);
            flow.successors.push([next, target]);
        }
        flow
    }

    /// What is live at the start of each block.
    fn solve(&self) -> Vec<RegSet> {
        let count = self.effects.len();
        let (ends, predecessors) = self.predecessors();
        let mut live_in = vec![RegSet::EMPTY; count];
        let mut queued = vec![true; count];
        // The last block comes first, so most blocks come after their successors.
        let mut work: Vec<u32> = (0..count as u32).collect();
        while let Some(block) = work.pop() {
            let block = block as usize;
            queued[block] = false;
            let live = self.effects[block].before(self.out(block, &live_in));
            if live == live_in[block] {
                continue;
            }
            live_in[block] = live;
            let start = block.checked_sub(1).map_or(0, |before| ends[before] as usize);
            for &predecessor in &predecessors[start..ends[block] as usize] {
                if !core::mem::replace(&mut queued[predecessor as usize], true) {
                    work.push(predecessor);
                }
            }
        }
        live_in
    }

    /// The blocks that lead to each block, all in one list, and where those of each block end in it.
    fn predecessors(&self) -> (Vec<u32>, Vec<u32>) {
        let edges = || {
            let blocks = (0_u32..).zip(&self.successors);
            blocks.flat_map(|(block, next)| next.iter().flatten().map(move |&next| (block, next)))
        };
        let mut ends = vec![0_u32; self.successors.len()];
        for (_, next) in edges() {
            ends[next as usize] += 1;
        }
        let mut sum = 0;
        for end in &mut ends {
            sum += *end;
            // Until the list is filled, this is where the next one goes.
            *end = sum - *end;
        }
        let mut list = vec![0; sum as usize];
        for (block, next) in edges() {
            let end = &mut ends[next as usize];
            list[*end as usize] = block;
            *end += 1;
        }
        (ends, list)
    }

    fn out(&self, block: usize, live_in: &[RegSet]) -> RegSet {
        let successors = self.successors[block].iter().flatten();
        successors.fold(RegSet::EMPTY, |live, &next| live.union(live_in[next as usize]))
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::String;

    use ebpf_isa::text::assemble;

    use super::*;

    /// The numbers of the registers that are live after each instruction, by slot.
    fn after(asm: &str) -> Vec<String> {
        let program = assemble(asm).unwrap();
        let liveness = Liveness::new(&program, &Blocks::new(&program), &Effects::new(&program));
        let numbers = |pc| liveness.after(pc).iter().map(|reg| reg.index().to_string()).collect();
        program.insns().map(|(pc, _)| numbers(pc)).collect()
    }

    #[test]
    fn a_value_lives_until_it_is_read_last() {
        assert_eq!(after("r2 = 1\nr3 = 2\nr2 += r3\nr0 = r2\nexit"), ["2", "23", "2", "0", ""]);
    }

    #[test]
    fn what_is_written_before_it_is_read_is_dead() {
        assert_eq!(after("r0 = 1\nr2 = 5\nr2 = 6\nr0 += r2\nexit")[1], "0");
    }

    #[test]
    fn a_loop_keeps_what_its_next_round_reads() {
        let live = after("r0 = 0\nr1 = 9\nr0 += r1\nr1 += -1\nif r1 != 0 goto -3\nexit");
        assert_eq!(live, ["0", "01", "01", "01", "01", ""]);
    }

    #[test]
    fn both_ways_of_a_branch_count() {
        let live = after("r2 = 1\nr3 = 2\nif r1 == 0 goto +2\nr0 = r2\nexit\nr0 = r3\nexit");
        assert_eq!(live[2], "23");
    }

    #[test]
    fn helpers_read_their_arguments_and_write_r0() {
        assert_eq!(
            after("r6 = 1\nr0 = 2\ncall 1\nr0 += r1\nexit"),
            ["12345", "12345", "01", "0", ""]
        );
    }

    #[test]
    fn a_subprogram_may_read_everything_and_leaves_r0_to_r5() {
        let live = after("r9 = 1\ncall f\nexit\nf:\nr2 = 1\nr6 = 2\nr0 = r9\nexit");
        assert_eq!((live[0].as_str(), live[1].as_str()), ("012345678910", "0"));
        assert_eq!(live[3..], ["123459", "123459", "012345", ""].map(String::from));
    }

    #[test]
    fn a_main_program_that_is_called_returns_like_a_subprogram() {
        assert_eq!(after("r2 = 1\nr0 = 0\nexit\nf:\ncall 0\nexit").len(), 5);
        let live = after("f:\nif r1 == 0 goto +2\nr1 = 0\ncall f\nr2 = 1\nexit");
        assert_eq!(live[3], "012345");
    }

    #[test]
    fn a_packet_load_may_end_the_function() {
        let live = after("call f\nexit\nf:\nr3 = 1\nr6 = r1\nr0 = *(u8 *)skb[0]\nr3 = 2\nexit");
        assert!(live[2].contains('3'), "{live:?}");
    }
}

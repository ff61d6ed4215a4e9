//! Which registers are still read.
//!
//! The answer holds for the programs that [`Effects`](crate::Effects) is right about.

use alloc::vec;
use alloc::vec::Vec;

use ebpf_isa::{Pc, RegSet};

use crate::effects::Effect;
use crate::outline::Outline;

/// Registers that are read later on, by position.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Liveness {
    /// By slot.
    after: Vec<RegSet>,
}

impl Liveness {
    /// Solves the backward flow equations over the blocks of the program that `outline` is of, in
    /// time linear in the number of edges: a set grows at most as often as there are registers.
    #[must_use]
    pub fn new(outline: &Outline) -> Self {
        let effects = outline.effects().by_slot();
        let flow = Flow::new(outline);
        let live_in = flow.solve();
        let mut after = vec![RegSet::EMPTY; effects.len()];
        for (node, (start, end)) in flow.0.iter().zip(outline.blocks().ranges()) {
            let mut live = node.out(&live_in);
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

/// The equation of a block.
struct Node {
    /// What the whole block does.
    effect: Effect,
    /// Blocks that control goes on to. Where there is none, it is one past the last block, where
    /// nothing is live.
    next: u32,
    target: u32,
}

impl Node {
    fn out(&self, live_in: &[RegSet]) -> RegSet {
        live_in[self.next as usize].union(live_in[self.target as usize])
    }
}

struct Flow(Vec<Node>);

impl Flow {
    fn new(outline: &Outline) -> Self {
        let (blocks, effects) = (outline.blocks(), outline.effects().by_slot());
        let nobody = blocks.starts().len() as u32;
        let mut ends = outline.ends().iter().peekable();
        let node = |(next, (start, end)): (u32, (Pc, Pc))| {
            let slots = &effects[start.index()..end.index()];
            let effect = slots.iter().rev().fold(Effect::NONE, |whole, effect| {
                let writes = whole.writes.union(effect.writes);
                Effect { reads: effect.before(whole.reads), writes }
            });
            let Some(last) = ends.next_if(|last| last.at < end) else {
                return Node { effect, next, target: nobody };
            };
            let target = last.target.map_or(nobody, |target| blocks.at(target) as u32);
            Node { effect, next: if last.falls_through { next } else { nobody }, target }
        };
        Self((1..).zip(blocks.ranges()).map(node).collect())
    }

    /// What is live at the start of each block, and behind the last.
    fn solve(&self) -> Vec<RegSet> {
        let mut live_in = vec![RegSet::EMPTY; self.0.len() + 1];
        let mut queued = vec![false; self.0.len()];
        let mut work = Vec::new();
        // Each block comes after its successors, but for those that it jumps back to.
        for (block, node) in self.0.iter().enumerate().rev() {
            live_in[block] = node.effect.before(node.out(&live_in));
            if node.target as usize <= block {
                queued[block] = true;
                work.push(block);
            }
        }
        let jumps = Jumps::new(&self.0);
        while let Some(block) = work.pop() {
            queued[block] = false;
            let node = &self.0[block];
            let live = node.effect.before(node.out(&live_in));
            if live == live_in[block] {
                continue;
            }
            live_in[block] = live;
            let before = block.checked_sub(1).filter(|&b| self.0[b].next as usize == block);
            for predecessor in jumps.to(block).chain(before) {
                if !core::mem::replace(&mut queued[predecessor], true) {
                    work.push(predecessor);
                }
            }
        }
        live_in
    }
}

/// The blocks that jump to each block, as lists through all of them.
struct Jumps {
    /// By target: the last that jumps to it.
    last: Vec<u32>,
    /// By block: the one in front of it that jumps to the same target.
    earlier: Vec<u32>,
}

impl Jumps {
    const NONE: u32 = u32::MAX;

    fn new(nodes: &[Node]) -> Self {
        let mut last = vec![Self::NONE; nodes.len() + 1];
        let replace = |(block, node): (u32, &Node)| {
            core::mem::replace(&mut last[node.target as usize], block)
        };
        let earlier = (0..).zip(nodes).map(replace).collect();
        Self { last, earlier }
    }

    fn to(&self, target: usize) -> impl Iterator<Item = usize> {
        let some = |block: u32| (block != Self::NONE).then_some(block as usize);
        let first = some(self.last[target]);
        core::iter::successors(first, move |&block| some(self.earlier[block]))
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
        let liveness = Liveness::new(&Outline::new(&program));
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

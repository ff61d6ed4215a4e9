//! The loops of a program, numbered as the kernel does, and which of them are being explored.
//!
//! A loop that `may_goto` ends, or that gets one thing after the other from an iterator, is explored until a round finds a state that covers it, though other paths
//! of that one still go on. What these turn out to rely on is handed over to the rounds that ended so
//! when the loop is left; up to then states of the loop are compared in everything.

use alloc::collections::BTreeMap;
use alloc::vec;
use alloc::vec::Vec;

use ebpf_isa::{Pc, Program};

use super::checkpoint::CheckpointId;
use crate::state::State;

/// For each slot the number of its strongly connected component, from 1; 0 if control does not
/// come back to it within its function.
pub(crate) fn components(program: &Program) -> Vec<u32> {
    let mut search = Search::new(program);
    for (pc, _) in program.insns() {
        if search.order[pc.index()] == 0 {
            search.visit_from(pc);
        }
    }
    search.components
}

/// Tarjan's search, without recursion.
struct Search<'a> {
    program: &'a Program,
    components: Vec<u32>,
    /// When each slot was found, from 1; 0 if it was not.
    order: Vec<u32>,
    /// The earliest slot on the stack that is known to be reachable from each; greater than all once
    /// its component is complete.
    low: Vec<u32>,
    /// Slots without component so far.
    stack: Vec<Pc>,
    found: u32,
    last: u32,
}

impl<'a> Search<'a> {
    fn new(program: &'a Program) -> Self {
        let slots = program.slots().len();
        Self {
            program,
            components: vec![0; slots],
            order: vec![0; slots],
            low: vec![0; slots],
            stack: Vec::new(),
            found: 0,
            last: 0,
        }
    }

    fn ways(&self, pc: Pc) -> impl Iterator<Item = Pc> + use<> {
        let successors = self.program.get(pc).map(|insn| insn.successors(pc));
        successors.into_iter().flat_map(|ways| ways.next.into_iter().chain(ways.target))
    }

    fn visit_from(&mut self, root: Pc) {
        let mut path = vec![root];
        while let Some(&pc) = path.last() {
            if self.order[pc.index()] == 0 {
                self.found += 1;
                (self.order[pc.index()], self.low[pc.index()]) = (self.found, self.found);
                self.stack.push(pc);
            }
            if let Some(next) = self.ways(pc).find(|next| self.order[next.index()] == 0) {
                path.push(next);
                continue;
            }
            let low = self.ways(pc).map(|next| self.low[next.index()]).min();
            let low = low.unwrap_or(u32::MAX).min(self.low[pc.index()]);
            self.low[pc.index()] = low;
            path.pop();
            if low == self.order[pc.index()] {
                self.complete(pc);
            }
        }
    }

    /// Takes the component that was entered at `pc` off the stack.
    fn complete(&mut self, pc: Pc) {
        let is_loop = self.stack.last() != Some(&pc) || self.ways(pc).any(|next| next == pc);
        self.last += u32::from(is_loop);
        while let Some(member) = self.stack.pop() {
            self.low[member.index()] = u32::MAX;
            if is_loop {
                self.components[member.index()] = self.last;
            }
            if member == pc {
                break;
            }
        }
    }
}

/// The first loop that `places`, from the main program on, are in: the calls that lead to it, and its
/// number.
pub(crate) fn loop_of(
    mut places: impl Iterator<Item = Pc>,
    components: &[u32],
) -> Option<Vec<u32>> {
    let mut found = Vec::new();
    let number = places.find_map(|place| match components[place.index()] {
        0 => {
            found.push(place.0);
            None
        }
        number => Some(number),
    })?;
    found.push(number);
    Some(found)
}

/// The loops that are being explored: the checkpoint with which each was entered.
#[derive(Debug, Default)]
pub(crate) struct Entered(BTreeMap<Vec<u32>, CheckpointId>);

impl Entered {
    /// Whether the loop was not entered before, as it now is.
    pub(crate) fn enter(&mut self, checkpoint: CheckpointId, entered: &[u32]) -> bool {
        if self.0.contains_key(entered) {
            return false;
        }
        self.0.insert(entered.to_vec(), checkpoint);
        true
    }

    /// The loop that was entered with a checkpoint from which all paths have ended.
    pub(crate) fn leave(&mut self, checkpoint: CheckpointId) -> Option<Vec<u32>> {
        let entered = self.0.iter().find(|(_, entry)| **entry == checkpoint)?.0.clone();
        self.0.remove(&entered);
        Some(entered)
    }
}

/// The loops of a program with `may_goto` or iterators, and the paths that ended in them early.
#[derive(Debug, Default)]
pub(super) struct Loops {
    /// By slot, the number of the loop; empty where no loop ends paths early.
    components: Vec<u32>,
    entered: Entered,
    /// By loop, which of the covered paths.
    ended: BTreeMap<Vec<u32>, Vec<usize>>,
}

impl Loops {
    pub(super) fn of(program: &Program, end_early: bool) -> Self {
        match end_early {
            true => Self { components: components(program), ..Self::default() },
            false => Self::default(),
        }
    }

    /// Whether some loop ends paths early.
    pub(super) fn end_paths(&self) -> bool {
        !self.components.is_empty()
    }

    fn place(&self, state: &State, pc: Pc) -> Option<Vec<u32>> {
        if !self.end_paths() {
            return None;
        }
        loop_of((0..state.depth()).map(|frame| state.place_in(frame, pc)), &self.components)
    }

    /// A state in a loop is kept.
    pub(super) fn enter(&mut self, checkpoint: CheckpointId, state: &State, pc: Pc) {
        if let Some(place) = self.place(state, pc) {
            self.entered.enter(checkpoint, &place);
        }
    }

    /// A path ended in the loop of the state that covers it; says whether this is in a loop.
    pub(super) fn end(&mut self, path: usize, state: &State, pc: Pc) -> bool {
        let place = self.place(state, pc);
        let is_there = place.is_some();
        place.into_iter().for_each(|place| self.ended.entry(place).or_default().push(path));
        is_there
    }

    /// Whether it is not known yet what states of this loop rely on.
    pub(super) fn is_open(&self, state: &State, pc: Pc) -> bool {
        self.place(state, pc).is_some_and(|place| self.ended.contains_key(&place))
    }

    /// The paths that ended early in a loop that was entered with this checkpoint, the last one first.
    pub(super) fn leave(&mut self, checkpoint: CheckpointId) -> Vec<usize> {
        let left = self.entered.leave(checkpoint);
        let mut ended = left.and_then(|place| self.ended.remove(&place)).unwrap_or_default();
        ended.reverse();
        ended
    }

    /// Is in no loop any more.
    pub(super) fn forget(&mut self) {
        self.entered = Entered::default();
        self.ended.clear();
    }
}

#[cfg(test)]
mod tests {
    use ebpf_isa::text::assemble;

    use super::*;

    #[test]
    fn components_are_numbered_as_they_are_completed() {
        // An inner loop of one instruction, in an outer one, and one in a function that is called.
        let text = "r1 = 0\nouter:\nr2 = 0\ninner:\nif r1 == 1 goto inner\nif r1 == 2 goto outer\n\
                    call f\nexit\nf:\nr0 = 0\nagain:\nr0 += 1\nif r0 < 5 goto again\nexit";
        let program = assemble(text).expect("it is a program");
        assert_eq!(components(&program), [0, 1, 1, 1, 0, 0, 0, 2, 2, 0]);
        let text = "r0 = 0\nagain:\nif r0 == 0 goto again\nexit";
        let program = assemble(text).expect("it is a program");
        assert_eq!(components(&program), [0, 1, 0]);
    }
}

//! The loops of a program, numbered as the kernel does, and which of them are being explored.

use alloc::collections::BTreeMap;
use alloc::vec;
use alloc::vec::Vec;

use ebpf_isa::{Pc, Program};

use super::checkpoint::CheckpointId;

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

/// The loops that are being explored: the calls that lead to each and its number, and the
/// checkpoint with which it was entered.
#[derive(Debug, Default)]
pub(crate) struct Entered(BTreeMap<Vec<u32>, CheckpointId>);

impl Entered {
    /// The loop that `places`, from the main program on, are in first, if it was not entered before.
    pub(crate) fn enter(
        &mut self,
        checkpoint: CheckpointId,
        places: &[Pc],
        components: &[u32],
    ) -> Option<Vec<u32>> {
        let entered = loop_of(places, components)?;
        if self.0.contains_key(&entered) {
            return None;
        }
        self.0.insert(entered.clone(), checkpoint);
        Some(entered)
    }

    /// The loop that was entered with a checkpoint from which all paths have ended.
    pub(crate) fn leave(&mut self, checkpoint: CheckpointId) -> Option<Vec<u32>> {
        let entered = self.0.iter().find(|(_, entry)| **entry == checkpoint)?.0.clone();
        self.0.remove(&entered);
        Some(entered)
    }
}

/// The loop that `places`, from the main program on, are in first: the calls that lead there, and its
/// number.
pub(crate) fn loop_of(places: &[Pc], components: &[u32]) -> Option<Vec<u32>> {
    let outer = places.iter().position(|place| components[place.index()] != 0)?;
    let calls = places[..outer].iter().map(|call| call.0);
    Some(calls.chain([components[places[outer].index()]]).collect())
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

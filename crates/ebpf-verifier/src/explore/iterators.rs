//! Loops through iterators: where the next thing is got, a path ends if an earlier one of the same loop
//! covers it, though other paths of that one still go on.
//!
//! What these turn out to rely on is handed over to the covered path as soon as the loop is left. Up to
//! then, nothing in the loop is known to be all that matters: states in it cover only what is a special
//! case of them in everything. (Callbacks, of which the kernel has no such notion, are in `callback`.)

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::mem;

use ebpf_isa::{Pc, Program};

use super::checkpoint::CheckpointId;
use super::loops::{Entered, components, loop_of};
use super::{Explorer, Watch, equal};
use crate::error::{Checked, Unsupported};
use crate::state::State;

/// Rounds of handing over when a loop is left.
const ROUNDS_MAX: usize = 64;

/// The loops of a program that gets things from iterators.
#[derive(Debug)]
pub(super) struct Loops {
    components: Vec<u32>,
    entered: Entered,
    /// Paths that ended in loops which have not been left, by their places among all that were covered.
    ended: BTreeMap<Vec<u32>, Vec<usize>>,
}

impl Loops {
    pub(super) fn new(program: &Program) -> Self {
        Self {
            components: components(program),
            entered: Entered::default(),
            ended: BTreeMap::new(),
        }
    }

    /// A function is explored for itself.
    pub(super) fn forget(&mut self) {
        self.entered = Entered::default();
        self.ended.clear();
    }

    /// Whether a path has ended in the loop that these places are in.
    fn is_incomplete(&self, places: &[Pc]) -> bool {
        let key = loop_of(places, &self.components);
        key.is_some_and(|key| self.ended.contains_key(&key))
    }
}

/// Where each function of a chain is.
fn places(state: &State, pc: Pc) -> Vec<Pc> {
    (0..state.depth()).map(|at| state.place_in(at, pc)).collect()
}

impl<W: Watch> Explorer<'_, W> {
    /// Whether what matters of a finished state is not known yet.
    pub(super) fn is_incomplete(&self, state: &State, pc: Pc) -> bool {
        let loops = self.loops.as_ref().filter(|loops| !loops.ended.is_empty());
        loops.is_some_and(|loops| loops.is_incomplete(&places(state, pc)))
    }

    /// Frees a checkpoint if it is not of use any more.
    pub(super) fn free_if_unused(&mut self, id: CheckpointId) {
        let checkpoint = self.checkpoints.get(id);
        if !self.is_incomplete(&checkpoint.state, checkpoint.pc) {
            self.checkpoints.free_if_unused(id);
        }
    }

    /// A state is kept.
    pub(super) fn enter_loop(&mut self, checkpoint: CheckpointId) {
        if let Some(loops) = &mut self.loops {
            let places = places(&self.machine.state, self.machine.pc);
            loops.entered.enter(checkpoint, &places, &loops.components);
        }
    }

    /// Notes that the path that was covered last ended in a loop.
    pub(super) fn end_in_loop(&mut self) -> Checked {
        let places = places(&self.machine.state, self.machine.pc);
        let Some(loops) = &mut self.loops else { return Ok(()) };
        let key = loop_of(&places, &loops.components);
        let key = key.ok_or(Unsupported::EarlyEnd)?;
        self.watch.ends_in_loop(&key);
        loops.ended.entry(key).or_default().push(self.covered.len() - 1);
        self.checkpoints.hold_beside(1);
        Ok(())
    }

    /// All paths from a checkpoint have ended: if the loop was entered with it, it is left, and what
    /// the covering states rely on is handed over, the newest path first, until nothing changes.
    pub(super) fn leave_loop(&mut self, checkpoint: CheckpointId) -> Checked {
        let Some(loops) = &mut self.loops else { return Ok(()) };
        let left = loops.entered.leave(checkpoint);
        let Some(ended) = left.and_then(|key| loops.ended.remove(&key)) else {
            return Ok(());
        };
        self.checkpoints.release_beside(ended.len() as u32);
        if self.options.all_precise {
            return Ok(());
        }
        let covered = mem::take(&mut self.covered);
        let mut rounds = 0;
        loop {
            let before = self.checkpoints.marked;
            for &at in ended.iter().rev() {
                self.hand_over(covered.at(at), None)?;
            }
            if self.checkpoints.marked == before {
                break;
            }
            rounds += 1;
            if rounds > ROUNDS_MAX {
                return Err(Unsupported::EarlyEnd.into());
            }
        }
        self.covered = covered;
        Ok(())
    }

    /// Forgets, in the state with the next thing, numbers that changed since this was got before, and
    /// on which nothing relied.
    pub(super) fn widen_next(&mut self, state: &mut State) {
        let (pc, chain) = (self.machine.pc, self.way.chain);
        let bucket = self.meetings.bucket(pc, self.live_stack.callsite(chain));
        let mut next = self.meetings.newest[bucket];
        while let Some(id) = next {
            let checkpoint = self.checkpoints.get(id);
            next = checkpoint.older;
            // The newest one is that of this time.
            let is_earlier = Some(id) != self.way.parent && checkpoint.branches > 0;
            if is_earlier && checkpoint.pc == pc && checkpoint.way.chain == chain {
                let all_precise = self.options.all_precise;
                let relied_on = |cell| all_precise || checkpoint.precise.contains(cell);
                equal::widen(&checkpoint.state, state, relied_on, &mut self.ids);
                return;
            }
        }
    }
}

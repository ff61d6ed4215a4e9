//! Rounds of callbacks, of iterators and of `may_goto`: what is forgotten from round to round, and whether the kernel
//! was right.
//!
//! A round ends a path if an earlier one covers it (`visit`), while other paths of that one still go
//! on. What these turn out to rely on is not known yet, neither there nor in states that came after
//! it; so others that those seem to cover may differ in what matters. The kernel takes that risk. Here
//! all covered paths are looked at again when everything is known: what the covering states rely on is
//! handed over until nothing changes, and each must still cover its path.

use alloc::vec::Vec;

use ebpf_isa::Pc;

use super::checkpoint::{CheckpointId, Way};
use super::equal::{self, Old};
use super::history::Stretch;
use super::precision::{self, Explained};
use super::{Explorer, Watch};
use crate::error::{Checked, Unsupported};
use crate::state::{CellSet, SlotSets, State};

/// Rounds of handing over, after which it is left open.
const ROUNDS_MAX: usize = 64;

/// A path that ended where an earlier one covers it.
#[derive(Debug)]
struct Covered {
    by: CheckpointId,
    state: State,
    way: Way,
    stretch: Stretch,
}

/// All of these, if they are looked at again.
#[derive(Debug, Default)]
pub(super) struct CoveredPaths(Vec<Covered>);

impl CoveredPaths {
    /// The states in which they ended.
    pub(super) fn states(&self) -> impl Iterator<Item = &State> {
        self.0.iter().map(|covered| &covered.state)
    }
}

impl<W: Watch> Explorer<'_, W> {
    /// Behind a round of a callback: forgets numbers that changed since the last one, and on which
    /// nothing relied.
    pub(super) fn widen_callback(&mut self) {
        if let Some(id) = self.earlier_round(None) {
            let earlier = self.checkpoints.get(id);
            let relied_on = |cell| self.options.all_precise || earlier.precise.contains(cell);
            equal::widen(&earlier.state, &mut self.machine.state, relied_on, &mut self.ids);
        }
    }

    /// The same with the state that goes on behind a `may_goto`, or with the next thing of an iterator.
    pub(super) fn widen_round(&mut self, state: &mut State) {
        // The state before the instruction was just kept.
        if let Some(id) = self.earlier_round(self.way.parent) {
            let earlier = self.checkpoints.get(id);
            let relied_on = |cell| self.options.all_precise || earlier.precise.contains(cell);
            equal::widen(&earlier.state, state, relied_on, &mut self.ids);
        }
    }

    /// The newest unfinished state of the same place, but for one.
    fn earlier_round(&self, but: Option<CheckpointId>) -> Option<CheckpointId> {
        let (pc, chain) = (self.machine.pc, self.way.chain);
        let bucket = self.meetings.bucket(pc, self.live_stack.callsite(chain));
        let mut next = self.meetings.newest[bucket];
        while let Some(id) = next {
            let checkpoint = self.checkpoints.get(id);
            next = checkpoint.older;
            let is_here = checkpoint.pc == pc && checkpoint.way.chain == chain;
            if is_here && checkpoint.branches > 0 && Some(id) != but {
                return Some(id);
            }
        }
        None
    }

    /// The path has ended in a loop, covered by a checkpoint of it: what that one relies on is not
    /// known before the loop is left.
    pub(super) fn end_in_loop(&mut self, by: CheckpointId) -> Checked {
        let path = self.covered.0.len() - 1;
        let checkpoint = self.checkpoints.get(by);
        let (state, pc) = (&checkpoint.state, checkpoint.pc);
        if !self.loops.end(path, state, pc) {
            return Err(Unsupported::EarlyEnd.into());
        }
        if W::EVERYTHING {
            let places: Vec<Pc> = (0..state.depth()).map(|at| state.place_in(at, pc)).collect();
            self.watch.ends_in_loop(&places);
        }
        self.checkpoints.wait_in_loops(1);
        Ok(())
    }

    /// All paths from a checkpoint have ended. If a loop was entered with it, what the states of the
    /// loop rely on is handed over to the paths that ended in it.
    pub(super) fn leave_loop(&mut self, entry: CheckpointId) -> Checked {
        let paths = self.loops.leave(entry);
        self.checkpoints.leave_loop(paths.len() as u32);
        for _ in 0..=ROUNDS_MAX {
            let before = self.checkpoints.marked;
            for &path in &paths {
                self.hand_over_in_loop(path)?;
            }
            if self.checkpoints.marked == before {
                return Ok(());
            }
        }
        Err(Unsupported::EarlyEnd.into())
    }

    fn hand_over_in_loop(&mut self, path: usize) -> Checked {
        let (wanted, depth) = self.taken_over(self.covered.0[path].by);
        self.watch.hands_over(depth, &wanted);
        if wanted.is_empty() || self.options.all_precise {
            return Ok(());
        }
        let path = &self.covered.0[path];
        let start = precision::Start {
            pc: self.checkpoints.get(path.by).pc,
            way: &path.way,
            stretch: path.stretch.clone(),
            frame: depth - 1,
            shares_mistakes: self.options.shares_mistakes,
        };
        let (program, history) = (self.machine.program, &self.history);
        let (checkpoints, explained) = (&mut self.checkpoints, &mut Explained::default());
        precision::rely_on(&wanted, start, program, history, checkpoints, explained, self.watch)
    }

    /// Notes that the path ends here, covered by a checkpoint.
    pub(super) fn note_covered(&mut self, by: CheckpointId) -> Checked {
        if !self.checkpoints.holds_all {
            return Ok(());
        }
        let state = self.machine.state.clone();
        self.hold(&state)?;
        let stretch = self.history.since(self.way.history, true);
        self.covered.0.push(Covered { by, state, way: self.way, stretch });
        Ok(())
    }

    /// Looks again at the paths that ended early.
    pub(super) fn look_again(&mut self) -> Checked {
        let covered = core::mem::take(&mut self.covered.0);
        if self.options.shares_mistakes {
            return Ok(());
        }
        let live_slots: Vec<SlotSets> = covered.iter().map(|path| self.live_slots(path)).collect();
        if !self.options.all_precise {
            let mut hand_over = || {
                let paths = covered.iter().zip(&live_slots);
                paths
                    .map(|(path, live)| self.hand_over(path, live))
                    .try_fold(0, |all, one| one.map(|marked| all + marked))
            };
            let mut rounds = 0;
            while hand_over()? > 0 {
                rounds += 1;
                if rounds > ROUNDS_MAX {
                    return Err(Unsupported::EarlyEnd.into());
                }
            }
        }
        let mut paths = covered.iter().zip(&live_slots);
        match paths.all(|(path, live)| self.is_covered(path, live)) {
            true => Ok(()),
            false => Err(Unsupported::EarlyEnd.into()),
        }
    }

    /// The slots that something reads, where the path ended.
    fn live_slots(&self, path: &Covered) -> SlotSets {
        self.live_stack.live(path.way.chain, self.checkpoints.get(path.by).pc, &self.marks)
    }

    /// What the covering state relies on, the path relies on. Gives how many numbers that are news of.
    fn hand_over(&mut self, path: &Covered, live_slots: &SlotSets) -> Checked<usize> {
        let by = self.checkpoints.get(path.by);
        let (pc, mut wanted) = (by.pc, by.precise);
        for frame in 0..by.state.depth() {
            let live = self.machine.live.before(by.state.place_in(frame, pc));
            wanted.retain(frame, live.bits(), live_slots.of(frame));
        }
        if wanted == CellSet::EMPTY {
            return Ok(0);
        }
        let before = self.checkpoints.marked;
        let start = precision::Start {
            pc,
            way: &path.way,
            stretch: path.stretch.clone(),
            frame: path.state.current(),
            shares_mistakes: false,
        };
        let (program, history) = (self.machine.program, &self.history);
        let (checkpoints, explained) = (&mut self.checkpoints, &mut Explained::default());
        precision::rely_on(&wanted, start, program, history, checkpoints, explained, &mut ())
            .map_err(|_| Unsupported::EarlyEnd)?;
        Ok(self.checkpoints.marked - before)
    }

    /// Whether the covering state covers the path, as far as is known of it now.
    fn is_covered(&mut self, path: &Covered, live_slots: &SlotSets) -> bool {
        let by = self.checkpoints.get(path.by);
        let precise = (!self.options.all_precise).then_some(&by.precise);
        let old = Old { state: &by.state, pc: by.pc, precise, live_slots };
        equal::covers(old, &path.state, &mut self.ids, |pc| self.machine.live.before(pc))
    }
}

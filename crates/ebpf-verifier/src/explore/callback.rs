//! Callbacks: what is forgotten from round to round, and whether the kernel was right.
//!
//! A round ends a path if an earlier one covers it (`visit`), while other paths of that one still go
//! on. What these turn out to rely on is not known yet, neither there nor in states that came after
//! it; so others that those seem to cover may differ in what matters. The kernel takes that risk. Here
//! all covered paths are looked at again when everything is known: what the covering states rely on is
//! handed over until nothing changes, and each must still cover its path.

use alloc::vec::Vec;

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
pub(super) struct Covered {
    by: CheckpointId,
    state: State,
    way: Way,
    stretch: Stretch,
}

/// All of these, if they are looked at again.
#[derive(Debug, Default)]
pub(super) struct CoveredPaths(Vec<Covered>);

impl CoveredPaths {
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn at(&self, index: usize) -> &Covered {
        &self.0[index]
    }

    /// The states in which they ended.
    pub(super) fn states(&self) -> impl Iterator<Item = &State> {
        self.0.iter().map(|covered| &covered.state)
    }
}

impl<W: Watch> Explorer<'_, W> {
    /// Behind a round: forgets numbers that changed since the last one, and on which nothing relied.
    pub(super) fn widen(&mut self) {
        let (pc, chain) = (self.machine.pc, self.way.chain);
        let bucket = self.meetings.bucket(pc, self.live_stack.callsite(chain));
        let mut next = self.meetings.newest[bucket];
        while let Some(id) = next {
            let checkpoint = self.checkpoints.get(id);
            next = checkpoint.older;
            if checkpoint.pc == pc && checkpoint.way.chain == chain && checkpoint.branches > 0 {
                let all_precise = self.options.all_precise;
                let relied_on = |cell| all_precise || checkpoint.precise.contains(cell);
                let state = &mut self.machine.state;
                equal::widen(&checkpoint.state, state, relied_on, &mut self.ids);
                return;
            }
        }
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
                    .map(|(path, live)| self.hand_over(path, Some(live)))
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

    /// What the covering state relies on, the path relies on: of slots those that are live, where that is
    /// known. Gives how many numbers that are news of.
    pub(super) fn hand_over(
        &mut self,
        path: &Covered,
        live_slots: Option<&SlotSets>,
    ) -> Checked<usize> {
        let by = self.checkpoints.get(path.by);
        let (pc, mut wanted) = (by.pc, by.precise);
        for frame in (0..by.state.depth()).filter(|_| live_slots.is_some()) {
            let live = self.machine.live.before(by.state.place_in(frame, pc));
            wanted.retain(frame, live.bits(), live_slots.map_or(0, |slots| slots.of(frame)));
        }
        if wanted == CellSet::EMPTY {
            return Ok(0);
        }
        let watched = live_slots.is_none();
        if watched {
            self.watch.hands_over(by.state.depth(), &wanted);
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
        let walked = match watched {
            true => {
                let watch = &mut *self.watch;
                precision::rely_on(&wanted, start, program, history, checkpoints, explained, watch)
            }
            false => {
                let watch = &mut ();
                precision::rely_on(&wanted, start, program, history, checkpoints, explained, watch)
            }
        };
        walked.map_err(|_| Unsupported::EarlyEnd)?;
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

//! What is done where paths may meet: ending a path that an earlier one covers, and keeping
//! states for later ones.

use alloc::vec;
use alloc::vec::Vec;

use ebpf_isa::{Pc, Program, Reg};

use super::checkpoint::{Checkpoint, CheckpointId, Way};
use super::equal::{self, Old};
use super::{Explorer, Watch, precision};
use crate::error::{Checked, Payload};
use crate::state::CellSet;

/// A state is kept only after so many jumps and instructions since the last one was.
const JUMPS_MIN: u32 = 2;
const INSNS_MIN: u32 = 8;
/// On a path that comes back to where it was, one of these numbers must have been reached.
const LOOP_JUMPS_MIN: u32 = 20;
const LOOP_INSNS_MIN: u32 = 100;
/// A state is kept in any case if the way to it has more remembered instructions.
const HISTORY_MAX: usize = 40;
/// A checkpoint is retired when it missed more often than so many times for each hit and once more.
const MISSES_PER_HIT: u32 = 3;
/// The same of one where a helper calls back, or of `may_goto`, as long as its paths go on.
const MISSES_PER_HIT_OF_ROUNDS: u32 = 64;

/// What was processed before the last state was kept.
#[derive(Debug, Default)]
pub(super) struct LastKept {
    jumps: u32,
    insns: u32,
}

/// The checkpoints to compare with at each place.
#[derive(Debug)]
pub(super) struct Meetings {
    /// The kernel's hash table: the newest of each list.
    pub(super) newest: Vec<Option<CheckpointId>>,
    /// The greatest number of checkpoints that were looked at in one visit.
    pub(super) longest: u32,
}

impl Meetings {
    pub(super) fn new(program: &Program) -> Self {
        Self { newest: vec![None; program.slots().len()], longest: 0 }
    }

    /// Has nothing left to compare with.
    pub(super) fn forget(&mut self) {
        self.newest.fill(None);
    }

    /// The list for an instruction of a function that was called at `callsite`. Other places may
    /// share it.
    pub(super) fn bucket(&self, pc: Pc, callsite: Option<Pc>) -> usize {
        let callsite = callsite.map_or(u32::MAX, |pc| pc.0);
        (pc.0 ^ callsite) as usize % self.newest.len()
    }
}

/// Whether a path goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Visit {
    GoOn,
    /// An earlier path covers it.
    Covered,
}

/// How a checkpoint compares with the current state.
enum Meeting {
    /// It is at another place.
    Elsewhere,
    /// It covers the current state.
    Hit,
    /// It covers the current state, as far as can be said before their loop is left.
    HitInLoop,
    Miss,
}

impl<W: Watch> Explorer<'_, W> {
    /// Compares the current state with earlier ones at the same place, and perhaps keeps it.
    pub(super) fn visit(&mut self) -> Checked<Visit> {
        let pc = self.machine.pc;
        let is_round = self.marks.at(pc).keeps();
        let must_keep = self.options.keep_every_state
            || is_round
            || self.history.len() - self.way.history > HISTORY_MAX;
        let (jumps, insns) =
            (self.jumps - self.last_kept.jumps, self.processed - self.last_kept.insns);
        let mut keep = must_keep || (jumps >= JUMPS_MIN && insns >= INSNS_MIN);
        let bucket = self.meetings.bucket(pc, self.live_stack.callsite(self.way.chain));
        self.complete(bucket);
        let mut looked_at = 0;
        let (mut newer, mut next) = (None, self.meetings.newest[bucket]);
        while let Some(id) = next {
            looked_at += 1;
            next = self.checkpoints.get(id).older;
            let meeting = self.meet(id)?;
            match meeting {
                Meeting::Elsewhere => {
                    newer = Some(id);
                    continue;
                }
                Meeting::Hit | Meeting::HitInLoop => {
                    self.checkpoints.get_mut(id).hits += 1;
                    if self.marks.at(pc).jumped_to {
                        self.history.arrive(pc, self.way.last);
                    }
                    self.note_covered(id)?;
                    self.take_over_precision(id)?;
                    if matches!(meeting, Meeting::HitInLoop) {
                        self.end_in_loop(id)?;
                    }
                    return Ok(Visit::Covered);
                }
                Meeting::Miss => {}
            }
            let checkpoint = self.checkpoints.get_mut(id);
            let early = jumps < LOOP_JUMPS_MIN && insns < LOOP_INSNS_MIN;
            if checkpoint.branches > 0 && !must_keep && early {
                keep = false;
            }
            checkpoint.misses += u32::from(keep);
            let per_hit = match is_round && checkpoint.branches > 0 {
                true => MISSES_PER_HIT_OF_ROUNDS,
                false => MISSES_PER_HIT,
            };
            if checkpoint.misses > checkpoint.hits * per_hit + per_hit {
                match newer {
                    Some(newer) => self.checkpoints.get_mut(newer).older = next,
                    None => self.meetings.newest[bucket] = next,
                }
                let checkpoint = self.checkpoints.get_mut(id);
                checkpoint.retired = true;
                let is_open = self.loops.is_open(&checkpoint.state, checkpoint.pc);
                self.checkpoints.free_if_unused(id, is_open);
            } else {
                newer = Some(id);
            }
        }
        self.meetings.longest = self.meetings.longest.max(looked_at);
        if keep {
            self.keep(bucket)?;
        }
        Ok(Visit::GoOn)
    }

    /// Settles, for finished checkpoints of this place, which slots something reads.
    fn complete(&mut self, bucket: usize) {
        let mut next = self.meetings.newest[bucket];
        while let Some(id) = next {
            let checkpoint = self.checkpoints.get_mut(id);
            next = checkpoint.older;
            let is_here =
                checkpoint.pc == self.machine.pc && checkpoint.way.chain == self.way.chain;
            if is_here
                && checkpoint.branches == 0
                && checkpoint.live_slots.is_none()
                && !self.loops.is_open(&checkpoint.state, checkpoint.pc)
            {
                let live = self.live_stack.live(self.way.chain, checkpoint.pc, &self.marks);
                checkpoint.live_slots = Some(live);
            }
        }
    }

    fn meet(&mut self, id: CheckpointId) -> Checked<Meeting> {
        let pc = self.machine.pc;
        let checkpoint = self.checkpoints.get(id);
        if checkpoint.pc != pc {
            return Ok(Meeting::Elsewhere);
        }
        if checkpoint.way.chain != self.way.chain {
            return Ok(Meeting::Miss);
        }
        // Another run of a function that runs later says nothing about loops.
        let entry = checkpoint.state.frame().async_entry;
        let is_other_run = entry > 0 && entry != self.machine.state.frame().async_entry;
        if checkpoint.branches > 0 && is_other_run {
            return Ok(Meeting::Miss);
        }
        let live = |pc| self.machine.live.before(pc);
        // Where every path is explored to its end, nobody looks which registers are live there.
        let live_in_rounds = |at| match self.options.without_pruning {
            true => Reg::ALL.into_iter().collect(),
            false => live(at),
        };
        let mark = self.marks.at(pc);
        let (old, current) = (&checkpoint.state, &self.machine.state);
        let is_other_round = !mark.may_goto || old.may_gotos != current.may_gotos;
        if mark.keeps() && checkpoint.branches > 0 && is_other_round {
            let goes_on = !mark.gets_next || self.machine.may_get_next();
            if goes_on && equal::is_within(old, current, pc, None, &mut self.ids, live_in_rounds) {
                return Ok(if mark.calls_back { Meeting::Hit } else { Meeting::HitInLoop });
            }
            if !mark.may_goto {
                return Ok(Meeting::Miss);
            }
        }
        if checkpoint.branches > 0 {
            let (ids, telltale) = (&mut self.ids, &mut self.telltale);
            if equal::repeats(&checkpoint.state, &self.machine.state, pc, ids, telltale, live) {
                self.watch.repeats(pc, &self.machine.state, &checkpoint.state, &checkpoint.precise);
                return Err(Payload::LoopInfinite { insn: pc }.into());
            }
            return Ok(Meeting::Miss);
        }
        let live_slots = checkpoint.live_slots.as_ref();
        if self.loops.is_open(old, pc) {
            let is_covered = !self.options.without_pruning
                && equal::is_within(old, current, pc, live_slots, &mut self.ids, live);
            return Ok(if is_covered { Meeting::HitInLoop } else { Meeting::Miss });
        }
        let Some(live_slots) = live_slots else {
            unreachable!("finished checkpoints of this place were completed before");
        };
        let all_precise = self.options.all_precise;
        let precise = (!all_precise).then_some(&checkpoint.precise);
        let old = Old { state: &checkpoint.state, pc, precise, live_slots };
        let is_covered = !self.options.without_pruning
            && equal::covers(old, &self.machine.state, &mut self.ids, live);
        Ok(if is_covered { Meeting::Hit } else { Meeting::Miss })
    }

    /// What a covering checkpoint relied on, the current path relies on.
    fn take_over_precision(&mut self, id: CheckpointId) -> Checked {
        let (wanted, depth) = self.taken_over(id);
        self.watch.hands_over(depth, &wanted);
        self.rely_on(&wanted, depth - 1)
    }

    /// What a checkpoint relied on that paths rely on which it covers, and how many frames it has.
    pub(super) fn taken_over(&self, id: CheckpointId) -> (CellSet, usize) {
        let checkpoint = self.checkpoints.get(id);
        let (pc, mut wanted) = (checkpoint.pc, checkpoint.precise);
        let depth = checkpoint.state.depth();
        // As long as its paths go on, anything may matter.
        if let Some(live_slots) = &checkpoint.live_slots {
            for frame in 0..depth {
                let live = self.machine.live.before(checkpoint.state.place_in(frame, pc));
                wanted.retain(frame, live.bits(), live_slots.of(frame));
            }
        }
        (wanted, depth)
    }

    /// Walks the path back for what decides something in the function of the frame at `frame`.
    pub(super) fn rely_on(&mut self, wanted: &CellSet, frame: usize) -> Checked {
        if wanted.is_empty() || self.options.all_precise {
            return Ok(());
        }
        let start = precision::Start {
            pc: self.machine.pc,
            way: &self.way,
            stretch: self.history.since(self.way.history, false),
            frame,
            shares_mistakes: self.options.shares_mistakes,
        };
        precision::rely_on(
            wanted,
            start,
            self.machine.program,
            &self.history,
            &mut self.checkpoints,
            &mut self.explained,
            self.watch,
        )
    }

    /// Keeps the current state.
    fn keep(&mut self, bucket: usize) -> Checked {
        let state = self.machine.state.clone();
        self.hold(&state)?;
        self.last_kept = LastKept { jumps: self.jumps, insns: self.processed };
        let pc = self.machine.pc;
        let id = self.checkpoints.add(Checkpoint {
            state,
            pc,
            way: self.way,
            stretch: self.history.since(self.way.history, self.checkpoints.holds_all),
            branches: 1,
            precise: CellSet::EMPTY,
            live_slots: None,
            hits: 0,
            misses: 0,
            older: self.meetings.newest[bucket],
            retired: false,
        });
        self.meetings.newest[bucket] = Some(id);
        self.loops.enter(id, &self.machine.state, pc);
        if W::EVERYTHING {
            let state = &self.machine.state;
            let places: Vec<Pc> = (0..state.depth()).map(|at| state.place_in(at, pc)).collect();
            self.watch.keeps(id, &places);
        }
        let history = self.history.len();
        self.way = Way { parent: Some(id), first: pc, history, steps: 0, ..self.way };
        self.explained.clear();
        Ok(())
    }
}

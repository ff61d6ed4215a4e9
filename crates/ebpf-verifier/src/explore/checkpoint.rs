//! States that were kept, and the tree of paths that goes on from them.

use alloc::vec::Vec;
use core::num::NonZeroU32;

use ebpf_isa::Pc;

use super::history::Stretch;
use super::live_stack::ChainId;
use crate::state::{CellSet, SlotSets, State};

/// A kept state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CheckpointId(NonZeroU32);

impl CheckpointId {
    fn new(index: usize) -> Self {
        let number = u32::try_from(index + 1).ok().and_then(NonZeroU32::new);
        Self(number.expect("each checkpoint was an instruction to process"))
    }

    fn index(self) -> usize {
        self.0.get() as usize - 1
    }
}

/// The way from the last checkpoint to where a path is, or to where it branched off.
#[derive(Debug, Clone, Copy)]
pub(super) struct Way {
    /// The checkpoint; `None` where there is none yet.
    pub(super) parent: Option<CheckpointId>,
    /// The instruction before which the checkpoint was made, or the first one.
    pub(super) first: Pc,
    /// The instruction processed last; `None` at the start.
    pub(super) last: Option<Pc>,
    /// Where the history of the way starts.
    pub(super) history: usize,
    /// Instructions processed on the way.
    pub(super) steps: u32,
    /// The calls that lead here.
    pub(super) chain: ChainId,
}

/// A state that was kept.
#[derive(Debug)]
pub(super) struct Checkpoint {
    /// The state before the instruction at `pc`.
    pub(super) state: State,
    pub(super) pc: Pc,
    /// How it was reached.
    pub(super) way: Way,
    pub(super) stretch: Stretch,
    /// Paths from here that have not come to an end.
    pub(super) branches: u32,
    /// Numbers on which something relied.
    pub(super) precise: CellSet,
    /// Slots that something reads; known once all paths have ended.
    pub(super) live_slots: Option<SlotSets>,
    /// How often another path was found to be covered, and how often not.
    pub(super) hits: u32,
    pub(super) misses: u32,
    /// The next older one in the list of those to compare with.
    pub(super) older: Option<CheckpointId>,
    /// Whether it is compared with nothing any more.
    pub(super) retired: bool,
}

/// All checkpoints that are still of use.
#[derive(Debug, Default)]
pub(super) struct Checkpoints {
    slab: Vec<Option<Checkpoint>>,
    free: Vec<CheckpointId>,
    /// How many are kept.
    count: u32,
    pub(super) total: u32,
    pub(super) peak: u32,
    /// Other states that are held, of paths which ended in loops.
    beside: u32,
    /// How many numbers were marked in all of them.
    pub(super) marked: usize,
    /// Whether those that are of no use any more are held nevertheless, to be looked at in the end.
    pub(super) holds_all: bool,
}

impl Checkpoints {
    pub(super) fn new(holds_all: bool) -> Self {
        Self { holds_all, ..Self::default() }
    }

    pub(super) fn add(&mut self, checkpoint: Checkpoint) -> CheckpointId {
        self.count += 1;
        self.total += 1;
        self.note_peak();
        if let Some(id) = self.free.pop() {
            self.slab[id.index()] = Some(checkpoint);
            return id;
        }
        self.slab.push(Some(checkpoint));
        CheckpointId::new(self.slab.len() - 1)
    }

    fn note_peak(&mut self) {
        self.peak = self.peak.max(self.count + self.beside);
    }

    /// So many other states are held, too.
    pub(super) fn hold_beside(&mut self, states: u32) {
        self.beside += states;
        self.note_peak();
    }

    /// So many of these are not held any more.
    pub(super) fn release_beside(&mut self, states: u32) {
        self.beside -= states;
    }

    /// Frees all of them. The kernel goes on counting as if they were there.
    pub(super) fn forget(&mut self) {
        self.slab.clear();
        self.free.clear();
    }

    /// The states that are kept.
    pub(super) fn states(&self) -> impl Iterator<Item = &State> {
        self.slab.iter().flatten().map(|checkpoint| &checkpoint.state)
    }

    pub(super) fn get(&self, id: CheckpointId) -> &Checkpoint {
        self.slab[id.index()].as_ref().expect("checkpoints in use are not freed")
    }

    pub(super) fn get_mut(&mut self, id: CheckpointId) -> &mut Checkpoint {
        self.slab[id.index()].as_mut().expect("checkpoints in use are not freed")
    }

    /// One more path goes on from a checkpoint.
    pub(super) fn branch_off(&mut self, parent: Option<CheckpointId>) {
        if let Some(parent) = parent {
            self.get_mut(parent).branches += 1;
        }
    }

    /// A path from a checkpoint has ended; says whether it was the last one.
    pub(super) fn end_path(&mut self, id: CheckpointId) -> bool {
        let checkpoint = self.get_mut(id);
        checkpoint.branches -= 1;
        checkpoint.branches == 0
    }

    /// Frees a checkpoint that is compared with nothing, once it is not part of an unfinished path.
    pub(super) fn free_if_unused(&mut self, id: CheckpointId) {
        let checkpoint = self.get(id);
        if checkpoint.retired && checkpoint.branches == 0 {
            self.count -= 1;
            if !self.holds_all {
                self.slab[id.index()] = None;
                self.free.push(id);
            }
        }
    }
}

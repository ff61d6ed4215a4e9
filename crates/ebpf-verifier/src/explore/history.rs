//! What is remembered of the way along the path being explored.
//!
//! Only what cannot be told from the program: where control came from, and which cells an
//! instruction tied together. Paths are explored depth first, so the ways of all states that are
//! still of interest lie behind each other in one stack: that of a checkpoint before those of its
//! descendants. A path that is taken up again begins where the stack was when it branched off.

use alloc::rc::Rc;
use alloc::vec::Vec;
use core::ops::Range;

use ebpf_isa::Pc;

use crate::state::{Cell, LinkedCells};
use crate::step::Effects;

/// One remembered instruction.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry {
    pub(super) pc: Pc,
    /// The instruction before; `None` at the start of the program.
    pub(super) from: Option<Pc>,
    /// The slot that it spilled to or filled from.
    pub(super) slot: Option<Cell>,
    /// What learnt from it together.
    pub(super) linked: LinkedCells,
    /// Whether its operands are stack pointers: first the left one.
    pub(super) stack_operands: [bool; 2],
}

/// The remembered instructions of a piece of path.
#[derive(Debug, Clone)]
pub(super) enum Stretch {
    /// By their places in the stack, as long as the path goes on.
    Stacked(Range<usize>),
    /// For good.
    Kept(Rc<[Entry]>),
}

/// The stack of all ways.
#[derive(Debug, Default)]
pub(super) struct History {
    entries: Vec<Entry>,
}

impl History {
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Forgets everything behind the first `len` entries.
    pub(super) fn truncate(&mut self, len: usize) {
        self.entries.truncate(len);
    }

    /// Records how control came to `pc`.
    pub(super) fn arrive(&mut self, pc: Pc, from: Option<Pc>) {
        self.entries.push(Entry {
            pc,
            from,
            slot: None,
            linked: LinkedCells::default(),
            stack_operands: [false; 2],
        });
    }

    /// Records what the instruction at `pc` did, as far as that matters. `arrived` says whether
    /// the last entry is that of the instruction.
    #[inline]
    pub(super) fn take_in(&mut self, pc: Pc, from: Option<Pc>, arrived: bool, effects: &Effects) {
        let matters = effects.slot.is_some()
            || effects.linked.is_group()
            || effects.stack_operands != [false; 2];
        if matters {
            self.record(pc, from, arrived, effects);
        }
    }

    fn record(&mut self, pc: Pc, from: Option<Pc>, arrived: bool, effects: &Effects) {
        if !arrived {
            self.arrive(pc, from);
        }
        if let Some(entry) = self.entries.last_mut() {
            entry.slot = effects.slot;
            entry.stack_operands = effects.stack_operands;
            if effects.linked.is_group() {
                entry.linked = effects.linked;
            }
        }
    }

    /// What was remembered from a place in the stack on; `kept` where it is asked for when the path
    /// has ended.
    pub(super) fn since(&self, start: usize, kept: bool) -> Stretch {
        let places = start..self.entries.len();
        match kept {
            true => Stretch::Kept(self.entries[places].into()),
            false => Stretch::Stacked(places),
        }
    }

    /// What was remembered of a piece of path.
    pub(super) fn of<'a>(&'a self, stretch: &'a Stretch) -> &'a [Entry] {
        match stretch {
            Stretch::Stacked(places) => &self.entries[places.clone()],
            Stretch::Kept(entries) => entries,
        }
    }
}

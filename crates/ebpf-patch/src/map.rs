//! What linearisation gives: the new program, and the way between its positions and the old ones.

use alloc::vec::Vec;

use ebpf_isa::{Facts, Pc, Program, SubprogFacts, SubprogIdx};

use crate::detours::{Detour, Detours, DetoursFromEnd};
use crate::log::Inserted;

/// An edited program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Patched {
    /// The program.
    pub program: Program,
    /// Where the instructions of the original program are in it.
    pub map: PcMap,
    /// Which of its code was inserted.
    pub inserted: Inserted,
}

/// Positions before and after a [`crate::Patch`], or several: [`PcMap::then`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PcMap {
    /// Start of the code at each old slot, and the length of the new program: never descending. A
    /// wide load's second slot has no code.
    pub(crate) starts: Vec<u32>,
    /// Where instructions and landings are not at the start of the code at their slot.
    pub(crate) detours: Detours,
    /// By old subprogram, the new one that its code belongs to.
    pub(crate) subprogs: Vec<Option<SubprogIdx>>,
}

impl PcMap {
    /// No position of a program.
    pub(crate) const NOWHERE: u32 = u32::MAX;

    /// Length of the new program in slots.
    #[must_use]
    pub fn new_len(&self) -> u32 {
        self.starts.last().copied().unwrap_or(0)
    }

    /// Length of the old program in slots.
    #[must_use]
    pub fn old_len(&self) -> u32 {
        (self.starts.len() as u32).saturating_sub(1)
    }

    /// Where jumps to `old` lead now. `None` if `old` is no instruction, or if neither it nor any
    /// code behind it in its subprogram is left.
    #[must_use]
    pub fn landing(&self, old: Pc) -> Option<Pc> {
        match self.detours.get(old) {
            None => self.start(old),
            Some(detour) => somewhere(detour.landing),
        }
    }

    /// Where the instruction at `old` is now, or the start of what replaced it. `None` if it is
    /// deleted or was none.
    #[must_use]
    pub fn insn(&self, old: Pc) -> Option<Pc> {
        match self.detours.get(old) {
            None => self.start(old),
            Some(detour) => somewhere(detour.insn),
        }
    }

    /// The start of the code at `old`, if there is any.
    fn start(&self, old: Pc) -> Option<Pc> {
        match self.starts.get(old.index()..)? {
            [start, next, ..] if start < next => Some(Pc(*start)),
            _ => None,
        }
    }

    /// The map from the programs before `self` to those after `next`, which was made by patching
    /// what `self` leads to. `None` if the lengths show that it was not.
    #[must_use]
    pub fn then(&self, next: &Self) -> Option<Self> {
        if self.new_len() != next.old_len() {
            return None;
        }
        let starts = self.starts.iter().map(|&at| next.starts[at as usize]).collect();
        let mut detours = DetoursFromEnd::new(self.old_len() as usize);
        for old in (0..self.old_len()).rev() {
            let follow = |step: fn(&Self, Pc) -> Option<Pc>| {
                let both = step(self, Pc(old)).and_then(|pc| step(next, pc));
                both.map_or(Self::NOWHERE, |pc| pc.0)
            };
            let detour = Detour { landing: follow(Self::landing), insn: follow(Self::insn) };
            detours.push(old as usize, detour);
        }
        let subprog = |old: &Option<SubprogIdx>| next.subprog((*old)?);
        let subprogs = self.subprogs.iter().map(subprog).collect();
        Some(Self { starts, detours: detours.finish(), subprogs })
    }

    /// The inverse of [`PcMap::insn`]: the instruction that is at `new` now, or whose replacement
    /// begins there. `None` for any other inserted code. Takes logarithmic time.
    #[must_use]
    pub fn old(&self, new: Pc) -> Option<Pc> {
        self.origin(new).filter(|&old| self.insn(old) == Some(new))
    }

    /// The original instruction that the slot at `new` comes from or was inserted at; `None` beyond
    /// the end of the new program. Takes logarithmic time.
    #[must_use]
    pub fn origin(&self, new: Pc) -> Option<Pc> {
        let after = self.starts.partition_point(|&start| start <= new.0);
        let inside = after > 0 && after < self.starts.len();
        inside.then(|| Pc(after as u32 - 1))
    }

    /// The subprogram that the code of `old` belongs to now: its own, or the one before it if nothing
    /// refers to `old` any more. `None` if nothing of it is left.
    #[must_use]
    pub fn subprog(&self, old: SubprogIdx) -> Option<SubprogIdx> {
        self.subprogs.get(old.index()).copied().flatten()
    }

    /// Brings data of the old program's slots, one element each, to those of the new one. Inserted
    /// code has none; the first instruction of a replacement gets what its original had.
    ///
    /// Takes `Vec<T>` to move the data, or `slice.iter()` to refer to it.
    #[must_use]
    pub fn carry<T>(&self, aux: impl IntoIterator<Item = T>) -> Vec<Option<T>> {
        let mut carried = Vec::new();
        carried.resize_with(self.new_len() as usize, || None);
        for (old, value) in (0..self.old_len()).map(Pc).zip(aux) {
            if let Some(new) = self.insn(old) {
                carried[new.index()] = Some(value);
            }
        }
        carried
    }

    /// Facts about the old program as facts about the new one. `None` if they are not one for each
    /// subprogram of the old program.
    ///
    /// They know nothing of inserted code: a pass that makes it use more stack must raise
    /// [`SubprogFacts::stack_depth`] itself.
    #[must_use]
    pub fn facts(&self, facts: &Facts) -> Option<Facts> {
        if facts.subprogs.len() != self.subprogs.len() {
            return None;
        }
        let count = self.subprogs.iter().flatten().max().map_or(0, |last| last.index() + 1);
        let mut subprogs = alloc::vec![SubprogFacts::default(); count];
        for (new, old) in self.subprogs.iter().zip(&facts.subprogs) {
            if let Some(new) = new {
                let depth = &mut subprogs[new.index()].stack_depth;
                *depth = (*depth).max(old.stack_depth);
            }
        }
        Some(Facts { subprogs })
    }
}

fn somewhere(pc: u32) -> Option<Pc> {
    (pc != PcMap::NOWHERE).then_some(Pc(pc))
}

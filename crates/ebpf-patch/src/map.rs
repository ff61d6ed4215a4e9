//! What linearisation gives: the new program, and the way between its positions and the old ones.

use alloc::vec::Vec;

use ebpf_isa::{Facts, Pc, Program, SubprogFacts, SubprogIdx};

/// An edited program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Patched {
    /// The program.
    pub program: Program,
    /// Where the instructions of the original program are in it.
    pub map: PcMap,
}

/// Positions before and after a [`crate::Patch`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PcMap {
    /// Start of the code at each old slot, and the length of the new program: never descending. A
    /// wide load's second slot has no code.
    pub(crate) starts: Vec<u32>,
    /// Where jumps to each old slot lead, or [`Self::NOWHERE`].
    pub(crate) landings: Vec<u32>,
    /// The instruction of each old slot or the start of its replacement, or [`Self::NOWHERE`].
    pub(crate) insns: Vec<u32>,
    /// By old subprogram, the new one that its code belongs to.
    pub(crate) subprogs: Vec<Option<SubprogIdx>>,
}

impl PcMap {
    /// No position of a program.
    pub(crate) const NOWHERE: u32 = u32::MAX;

    /// Where jumps to `old` lead now. `None` if `old` is no instruction, or if neither it nor any
    /// code behind it in its subprogram is left.
    #[must_use]
    pub fn landing(&self, old: Pc) -> Option<Pc> {
        somewhere(*self.landings.get(old.index())?)
    }

    /// Where the instruction at `old` is now, or the start of what replaced it. `None` if it is
    /// deleted or was none.
    #[must_use]
    pub fn insn(&self, old: Pc) -> Option<Pc> {
        somewhere(*self.insns.get(old.index())?)
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
        let len = self.starts.last().map_or(0, |&len| len as usize);
        let mut carried = Vec::new();
        carried.resize_with(len, || None);
        for (&at, value) in self.insns.iter().zip(aux) {
            if let Some(place) = carried.get_mut(at as usize) {
                *place = Some(value);
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

//! The edit session: edits are checked and noted here, and carried out by linearisation.

use alloc::vec;
use alloc::vec::Vec;
use core::ops::Range;

use ebpf_isa::{Insn, Pc, Program};

use crate::PatchError;
use crate::seq::{Link, PatchInsn, retarget};

/// Whether a jump to an instruction runs the code that was put in front of it. Control that falls
/// through from above runs it in any case, and so does a call of the subprogram that starts there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Landing {
    /// Jumps land on the inserted code and run it.
    Inserted,
    /// Jumps land past the inserted code, on the instruction: for a prologue, which loops back to
    /// the entry must not run again.
    Insn,
}

/// What has become of an original instruction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    Kept,
    Replaced,
    Deleted,
}

/// Where a sequence goes, in the order of the layout at one instruction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Place {
    /// In front, where jumps go past it.
    AboveLanding,
    /// In front, where jumps run it.
    BelowLanding,
    /// In place of the instruction.
    Instead,
    /// Behind.
    Behind,
}

impl Place {
    pub(crate) const ALL: [Self; 4] =
        [Self::AboveLanding, Self::BelowLanding, Self::Instead, Self::Behind];
}

/// One entry of the log: `pool[first..first + len]` goes to `place` at `pc`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Edit {
    pub(crate) pc: Pc,
    pub(crate) place: Place,
    /// Whether any of its instructions has a target: if not, it is copied as it is.
    pub(crate) linked: bool,
    pub(crate) first: u32,
    pub(crate) len: u32,
}

/// An edit session over one program: edits name positions of the original program, in any order,
/// and take effect together in [`Patch::linearize`].
#[derive(Debug, Clone)]
pub struct Patch<'p> {
    pub(crate) program: &'p Program,
    /// By slot; that of a wide load's second slot says nothing.
    pub(crate) fates: Vec<Fate>,
    pub(crate) log: Vec<Edit>,
    /// Inserted code, one element a slot as in [`Program::slots`], with links for targets.
    pub(crate) pool: Vec<Option<Insn>>,
    /// Length of the edited program.
    slots: usize,
    limit: u32,
}

impl<'p> Patch<'p> {
    /// The most slots that the edited program may have unless the caller says otherwise: what
    /// Linux accepts.
    pub const DEFAULT_LIMIT: u32 = 1_000_000;

    /// A session without edits.
    #[must_use]
    pub fn new(program: &'p Program) -> Self {
        Self::with_limit(program, Self::DEFAULT_LIMIT)
    }

    /// A session that refuses edits by which the program would grow beyond `limit` slots, at most
    /// [`Program::MAX_SLOTS`]. A program that is longer from the start may not grow at all.
    #[must_use]
    pub fn with_limit(program: &'p Program, limit: u32) -> Self {
        Self {
            program,
            fates: vec![Fate::Kept; program.slots().len()],
            log: Vec::new(),
            pool: Vec::new(),
            slots: program.slots().len(),
            limit: limit.min(Program::MAX_SLOTS as u32),
        }
    }

    /// The original program.
    #[must_use]
    pub const fn program(&self) -> &'p Program {
        self.program
    }

    /// The original instruction at `pc` if it is neither replaced nor deleted.
    #[must_use]
    pub fn get(&self, pc: Pc) -> Option<Insn> {
        match self.fates.get(pc.index())? {
            Fate::Kept => self.program.get(pc),
            Fate::Replaced | Fate::Deleted => None,
        }
    }

    /// The original instructions that are neither replaced nor deleted, with their positions. To
    /// edit on the way, use a [`Cursor`].
    pub fn insns(&self) -> impl Iterator<Item = (Pc, Insn)> {
        let mut cursor = Cursor::new();
        core::iter::from_fn(move || cursor.next(self))
    }

    /// Puts `seq` in the place of the instruction at `pc`. Jumps to `pc` lead to the start of it.
    ///
    /// # Errors
    /// `pc` is no instruction or is edited already, or `seq` is empty, too long or leads where it
    /// must not: see [`PatchError`]. Nothing is changed then.
    pub fn replace<I>(&mut self, pc: Pc, seq: I) -> Result<(), PatchError>
    where
        I: IntoIterator<Item: Into<PatchInsn>>,
    {
        let old = self.expect_kept(pc)?;
        let len = self.insert(pc, Place::Instead, old.slots(), seq)?;
        if len == 0 {
            return Err(PatchError::EmptySequence { pc });
        }
        self.fates[pc.index()] = Fate::Replaced;
        Ok(())
    }

    /// Puts `seq` in front of the instruction at `pc`, behind what was put there before; `landing`
    /// says whether jumps to `pc` run it. Code that jumps go past comes before code that they run.
    ///
    /// # Errors
    /// `pc` is no instruction or is deleted, or `seq` is too long or leads where it must not: see
    /// [`PatchError`]. Nothing is changed then.
    pub fn prepend<I>(&mut self, pc: Pc, seq: I, landing: Landing) -> Result<(), PatchError>
    where
        I: IntoIterator<Item: Into<PatchInsn>>,
    {
        self.expect_present(pc)?;
        let place = match landing {
            Landing::Insn => Place::AboveLanding,
            Landing::Inserted => Place::BelowLanding,
        };
        self.insert(pc, place, 0, seq).map(drop)
    }

    /// Puts `seq` behind the instruction at `pc` and what was put there before. A jump of the
    /// instruction that is taken does not run it.
    ///
    /// # Errors
    /// As for [`Patch::prepend`].
    pub fn append<I>(&mut self, pc: Pc, seq: I) -> Result<(), PatchError>
    where
        I: IntoIterator<Item: Into<PatchInsn>>,
    {
        self.expect_present(pc)?;
        self.insert(pc, Place::Behind, 0, seq).map(drop)
    }

    /// Removes the instruction at `pc`. Code in front of it or behind it stays, and jumps to it
    /// lead to what follows.
    ///
    /// # Errors
    /// `pc` is no instruction, or is replaced or deleted already. Nothing is changed then.
    pub fn delete(&mut self, pc: Pc) -> Result<(), PatchError> {
        let insn = self.expect_kept(pc)?;
        self.fates[pc.index()] = Fate::Deleted;
        self.slots -= insn.slots() as usize;
        Ok(())
    }

    /// Removes all instructions from `range.start` up to `range.end`, as [`Patch::delete`] does. An
    /// empty range changes nothing.
    ///
    /// # Errors
    /// The range ends beyond the program or splits a wide load, or one of its instructions is
    /// replaced or deleted already. Nothing is changed then.
    pub fn delete_range(&mut self, range: Range<Pc>) -> Result<(), PatchError> {
        if range.is_empty() {
            return Ok(());
        }
        if range.end.0 > self.program.len() {
            return Err(PatchError::OutOfRange { pc: range.end });
        }
        self.expect_insn(range.start)?;
        if range.end.0 < self.program.len() {
            self.expect_insn(range.end)?;
        }
        let first_slots = |at: &u32| self.program.get(Pc(*at)).is_some();
        for at in (range.start.0..range.end.0).filter(first_slots) {
            self.expect_kept(Pc(at))?;
        }
        self.fates[range.start.index()..range.end.index()].fill(Fate::Deleted);
        self.slots -= range.end.index() - range.start.index();
        Ok(())
    }

    fn expect_insn(&self, pc: Pc) -> Result<Insn, PatchError> {
        match self.program.slots().get(pc.index()) {
            Some(Some(insn)) => Ok(*insn),
            Some(None) => Err(PatchError::InWideLoad { pc }),
            None => Err(PatchError::OutOfRange { pc }),
        }
    }

    fn expect_present(&self, pc: Pc) -> Result<Insn, PatchError> {
        let insn = self.expect_insn(pc)?;
        match self.fates[pc.index()] {
            Fate::Kept | Fate::Replaced => Ok(insn),
            Fate::Deleted => Err(PatchError::Deleted { pc }),
        }
    }

    fn expect_kept(&self, pc: Pc) -> Result<Insn, PatchError> {
        let insn = self.expect_present(pc)?;
        match self.fates[pc.index()] {
            Fate::Replaced => Err(PatchError::Replaced { pc }),
            Fate::Kept | Fate::Deleted => Ok(insn),
        }
    }

    /// Notes `seq` at `place`, for `removed` slots that go away; gives its length in slots. An
    /// empty sequence leaves no trace.
    fn insert<I>(&mut self, pc: Pc, place: Place, removed: u32, seq: I) -> Result<u32, PatchError>
    where
        I: IntoIterator<Item: Into<PatchInsn>>,
    {
        let first = self.pool.len();
        let rest = self.slots - removed as usize;
        let most = self.slots.max(self.limit as usize) - rest;
        let linked =
            self.push_seq(pc, first + most, seq).inspect_err(|_| self.pool.truncate(first))?;
        let len = self.pool.len() - first;
        if len > 0 {
            self.log.push(Edit { pc, place, linked, first: first as u32, len: len as u32 });
            self.slots = rest + len;
        }
        Ok(len as u32)
    }

    /// Puts `seq` into the pool, up to `most` slots there; tells whether anything in it refers to
    /// other instructions.
    fn push_seq<I>(&mut self, pc: Pc, most: usize, seq: I) -> Result<bool, PatchError>
    where
        I: IntoIterator<Item: Into<PatchInsn>>,
    {
        let first = self.pool.len();
        let mut linked = false;
        for insn in seq {
            let insn: PatchInsn = insn.into();
            if self.pool.len() + insn.slots() as usize > most {
                return Err(PatchError::TooLong { pc, limit: self.limit });
            }
            let insn = match insn.plain() {
                Some(insn) => insn,
                None => {
                    linked = true;
                    self.link(pc, (self.pool.len() - first) as u32, insn)?
                }
            };
            self.pool.push(Some(insn));
            if insn.slots() == 2 {
                self.pool.push(None);
            }
        }
        if linked {
            self.link_locals(pc, first)?;
        }
        Ok(linked)
    }

    /// The instruction as the pool keeps it, for slot `slot` of a sequence at `pc`.
    fn link(&self, pc: Pc, slot: u32, insn: PatchInsn) -> Result<Insn, PatchError> {
        match insn.resolve().ok_or(PatchError::NotAJump { pc, slot })? {
            (insn, Some(link)) => Ok(retarget(insn, link.to_pc())),
            (insn, None) => self.check_targets(pc, insn),
        }
    }

    /// Checks what `insn`, inserted at `pc`, refers to in the original program.
    fn check_targets(&self, pc: Pc, insn: Insn) -> Result<Insn, PatchError> {
        if let Some(target) = insn.jump_target() {
            self.expect_insn(target)?;
            if self.program.subprog_of(target) != self.program.subprog_of(pc) {
                return Err(PatchError::JumpLeavesSubprog { pc, target });
            }
        }
        if let Some(target) = insn.subprog_ref() {
            self.expect_insn(target)?;
            if self.program.subprogs()[self.program.subprog_of(target).index()].start != target {
                return Err(PatchError::NotASubprog { pc, target });
            }
        }
        Ok(insn)
    }

    /// Checks the local links of the sequence that begins at `first` and runs to the pool's end,
    /// and puts its length into those that lead past it.
    fn link_locals(&mut self, pc: Pc, first: usize) -> Result<(), PatchError> {
        let len = self.pool.len() - first;
        for index in first..self.pool.len() {
            let Some(insn) = self.pool[index] else { continue };
            let Some(Link::Local(target)) = insn.jump_target().map(Link::from_pc) else { continue };
            if target == Link::NEXT {
                self.pool[index] = Some(retarget(insn, Link::Local(len as u32).to_pc()));
            } else if !matches!(self.pool[first..].get(target as usize), Some(Some(_))) {
                return Err(PatchError::NoSuchLocal { pc, target });
            }
        }
        Ok(())
    }
}

/// A walk over the original instructions of a [`Patch`] that are neither replaced nor deleted,
/// which does not keep the patch from being edited meanwhile.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Cursor {
    next: u32,
}

impl Cursor {
    /// A cursor in front of the first instruction.
    #[must_use]
    pub const fn new() -> Self {
        Self { next: 0 }
    }

    /// The next instruction that is left, with its original position.
    pub fn next(&mut self, patch: &Patch<'_>) -> Option<(Pc, Insn)> {
        while self.next < patch.program.len() {
            let pc = Pc(self.next);
            self.next += 1;
            if let Some(insn) = patch.get(pc) {
                return Some((pc, insn));
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Target;
    use alloc::collections::BTreeMap;
    use ebpf_isa::LineTable;

    #[test]
    fn a_refused_edit_leaves_nothing_in_the_pool() {
        let slots = vec![Some(Insn::Exit)];
        let program = Program::new(slots, BTreeMap::new(), LineTable::new()).unwrap();
        let mut patch = Patch::with_limit(&program, 3);
        let lost = PatchInsn::jump(Insn::MayGoto { target: Pc(0) }, Target::Local(7));
        patch.append(Pc(0), [Insn::Exit.into(), lost]).unwrap_err();
        patch.append(Pc(0), [Insn::Exit; 3]).unwrap_err();
        assert!(patch.pool.is_empty() && patch.log.is_empty());
        patch.append(Pc(0), [Insn::Exit; 2]).unwrap();
    }
}

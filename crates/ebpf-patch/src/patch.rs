//! The edit session: edits are checked and noted here, and carried out by linearisation.

use alloc::vec;
use alloc::vec::Vec;
use core::ops::{Range, RangeInclusive};

use ebpf_isa::{Code, Insn, Pc, Program};

use crate::PatchError;
use crate::log::{Key, Log, Place};
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

/// What a slot of the original program is, and what has become of it. Everything that edits need to
/// know of the program is here, a byte a slot: they come in any order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// An instruction of one slot that leads to the next, which stays.
    Kept,
    /// One that can lead elsewhere than to the next: a jump, a call of a subprogram, an exit, or a
    /// packet load, which ends the program where there is no packet. It stays.
    KeptControl,
    /// A wide load, which stays.
    KeptWide,
    /// The second slot of a wide load that stays.
    Second,
    /// That of one that does not.
    SecondOfGone,
    Replaced,
    Deleted,
}

impl Fate {
    /// Of a slot in which there is no plain instruction.
    fn of_marked(slot: Option<Insn>) -> Self {
        match slot {
            None => Self::Second,
            Some(Insn::LoadWide { .. }) => Self::KeptWide,
            Some(_) => Self::KeptControl,
        }
    }

    /// Whether it is the second slot of a wide load.
    #[inline]
    pub(crate) const fn is_second(self) -> bool {
        matches!(self, Self::Second | Self::SecondOfGone)
    }

    /// Whether what the slot holds stays.
    #[inline]
    pub(crate) const fn stays(self) -> bool {
        matches!(self, Self::Kept | Self::KeptControl | Self::KeptWide | Self::Second)
    }

    /// Whether it is an instruction that stays and may refer to another.
    #[inline]
    pub(crate) const fn may_refer(self) -> bool {
        matches!(self, Self::KeptControl | Self::KeptWide)
    }

    /// Number of slots that the instruction takes in the new program.
    #[inline]
    pub(crate) const fn slots(self) -> u32 {
        match self {
            Self::Kept | Self::KeptControl => 1,
            Self::KeptWide => 2,
            Self::Second | Self::SecondOfGone | Self::Replaced | Self::Deleted => 0,
        }
    }
}

/// An edit session over one program: edits name positions of the original program, in any order,
/// and take effect together in [`Patch::linearize`].
#[derive(Debug, Clone)]
pub struct Patch<'p> {
    pub(crate) program: &'p Program,
    /// By slot.
    pub(crate) fates: Vec<Fate>,
    pub(crate) log: Log,
    /// Whether jumps that outgrow their offset field may take another form.
    pub(crate) may_relax: bool,
    /// What the offset field of a jump can hold: 16 bits, but for tests.
    pub(crate) reach: RangeInclusive<i64>,
    /// Length of the edited program.
    pub(crate) slots: usize,
    limit: u32,
    /// The pass that edits now.
    pass: u8,
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
        let code = program.code();
        let mut fates = vec![Fate::Kept; code.len()];
        for pc in code.marked(0..code.len()) {
            fates[pc.index()] = Fate::of_marked(code[pc.index()]);
        }
        Self {
            program,
            fates,
            log: Log::new(),
            may_relax: true,
            reach: i16::MIN.into()..=i16::MAX.into(),
            slots: program.slots().len(),
            limit: limit.min(Program::MAX_SLOTS as u32),
            pass: Self::NO_PASS,
        }
    }

    /// The number of no pass: what was inserted before any began, and longer forms of jumps.
    pub const NO_PASS: u8 = 0;
    /// The highest number that a pass may have.
    pub const MAX_PASS: u8 = Key::MAX_PASS;

    /// Says that the edits from now on are those of the pass with this number, at most
    /// [`Self::MAX_PASS`]: [`Inserted`](crate::Inserted) tells what each inserted. Code that a later pass
    /// puts in the place of inserted instructions counts as that of the pass which inserted those.
    ///
    /// # Panics
    /// The number is higher.
    pub fn begin_pass(&mut self, pass: u8) {
        assert!(pass <= Self::MAX_PASS, "there are passes 0 to {}", Self::MAX_PASS);
        self.pass = pass;
    }

    /// Keeps the form of jumps: one that no longer reaches its target within the 16 bits of its
    /// offset field becomes an error of [`Patch::linearize`], [`PatchError::JumpTooFar`]. For
    /// programs that must do without `gotol`, which came with version 4 of the instruction set.
    pub const fn forbid_relaxation(&mut self) {
        self.may_relax = false;
    }

    /// The most slots that the program may have now.
    pub(crate) fn most_slots(&self) -> usize {
        self.slots.max(self.limit as usize)
    }

    pub(crate) const fn too_long(&self, pc: Pc) -> PatchError {
        PatchError::TooLong { pc, limit: self.limit }
    }

    /// The original program.
    #[must_use]
    pub const fn program(&self) -> &'p Program {
        self.program
    }

    /// The original instruction at `pc` if it is neither replaced nor deleted.
    #[must_use]
    #[inline]
    pub fn get(&self, pc: Pc) -> Option<Insn> {
        match self.fates.get(pc.index())?.slots() {
            0 => None,
            _ => self.program.get(pc),
        }
    }

    /// Whether the instruction at `pc`, or what replaced it, is in the edited program.
    #[must_use]
    pub fn is_present(&self, pc: Pc) -> bool {
        self.expect_present(pc).is_ok()
    }

    /// Whether there is an original instruction at `pc` that is neither replaced nor deleted.
    #[must_use]
    #[inline]
    pub fn is_kept(&self, pc: Pc) -> bool {
        self.expect_kept(pc).is_ok()
    }

    /// The original instructions that are neither replaced nor deleted, with their positions. To
    /// edit on the way, use a [`Cursor`].
    pub fn insns(&self) -> impl Iterator<Item = (Pc, Insn)> {
        let mut cursor = Cursor::new();
        core::iter::from_fn(move || cursor.next(self))
    }

    /// Those of them that can lead elsewhere than to the next: jumps, calls of subprograms, exits, and
    /// packet loads, which can end the program. The others are not looked at.
    pub fn control_flow(&self) -> impl Iterator<Item = (Pc, Insn)> {
        let marked = self.program.code().marked(0..self.fates.len());
        let control = marked.filter(|pc| self.fates[pc.index()] == Fate::KeptControl);
        control.filter_map(|pc| Some((pc, self.program.get(pc)?)))
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
        let old_slots = self.expect_kept(pc)?;
        let len = self.insert(pc, Place::Instead, old_slots, seq)?;
        if len == 0 {
            return Err(PatchError::EmptySequence { pc });
        }
        self.remove(pc, Fate::Replaced, old_slots);
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
        let slots = self.expect_kept(pc)?;
        self.remove(pc, Fate::Deleted, slots);
        self.slots -= slots as usize;
        Ok(())
    }

    /// Notes what becomes of an instruction of so many slots.
    #[inline]
    fn remove(&mut self, pc: Pc, fate: Fate, slots: u32) {
        self.fates[pc.index()] = fate;
        if slots == 2 {
            self.fates[pc.index() + 1] = Fate::SecondOfGone;
        }
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
        for pc in (range.start.0..range.end.0).map(Pc) {
            if !self.fates[pc.index()].is_second() {
                self.expect_kept(pc)?;
            }
        }
        for fate in &mut self.fates[range.start.index()..range.end.index()] {
            *fate = if fate.is_second() { Fate::SecondOfGone } else { Fate::Deleted };
        }
        self.slots -= range.end.index() - range.start.index();
        Ok(())
    }

    #[inline]
    fn expect_insn(&self, pc: Pc) -> Result<Fate, PatchError> {
        match self.fates.get(pc.index()) {
            Some(Fate::Second | Fate::SecondOfGone) => Err(PatchError::InWideLoad { pc }),
            Some(fate) => Ok(*fate),
            None => Err(PatchError::OutOfRange { pc }),
        }
    }

    #[inline]
    fn expect_present(&self, pc: Pc) -> Result<Fate, PatchError> {
        match self.expect_insn(pc)? {
            Fate::Deleted => Err(PatchError::Deleted { pc }),
            fate => Ok(fate),
        }
    }

    /// The number of slots of the instruction at `pc`, which is neither replaced nor deleted.
    #[inline]
    fn expect_kept(&self, pc: Pc) -> Result<u32, PatchError> {
        match self.expect_present(pc)? {
            Fate::Replaced => Err(PatchError::Replaced { pc }),
            fate => Ok(fate.slots()),
        }
    }

    /// Notes `seq` at `place`, for `removed` slots that go away; gives its length in slots. An
    /// empty sequence leaves no trace.
    #[inline]
    fn insert<I>(&mut self, pc: Pc, place: Place, removed: u32, seq: I) -> Result<u32, PatchError>
    where
        I: IntoIterator<Item: Into<PatchInsn>>,
    {
        let first = self.log.pool.len();
        let rest = self.slots - removed as usize;
        let plain = self.push_seq(pc, rest, seq).inspect_err(|_| self.log.pool.truncate(first))?;
        let len = self.log.pool.len() - first;
        if len > 0 {
            let key = Key::new(pc, place, self.pass);
            match plain {
                true => self.log.note_plain(key, first),
                false => self.log.note(key, first),
            }
            self.slots = rest + len;
        }
        Ok(len as u32)
    }

    /// Puts `seq` into the pool, beside `rest` slots of other code; tells whether all of it is plain.
    #[inline]
    fn push_seq<I>(&mut self, pc: Pc, rest: usize, seq: I) -> Result<bool, PatchError>
    where
        I: IntoIterator<Item: Into<PatchInsn>>,
    {
        let first = self.log.pool.len();
        let most = self.most_slots() - rest;
        let mut plain = true;
        for insn in seq {
            let insn: PatchInsn = insn.into();
            let here = self.log.pool.len() - first;
            if here + insn.slots() as usize > most {
                return Err(self.too_long(pc));
            }
            if insn.is_plain() {
                self.log.pool.push(insn.insn());
            } else {
                plain = false;
                let here = here as u32;
                let insn = insn.to_pool(here).map_err(|error| error.error(pc, here))?;
                self.log.pool.push(insn);
            }
        }
        if !plain {
            self.link_seq(pc, first)?;
        }
        Ok(plain)
    }

    /// Checks what the sequence that begins in the pool at `first` refers to.
    fn link_seq(&mut self, pc: Pc, first: usize) -> Result<(), PatchError> {
        for insn in self.log.pool[first..].iter().flatten() {
            self.check_targets(pc, *insn)?;
        }
        link_locals(pc, &mut self.log.pool, first)
    }

    /// The instruction as the pool keeps it, for slot `slot` of a sequence at `pc`.
    pub(crate) fn link(&self, pc: Pc, slot: u32, insn: PatchInsn) -> Result<Insn, PatchError> {
        let insn = insn.to_pool(slot).map_err(|error| error.error(pc, slot))?;
        self.check_targets(pc, insn)?;
        Ok(insn)
    }

    /// Checks what `insn`, inserted at `pc`, refers to in the original program.
    fn check_targets(&self, pc: Pc, insn: Insn) -> Result<(), PatchError> {
        if let Some(Link::Original(target)) = insn.jump_target().map(Link::from_pc) {
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
        Ok(())
    }
}

/// Checks the local links of the sequence that begins in the pool at `first`, and puts its length into those
/// that lead past it.
fn link_locals(pc: Pc, pool: &mut Code, first: usize) -> Result<(), PatchError> {
    let len = pool.len() - first;
    for slot in first..pool.len() {
        let Some(insn) = pool[slot] else { continue };
        let Some(Link::Local(target)) = insn.jump_target().map(Link::from_pc) else { continue };
        if target == Link::NEXT {
            pool.set(slot, retarget(insn, Link::Local(len as u32).to_pc()));
            continue;
        }
        let settled = Link::settled(target);
        let target = settled.unwrap_or(target);
        let is_end = settled.is_some() && target as usize == len;
        if !is_end && !matches!(pool.get(first + target as usize), Some(Some(_))) {
            return Err(PatchError::NoSuchLocal { pc, target });
        }
        pool.set(slot, retarget(insn, Link::Local(target).to_pc()));
    }
    Ok(())
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
    #[inline]
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
    use alloc::vec;
    use ebpf_isa::LineTable;

    #[test]
    fn a_refused_edit_leaves_nothing_in_the_pool() {
        let slots = vec![Some(Insn::Exit)];
        let program = Program::new(slots, BTreeMap::new(), LineTable::new()).unwrap();
        let mut patch = Patch::with_limit(&program, 3);
        let lost = PatchInsn::jump(Insn::MayGoto { target: Pc(0) }, Target::Local(7));
        patch.append(Pc(0), [Insn::Exit.into(), lost]).unwrap_err();
        patch.append(Pc(0), [Insn::Exit; 3]).unwrap_err();
        assert!(patch.log.pool.is_empty() && patch.log.edits().count() == 0);
        patch.append(Pc(0), [Insn::Exit; 2]).unwrap();
    }
}

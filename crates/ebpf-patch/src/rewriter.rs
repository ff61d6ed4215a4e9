//! Inserted code written anew, with some of its instructions as others.

use alloc::vec::Vec;

use ebpf_isa::{Insn, Pc};

use crate::PatchError;
use crate::seq::{Link, retarget};

/// Writes one sequence to the end of a pool. Its local links name slots of the sequence as it was,
/// and are led to where the code for those is now.
pub(crate) struct Rewriter<'a> {
    pool: &'a mut Vec<Option<Insn>>,
    first: usize,
    /// By slot of the old sequence, where its code begins in the new one; [`Self::NONE`] inside of
    /// wide loads.
    moved: Vec<u32>,
}

impl<'a> Rewriter<'a> {
    const NONE: u32 = u32::MAX;
    /// Marks local links that name a slot of the new sequence already.
    const SETTLED: u32 = 1 << 30;

    pub(crate) fn new(pool: &'a mut Vec<Option<Insn>>) -> Self {
        let first = pool.len();
        Self { pool, first, moved: Vec::new() }
    }

    /// Says that what follows is the code for the instruction `old`.
    pub(crate) fn begin(&mut self, old: Insn) {
        self.moved.push(self.here());
        if old.slots() == 2 {
            self.moved.push(Self::NONE);
        }
    }

    /// Writes an instruction, whose local link names a slot of the old sequence.
    pub(crate) fn push(&mut self, insn: Insn) {
        self.pool.push(Some(insn));
        if insn.slots() == 2 {
            self.pool.push(None);
        }
    }

    /// Writes a jump over the next `slots` slots.
    pub(crate) fn push_over(&mut self, jump: Insn, slots: u32) {
        let target = Link::Local(Self::SETTLED | (self.here() + 1 + slots));
        self.push(retarget(jump, target.to_pc()));
    }

    /// Ends the sequence, which is for code at `pc`.
    pub(crate) fn finish(mut self, pc: Pc) -> Result<(), PatchError> {
        self.moved.push(self.here());
        for slot in &mut self.pool[self.first..] {
            let Some(insn) = *slot else { continue };
            let Some(Link::Local(offset)) = insn.jump_target().map(Link::from_pc) else { continue };
            let settled = offset & !Self::SETTLED;
            let target = match offset {
                Link::NEXT => self.moved.last(),
                _ if settled != offset => Some(&settled),
                _ => self.moved.get(offset as usize).filter(|&&moved| moved != Self::NONE),
            };
            let &target = target.ok_or(PatchError::NoSuchLocal { pc, target: offset })?;
            *slot = Some(retarget(insn, Link::Local(target).to_pc()));
        }
        Ok(())
    }

    /// Length of the whole pool.
    pub(crate) const fn pool_len(&self) -> usize {
        self.pool.len()
    }

    /// Length of the new sequence so far.
    pub(crate) const fn here(&self) -> u32 {
        (self.pool.len() - self.first) as u32
    }
}

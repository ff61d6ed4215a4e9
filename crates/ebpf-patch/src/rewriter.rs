//! Inserted code written anew, with some of its instructions as others.

use alloc::vec::Vec;

use ebpf_isa::{Code, Insn, Pc};

use crate::PatchError;
use crate::seq::{Link, retarget};

/// Writes one sequence to the end of a pool. Its local links name slots of the sequence as it was,
/// and are led to where the code for those is now.
pub(crate) struct Rewriter<'a> {
    pool: &'a mut Code,
    first: usize,
    /// By slot of the old sequence, where its code begins in the new one; [`Self::NONE`] inside of
    /// wide loads.
    moved: Vec<u32>,
}

impl<'a> Rewriter<'a> {
    const NONE: u32 = u32::MAX;

    pub(crate) fn new(pool: &'a mut Code) -> Self {
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
        self.pool.push(insn);
    }

    /// Writes a jump over the next `slots` slots.
    pub(crate) fn push_over(&mut self, jump: Insn, slots: u32) {
        self.push(retarget(jump, Link::over(self.here(), slots).to_pc()));
    }

    /// Ends the sequence, which is for code at `pc`.
    pub(crate) fn finish(mut self, pc: Pc) -> Result<(), PatchError> {
        let end = self.here();
        self.moved.push(end);
        for slot in self.first..self.pool.len() {
            let Some(insn) = self.pool[slot] else { continue };
            let Some(Link::Local(offset)) = insn.jump_target().map(Link::from_pc) else { continue };
            let settled = Link::settled(offset);
            let target = match (offset, settled) {
                (Link::NEXT, _) => Some(end),
                (_, Some(settled)) => {
                    let slot = self.pool.get(self.first + settled as usize);
                    (settled == end || matches!(slot, Some(Some(_)))).then_some(settled)
                }
                _ => self.moved.get(offset as usize).copied().filter(|&moved| moved != Self::NONE),
            };
            let missing = PatchError::NoSuchLocal { pc, target: settled.unwrap_or(offset) };
            let target = target.ok_or(missing)?;
            self.pool.set(slot, retarget(insn, Link::Local(target).to_pc()));
        }
        Ok(())
    }

    /// Length of the whole pool.
    pub(crate) fn pool_len(&self) -> usize {
        self.pool.len()
    }

    /// Length of the new sequence so far.
    pub(crate) fn here(&self) -> u32 {
        (self.pool.len() - self.first) as u32
    }
}

//! Later passes over what earlier ones inserted.

use alloc::vec::Vec;

use ebpf_isa::Pc;

use crate::PatchError;
use crate::log::{Edit, Log, Place};
use crate::patch::{Fate, Patch};
use crate::rewriter::Rewriter;
use crate::seq::PatchInsn;

impl Patch<'_> {
    /// All inserted code in the order in which it was given, each instruction with the original
    /// position that it was inserted at.
    pub fn inserted(&self) -> impl Iterator<Item = (Pc, PatchInsn)> {
        let with_pc = |edit: Edit| {
            let seq = &self.log.pool[edit.code()];
            let slots = seq.len() as u32;
            let insns = seq.iter().flatten();
            insns.map(move |insn| (edit.pc(), PatchInsn::from_pool(*insn, slots)))
        };
        self.log.edits().flat_map(with_pc)
    }

    /// Puts, for each inserted instruction for which `with` gives a sequence, that sequence in its
    /// place; an empty one removes it. `with` sees the instructions in the order of
    /// [`Patch::inserted`], and what it gives is not shown to it again.
    ///
    /// In the given sequences, [`Target::Local`](crate::Target::Local) counts slots of the whole
    /// sequence that the instruction is in, as it was when it was inserted, and
    /// [`Target::Next`](crate::Target::Next) means the end of that one: so a jump keeps its
    /// meaning when it is given back as it was, and no jump can lead into the code for another
    /// instruction. Local targets that are removed lead to what follows.
    ///
    /// # Errors
    /// A sequence is too long or leads where it must not: see [`PatchError`]. Nothing is changed
    /// then.
    pub fn replace_inserted<I>(
        &mut self,
        mut with: impl FnMut(Pc, PatchInsn) -> Option<I>,
    ) -> Result<(), PatchError>
    where
        I: IntoIterator<Item: Into<PatchInsn>>,
    {
        let mut log = Log::new();
        let mut emptied = Vec::new();
        let most = self.most_slots() - (self.slots - self.log.pool.len());
        for edit in self.log.edits() {
            let first = log.pool.len();
            let seq = &self.log.pool[edit.code()];
            let mut rewriter = Rewriter::new(&mut log.pool);
            for insn in seq.iter().flatten() {
                rewriter.begin(*insn);
                match with(edit.pc(), PatchInsn::from_pool(*insn, seq.len() as u32)) {
                    None => rewriter.push(*insn),
                    Some(given) => {
                        for insn in given {
                            let insn = self.link(edit.pc(), rewriter.here(), insn.into())?;
                            rewriter.push(insn);
                            if rewriter.pool_len() > most {
                                return Err(self.too_long(edit.pc()));
                            }
                        }
                    }
                }
            }
            if rewriter.pool_len() > most {
                return Err(self.too_long(edit.pc()));
            }
            rewriter.finish(edit.pc())?;
            if log.pool.len() > first {
                log.note(edit.key(), first);
            } else if edit.place() == Place::Instead {
                emptied.push(edit.pc());
            }
        }
        self.slots = self.slots - self.log.pool.len() + log.pool.len();
        self.log = log;
        for pc in emptied {
            self.fates[pc.index()] = Fate::Deleted;
        }
        Ok(())
    }
}

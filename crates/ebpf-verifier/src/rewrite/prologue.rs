//! The host's code in front of the program.

use ebpf_isa::{Pc, SubprogIdx};
use ebpf_patch::{Landing, PatchInsn};

use super::{Hook, HookCode, RewriteError, Rewriter, scan};

pub(super) fn run(rewriter: &mut Rewriter<'_>) -> Result<(), RewriteError> {
    let Rewriter { verified, hooks, target, modules, .. } = rewriter;
    let mut code = HookCode::new(Hook::Prologue, *hooks, target, modules);
    hooks.gen_prologue(verified.writes_packet, &mut code);
    let steps = code.finish()?;
    scan::check(Hook::Prologue, &steps)?;
    rewriter.put_in_front(steps.iter().map(|step| step.insn))
}

impl Rewriter<'_> {
    /// Puts code in front of the main program, behind what is there already. Loops back to the first
    /// instruction go past it.
    pub(super) fn put_in_front(
        &mut self,
        code: impl IntoIterator<Item = PatchInsn>,
    ) -> Result<(), RewriteError> {
        let entry = self.entry();
        Ok(self.patch.prepend(entry, code, Landing::Insn)?)
    }

    /// The first instruction that is left of the main program.
    fn entry(&self) -> Pc {
        let main = &self.verified.program.subprogs()[SubprogIdx::MAIN.index()];
        let mut left = (main.start.0..main.end.0).map(Pc);
        left.find(|&pc| self.patch.is_present(pc)).expect("invariant: every path ends in an exit")
    }
}

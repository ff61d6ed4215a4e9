//! Accesses to the context, and to objects of the kernel, become accesses to what the host has.

use ebpf_isa::Pc;
use ebpf_patch::convert_context_access;

use super::{ContextAccessInsn, RewriteError, Rewriter};
use crate::step::ContextUse;

pub(super) fn run(rewriter: &mut Rewriter<'_>) -> Result<(), RewriteError> {
    let Rewriter { verified, hooks, patch, .. } = rewriter;
    for (pc, &used) in (0..).map(Pc).zip(&verified.context_use) {
        if matches!(used, ContextUse::Structure | ContextUse::Guarded) {
            return Err(RewriteError::Guarded { pc });
        }
        if !matches!(used, ContextUse::Context | ContextUse::Object(_)) {
            continue;
        }
        let insn = verified.program.get(pc);
        let access = insn.and_then(|insn| ContextAccessInsn::new(pc, insn));
        let access = access
            .expect("invariant: only loads and stores at positive offsets access such fields");
        let field = match used {
            ContextUse::Object(object) => hooks.object_field(object, &access)?,
            _ => hooks.context_field(&access)?,
        };
        convert_context_access(patch, pc, &field)?;
    }
    Ok(())
}

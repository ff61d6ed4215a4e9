//! Accesses to the context, and to objects of the kernel, become accesses to what the host has.

use ebpf_patch::convert_context_access;

use super::{ContextAccessInsn, RewriteError, Rewriter};
use crate::step::ContextUse;

pub(super) fn run(rewriter: &mut Rewriter<'_>) -> Result<(), RewriteError> {
    let Rewriter { verified, hooks, patch, .. } = rewriter;
    for (pc, insn) in verified.program.insns() {
        let used = verified.context_use[pc.index()];
        if !matches!(used, ContextUse::Context | ContextUse::Object(_)) {
            continue;
        }
        let access = ContextAccessInsn::new(pc, insn)
            .expect("invariant: only loads and stores at positive offsets access such fields");
        let field = match used {
            ContextUse::Object(object) => hooks.object_field(object, &access)?,
            _ => hooks.context_field(&access)?,
        };
        convert_context_access(patch, pc, &field)?;
    }
    Ok(())
}

//! Conditional jumps that every path takes, or none, need no condition.

use ebpf_isa::{Insn, Pc};

use super::{RewriteError, Rewriter};

pub(super) fn run(rewriter: &mut Rewriter<'_>) -> Result<(), RewriteError> {
    let verified = rewriter.verified;
    // Most programs have no dead code, which shows without a look at their instructions.
    let is_dead = |(pc, _): (Pc, _)| rewriter.patch.is_kept(pc);
    let unreached = (0..).map(Pc).zip(&verified.reached).filter(|&(_, &reached)| !reached);
    if !unreached.into_iter().any(is_dead) {
        return Ok(());
    }
    // The first instruction behind that some path reaches: what lies between goes.
    let mut next = None;
    for pc in (0..verified.program.len()).rev().map(Pc).filter(|&pc| verified.is_reached(pc)) {
        if let Some(Insn::Branch { target, .. }) = verified.program.get(pc) {
            let falls_through = pc.checked_add(1).is_some_and(|next| verified.is_reached(next));
            match (verified.is_reached(target), falls_through) {
                (true, false) if next != Some(target) => {
                    rewriter.patch.replace(pc, [Insn::Jump { target, long: false }])?;
                }
                (true, true) => {}
                _ => rewriter.patch.delete(pc)?,
            }
        }
        next = Some(pc);
    }
    Ok(())
}

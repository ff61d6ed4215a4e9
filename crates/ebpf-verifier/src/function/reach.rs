//! Which functions have a call of some helper, directly or through others. The kernel looks at all
//! calls there are, whether a path leads to them or not.

use alloc::vec;
use alloc::vec::Vec;

use ebpf_isa::uapi::HelperId;
use ebpf_isa::{CallTarget, Insn, Program};

use crate::outline::Outline;

/// Helpers that may move the packet, of whatever program type. A tail call is one, for what may be
/// called.
pub(super) const MOVES_PACKET: &[u32] =
    &[9, 10, 11, 12, 13, 18, 19, 31, 38, 39, 43, 44, 50, 54, 63, 65, 73, 74, 75, 76, 90, 91, 143];

/// Helpers that may sleep: copies from user space. The kernel takes others for such only in programs
/// that may sleep.
pub(super) const MAY_SLEEP: &[u32] = &[148, 191];

/// By function.
pub(super) fn calls_any_of(program: &Program, outline: &Outline, helpers: &[u32]) -> Vec<bool> {
    let mut found = vec![false; program.subprogs().len()];
    let mut calls = Vec::new();
    for &(pc, insn) in outline.notable() {
        let from = program.subprog_of(pc).index();
        if let Insn::Call(CallTarget::Helper(HelperId(id))) = insn {
            found[from] |= helpers.contains(&id);
        }
        calls.extend(insn.subprog_ref().map(|to| (from, program.subprog_of(to).index())));
    }
    let mut changed = true;
    while core::mem::take(&mut changed) {
        for &(from, to) in &calls {
            changed |= found[to] && !found[from];
            found[from] |= found[to];
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use ebpf_isa::text::assemble;

    use super::*;
    use crate::Environment;
    use crate::rules::program_types;

    #[test]
    fn what_a_callee_calls_counts_for_its_callers() {
        let text = "call a\nexit\na:\ncall b\nexit\nb:\ncall c\ncall d\nexit\nc:\ncall 44\nexit\n\
                    d:\nr0 = 0\nif r0 == 0 goto out\ncall 148\nout:\nexit";
        let program = assemble(text).expect("it is a program");
        let outline = Outline::of(&program, &Environment::new(program_types::xdp()));
        let found = |helpers| calls_any_of(&program, &outline, helpers);
        assert_eq!(found(MOVES_PACKET), [true, true, true, true, false]);
        assert_eq!(found(MAY_SLEEP), [true, true, true, false, true]);
        assert_eq!(found(&[7]), [false; 5]);
    }
}

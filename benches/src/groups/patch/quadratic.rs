//! One instruction at a time, as the kernel does: everything behind it moves, and every jump of the
//! program is looked at.

use ebpf_runtime::isa::{Insn, Pc};

/// Replaces each instruction (of one slot; only branches refer to others) by what `with` gives. The
/// last instruction of a replacement is the original one.
pub(super) fn patch(slots: &[Option<Insn>], with: impl Fn(Insn) -> Vec<Insn>) -> Vec<Option<Insn>> {
    let mut slots = slots.to_vec();
    let mut at = 0;
    while at < slots.len() {
        let Some(insn) = slots[at] else { break };
        let new = with(insn);
        let grown = new.len() as u32 - 1;
        slots.splice(at..=at, new.iter().copied().map(Some));
        for insn in slots.iter_mut().flatten() {
            if let Insn::Branch { target, .. } = insn
                && target.index() > at
            {
                *target = Pc(target.0 + grown);
            }
        }
        at += new.len();
    }
    slots
}

//! Programs as text, fused operations out.

use alloc::vec::Vec;

use ebpf_isa::text::assemble;

use super::lower;
use crate::Fused;

/// The operations of a program.
#[track_caller]
pub(super) fn ops(asm: &str) -> Vec<Fused> {
    lower(&assemble(asm).unwrap()).iter().map(|op| op.op).collect()
}

/// The first operation of a program, and how many there are behind it.
#[track_caller]
pub(super) fn first(asm: &str) -> (Fused, usize) {
    let ops = ops(asm);
    (ops[0], ops.len() - 1)
}

/// Whether the first instruction stays as it is.
#[track_caller]
pub(super) fn is_plain(asm: &str) -> bool {
    let program = assemble(asm).unwrap();
    let op = lower(&program)[0];
    op.op == Fused::Insn(program.insns().next().unwrap().1)
}

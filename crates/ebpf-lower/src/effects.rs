//! What single instructions do to registers.
//!
//! The answer holds for programs that no verifier saw, on engines that give them what this project's
//! engines give them:
//!
//! - a subprogram finds all registers of its caller but the frame pointer, and leaves `r0` to `r5`
//!   behind;
//! - a helper takes `r1` to `r5` and leaves them as they were;
//! - a tail call that falls through leaves all registers as they were;
//! - a packet load may end the function.

use alloc::vec::Vec;

use ebpf_isa::uapi::HelperId;
use ebpf_isa::{CallTarget, Insn, Operands, Reg, RegSet};

/// What a caller sees of a subprogram's registers.
const RETURNED: RegSet = RegSet::ARGS.with(Reg::R0);

/// What a subprogram sees of its caller's.
const ALL: RegSet = {
    let mut all = RegSet::EMPTY;
    let mut index = 0;
    while index < Reg::ALL.len() {
        all = all.with(Reg::ALL[index]);
        index += 1;
    }
    all
};

/// What one instruction, or a stretch of several, does to registers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Effect {
    /// Registers whose value before is used.
    pub reads: RegSet,
    /// Registers that have another value afterwards. Of a call of a subprogram, what the subprogram
    /// writes is not among them.
    pub writes: RegSet,
}

impl Effect {
    /// That of nothing.
    pub(crate) const NONE: Self = Self { reads: RegSet::EMPTY, writes: RegSet::EMPTY };

    /// What the caller of a function sees of its registers: of a main program, the result.
    #[inline]
    pub(crate) const fn returned(is_main: bool) -> RegSet {
        if is_main { RegSet::of(Reg::R0) } else { RETURNED }
    }

    /// That of `insn`, in a function whose caller sees `result`.
    #[inline]
    pub(crate) fn of(insn: Insn, result: RegSet) -> Self {
        let Operands { reads, writes } = insn.operands();
        match insn {
            Insn::Call(CallTarget::Subprog(_) | CallTarget::Reg(_)) => {
                Self { reads: ALL, writes: RegSet::EMPTY }
            }
            Insn::Call(CallTarget::Helper(HelperId::TAIL_CALL)) => {
                Self { reads, writes: RegSet::EMPTY }
            }
            Insn::Call(_) => Self { reads, writes: RegSet::of(Reg::R0) },
            Insn::Exit => Self { reads: result, writes },
            Insn::LoadPacket { index, .. } => {
                let index = index.map_or(RegSet::EMPTY, RegSet::of);
                let reads = result.without(Reg::R0).union(index);
                Self { reads, writes: RegSet::of(Reg::R0) }
            }
            _ => Self { reads, writes },
        }
    }

    /// What is live before, if `after` is live behind.
    pub(crate) fn before(self, after: RegSet) -> RegSet {
        after.difference(self.writes).union(self.reads)
    }
}

/// What each instruction of a program does to registers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Effects(pub(crate) Vec<Effect>);

impl Effects {
    /// One for each slot; the second slot of a wide load has none.
    #[must_use]
    pub fn by_slot(&self) -> &[Effect] {
        &self.0
    }
}

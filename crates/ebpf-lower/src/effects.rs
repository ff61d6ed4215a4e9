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
use ebpf_isa::{CallTarget, Insn, Operands, Pc, Program, Reg, RegSet};

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

    /// That of `insn`, in a function whose caller sees `result`.
    fn of(insn: Insn, result: RegSet) -> Self {
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
pub struct Effects(Vec<Effect>);

impl Effects {
    /// Those of `program`.
    #[must_use]
    pub fn new(program: &Program) -> Self {
        // Where the main program ends, if nobody calls it: its `exit` ends the run.
        let called = program.insns().any(|(_, insn)| insn.subprog_ref() == Some(Pc::ENTRY));
        let main_end = if called { 0 } else { program.subprogs()[0].end.index() };
        let effect = |(at, slot): (usize, &Option<Insn>)| {
            let result = if at < main_end { RegSet::of(Reg::R0) } else { RETURNED };
            slot.map_or(Effect::NONE, |insn| Effect::of(insn, result))
        };
        Self(program.slots().iter().enumerate().map(effect).collect())
    }

    /// One for each slot; the second slot of a wide load has none.
    #[must_use]
    pub fn by_slot(&self) -> &[Effect] {
        &self.0
    }
}

//! Which registers are live: read on some way from an instruction, before they are written.

use alloc::vec;
use alloc::vec::Vec;

use ebpf_isa::{CallTarget, Insn, Pc, Program, Reg, RegSet};

use crate::environment::Environment;
use crate::rules::ArgKind;

/// The live registers before each instruction, function by function. It does not matter which
/// conditions can hold.
#[derive(Debug)]
pub(crate) struct LiveRegs {
    /// By slot.
    before: Vec<RegSet>,
}

impl LiveRegs {
    pub(crate) fn of(program: &Program, env: &Environment) -> Self {
        let mut live = Self { before: vec![RegSet::EMPTY; program.slots().len()] };
        // Backwards, so that all but loops are found at once.
        while program.insns().rev().fold(false, |grew, (pc, insn)| live.visit(pc, insn, env) | grew)
        {
        }
        live
    }

    /// Registers that are live before the instruction.
    pub(crate) fn before(&self, pc: Pc) -> RegSet {
        self.before[pc.index()]
    }

    /// Takes in what is live behind an instruction; says whether that was news.
    fn visit(&mut self, pc: Pc, insn: Insn, env: &Environment) -> bool {
        let successors = insn.successors(pc);
        let behind = successors.next.into_iter().chain(successors.target);
        let behind = behind.fold(RegSet::EMPTY, |live, pc| live.union(self.before(pc)));
        let live = behind.difference(insn.writes()).union(reads(insn, env));
        core::mem::replace(&mut self.before[pc.index()], live) != live
    }
}

/// The registers that an instruction reads; of a helper, its arguments.
fn reads(insn: Insn, env: &Environment) -> RegSet {
    let Insn::Call(CallTarget::Helper(id)) = insn else {
        return insn.reads();
    };
    let Some(proto) = env.program_type.helper(id) else {
        return insn.reads();
    };
    let used = |&(_, kind): &(Reg, ArgKind)| kind != ArgKind::Unused;
    Reg::ARGS.into_iter().zip(proto.args).take_while(used).map(|(reg, _)| reg).collect()
}

//! Calls. BPF's argument registers are the machine's, so nothing moves.

use ebpf_image::Symbol;
use ebpf_isa::uapi::HelperId;
use ebpf_isa::{CallTarget, Pc, Reg, Width};

use super::env::ENDED;
use super::{Lowering, tail, unsupported};
use crate::JitError;
use crate::emitter::{Arith, Cond};
use crate::regs::{ENV, ENV_FOR_HELPERS, Gpr, SCRATCH};

pub(super) fn call(
    lowering: &mut Lowering<'_>,
    pc: Pc,
    target: CallTarget,
) -> Result<(), JitError> {
    match target {
        CallTarget::Kfunc { .. } => return Err(unsupported(pc, "a call of a kernel function")),
        CallTarget::Helper(HelperId::TAIL_CALL) => tail::call(lowering),
        CallTarget::Helper(id) => helper(lowering, id),
        CallTarget::Subprog(start) => {
            lowering.before_call(pc);
            lowering.emitter.call_subprog(lowering.program.subprog_of(start));
        }
    }
    Ok(())
}

fn helper(lowering: &mut Lowering<'_>, id: HelperId) {
    let ending = lowering.options.ending_helpers.contains(&id);
    if ending {
        lowering.flush();
    }
    // What the helper leaves in registers is not for an unverified program to see.
    let kept: &[Reg] = if lowering.routines.is_some() { &Reg::ARGS } else { &[] };
    // An odd number, and one more to keep the stack aligned.
    let padding = (!kept.is_empty()).then_some(SCRATCH[0]);
    let kept = || kept.iter().map(|&reg| Gpr::from(reg)).chain(padding);
    let e = &mut *lowering.emitter;
    for reg in kept() {
        e.push(reg);
    }
    e.mov(Width::W64, ENV_FOR_HELPERS, ENV);
    e.call_symbol(Symbol::Helper(id.0));
    for reg in kept().rev() {
        e.pop(reg);
    }
    if let (true, Some(exits)) = (ending, lowering.exits) {
        e.arith_mem_imm(Arith::Cmp, Width::W64, ENDED, 0);
        e.jump_back(Some(Cond::NotEqual), exits.finish);
    }
}

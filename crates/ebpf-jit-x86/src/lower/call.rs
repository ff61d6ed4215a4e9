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
        CallTarget::Helper(HelperId::TAIL_CALL) => {
            let tail_calls = lowering.tail_calls.expect("invariant: the plan knows of tail calls");
            tail::call(lowering, tail_calls);
        }
        CallTarget::Helper(id) => {
            let ending = lowering.options.ending_helpers.contains(&id);
            native(lowering, Symbol::Helper(id.0), ending);
        }
        CallTarget::Kfunc { btf_id, module } => {
            let module = u16::try_from(module);
            let module = module.map_err(|_| {
                unsupported(lowering.source.origin(pc), "a kernel function of no module")
            })?;
            native(lowering, Symbol::Kfunc { btf_id, module }, false);
        }
        CallTarget::Native(number) if number < CallTarget::MAX_NATIVES => {
            native(lowering, Symbol::Native(number), false);
        }
        CallTarget::Native(_) => {
            let what = "a native function whose number is too high";
            return Err(unsupported(lowering.source.origin(pc), what));
        }
        CallTarget::Reg(_) => {
            let what = "a call through a register (the interpreter runs it)";
            return Err(unsupported(lowering.source.origin(pc), what));
        }
        CallTarget::Subprog(start) => {
            lowering.charge(pc);
            lowering.check_depth(pc);
            lowering.emitter.call_subprog(lowering.program.subprog_of(start));
        }
    }
    Ok(())
}

/// Calls a function of the host, which may end the run if it is `ending` or can call back.
fn native(lowering: &mut Lowering<'_>, function: Symbol, ending: bool) {
    let ending = ending || lowering.has_callbacks;
    if ending && lowering.exits.is_some() {
        lowering.flush();
    }
    lowering.save_allowance();
    // What the function leaves in registers is not for an unverified program to see.
    let kept: &[Reg] = if lowering.checks.is_some() { &Reg::ARGS } else { &[] };
    // An odd number, and one more to keep the stack aligned.
    let padding = (!kept.is_empty()).then_some(SCRATCH[0]);
    let kept = || kept.iter().map(|&reg| Gpr::from(reg)).chain(padding);
    let e = &mut *lowering.emitter;
    for reg in kept() {
        e.push(reg);
    }
    e.mov(Width::W64, ENV_FOR_HELPERS, ENV);
    e.call_symbol(function);
    for reg in kept().rev() {
        e.pop(reg);
    }
    lowering.load_allowance();
    if let (true, Some(exits)) = (ending, lowering.exits) {
        lowering.emitter.arith_mem_imm(Arith::Cmp, Width::W64, ENDED, 0);
        lowering.emitter.jump_back(Some(Cond::NotEqual), exits.finish);
    }
}

//! Calls. BPF's argument registers are the machine's, so nothing moves.

use ebpf_image::Symbol;
use ebpf_isa::uapi::HelperId;
use ebpf_isa::{CallTarget, Pc, Width};

use super::{Lowering, unsupported};
use crate::JitError;
use crate::regs::{ENV, ENV_FOR_HELPERS};

pub(super) fn call(
    lowering: &mut Lowering<'_>,
    pc: Pc,
    target: CallTarget,
) -> Result<(), JitError> {
    let e = &mut *lowering.emitter;
    match target {
        CallTarget::Helper(HelperId::TAIL_CALL) => return Err(unsupported(pc, "a tail call")),
        CallTarget::Kfunc { .. } => return Err(unsupported(pc, "a call of a kernel function")),
        CallTarget::Helper(HelperId(id)) => {
            e.mov(Width::W64, ENV_FOR_HELPERS, ENV);
            e.call_symbol(Symbol::Helper(id));
        }
        CallTarget::Subprog(start) => e.call_subprog(lowering.program.subprog_of(start)),
    }
    Ok(())
}

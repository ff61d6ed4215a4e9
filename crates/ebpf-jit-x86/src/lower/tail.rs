//! Tail calls: another program takes the place of the current function.

use ebpf_isa::abi::{MAX_TAIL_CALLS, TrapKind};
use ebpf_isa::{Extend, Pc, Reg, Size, Width};

use ebpf_image::CodeOffset;

use super::Lowering;
use super::entry::{Exits, TAIL_TARGET};
use super::env::{ENDED, TAIL_CALLS, TRAP_KIND};
use super::frame;
use crate::TAIL_CALL_TARGET;
use crate::emitter::{Arith, Cond, Emitter};
use crate::regs::{ENV, ENV_AT_ENTRY, Gpr, SCRATCH};

/// Emits `bpf_tail_call(r1, r2, r3)`: context, map, index.
pub(super) fn call(lowering: &mut Lowering<'_>, pc: Pc) {
    lowering.flush();
    let e = &mut *lowering.emitter;
    e.arith_mem_imm(Arith::Cmp, Width::W32, TAIL_CALLS, MAX_TAIL_CALLS.cast_signed());
    let too_many = e.skip(Some(Cond::AboveEqual));
    ask_for_target(lowering);
    let e = &mut *lowering.emitter;
    e.test(Width::W64, Gpr::Rax, Gpr::Rax);
    let no_target = e.skip(Some(Cond::Equal));
    e.arith_mem_imm(Arith::Add, Width::W32, TAIL_CALLS, 1);
    e.mov(Width::W64, TAIL_TARGET, Gpr::Rax);
    go(lowering, pc);
    lowering.emitter.land(too_many);
    lowering.emitter.land(no_target);
}

/// Asks the host for the address of the target's entry, into `rax`; the context stays.
fn ask_for_target(lowering: &mut Lowering<'_>) {
    let e = &mut *lowering.emitter;
    let kept: &[Reg] = if lowering.routines.is_some() { &Reg::ARGS } else { &Reg::ARGS[..1] };
    // An odd number, and one more to keep the stack aligned.
    let kept = || kept.iter().map(|&reg| Gpr::from(reg)).chain([SCRATCH[0]]);
    for reg in kept() {
        e.push(reg);
    }
    e.mov(Width::W64, Gpr::Rdi, Reg::R2.into());
    e.mov(Width::W32, Gpr::Rsi, Reg::R3.into());
    e.mov(Width::W64, Gpr::Rdx, ENV);
    e.call_symbol(TAIL_CALL_TARGET);
    for reg in kept().rev() {
        e.pop(reg);
    }
}

/// Leaves the current function for the target.
fn go(lowering: &mut Lowering<'_>, pc: Pc) {
    match (lowering.exits, lowering.after_tail_call) {
        (Some(exits), _) if lowering.is_main && !lowering.main_is_called => {
            lowering.emitter.jump_back(None, exits.tail);
        }
        // Whether the target came to its end or ended all of this is known only when it returns.
        (Some(_), Some(after)) => {
            let e = &mut *lowering.emitter;
            e.mov(Width::W64, ENV_AT_ENTRY, ENV);
            e.call_reg(TAIL_TARGET);
            e.call_back(after);
            lowering.exit(pc);
        }
        _ => {
            let e = &mut *lowering.emitter;
            e.mov(Width::W64, ENV_AT_ENTRY, ENV);
            frame::leave(e, &lowering.frame);
            e.jump_reg(TAIL_TARGET);
        }
    }
}

/// Emits a routine that ends the run if the target of a tail call ended early. A trap that a helper
/// noted is not such an end.
pub(super) fn emit_after(e: &mut Emitter, exits: Exits) -> CodeOffset {
    const _: () = assert!(TrapKind::Helper as u32 == TrapKind::ALL.len() as u32);
    const LAST: i32 = TrapKind::ALL.len() as i32 - 1;
    let start = e.here();
    let [kind, ..] = SCRATCH;
    e.load(Extend::Zero, Size::W, kind, TRAP_KIND);
    e.arith_imm(Arith::Sub, Width::W32, kind, 1);
    e.arith_imm(Arith::Cmp, Width::W32, kind, LAST);
    e.jump_back(Some(Cond::Below), exits.finish);
    e.arith_mem_imm(Arith::Cmp, Width::W64, ENDED, 0);
    e.jump_back(Some(Cond::NotEqual), exits.finish);
    e.ret();
    start
}

//! Tail calls: another program takes the place of the current function.

use ebpf_image::CodeOffset;
use ebpf_isa::abi::{MAX_TAIL_CALLS, TrapKind};
use ebpf_isa::{Extend, Reg, Size, Width};

use super::Lowering;
use super::entry::Exits;
use super::env::{ENDED, IN_PLACE, TAIL_CALLS, TRAP_KIND};
use super::frame;
use crate::TAIL_CALL_TARGET;
use crate::emitter::{Arith, Cond, Emitter};
use crate::regs::{ENV, ENV_AT_ENTRY, Gpr, SCRATCH};

/// Where the address of the target's entry is.
const TARGET: Gpr = SCRATCH[0];

/// Emits `bpf_tail_call(r1, r2, r3)`: context, map, index. Nothing is charged: as there are few such
/// calls in a run, they make no loop.
pub(super) fn call(lowering: &mut Lowering<'_>) {
    lowering.flush();
    let e = &mut *lowering.emitter;
    e.arith_mem_imm(Arith::Cmp, Width::W32, TAIL_CALLS, MAX_TAIL_CALLS.cast_signed());
    let too_many = e.skip(Some(Cond::AboveEqual));
    ask_for_target(lowering);
    let e = &mut *lowering.emitter;
    e.test(Width::W64, TARGET, TARGET);
    let no_target = e.skip(Some(Cond::Equal));
    e.arith_mem_imm(Arith::Add, Width::W32, TAIL_CALLS, 1);
    go(lowering);
    lowering.emitter.land(too_many);
    lowering.emitter.land(no_target);
}

/// Asks the host for the address of the target's entry; the context stays.
fn ask_for_target(lowering: &mut Lowering<'_>) {
    let e = &mut *lowering.emitter;
    // An even number, to keep the stack aligned. An unverified program finds its registers again.
    let kept: &[Reg] = match lowering.routines {
        Some(_) => &[Reg::R0, Reg::R1, Reg::R2, Reg::R3, Reg::R4, Reg::R5],
        None => &[Reg::R1, Reg::R2],
    };
    for &reg in kept {
        e.push(reg.into());
    }
    e.mov(Width::W64, Gpr::Rdi, Reg::R2.into());
    e.mov(Width::W32, Gpr::Rsi, Reg::R3.into());
    e.mov(Width::W64, Gpr::Rdx, ENV);
    e.call_symbol(TAIL_CALL_TARGET);
    e.mov(Width::W64, TARGET, Gpr::Rax);
    for &reg in kept.iter().rev() {
        e.pop(reg.into());
    }
}

/// Leaves the current function for the target.
fn go(lowering: &mut Lowering<'_>) {
    let e = &mut *lowering.emitter;
    e.mov(Width::W64, ENV_AT_ENTRY, ENV);
    frame::leave(e, &lowering.frame);
    let Some(after) = lowering.after_tail_call else {
        return e.jump_reg(TARGET);
    };
    // Whether the target came to its end or ended all of this is known only when it returns.
    if lowering.routines.is_some() {
        e.store_imm(Size::W, IN_PLACE, 1);
    }
    // To keep the stack aligned.
    e.push(TARGET);
    e.call_reg(TARGET);
    e.pop(TARGET);
    e.jump_back(None, after);
}

/// Emits what comes after a tail call's target returned: if it ended early, so does the run, otherwise
/// the current function returns. A trap that a helper noted is not such an end.
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

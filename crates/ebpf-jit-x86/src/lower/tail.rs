//! Tail calls: another program takes the place of the current function.

use ebpf_image::CodeOffset;
use ebpf_isa::abi::{MAX_TAIL_CALLS, TrapKind};
use ebpf_isa::{Extend, Reg, Size, Width};

use super::Lowering;
use super::entry::Exits;
use super::env::{DEPTH, ENDED, IN_PLACE, TAIL_CALLS, TRAP_KIND};
use super::{frame, fuel};
use crate::emitter::{Arith, Cond, Emitter};
use crate::regs::{ENV, ENV_AT_ENTRY, Gpr, SCRATCH};
use crate::{Options, TAIL_CALL_TARGET};

/// Where the address of the target's entry is.
const TARGET: Gpr = SCRATCH[0];

/// Emits `bpf_tail_call(r1, r2, r3)`: context, map, index. Nothing is charged: as there are few such
/// calls in a run, they make no loop.
pub(super) fn call(lowering: &mut Lowering<'_>, tail_calls: TailCalls) {
    lowering.flush();
    let e = &mut *lowering.emitter;
    e.call_back(tail_calls.find);
    e.test(Width::W64, TARGET, TARGET);
    let no_target = e.skip(Some(Cond::Equal));
    go(lowering, tail_calls);
    lowering.emitter.land(no_target);
}

/// Where the routines of tail calls are.
#[derive(Debug, Clone, Copy)]
pub(super) struct TailCalls {
    /// Looks for the target.
    find: CodeOffset,
    /// Where the program may end early: what comes after the target.
    after: Option<CodeOffset>,
}

impl TailCalls {
    pub(super) fn emit(e: &mut Emitter, exits: Option<Exits>, options: &Options) -> Self {
        let find = emit_find(e, options);
        Self { find, after: exits.map(|exits| emit_after(e, exits)) }
    }
}

/// Emits a routine that asks the host for the address of the target's entry: it is in [`TARGET`] then,
/// or 0 is where there is none, or there were too many.
fn emit_find(e: &mut Emitter, options: &Options) -> CodeOffset {
    let start = e.here();
    e.mov_imm(TARGET, 0);
    e.arith_mem_imm(Arith::Cmp, Width::W32, TAIL_CALLS, MAX_TAIL_CALLS.cast_signed());
    let too_many = e.skip(Some(Cond::AboveEqual));
    if options.fuel {
        fuel::save_allowance(e);
    }
    // An odd number, to align the stack. The context stays; an unverified program finds all of its
    // registers again.
    const ALL: [Gpr; 7] = [Gpr::Rax, Gpr::Rdi, Gpr::Rsi, Gpr::Rdx, Gpr::Rcx, Gpr::R8, SCRATCH[1]];
    let kept = if options.checks_memory() { &ALL[..] } else { &[Gpr::Rdi] };
    for &reg in kept {
        e.push(reg);
    }
    e.mov(Width::W64, Gpr::Rdi, Reg::R2.into());
    e.mov(Width::W32, Gpr::Rsi, Reg::R3.into());
    e.mov(Width::W64, Gpr::Rdx, ENV);
    e.call_symbol(TAIL_CALL_TARGET);
    e.mov(Width::W64, TARGET, Gpr::Rax);
    for &reg in kept.iter().rev() {
        e.pop(reg);
    }
    if options.fuel {
        fuel::load_allowance(e);
    }
    e.test(Width::W64, TARGET, TARGET);
    let no_target = e.skip(Some(Cond::Equal));
    e.arith_mem_imm(Arith::Add, Width::W32, TAIL_CALLS, 1);
    e.land(no_target);
    e.land(too_many);
    e.ret();
    start
}

/// Leaves the current function for the target.
fn go(lowering: &mut Lowering<'_>, tail_calls: TailCalls) {
    let e = &mut *lowering.emitter;
    e.mov(Width::W64, ENV_AT_ENTRY, ENV);
    frame::leave(e, &lowering.frame);
    let Some(after) = tail_calls.after else {
        return e.jump_reg(TARGET);
    };
    lowering.save_allowance();
    let e = &mut *lowering.emitter;
    // Whether the target came to its end or ended all of this is known only when it returns.
    if lowering.checks.is_some() || lowering.meter.is_some() {
        e.store_imm(Size::W, IN_PLACE, 1);
    }
    // Without checks nobody else counts frames: the target has to know that it is not the first.
    let counts = lowering.checks.is_none() && lowering.meter.is_some() && !lowering.is_main;
    if counts {
        e.arith_mem_imm(Arith::Add, Width::W32, DEPTH, 1);
    }
    // To keep the stack aligned.
    e.push(TARGET);
    e.call_reg(TARGET);
    e.pop(TARGET);
    if counts {
        e.arith_mem_imm(Arith::Sub, Width::W32, DEPTH, 1);
    }
    lowering.load_allowance();
    lowering.emitter.jump_back(None, after);
}

/// Emits what comes after a tail call's target returned: if it ended early, so does the run, otherwise
/// the current function returns. A trap that a helper noted is not such an end.
fn emit_after(e: &mut Emitter, exits: Exits) -> CodeOffset {
    // Compiled code never ends by a kind behind it.
    const LAST: i32 = TrapKind::Helper as i32 - 1;
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

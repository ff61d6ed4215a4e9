//! Shifts. The machine takes a variable count in `cl` only, and `rcx` is the home of `r4`.

use ebpf_isa::{Operand, Width};

use crate::emitter::{Emitter, Shift};
use crate::regs::{Gpr, SCRATCH};

pub(super) fn shift(e: &mut Emitter, op: Shift, width: Width, dst: Gpr, count: Operand) {
    match count {
        Operand::Imm(imm) => by_constant(e, op, width, dst, imm),
        Operand::Reg(reg) => by_register(e, op, width, dst, reg.into()),
    }
}

fn by_constant(e: &mut Emitter, op: Shift, width: Width, dst: Gpr, imm: i32) {
    let mask = match width {
        Width::W32 => 31,
        Width::W64 => 63,
    };
    match (imm & mask) as u8 {
        // Nothing is shifted, but a 32-bit result is zero-extended.
        0 => e.mov(width, dst, dst),
        count => e.shift_imm(op, width, dst, count),
    }
}

fn by_register(e: &mut Emitter, op: Shift, width: Width, dst: Gpr, count: Gpr) {
    if count == Gpr::Rcx {
        return e.shift_cl(op, width, dst);
    }
    // Whatever was in rcx rests in a scratch register meanwhile, where it is shifted if it is what
    // the instruction shifts.
    let [rcx, ..] = SCRATCH;
    e.mov(Width::W64, rcx, Gpr::Rcx);
    e.mov(Width::W32, Gpr::Rcx, count);
    e.shift_cl(op, width, if dst == Gpr::Rcx { rcx } else { dst });
    e.mov(Width::W64, Gpr::Rcx, rcx);
}

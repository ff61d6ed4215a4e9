//! Multiplication, division and remainder.
//!
//! The machine divides `rdx:rax` (homes of `r3` and `r0`), and faults on a divisor of 0 and on
//! `MIN / -1`. BPF defines both (RFC 9669, section 4.1), so they are kept from the divider:
//!
//! | divisor | quotient | remainder |
//! |---------|----------|-----------|
//! | 0       | 0        | dividend  |
//! | -1      | -dividend (`MIN` for `MIN`) | 0 |

use ebpf_isa::{Operand, Width, semantics};

use crate::emitter::{Arith, Cond, Emitter, Shift, Unary};
use crate::encode::Mem;
use crate::regs::{Gpr, SCRATCH};

pub(super) fn multiply(e: &mut Emitter, width: Width, dst: Gpr, src: Operand) {
    match src {
        Operand::Reg(src) => e.imul(width, dst, src.into()),
        Operand::Imm(imm) => e.imul_imm(width, dst, dst, imm),
    }
}

/// Which of the four divisions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Division {
    signed: bool,
    remainder: bool,
}

impl Division {
    pub(super) const DIV: Self = Self { signed: false, remainder: false };
    pub(super) const SDIV: Self = Self { signed: true, remainder: false };
    pub(super) const MOD: Self = Self { signed: false, remainder: true };
    pub(super) const SMOD: Self = Self { signed: true, remainder: true };
}

/// Where the divisor waits, and where the registers that the machine divides in are kept.
const DIVISOR: Gpr = SCRATCH[0];
const OLD_RAX: Gpr = SCRATCH[1];
const OLD_RDX: Gpr = SCRATCH[2];

/// Emits `dst = dst op src`. With `counts`, the last scratch register is not to be had.
pub(super) fn divide(
    e: &mut Emitter,
    op: Division,
    width: Width,
    dst: Gpr,
    src: Operand,
    counts: bool,
) {
    match src {
        Operand::Imm(imm) if !op.signed && imm.count_ones() == 1 && imm > 0 => {
            return divide_by_power(e, op, width, dst, imm);
        }
        Operand::Imm(0) if op.remainder => return e.mov(width, dst, dst),
        Operand::Imm(0) => return e.mov_imm(dst, 0),
        Operand::Imm(-1) if op.signed && op.remainder => return e.mov_imm(dst, 0),
        Operand::Imm(-1) if op.signed => return e.unary(Unary::Neg, width, dst),
        Operand::Imm(imm) => {
            e.mov_imm(DIVISOR, semantics::truncate(width, semantics::immediate(imm)));
        }
        Operand::Reg(src) => e.mov(width, DIVISOR, src.into()),
    }
    if dst != Gpr::Rax {
        e.mov(Width::W64, OLD_RAX, Gpr::Rax);
    }
    match dst {
        Gpr::Rdx => {}
        _ if counts => e.push(Gpr::Rdx),
        _ => e.mov(Width::W64, OLD_RDX, Gpr::Rdx),
    }
    if dst != Gpr::Rax {
        e.mov(width, Gpr::Rax, dst);
    }
    match src {
        Operand::Imm(_) => divide_rax(e, op, width),
        Operand::Reg(_) => divide_rax_checked(e, op, width),
    }
    e.mov(Width::W64, dst, if op.remainder { Gpr::Rdx } else { Gpr::Rax });
    match dst {
        Gpr::Rdx => {}
        _ if counts => e.pop(Gpr::Rdx),
        _ => e.mov(Width::W64, Gpr::Rdx, OLD_RDX),
    }
    if dst != Gpr::Rax {
        e.mov(Width::W64, Gpr::Rax, OLD_RAX);
    }
}

/// A quotient is a shift, a remainder the low bits.
fn divide_by_power(e: &mut Emitter, op: Division, width: Width, dst: Gpr, power: i32) {
    match power.trailing_zeros() as u8 {
        _ if op.remainder => e.arith_imm(Arith::And, Width::W32, dst, power - 1),
        0 => e.mov(width, dst, dst),
        count => e.shift_imm(Shift::Shr, width, dst, count),
    }
}

/// Divides by a divisor that the machine can divide by.
fn divide_rax(e: &mut Emitter, op: Division, width: Width) {
    if op.signed {
        e.sign_extend_into_rdx(width);
        e.unary(Unary::Idiv, width, DIVISOR);
    } else {
        e.mov_imm(Gpr::Rdx, 0);
        e.unary(Unary::Div, width, DIVISOR);
    }
}

/// Divides by any divisor.
fn divide_rax_checked(e: &mut Emitter, op: Division, width: Width) {
    let special = if op.signed {
        // 0 for -1, and 1 for 0: the two special divisors.
        e.lea(width, Gpr::Rdx, Mem { base: DIVISOR, disp: 1 });
        e.arith_imm(Arith::Cmp, width, Gpr::Rdx, 1);
        e.skip(Some(Cond::BelowEqual))
    } else {
        e.test(width, DIVISOR, DIVISOR);
        e.skip(Some(Cond::Equal))
    };
    divide_rax(e, op, width);
    let done = e.skip(None);
    e.land(special);
    match op {
        Division::DIV => e.mov_imm(Gpr::Rax, 0),
        // Times 0 or times -1, as dividing by them is to give.
        Division::SDIV => e.imul(width, Gpr::Rax, DIVISOR),
        // Times 1 where the divisor is 0, and times 0 where it is -1.
        Division::SMOD => e.imul(width, Gpr::Rdx, Gpr::Rax),
        _ => e.mov(width, Gpr::Rdx, Gpr::Rax),
    }
    e.land(done);
}

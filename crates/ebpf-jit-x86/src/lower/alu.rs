//! Moves, negation, and arithmetic that the machine does as BPF does.

use ebpf_isa::{AluOp, Extend, Operand, Size, Width, semantics};

use crate::emitter::{Arith, Emitter, Unary};
use crate::regs::Gpr;

pub(super) fn mov(e: &mut Emitter, width: Width, dst: Gpr, src: Operand) {
    match src {
        Operand::Reg(src) => e.mov(width, dst, src.into()),
        Operand::Imm(imm) => {
            e.mov_imm(dst, semantics::truncate(width, semantics::immediate(imm)));
        }
    }
}

pub(super) fn neg(e: &mut Emitter, width: Width, dst: Gpr) {
    e.unary(Unary::Neg, width, dst);
}

/// The operation of the machine that does the same, for any operands.
#[inline]
pub(super) const fn arith_op(op: AluOp) -> Option<Arith> {
    match op {
        AluOp::Add => Some(Arith::Add),
        AluOp::Sub => Some(Arith::Sub),
        AluOp::And => Some(Arith::And),
        AluOp::Or => Some(Arith::Or),
        AluOp::Xor => Some(Arith::Xor),
        _ => None,
    }
}

pub(super) fn arith(e: &mut Emitter, op: Arith, width: Width, dst: Gpr, src: Operand) {
    match src {
        Operand::Reg(src) => e.arith(op, width, dst, src.into()),
        Operand::Imm(0xff) if op == Arith::And => {
            e.mov_extend(Extend::Zero, Size::B, Width::W64, dst, dst);
        }
        Operand::Imm(0xffff) if op == Arith::And => {
            e.mov_extend(Extend::Zero, Size::H, Width::W64, dst, dst);
        }
        // The upper half of such an immediate is 0, so the shorter form clears it as it should.
        Operand::Imm(imm) if op == Arith::And && imm >= 0 => {
            e.arith_imm(op, Width::W32, dst, imm);
        }
        Operand::Imm(imm) => e.arith_imm(op, width, dst, imm),
    }
}

//! Jumps, conditional or not.

use ebpf_isa::{CmpOp, Operand, Pc, Width};

use crate::emitter::{Arith, Cond, Emitter};
use crate::regs::Gpr;

pub(super) fn jump(e: &mut Emitter, pc: Pc, target: Pc) {
    if pc.checked_add(1) != Some(target) {
        e.jump(pc, target);
    }
}

pub(super) fn jump_if(e: &mut Emitter, op: CmpOp, pc: Pc, target: Pc) {
    e.jump_if(condition(op), pc, target);
}

/// Sets the flags that [`condition`] names.
pub(super) fn compare(e: &mut Emitter, op: CmpOp, width: Width, lhs: Gpr, rhs: Operand) {
    match (op, rhs) {
        (CmpOp::Set, Operand::Reg(rhs)) => e.test(width, lhs, rhs.into()),
        (CmpOp::Set, Operand::Imm(imm)) => e.test_imm(width, lhs, imm),
        (_, Operand::Reg(rhs)) => e.arith(Arith::Cmp, width, lhs, rhs.into()),
        // The same flags as comparing with 0: no carry, no overflow.
        (_, Operand::Imm(0)) => e.test(width, lhs, lhs),
        (_, Operand::Imm(imm)) => e.arith_imm(Arith::Cmp, width, lhs, imm),
    }
}

const fn condition(op: CmpOp) -> Cond {
    match op {
        CmpOp::Eq => Cond::Equal,
        CmpOp::Ne | CmpOp::Set => Cond::NotEqual,
        CmpOp::Gt => Cond::Above,
        CmpOp::Ge => Cond::AboveEqual,
        CmpOp::Lt => Cond::Below,
        CmpOp::Le => Cond::BelowEqual,
        CmpOp::Sgt => Cond::Greater,
        CmpOp::Sge => Cond::GreaterEqual,
        CmpOp::Slt => Cond::Less,
        CmpOp::Sle => Cond::LessEqual,
    }
}

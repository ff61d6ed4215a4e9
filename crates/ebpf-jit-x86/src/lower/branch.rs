//! Jumps, and how far they reach.
//!
//! Code is emitted once. A jump back knows its distance; a jump forward takes the short form where
//! even the longest code of the instructions between leaves the target near ([`max_len`]).

use ebpf_isa::{AluOp, AtomicOp, CallTarget, CmpOp, Insn, Operand, Pc, Width};

use super::Lowering;
use crate::emitter::{Arith, Cond, Emitter};
use crate::positions::Reach;
use crate::regs::Gpr;

pub(super) fn jump(lowering: &mut Lowering<'_>, pc: Pc, target: Pc) {
    if pc.checked_add(1) != Some(target) {
        let reach = reach(lowering, pc, target);
        lowering.emitter.jump(target, reach);
    }
}

pub(super) fn jump_if(lowering: &mut Lowering<'_>, pc: Pc, op: CmpOp, target: Pc) {
    let reach = reach(lowering, pc, target);
    lowering.emitter.jump_if(condition(op), target, reach);
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

/// Which form a jump at `pc` takes, whose comparison is emitted already.
fn reach(lowering: &Lowering<'_>, pc: Pc, target: Pc) -> Reach {
    let near = if target <= pc {
        const SHORT_JUMP: u32 = 2;
        let end = lowering.emitter.here().0 + SHORT_JUMP;
        end - lowering.emitter.positions.insn(target).0 <= i8::MIN.unsigned_abs().into()
    } else {
        longest_code(lowering, pc.0 + 1..target.0) <= i8::MAX.cast_unsigned().into()
    };
    if near { Reach::Short } else { Reach::Near }
}

/// An upper bound on the length of the code of these slots. Counting stops where it no longer
/// matters, after a few dozen instructions.
fn longest_code(lowering: &Lowering<'_>, slots: core::ops::Range<u32>) -> u32 {
    let mut total = 0;
    for insn in slots.filter_map(|slot| lowering.program.get(Pc(slot))) {
        total += max_len(insn);
        if total > i8::MAX.cast_unsigned().into() {
            break;
        }
    }
    total
}

/// The most bytes that the code of an instruction takes, at least 1. Too large a figure costs a
/// few short jumps, too small a figure is caught when jumps are resolved.
pub(super) fn max_len(insn: Insn) -> u32 {
    /// `REX opcode ModRM`
    const REGS: u32 = 3;
    /// `[prefix] REX 0F opcode ModRM disp32`
    const ACCESS: u32 = 9;
    /// Divisions, compare-and-exchange loops.
    const SEQUENCE: u32 = 64;
    /// `REX opcode ModRM`, with an immediate of the shortest length.
    fn with(src: Operand) -> u32 {
        match src {
            Operand::Reg(_) => REGS,
            Operand::Imm(imm) if i8::try_from(imm).is_ok() => REGS + 1,
            Operand::Imm(_) => REGS + 4,
        }
    }
    match insn {
        Insn::Alu { op, src, .. } => match (op, src) {
            (AluOp::Add | AluOp::Sub | AluOp::And | AluOp::Or | AluOp::Xor, _) => with(src),
            (AluOp::Mul, _) => with(src) + 1,
            (AluOp::Lsh | AluOp::Rsh | AluOp::Arsh, Operand::Imm(_)) => REGS + 1,
            (AluOp::Lsh | AluOp::Rsh | AluOp::Arsh, Operand::Reg(_)) => 4 * REGS,
            (AluOp::Div | AluOp::SDiv | AluOp::Mod | AluOp::SMod, _) => SEQUENCE,
        },
        Insn::Mov { src: Operand::Imm(0), .. } => REGS,
        Insn::Mov { src: Operand::Imm(_), .. } => REGS + 4,
        Insn::Mov { src: Operand::Reg(_), .. } | Insn::Neg { .. } => REGS,
        Insn::MovSx { .. } => REGS + 1,
        Insn::Swap { .. } => 2 * REGS + 3,
        Insn::LoadWide { .. } => 10,
        Insn::Store { src: Operand::Imm(_), .. } => ACCESS + 3,
        Insn::Load { .. }
        | Insn::LoadAcquire { .. }
        | Insn::Store { .. }
        | Insn::StoreRelease { .. } => ACCESS,
        Insn::Atomic { op: AtomicOp::Or | AtomicOp::And | AtomicOp::Xor, fetch: true, .. } => {
            SEQUENCE
        }
        Insn::Atomic { .. } => ACCESS + REGS,
        Insn::Jump { .. } => 5,
        Insn::Branch { op: CmpOp::Set, rhs: Operand::Imm(_), .. } => REGS + 4 + 6,
        Insn::Branch { rhs, .. } => with(rhs) + 6,
        Insn::Call(CallTarget::Subprog(_)) => 5,
        Insn::Call(_) => 5 + REGS,
        Insn::Exit => 13,
        Insn::AddrSpaceCast { .. } | Insn::LoadPacket { .. } | Insn::MayGoto { .. } => SEQUENCE,
    }
}

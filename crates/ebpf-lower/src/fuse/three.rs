//! `dst = lhs; dst op= rhs` is `dst = lhs op rhs`.
//!
//! The instruction set has two operands, so compilers copy what they still need. Legality: `dst` is
//! overwritten by the second instruction, so nobody sees the copy, except that second instruction:
//! `rhs` may be `dst` itself, which is `lhs` then. A 32-bit operation takes the low half of what was
//! copied either way; a 64-bit one needs all of it, so it does not follow a 32-bit copy.

use ebpf_isa::{Insn, Operand, Width};

use super::{Merge, Window};
use crate::Fused;

pub(super) fn merge(window: Window<'_>) -> Option<Merge> {
    let Insn::Mov { width: copied, dst, src: Operand::Reg(lhs) } = *window.get(0)? else {
        return None;
    };
    let Insn::Alu { op, width, dst: result, src } = *window.get(1)? else { return None };
    if result != dst || (copied, width) == (Width::W32, Width::W64) {
        return None;
    }
    let rhs = if src == Operand::Reg(dst) { Operand::Reg(lhs) } else { src };
    Some(Merge::new(Fused::Alu3 { op, width, dst, lhs, rhs }, 2))
}

#[cfg(test)]
mod tests {
    use ebpf_isa::{AluOp, Reg};

    use super::super::test_support::{first, is_plain};
    use super::*;

    fn alu3(op: AluOp, width: Width, rhs: Operand) -> Fused {
        Fused::Alu3 { op, width, dst: Reg::R0, lhs: Reg::R1, rhs }
    }

    #[test]
    fn a_copy_is_the_first_operand() {
        let sub = alu3(AluOp::Sub, Width::W64, Operand::Reg(Reg::R2));
        assert_eq!(first("r0 = r1\nr0 -= r2\nexit"), (sub, 1));
        let mul = alu3(AluOp::Mul, Width::W64, Operand::Imm(7));
        assert_eq!(first("r0 = r1\nr0 *= 7\nexit"), (mul, 1));
    }

    #[test]
    fn the_copy_itself_may_be_the_second_operand() {
        let double = alu3(AluOp::Add, Width::W64, Operand::Reg(Reg::R1));
        assert_eq!(first("r0 = r1\nr0 += r0\nexit"), (double, 1));
    }

    #[test]
    fn a_narrow_operation_follows_any_copy_a_wide_one_only_a_wide_copy() {
        let narrow = alu3(AluOp::And, Width::W32, Operand::Imm(7));
        assert_eq!(first("r0 = r1\nw0 &= 7\nexit"), (narrow, 1));
        assert_eq!(first("w0 = w1\nw0 &= 7\nexit"), (narrow, 1));
        assert!(is_plain("w0 = w1\nr0 &= 7\nexit"));
    }

    #[test]
    fn other_registers_stay_apart() {
        assert!(is_plain("r0 = r1\nr2 += 1\nexit"));
        assert!(is_plain("r0 = 1\nr0 += r2\nexit"));
    }
}

//! A load or an addition, and a comparison of its result.
//!
//! Legality: the destination is written as before, so nothing needs to be dead; both instructions
//! are in one block, so control does not come to the branch alone. A branch on a number compares the
//! destination with it; a branch on a register compares with one that is not the destination, which
//! the first instruction leaves as it was. Where the load fails, nothing happened yet.

use ebpf_isa::{AluOp, Extend, Insn, Operand, Width};

use super::{Merge, Window};
use crate::Fused;

/// `dst = *(size *)(base + off); if dst op rhs goto target`
pub(super) fn load_branch(window: Window<'_>) -> Option<Merge> {
    let Insn::Load { size, extend: Extend::Zero, dst, base, off } = *window.get(0)? else {
        return None;
    };
    let Insn::Branch { op, width, lhs, rhs: Operand::Imm(rhs), target } = *window.get(1)? else {
        return None;
    };
    if lhs != dst {
        return None;
    }
    Some(Merge::new(Fused::LoadBranch { size, dst, base, off, op, width, rhs, target }, 2))
}

/// `dst += add; if dst op rhs goto target`
pub(super) fn add_branch(window: Window<'_>) -> Option<Merge> {
    let Insn::Alu { op: AluOp::Add, width: added, dst, src: Operand::Imm(add) } = *window.get(0)?
    else {
        return None;
    };
    let Insn::Branch { op, width, lhs, rhs, target } = *window.get(1)? else { return None };
    if lhs != dst || rhs == Operand::Reg(dst) || width != added {
        return None;
    }
    Some(Merge::new(Fused::AddBranch { dst, add, op, width, rhs, target }, 2))
}

/// `sum = lhs; sum += add; if sum op rhs goto target`, where nobody needs the sum afterwards: how
/// programs see whether a packet has so many bytes.
///
/// Legality: the sum is dead on both ways. The other operand is not the sum, so that it is what it was
/// before.
pub(super) fn sum_branch(window: Window<'_>) -> Option<Merge> {
    let Insn::Mov { width: Width::W64, dst: sum, src: Operand::Reg(lhs) } = *window.get(0)? else {
        return None;
    };
    let Insn::Alu { op: AluOp::Add, width: Width::W64, dst, src: Operand::Imm(add) } =
        *window.get(1)?
    else {
        return None;
    };
    let Insn::Branch { op, width: Width::W64, lhs: left, rhs: Operand::Reg(right), target } =
        *window.get(2)?
    else {
        return None;
    };
    let (op, rhs) = match sum {
        _ if left == right => return None,
        _ if sum == left => (op, right),
        _ if sum == right => (op.mirrored(), left),
        _ => return None,
    };
    if dst != sum || !window.is_dead_after(2, sum) {
        return None;
    }
    Some(Merge::new(Fused::SumBranch { lhs, add, op, rhs, target }, 3))
}

#[cfg(test)]
mod tests {
    use ebpf_isa::{CmpOp, Pc, Reg, Size};

    use super::super::test_support::{first, is_plain};
    use super::*;

    #[test]
    fn a_load_and_a_comparison_with_a_number() {
        let op = Fused::LoadBranch {
            size: Size::H,
            dst: Reg::R2,
            base: Reg::R1,
            off: 12,
            op: CmpOp::Ne,
            width: Width::W64,
            rhs: 8,
            target: Pc(3),
        };
        assert_eq!(first("r2 = *(u16 *)(r1 +12)\nif r2 != 8 goto +1\nr0 = 1\nexit"), (op, 2));
    }

    #[test]
    fn an_addition_and_a_comparison() {
        let op = |width, rhs| Fused::AddBranch {
            dst: Reg::R2,
            add: -1,
            op: CmpOp::Sgt,
            width,
            rhs,
            target: Pc(0),
        };
        let by_reg = op(Width::W64, Operand::Reg(Reg::R1));
        assert_eq!(first("r2 += -1\nif r2 s> r1 goto -2\nexit"), (by_reg, 1));
        let by_imm = op(Width::W32, Operand::Imm(3));
        assert_eq!(first("w2 += -1\nif w2 s> 3 goto -2\nexit"), (by_imm, 1));
    }

    #[test]
    fn a_sum_that_is_only_compared() {
        let op = |op| Fused::SumBranch { lhs: Reg::R1, add: 14, op, rhs: Reg::R2, target: Pc(5) };
        let asm = |branch: &str| {
            format!("r3 = r1\nr3 += 14\n{branch} goto +2\nr0 = 1\nexit\nr0 = 0\nexit")
        };
        assert_eq!(first(&asm("if r3 > r2")), (op(CmpOp::Gt), 2));
        assert_eq!(first(&asm("if r2 >= r3")), (op(CmpOp::Le), 2));
        let same = "r3 = r1\nr3 += 14\nif r3 > r1 goto +2\nr0 = 1\nexit\nr0 = 0\nexit";
        let Fused::SumBranch { lhs, rhs, .. } = first(same).0 else { panic!("fused") };
        assert_eq!((lhs, rhs), (Reg::R1, Reg::R1));
    }

    #[test]
    fn a_sum_that_is_read_on_one_way_stays() {
        let stays = |asm: &str| !matches!(first(asm).0, Fused::SumBranch { .. });
        assert!(stays("r3 = r1\nr3 += 14\nif r3 > r2 goto +2\nr0 = r3\nexit\nr0 = 0\nexit"));
        assert!(stays("r3 = r1\nr3 += 14\nif r3 > r2 goto +2\nr0 = 0\nexit\nr0 = r3\nexit"));
        assert!(stays("r3 = r1\nr3 += 14\nif r3 > r3 goto +2\nr0 = 1\nexit\nr0 = 0\nexit"));
        assert!(stays("r3 = r1\nr3 += 14\nif r4 > r2 goto +2\nr0 = 1\nexit\nr0 = 0\nexit"));
        assert!(stays("r3 = r1\nr3 += 14\nif w3 > w2 goto +2\nr0 = 1\nexit\nr0 = 0\nexit"));
        assert!(stays("r3 = r1\nw3 += 14\nif r3 > r2 goto +2\nr0 = 1\nexit\nr0 = 0\nexit"));
        assert!(stays("w3 = w1\nr3 += 14\nif r3 > r2 goto +2\nr0 = 1\nexit\nr0 = 0\nexit"));
    }

    #[test]
    fn comparisons_of_something_else_stay() {
        assert!(is_plain("r2 = *(u16 *)(r1 +12)\nif r1 != 8 goto +1\nr0 = 1\nexit"));
        assert!(is_plain("r2 = *(u16 *)(r1 +12)\nif r2 != r1 goto +1\nr0 = 1\nexit"));
        assert!(is_plain("r2 = *(s16 *)(r1 +12)\nif r2 != 8 goto +1\nr0 = 1\nexit"));
        assert!(is_plain("r2 += -1\nif r1 s> r2 goto -2\nexit"));
        assert!(is_plain("r2 += -1\nif r2 s> r2 goto -2\nexit"));
        assert!(is_plain("w2 += -1\nif r2 s> 3 goto -2\nexit"));
        assert!(is_plain("r2 += -1\nif w2 s> 3 goto -2\nexit"));
    }

    #[test]
    fn a_branch_that_is_jumped_to_stays() {
        assert!(is_plain("r2 += -1\nif r2 s> 3 goto -1\nexit"));
    }
}

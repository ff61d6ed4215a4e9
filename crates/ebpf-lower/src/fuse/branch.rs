//! A load or an addition, and a comparison of its result.
//!
//! Legality: the destination is written as before, so nothing needs to be dead; both instructions
//! are in one block, so control does not come to the branch alone. A branch on a number compares the
//! destination with it; a branch on a register compares with one that is not the destination, which
//! the first instruction leaves as it was. Where the load fails, nothing happened yet.

use ebpf_isa::{AluOp, Extend, Insn, Operand};

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

#[cfg(test)]
mod tests {
    use ebpf_isa::{CmpOp, Pc, Reg, Size, Width};

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

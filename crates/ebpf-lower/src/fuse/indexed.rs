//! `t = lhs; t += rhs; dst = *(size *)(t + off)` is a load with two registers in its address.
//!
//! Without the copy, `lhs` is `t`. Legality: `t` is read by the load only, so it must be the load's
//! destination, or dead behind it. Additions are of 64 bits and wrap like addresses do, so the sum
//! is the same address. Where the load fails, nothing was written: the additions are part of the
//! operation, and are done again when its window is run.

use ebpf_isa::{AluOp, Extend, Insn, Operand, Reg, Width};

use super::{Merge, Window};
use crate::Fused;

pub(super) fn merge(window: Window<'_>) -> Option<Merge> {
    let (lhs, copies) = match *window.get(0)? {
        Insn::Mov { width: Width::W64, dst, src: Operand::Reg(src) } => (Some((dst, src)), 1),
        _ => (None, 0),
    };
    let (sum, rhs) = sum_of(*window.get(copies)?)?;
    let lhs = match lhs {
        Some((copy, _)) if copy != sum => return None,
        Some((_, lhs)) => lhs,
        None => sum,
    };
    // The sum of a copy with itself has no second part.
    if rhs == sum {
        return None;
    }
    let Insn::Load { size, extend: Extend::Zero, dst, base, off } = *window.get(copies + 1)? else {
        return None;
    };
    if base != sum || (dst != sum && !window.is_dead_after(copies + 1, sum)) {
        return None;
    }
    Some(Merge::new(Fused::LoadIndexed { size, dst, lhs, rhs, off }, copies + 2))
}

fn sum_of(insn: Insn) -> Option<(Reg, Reg)> {
    match insn {
        Insn::Alu { op: AluOp::Add, width: Width::W64, dst, src: Operand::Reg(src) } => {
            Some((dst, src))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use ebpf_isa::Size;

    use super::super::test_support::{first, ops};
    use super::*;

    fn indexed(dst: Reg, lhs: Reg, rhs: Reg) -> Fused {
        Fused::LoadIndexed { size: Size::B, dst, lhs, rhs, off: 2 }
    }

    fn is_indexed(asm: &str) -> bool {
        ops(asm).iter().any(|op| matches!(op, Fused::LoadIndexed { .. }))
    }

    #[test]
    fn a_sum_as_address_is_an_index() {
        let op = indexed(Reg::R0, Reg::R1, Reg::R2);
        assert_eq!(first("r0 = r1\nr0 += r2\nr0 = *(u8 *)(r0 +2)\nexit"), (op, 1));
        assert_eq!(first("r3 = r1\nr3 += r2\nr0 = *(u8 *)(r3 +2)\nexit"), (op, 1));
        assert_eq!(first("r1 += r2\nr0 = *(u8 *)(r1 +2)\nexit"), (op, 1));
    }

    #[test]
    fn a_sum_that_is_read_again_stays() {
        assert!(!is_indexed("r3 = r1\nr3 += r2\nr0 = *(u8 *)(r3 +2)\nr0 += r3\nexit"));
        assert!(!is_indexed("r1 += r2\nr0 = *(u8 *)(r1 +2)\nr0 += r1\nexit"));
    }

    #[test]
    fn other_addresses_stay() {
        assert!(!is_indexed("r3 = r1\nw3 += w2\nr0 = *(u8 *)(r3 +2)\nexit"));
        assert!(!is_indexed("w3 = w1\nr3 += r2\nr0 = *(u8 *)(r3 +2)\nr0 += r3\nexit"));
        assert!(!is_indexed("r3 = r1\nr3 += r3\nr0 = *(u8 *)(r3 +2)\nexit"));
        assert!(!is_indexed("r3 = r1\nr3 += r2\nr0 = *(u8 *)(r1 +2)\nexit"));
        assert!(!is_indexed("r3 = r1\nr3 += r2\nr0 = *(s8 *)(r3 +2)\nexit"));
    }
}

//! Zero and sign extensions written as two shifts, and those that change nothing.
//!
//! Legality of the pairs: `dst <<= n; dst >>= n` leaves the low `64 - n` bits, extended, in `dst`,
//! which both shifts write; the value in between is read by the second one only. A copy in front is
//! overwritten likewise, and gives the operand. A 32-bit copy of a register to itself whose upper
//! half is known to be zero changes nothing.

use ebpf_isa::{AluOp, Insn, Operand, Reg, RegSet, Size, Width};

use super::{Merge, Window};
use crate::Fused;

/// Whether `insn` changes nothing, given the registers whose upper half is zero.
pub(super) fn is_redundant(insn: Insn, narrow: RegSet) -> bool {
    match insn {
        Insn::Mov { width, dst, src: Operand::Reg(src) } if dst == src => {
            width == Width::W64 || narrow.contains(dst)
        }
        _ => false,
    }
}

pub(super) fn merge(window: Window<'_>) -> Option<Merge> {
    let (copy, copies) = match *window.get(0)? {
        Insn::Mov { width: Width::W64, dst, src: Operand::Reg(src) } => (Some((dst, src)), 1),
        _ => (None, 0),
    };
    let (AluOp::Lsh, dst, left) = shift(*window.get(copies)?)? else { return None };
    let (back, again, right) = shift(*window.get(copies + 1)?)?;
    if again != dst || left != right || copy.is_some_and(|(copy, _)| copy != dst) {
        return None;
    }
    let src = copy.map_or(dst, |(_, src)| src);
    let insn = match (back, left) {
        (AluOp::Rsh, 32) => Insn::Mov { width: Width::W32, dst, src: Operand::Reg(src) },
        (AluOp::Arsh, 32 | 48 | 56) => {
            let from = Size::from_bytes(u64::from(64 - left) / 8)?;
            Insn::MovSx { width: Width::W64, dst, src, from }
        }
        _ => return None,
    };
    Some(Merge::new(Fused::Insn(insn), copies + 2))
}

/// A shift of 64 bits by a constant: operation, register, count.
fn shift(insn: Insn) -> Option<(AluOp, Reg, u8)> {
    match insn {
        Insn::Alu { op, width: Width::W64, dst, src: Operand::Imm(count @ 0..64) } => {
            Some((op, dst, count as u8))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::test_support::{first, is_plain, ops};
    use super::*;

    fn mov32(src: Reg) -> Fused {
        let src = Operand::Reg(src);
        Fused::Insn(Insn::Mov { width: Width::W32, dst: Reg::R0, src })
    }

    #[test]
    fn shifts_there_and_back_are_an_extension() {
        assert_eq!(first("r0 <<= 32\nr0 >>= 32\nexit"), (mov32(Reg::R0), 1));
        assert_eq!(first("r0 = r1\nr0 <<= 32\nr0 >>= 32\nexit"), (mov32(Reg::R1), 1));
        for (count, from) in [(32, Size::W), (48, Size::H), (56, Size::B)] {
            let movsx = Insn::MovSx { width: Width::W64, dst: Reg::R0, src: Reg::R0, from };
            let asm = format!("r0 <<= {count}\nr0 s>>= {count}\nexit");
            assert_eq!(first(&asm), (Fused::Insn(movsx), 1));
        }
    }

    #[test]
    fn other_shifts_stay() {
        for asm in [
            "r0 <<= 32\nr0 >>= 31\nexit",
            "r0 <<= 31\nr0 >>= 31\nexit",
            "r0 <<= 33\nr0 s>>= 33\nexit",
            "r0 >>= 32\nr0 <<= 32\nexit",
            "r0 <<= 32\nr1 >>= 32\nexit",
            "w0 <<= 16\nw0 >>= 16\nexit",
        ] {
            assert!(is_plain(asm), "{asm}");
        }
    }

    #[test]
    fn an_extension_of_a_narrow_value_is_dropped() {
        for narrow in ["w0 += w1", "r0 = *(u32 *)(r1 +0)", "w0 = w1", "r0 = 5", "r0 = be16 r0"] {
            let asm = format!("{narrow}\nw0 = w0\nexit");
            assert_eq!(ops(&asm).len(), 2, "{asm}");
        }
    }

    #[test]
    fn an_extension_of_another_value_stays() {
        for wide in [
            "r0 += r1",
            "r0 = *(s32 *)(r1 +0)",
            "r0 = r1",
            "r0 = -5",
            "r0 = 5 ll",
            "call 1",
            "w0 += w1\nr0 += 1",
            "w0 += w1\ngoto +0",
            "w1 += w0",
        ] {
            let asm = format!("{wide}\nw0 = w0\nexit");
            let mov = Insn::Mov { width: Width::W32, dst: Reg::R0, src: Operand::Reg(Reg::R0) };
            assert!(ops(&asm).contains(&Fused::Insn(mov)), "{asm}");
        }
    }
}

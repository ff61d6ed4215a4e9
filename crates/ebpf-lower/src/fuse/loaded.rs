//! A load, and an operation on what it loaded: reversing its bytes, or masking them.
//!
//! How programs read fields of packets: numbers in network byte order, and fields of bits. Legality:
//! both instructions write the same register, so nobody sees what was loaded. Where the load fails,
//! nothing was written.

use ebpf_isa::{AluOp, ByteOrder, Extend, Insn, Operand, Size};

use super::{Merge, Window};
use crate::Fused;

/// `dst = *(size *)(base + off); dst = bswap dst`
pub(super) fn swapped(window: Window<'_>) -> Option<Merge> {
    let Insn::Load { size, extend: Extend::Zero, dst, base, off } = *window.get(0)? else {
        return None;
    };
    match *window.get(1)? {
        Insn::Swap { order: ByteOrder::Be | ByteOrder::Swap, size: swapped, dst: result }
            if (swapped, result) == (size, dst) =>
        {
            Some(Merge::new(Fused::LoadSwapped { size, dst, base, off }, 2))
        }
        _ => None,
    }
}

/// `dst = *(size *)(base + off); dst &= mask`, of at most 32 bits, so that it does not matter how wide
/// the operation is.
pub(super) fn masked(window: Window<'_>) -> Option<Merge> {
    let Insn::Load { size, extend: Extend::Zero, dst, base, off } = *window.get(0)? else {
        return None;
    };
    match *window.get(1)? {
        Insn::Alu { op: AluOp::And, dst: result, src: Operand::Imm(mask), .. }
            if result == dst && size != Size::Dw =>
        {
            Some(Merge::new(Fused::LoadMasked { size, dst, base, off, mask }, 2))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use ebpf_isa::Reg;

    use super::super::test_support::{first, is_plain};
    use super::*;

    #[test]
    fn a_number_in_network_order() {
        let op = |size| Fused::LoadSwapped { size, dst: Reg::R0, base: Reg::R1, off: 4 };
        assert_eq!(first("r0 = *(u32 *)(r1 +4)\nr0 = be32 r0\nexit"), (op(Size::W), 1));
        assert_eq!(first("r0 = *(u16 *)(r1 +4)\nr0 = bswap16 r0\nexit"), (op(Size::H), 1));
        assert_eq!(first("r0 = *(u64 *)(r1 +4)\nr0 = be64 r0\nexit"), (op(Size::Dw), 1));
    }

    #[test]
    fn other_swaps_stay() {
        assert!(is_plain("r0 = *(u32 *)(r1 +4)\nr0 = be16 r0\nexit"));
        assert!(is_plain("r0 = *(u32 *)(r1 +4)\nr0 = le32 r0\nexit"));
        assert!(is_plain("r0 = *(u32 *)(r1 +4)\nr1 = be32 r1\nexit"));
        assert!(is_plain("r0 = *(s32 *)(r1 +4)\nr0 = be32 r0\nexit"));
    }

    #[test]
    fn a_field_of_bits() {
        let op = |size, mask| Fused::LoadMasked { size, dst: Reg::R0, base: Reg::R0, off: 4, mask };
        assert_eq!(first("r0 = *(u8 *)(r0 +4)\nw0 &= 15\nexit"), (op(Size::B, 15), 1));
        assert_eq!(first("r0 = *(u32 *)(r0 +4)\nr0 &= -16\nexit"), (op(Size::W, -16), 1));
    }

    #[test]
    fn other_masks_stay() {
        assert!(is_plain("r0 = *(u64 *)(r1 +4)\nr0 &= 15\nexit"));
        assert!(is_plain("r0 = *(u8 *)(r1 +4)\nr0 &= r2\nexit"));
        assert!(is_plain("r0 = *(u8 *)(r1 +4)\nr0 |= 15\nexit"));
        assert!(is_plain("r0 = *(u8 *)(r1 +4)\nr1 &= 15\nexit"));
        assert!(is_plain("r0 = *(s8 *)(r1 +4)\nr0 &= 15\nexit"));
    }
}

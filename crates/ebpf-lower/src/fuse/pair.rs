//! Two loads of 8 bytes from the same base, such as those of the bounds of a packet, which every program
//! that looks at one begins with.
//!
//! Legality: the first load leaves the base as it was, and the second one leaves the register of the
//! first. Where the second one fails, nothing was written: the first is done again when the window is
//! run.

use ebpf_isa::{Extend, Insn, Size};

use super::{Merge, Window};
use crate::Fused;

pub(super) fn merge(window: Window<'_>) -> Option<Merge> {
    let load = |index| match *window.get(index)? {
        Insn::Load { size: Size::Dw, extend: Extend::Zero, dst, base, off } => {
            Some((dst, base, off))
        }
        _ => None,
    };
    let ((first, base, off), (second, same, other)) = (load(0)?, load(1)?);
    if first == base || first == second || same != base {
        return None;
    }
    Some(Merge::new(Fused::LoadPair { first, second, base, offs: [off, other] }, 2))
}

#[cfg(test)]
mod tests {
    use ebpf_isa::Reg;

    use super::super::test_support::{first, is_plain};
    use super::*;

    #[test]
    fn neighbours_are_a_pair() {
        let op = |second| Fused::LoadPair { first: Reg::R2, second, base: Reg::R1, offs: [8, -16] };
        let own = "r2 = *(u64 *)(r1 +8)\nr1 = *(u64 *)(r1 -16)\nexit";
        assert_eq!(first(own), (op(Reg::R1), 1));
        let other = "r2 = *(u64 *)(r1 +8)\nr3 = *(u64 *)(r1 -16)\nexit";
        assert_eq!(first(other), (op(Reg::R3), 1));
    }

    #[test]
    fn other_loads_stay() {
        assert!(is_plain("r1 = *(u64 *)(r1 +8)\nr2 = *(u64 *)(r1 +0)\nexit"));
        assert!(is_plain("r2 = *(u64 *)(r1 +8)\nr2 = *(u64 *)(r1 +0)\nexit"));
        assert!(is_plain("r2 = *(u64 *)(r1 +8)\nr3 = *(u64 *)(r4 +0)\nexit"));
        assert!(is_plain("r2 = *(u64 *)(r1 +8)\nr3 = *(u32 *)(r1 +0)\nexit"));
        assert!(is_plain("r2 = *(u32 *)(r1 +8)\nr3 = *(u64 *)(r1 +0)\nexit"));
    }
}

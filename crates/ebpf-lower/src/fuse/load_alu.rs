//! `t = *(size *)(base + off); dst op= t` is an operation with a memory operand.
//!
//! Legality: the loaded value is read by the second instruction only, so `t` must be dead behind it.
//! `dst` may be the base: the access comes first either way. `dst` is not `t`, whose old value would
//! be needed. Where the access fails, nothing was written yet.

use ebpf_isa::{Extend, Insn, Operand};

use super::{Merge, Window};
use crate::Fused;

pub(super) fn merge(window: Window<'_>) -> Option<Merge> {
    let Insn::Load { size, extend: Extend::Zero, dst: loaded, base, off } = *window.get(0)? else {
        return None;
    };
    let Insn::Alu { op, width, dst, src } = *window.get(1)? else { return None };
    if src != Operand::Reg(loaded) || dst == loaded || !window.is_dead_after(1, loaded) {
        return None;
    }
    Some(Merge::new(Fused::LoadAlu { op, width, dst, size, base, off }, 2))
}

#[cfg(test)]
mod tests {
    use ebpf_isa::{AluOp, Reg, Size, Width};

    use super::super::test_support::{first, is_plain};
    use super::*;

    #[test]
    fn a_loaded_operand_is_a_memory_operand() {
        let add = |base| Fused::LoadAlu {
            op: AluOp::Add,
            width: Width::W64,
            dst: Reg::R0,
            size: Size::W,
            base,
            off: 4,
        };
        assert_eq!(first("r2 = *(u32 *)(r1 +4)\nr0 += r2\nexit"), (add(Reg::R1), 1));
        assert_eq!(first("r2 = *(u32 *)(r0 +4)\nr0 += r2\nexit"), (add(Reg::R0), 1));
        assert_eq!(first("r2 = *(u32 *)(r2 +4)\nr0 += r2\nexit"), (add(Reg::R2), 1));
    }

    #[test]
    fn a_value_that_is_read_again_stays() {
        assert!(is_plain("r2 = *(u32 *)(r1 +4)\nr0 += r2\nr0 += r2\nexit"));
        assert!(is_plain("r2 = *(u32 *)(r1 +4)\nr0 += r2\ncall 1\nexit"));
        assert!(is_plain("r0 = *(u32 *)(r1 +4)\nr2 += r0\nexit"));
    }

    #[test]
    fn the_loaded_register_as_destination_stays() {
        assert!(is_plain("r0 = *(u32 *)(r1 +4)\nr0 += r0\nexit"));
        assert!(is_plain("r0 = *(u32 *)(r1 +4)\nr0 += r2\nexit"));
    }

    #[test]
    fn sign_extension_stays() {
        assert!(is_plain("r2 = *(s32 *)(r1 +4)\nr0 += r2\nexit"));
    }
}

//! `r0 = value; exit` is a return of a constant.
//!
//! Legality: both instructions are in one block, and nothing is between them.

use ebpf_isa::{Insn, Operand, Reg};

use super::{Merge, Window};
use crate::Fused;

pub(super) fn merge(window: Window<'_>) -> Option<Merge> {
    let Insn::Mov { width, dst: Reg::R0, src: Operand::Imm(value) } = *window.get(0)? else {
        return None;
    };
    let Insn::Exit = *window.get(1)? else { return None };
    Some(Merge::new(Fused::ExitWith { width, value }, 2))
}

#[cfg(test)]
mod tests {
    use ebpf_isa::Width;

    use super::super::test_support::{first, is_plain};
    use super::*;

    #[test]
    fn a_constant_is_returned() {
        let op = |width, value| Fused::ExitWith { width, value };
        assert_eq!(first("w0 = 2\nexit"), (op(Width::W32, 2), 0));
        assert_eq!(first("r0 = -1\nexit"), (op(Width::W64, -1), 0));
    }

    #[test]
    fn other_returns_stay() {
        assert!(is_plain("r0 = r1\nexit"));
        assert!(is_plain("r0 = 1\nr1 = 2\nexit"));
        assert!(is_plain("r1 = 1\nr0 = r1\nexit"));
    }

    #[test]
    fn an_exit_that_is_jumped_to_stays() {
        assert!(is_plain("r0 = 1\nexit\nif r1 == 1 goto -2\nr0 = 2\nexit"));
    }
}

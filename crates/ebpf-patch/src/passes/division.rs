//! Guards around divisions, for machines that trap where BPF has a result.
//!
//! Division by zero gives 0 and modulo by zero the dividend; the smallest number divided by -1 is itself,
//! with remainder 0 (RFC 9669, section 4.1). A machine whose divide instruction traps on these never
//! meets them behind this pass:
//!
//! ```text
//! r1 /= r2    if r2 != 0 goto divide      w1 s%= w2    if w2 != 0 goto other
//!             r1 = 0                                   w1 = w1
//!             goto done                                goto done
//!     divide: r1 /= r2                        other:   if w2 != -1 goto divide
//!     done:                                            w1 = 0
//!                                                      goto done
//!                                             divide:  w1 s%= w2
//!                                             done:
//! ```

use ebpf_isa::{AluOp, CmpOp, Insn, Operand, Pc, Reg, Width};

use super::rewrite_all;
use crate::{Patch, PatchError, PatchInsn, Target};

/// Puts a guard around each division by a register, and the result in the place of divisions by the
/// immediates 0 and -1 that would trap.
///
/// # Errors
/// The program would grow too long. The patch is of no use then.
pub fn guard_divisions(patch: &mut Patch<'_>) -> Result<(), PatchError> {
    rewrite_all(patch, |_, insn| guarded(insn))
}

/// A division.
#[derive(Debug, Clone, Copy)]
struct Division {
    width: Width,
    dst: Reg,
    signed: bool,
    /// Whether the remainder is wanted.
    modulo: bool,
}

impl Division {
    fn of(insn: Insn) -> Option<(Self, Operand)> {
        let Insn::Alu { op, width, dst, src } = insn else { return None };
        let (signed, modulo) = match op {
            AluOp::Div => (false, false),
            AluOp::Mod => (false, true),
            AluOp::SDiv => (true, false),
            AluOp::SMod => (true, true),
            _ => return None,
        };
        Some((Self { width, dst, signed, modulo }, src))
    }

    /// What takes the place of a division by 0.
    const fn by_zero(self) -> Insn {
        let Self { width, dst, .. } = self;
        let src = if self.modulo { Operand::Reg(dst) } else { Operand::Imm(0) };
        Insn::Mov { width, dst, src }
    }

    /// What takes the place of a signed division by -1.
    const fn by_minus_one(self) -> Insn {
        let Self { width, dst, .. } = self;
        if self.modulo {
            Insn::Mov { width, dst, src: Operand::Imm(0) }
        } else {
            Insn::Neg { width, dst }
        }
    }
}

/// What takes the place of `insn`, if it may trap.
fn guarded(insn: Insn) -> Option<impl Iterator<Item = PatchInsn> + use<>> {
    let (division, src) = Division::of(insn)?;
    let (zero, minus_one) = (division.by_zero().into(), division.by_minus_one().into());
    let divide = insn.into();
    let insns = match src {
        Operand::Imm(0) => [Some(zero), None, None, None, None, None, None],
        Operand::Imm(-1) if division.signed => {
            [Some(minus_one), None, None, None, None, None, None]
        }
        Operand::Imm(_) => return None,
        Operand::Reg(by) => {
            let skip_unless = |value, slots| Some(unless(division.width, by, value, slots));
            let done = |slots| Some(goto_over(slots));
            match division.signed {
                false => [skip_unless(0, 2), Some(zero), done(1), Some(divide), None, None, None],
                true => [
                    skip_unless(0, 2),
                    Some(zero),
                    done(4),
                    skip_unless(-1, 2),
                    Some(minus_one),
                    done(1),
                    Some(divide),
                ],
            }
        }
    };
    Some(insns.into_iter().flatten())
}

/// `if by != value goto` past `slots` slots.
const fn unless(width: Width, by: Reg, value: i32, slots: u32) -> PatchInsn {
    let rhs = Operand::Imm(value);
    let branch = Insn::Branch { op: CmpOp::Ne, width, lhs: by, rhs, target: Pc::ENTRY };
    PatchInsn::jump(branch, Target::Over(slots))
}

const fn goto_over(slots: u32) -> PatchInsn {
    PatchInsn::jump(Insn::Jump { target: Pc::ENTRY, long: false }, Target::Over(slots))
}

//! Explicit zero extensions, for machines whose 32-bit operations leave something in the upper half.
//!
//! BPF clears the upper half of a register that a 32-bit operation writes. Where the machine does so by
//! itself there is nothing to do. Where it does not, a compiler would have to clear it after each such
//! operation, although most programs never look. So this is left to whoever knows: after each
//! definition of 32 bits whose upper half may be read comes `w1 = w1`, the one 32-bit operation that
//! such a machine's compiler must make clear the upper half.
//!
//! What counts as a definition of 32 bits is what the kernel counts: 32-bit arithmetic and
//! moves; byte swaps of 2 or 4 bytes; loads of fewer than 8 bytes that do not extend the sign to 64 bits,
//! be they plain, acquiring or from the packet; what 32-bit atomic operations fetch.

use ebpf_isa::{AtomicOp, Extend, Insn, Operand, Reg, Size, Width};

use super::rewrite_all;
use crate::{Patch, PatchError};

/// Puts `w1 = w1` behind each instruction that defines 32 bits of a register `r1`, unless nothing
/// reads the upper half.
///
/// That is known by `unread`, which has one element a slot; slots beyond its end count as read, and so
/// does whatever was inserted or put in the place of an instruction. It must hold of the edited program:
/// inserted code that reads all of a register which the program reads half of makes its definitions
/// read.
///
/// # Errors
/// The program would grow too long. The patch is of no use then.
pub fn insert_zero_extensions(patch: &mut Patch<'_>, unread: &[bool]) -> Result<(), PatchError> {
    rewrite_all(patch, |pc, insn| {
        if pc.and_then(|pc| unread.get(pc.index())) == Some(&true) {
            return None;
        }
        // Right behind the definition: what was put there by others may read the register.
        defines_half(insn).map(|reg| [insn, zero_extension(reg)])
    })
}

const fn zero_extension(reg: Reg) -> Insn {
    Insn::Mov { width: Width::W32, dst: reg, src: Operand::Reg(reg) }
}

/// The register of which the instruction defines 32 bits, and the machine may not clear the rest.
fn defines_half(insn: Insn) -> Option<Reg> {
    match insn {
        Insn::Mov { dst, src, .. } if src == Operand::Reg(dst) => None,
        Insn::Alu { width: Width::W32, dst, .. }
        | Insn::Mov { width: Width::W32, dst, .. }
        | Insn::MovSx { width: Width::W32, dst, .. }
        | Insn::Neg { width: Width::W32, dst } => Some(dst),
        Insn::Swap { size, dst, .. }
        | Insn::Load { size, extend: Extend::Zero, dst, .. }
        | Insn::LoadAcquire { size, dst, .. }
            if size != Size::Dw =>
        {
            Some(dst)
        }
        Insn::LoadPacket { .. } => Some(Reg::R0),
        Insn::Atomic { op, size, fetch, src, .. } if size != Size::Dw => match op {
            AtomicOp::Cmpxchg => Some(Reg::R0),
            _ => fetch.then_some(src),
        },
        _ => None,
    }
}

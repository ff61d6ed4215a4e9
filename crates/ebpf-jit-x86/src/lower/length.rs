//! How long the code of an instruction may get.
//!
//! Code is emitted once. A jump back knows its distance; a jump forward takes the short form where
//! even the longest code of the instructions between leaves the target near.

use ebpf_isa::{AluOp, AtomicOp, CallTarget, CmpOp, Insn, Operand};

/// The most bytes that the code of an instruction takes. Too large a figure costs a
/// few short jumps, too small a figure is caught when jumps are resolved.
pub(super) fn max_len(insn: Insn) -> u32 {
    /// `REX opcode ModRM`
    const REGS: u32 = 3;
    /// `[prefix] REX 0F opcode ModRM disp32`
    const ACCESS: u32 = 9;
    /// Divisions, compare-and-exchange loops.
    const SEQUENCE: u32 = 64;
    /// `REX opcode ModRM`, with an immediate of the shortest length.
    fn with(src: Operand) -> u32 {
        match src {
            Operand::Reg(_) => REGS,
            Operand::Imm(imm) if i8::try_from(imm).is_ok() => REGS + 1,
            Operand::Imm(_) => REGS + 4,
        }
    }
    match insn {
        Insn::Alu { op, src, .. } => match (op, src) {
            (AluOp::Add | AluOp::Sub | AluOp::And | AluOp::Or | AluOp::Xor, _) => with(src),
            (AluOp::Mul, _) => with(src) + 1,
            (AluOp::Lsh | AluOp::Rsh | AluOp::Arsh, Operand::Imm(_)) => REGS + 1,
            (AluOp::Lsh | AluOp::Rsh | AluOp::Arsh, Operand::Reg(_)) => 4 * REGS,
            (AluOp::Div | AluOp::SDiv | AluOp::Mod | AluOp::SMod, _) => SEQUENCE,
        },
        Insn::Mov { src: Operand::Imm(0), .. } => REGS,
        Insn::Mov { src: Operand::Imm(_), .. } => REGS + 4,
        Insn::Mov { src: Operand::Reg(_), .. } | Insn::Neg { .. } => REGS,
        Insn::MovSx { .. } => REGS + 1,
        Insn::Swap { .. } => 2 * REGS + 3,
        Insn::LoadWide { .. } => 10,
        Insn::Store { src: Operand::Imm(_), .. } => ACCESS + 3,
        Insn::Load { .. }
        | Insn::LoadAcquire { .. }
        | Insn::Store { .. }
        | Insn::StoreRelease { .. } => ACCESS,
        Insn::Atomic { op: AtomicOp::Or | AtomicOp::And | AtomicOp::Xor, fetch: true, .. } => {
            SEQUENCE
        }
        Insn::Atomic { .. } => ACCESS + REGS,
        Insn::Jump { .. } => 5,
        Insn::Branch { op: CmpOp::Set, rhs: Operand::Imm(_), .. } => REGS + 4 + 6,
        Insn::Branch { rhs, .. } => with(rhs) + 6,
        Insn::Call(CallTarget::Subprog(_)) => 5,
        Insn::Call(_) => 5 + REGS,
        // Six registers, `leave` or padding, and `ret`.
        Insn::Exit => 12,
        Insn::AddrSpaceCast { .. } | Insn::LoadPacket { .. } | Insn::MayGoto { .. } => SEQUENCE,
    }
}

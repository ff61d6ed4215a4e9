//! How long the code of an instruction may get.
//!
//! Code is emitted once. A jump back knows its distance; a jump forward takes the short form where
//! even the longest code of the instructions between leaves the target near.

use ebpf_isa::uapi::HelperId;
use ebpf_isa::{AluOp, AtomicOp, CallTarget, CmpOp, Insn, Operand};

use crate::{MemoryMode, Options};

/// The most bytes that the code of an instruction takes, short of 128: then the code of
/// [`Program::MAX_SLOTS`](ebpf_isa::Program::MAX_SLOTS) instructions is shorter than 4 GiB. Too
/// large a figure costs a few short jumps, too small a figure is caught when jumps are resolved.
#[inline]
pub(super) fn max_len(insn: Insn, options: &Options) -> u32 {
    let added = match options.memory {
        MemoryMode::Unchecked if options.ending_helpers.is_empty() => 0,
        _ => added_by_options(insn, options),
    };
    let len = unchecked(insn) + added;
    debug_assert!(len < 128, "the bound for {insn:?} is {len}");
    len
}

#[cold]
fn added_by_options(insn: Insn, options: &Options) -> u32 {
    /// `cmp qword [r12 + disp8], 0` and `jne rel32`.
    const ENDING: u32 = 6 + 6;
    let checks = match options.memory {
        MemoryMode::Unchecked => 0,
        MemoryMode::Checked => added_by_checks(insn),
    };
    match insn {
        Insn::Call(CallTarget::Helper(id)) if options.ending_helpers.contains(&id) => {
            checks + ENDING
        }
        _ => checks,
    }
}

/// What checked memory adds to the code of an instruction.
fn added_by_checks(insn: Insn) -> u32 {
    /// `add qword [r12 + disp8], imm32`: the count of instructions.
    const COUNT: u32 = 9;
    /// `mov r10d, imm32` and `call rel32`.
    const ROUTINE: u32 = 6 + 5;
    /// `lea r11, [base + disp32]` and `mov r9d, imm32`.
    const ACCESS: u32 = 7 + 6;
    /// The auxiliary register, pushed and popped twice.
    const AUX: u32 = 8;
    /// Six registers, pushed and popped.
    const KEPT: u32 = 16;
    /// `mov dword [r12 + disp32], imm32`
    const IN_PLACE: u32 = 12;
    COUNT
        + match insn {
            Insn::Load { .. }
            | Insn::Store { .. }
            | Insn::LoadAcquire { .. }
            | Insn::StoreRelease { .. }
            | Insn::Atomic { .. } => ACCESS + ROUTINE + AUX,
            // A jump over the jump back.
            Insn::Branch { .. } | Insn::MayGoto { .. } => 2 + ROUTINE,
            Insn::Call(CallTarget::Helper(HelperId::TAIL_CALL)) => KEPT + IN_PLACE + EXIT_CHECKED,
            Insn::Call(CallTarget::Helper(_)) => KEPT,
            Insn::Jump { .. } | Insn::Call(_) => ROUTINE,
            Insn::Exit => EXIT_CHECKED,
            Insn::LoadPacket { .. } => EXIT_CHECKED + 6 + ROUTINE,
            _ => 0,
        }
}

/// Six registers, `leave` or padding, and `ret`.
const EXIT: u32 = 12;
/// A routine, and two fields of the environment.
const EXIT_CHECKED: u32 = 11 + 5 + 9;
#[inline]
fn unchecked(insn: Insn) -> u32 {
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
        Insn::Mov { src: Operand::Reg(_), .. } | Insn::AddrSpaceCast { .. } | Insn::Neg { .. } => {
            REGS
        }
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
        Insn::Call(CallTarget::Helper(HelperId::TAIL_CALL)) => 52 + EXIT,
        Insn::Call(_) => 5 + REGS,
        Insn::Exit => EXIT,
        Insn::LoadPacket { .. } => 44 + EXIT,
        Insn::MayGoto { .. } => 5 + 4 + 4 + 5 + 6,
    }
}

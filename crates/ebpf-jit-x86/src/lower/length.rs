//! How long the code of an instruction may get.
//!
//! Code is emitted once. A jump back knows its distance; a jump forward takes the short form where
//! even the longest code of the instructions between leaves the target near.

use ebpf_isa::uapi::HelperId;
use ebpf_isa::{AluOp, AtomicOp, CallTarget, CmpOp, Insn, Operand};

use crate::Options;
use crate::encode::fits8;

/// The most bytes that the code of an instruction takes, short of 128: then the code of
/// [`Program::MAX_SLOTS`](ebpf_isa::Program::MAX_SLOTS) instructions is shorter than 4 GiB. Too
/// large a figure costs a few short jumps, too small a figure is caught when jumps are resolved.
#[inline]
pub(super) fn max_len(insn: Insn, options: &Options) -> u32 {
    let len = unchecked(insn) + if is_plain(options) { 0 } else { added(insn, options) };
    debug_assert!(len < 128, "the bound for {insn:?} is {len}");
    len
}

/// Whether no option adds to the code of instructions.
pub(super) fn is_plain(options: &Options) -> bool {
    !options.fuel && !options.checks_memory() && options.ending_helpers.is_empty()
}

/// What options add to the code of an instruction.
#[cold]
fn added(insn: Insn, options: &Options) -> u32 {
    /// `cmp qword [r12 + disp8], 0` and `jne rel32`.
    const ENDING: u32 = 6 + 6;
    /// The allowance left in the environment, and taken back.
    const SAVED_ALLOWANCE: u32 = 5 + 5;
    /// `lea r9, [base + disp32]`, `sub` and `cmp` with a field of the environment, `jae rel32`; a
    /// call of the routine after three pushes is no longer.
    const ACCESS: u32 = 8 + 8 + 8 + 6;
    /// Six registers, pushed and popped.
    const KEPT: u32 = 16;
    /// Frames counted, or the depth compared, with fields of the environment.
    const DEPTH: u32 = 6 + 6;
    /// `mov dword [r12 + disp8], imm32`, the count left and taken back, a call with another push and
    /// pop, and a jump.
    const IN_PLACE: u32 = 9 + SAVED_ALLOWANCE + 2 + 2 + 5;
    let checks = if options.checks_memory() { 1 } else { 0 };
    FLUSH
        + match insn {
            Insn::Load { .. }
            | Insn::Store { .. }
            | Insn::LoadAcquire { .. }
            | Insn::StoreRelease { .. }
            | Insn::Atomic { .. } => checks * ACCESS,
            // No displacement.
            Insn::LoadPacket { .. } => checks * (ACCESS - 4) + RETURN,
            // A jump over the jump back.
            Insn::Branch { .. } | Insn::MayGoto { .. } => 2 + CHARGE,
            Insn::Jump { .. } => CHARGE,
            Insn::Call(CallTarget::Helper(HelperId::TAIL_CALL)) => RETURN + DEPTH + IN_PLACE,
            Insn::Call(CallTarget::Subprog(_)) => CHARGE + DEPTH,
            Insn::Call(_) => ENDING + SAVED_ALLOWANCE + checks * KEPT,
            Insn::Exit => RETURN,
            _ => 0,
        }
}

/// `sub r11, imm32`: what ran is taken from the allowance.
const FLUSH: u32 = 7;
/// The same, and `jl rel32`.
const CHARGE: u32 = FLUSH + 6;
/// The depth compared, a charge or another test, two fields of the environment restored, and one
/// counted down.
const RETURN: u32 = 8 + CHARGE + 3 + 8 + 5 + 6;
/// Six registers, `leave` or padding, and `ret`.
const EXIT: u32 = 12;
/// Divisions, compare-and-exchange loops.
const SEQUENCE: u32 = 64;
/// `REX opcode ModRM`
const REGS: u32 = 3;

#[inline]
fn unchecked(insn: Insn) -> u32 {
    match insn {
        Insn::Alu { op, src, .. } => alu(op, src),
        Insn::Mov { src, .. } => mov(src),
        Insn::AddrSpaceCast { .. } | Insn::Neg { .. } => REGS,
        Insn::MovSx { .. } => REGS + 1,
        Insn::Swap { .. } => 2 * REGS + 3,
        Insn::LoadWide { .. } => 10,
        Insn::Store { off, src, .. } => store(off, src),
        Insn::Load { off, .. } | Insn::LoadAcquire { off, .. } | Insn::StoreRelease { off, .. } => {
            load(off)
        }
        Insn::Atomic { op: AtomicOp::Or | AtomicOp::And | AtomicOp::Xor, fetch: true, .. } => {
            SEQUENCE
        }
        // A prefix more, and a move.
        Insn::Atomic { off, .. } => load(off) + 1 + REGS,
        Insn::Jump { .. } => 5,
        Insn::Branch { op, rhs, .. } => branch(op, rhs),
        Insn::Call(CallTarget::Subprog(_)) => 5,
        Insn::Call(CallTarget::Helper(HelperId::TAIL_CALL)) => 5 + 3 + 2 + REGS + EXIT + 3,
        Insn::Call(_) => 5 + REGS,
        Insn::Exit => EXIT,
        Insn::LoadPacket { .. } => 38 + EXIT,
        Insn::MayGoto { .. } => 5 + 4 + 4 + 5 + 6,
    }
}

/// Arithmetic.
#[inline]
pub(super) fn alu(op: AluOp, src: Operand) -> u32 {
    match op {
        AluOp::Add | AluOp::Sub | AluOp::And | AluOp::Or | AluOp::Xor => with_operand(src),
        AluOp::Mul => with_operand(src) + 1,
        AluOp::Lsh | AluOp::Rsh | AluOp::Arsh => 4 * REGS,
        AluOp::Div | AluOp::SDiv | AluOp::Mod | AluOp::SMod => SEQUENCE,
    }
}

/// Moves.
#[inline]
pub(super) fn mov(src: Operand) -> u32 {
    match src {
        Operand::Imm(imm) => REGS + if imm == 0 { 0 } else { 4 },
        Operand::Reg(_) => REGS,
    }
}

/// `REX opcode ModRM`, with an immediate of the shortest length.
#[inline]
fn with_operand(src: Operand) -> u32 {
    match src {
        Operand::Reg(_) => REGS,
        Operand::Imm(imm) => REGS + if fits8(imm) { 1 } else { 4 },
    }
}

/// Stores.
#[inline]
pub(super) fn store(off: i16, src: Operand) -> u32 {
    load(off) + if src.reg().is_some() { 0 } else { 4 }
}

/// Comparisons, with a jump.
#[inline]
pub(super) fn branch(op: CmpOp, rhs: Operand) -> u32 {
    // A test of bits has no form with a short immediate that is sign-extended.
    with_operand(rhs) + 6 + if op == CmpOp::Set { 3 } else { 0 }
}

/// `[prefix] REX [0F] opcode ModRM disp`: what has a prefix is not escaped.
#[inline]
pub(super) fn load(off: i16) -> u32 {
    REGS + 1 + if fits8(off.into()) { 1 } else { 4 }
}

//! A filter as the classic machine runs it: one step an instruction, of which one look says what to
//! do, and of which the common ones hold all that they need.

use ebpf_isa::{AluOp, CmpOp, Size};

use crate::ancillary::Place;
use crate::filter::{Cell, Insn, Operand};
use crate::op::Var;

/// An instruction, taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// `A` = byte, half word or word at an offset from the start of the packet.
    LoadB(u32),
    LoadH(u32),
    LoadW(u32),
    /// The same at `X` plus an offset.
    LoadAtB(u32),
    LoadAtH(u32),
    LoadAtW(u32),
    /// `X` from a byte at an offset from the start of the packet.
    Msh(u32),
    /// Comparisons with constants, and their two targets.
    Equal(u32, u16, u16),
    Greater(u32, u16, u16),
    GreaterOrEqual(u32, u16, u16),
    Common(u32, u16, u16),
    /// `A = A op operand`
    Alu(AluOp, Operand),
    /// `X = A`
    Tax,
    /// Cell = `A`, and `A` = cell.
    Store(Cell),
    LoadMem(Cell),
    /// The end.
    Ret(u32),
    /// Anything else: the instruction itself says what.
    Other,
}

impl Step {
    pub(crate) fn of(insn: Insn) -> Self {
        match insn {
            Insn::LoadAbs { size, place: Place::Data(off) } => match size {
                Size::B => Self::LoadB(off),
                Size::H => Self::LoadH(off),
                Size::W | Size::Dw => Self::LoadW(off),
            },
            Insn::LoadInd { size, off } => match size {
                Size::B => Self::LoadAtB(off),
                Size::H => Self::LoadAtH(off),
                Size::W | Size::Dw => Self::LoadAtW(off),
            },
            Insn::LoadMsh { place: Place::Data(off) } => Self::Msh(off),
            Insn::Branch { op, rhs: Operand::Imm(k), yes, no } => {
                let (yes, no) = (yes.0, no.0);
                match op {
                    CmpOp::Eq => Self::Equal(k, yes, no),
                    CmpOp::Gt => Self::Greater(k, yes, no),
                    CmpOp::Ge => Self::GreaterOrEqual(k, yes, no),
                    CmpOp::Set => Self::Common(k, yes, no),
                    _ => Self::Other,
                }
            }
            Insn::Alu(op, operand) => Self::Alu(op, operand),
            Insn::Tax => Self::Tax,
            Insn::Store(Var::A, cell) => Self::Store(cell),
            Insn::LoadMem(Var::A, cell) => Self::LoadMem(cell),
            Insn::RetImm(value) => Self::Ret(value),
            _ => Self::Other,
        }
    }
}

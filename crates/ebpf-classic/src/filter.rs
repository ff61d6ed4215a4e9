//! Filters: classic programs that were checked.

use alloc::vec;
use alloc::vec::Vec;
use core::fmt;

use ebpf_isa::{AluOp, CmpOp, Size};

use crate::ancillary::{ANCILLARY_OFFSET, Ancillary, Place};
use crate::op::{Op, Src, Var};
use crate::raw::SockFilter;
use crate::steps::Step;

/// A position in a classic program, in instructions from its first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct ClassicPc(pub u16);

impl ClassicPc {
    /// As an index into arrays that have one element an instruction.
    #[inline]
    #[must_use]
    pub const fn index(self) -> usize {
        self.0 as usize
    }

    /// The instruction behind it.
    #[inline]
    #[must_use]
    pub(crate) const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for ClassicPc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The second operand of an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operand {
    /// A constant.
    Imm(u32),
    /// The index register.
    X,
}

/// A cell of scratch memory, 0 to 15.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cell(u8);

impl Cell {
    /// How many there are (`BPF_MEMWORDS`).
    pub const COUNT: usize = 16;

    /// The cell with this number; `None` from 16 on.
    #[must_use]
    pub const fn new(number: u32) -> Option<Self> {
        if number < Self::COUNT as u32 { Some(Self(number as u8)) } else { None }
    }

    /// The number.
    #[inline]
    #[must_use]
    pub const fn index(self) -> usize {
        // The mask tells the compiler what `new` has checked.
        (self.0 & 0xf) as usize
    }
}

/// A decoded instruction of a checked program: jumps hold positions, and nothing is out of range.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Insn {
    /// `A` = bytes of the packet, from network to host byte order.
    LoadAbs {
        /// 1, 2 or 4 bytes.
        size: Size,
        /// Where.
        place: Place,
    },
    /// `A` = bytes of the packet at `Place::of(X + off)`, where the sum wraps around.
    LoadInd {
        /// 1, 2 or 4 bytes.
        size: Size,
        /// The constant part of the offset.
        off: u32,
    },
    /// `X = 4 * (byte & 0xf)`
    LoadMsh {
        /// Where the byte is.
        place: Place,
    },
    /// `A` = ancillary data.
    LoadAncillary(Ancillary),
    /// Register = constant.
    LoadImm(Var, u32),
    /// Register = length of the packet.
    LoadLen(Var),
    /// Register = cell.
    LoadMem(Var, Cell),
    /// Cell = register.
    Store(Var, Cell),
    /// `A = A op operand`. Division and remainder by an `X` of 0 end the program with 0; shifts by
    /// `X` use its low five bits.
    Alu(AluOp, Operand),
    /// `A = -A`
    Neg,
    /// Go on at the target.
    Jump(ClassicPc),
    /// Go on at one of two targets.
    Branch {
        /// The comparison, unsigned.
        op: CmpOp,
        /// What `A` is compared with.
        rhs: Operand,
        /// Where it leads when the comparison holds.
        yes: ClassicPc,
        /// Where it leads when it does not.
        no: ClassicPc,
    },
    /// End with a constant: the number of bytes to keep of the packet, 0 to drop it.
    RetImm(u32),
    /// End with `A`.
    RetA,
    /// `X = A`
    Tax,
    /// `A = X`
    Txa,
}

/// Why a program is refused. Linux answers all of these with `EINVAL`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CheckError {
    /// No instructions.
    #[error("the filter has no instructions")]
    Empty,
    /// More than [`Filter::MAX_LEN`] instructions.
    #[error("the filter has {len} instructions, more than the limit of {}", Filter::MAX_LEN)]
    TooLong {
        /// How many.
        len: usize,
    },
    /// An opcode that Linux does not have.
    #[error("insn {pc}: unknown opcode {code:#x}")]
    UnknownOpcode {
        /// Where.
        pc: ClassicPc,
        /// The opcode.
        code: u16,
    },
    /// A jump beyond the last instruction.
    #[error("insn {pc}: jump to {target} leaves the filter of {len} instructions")]
    JumpOutOfRange {
        /// Where.
        pc: ClassicPc,
        /// Where it leads.
        target: u64,
        /// Length of the filter.
        len: usize,
    },
    /// A jump by a negative distance, as libpcap writes loops: `ip6 protochain`.
    #[error("insn {pc}: jump {back} instructions backward; Linux takes no loops in filters")]
    BackwardJump {
        /// Where.
        pc: ClassicPc,
        /// By how many instructions, counted from the next one.
        back: u32,
    },
    /// Scratch memory that does not exist.
    #[error("insn {pc}: there is no M[{cell}], use M[0] to M[15]")]
    NoSuchCell {
        /// Where.
        pc: ClassicPc,
        /// Number of the cell.
        cell: u32,
    },
    /// Scratch memory that is read before it is written.
    #[error("insn {pc}: M[{}] is not written on every way to here", cell.index())]
    UnwrittenCell {
        /// Where.
        pc: ClassicPc,
        /// The cell.
        cell: Cell,
    },
    /// Division or remainder by the constant 0.
    #[error("insn {pc}: division by zero")]
    DivisionByZero {
        /// Where.
        pc: ClassicPc,
    },
    /// A shift by a constant of 32 or more.
    #[error("insn {pc}: shift by {by}, which is more than 31")]
    ShiftTooFar {
        /// Where.
        pc: ClassicPc,
        /// By how much.
        by: u32,
    },
    /// A load of ancillary data that does not exist.
    #[error("insn {pc}: there is no ancillary data at {k:#x}")]
    UnknownAncillary {
        /// Where.
        pc: ClassicPc,
        /// The constant of the load.
        k: u32,
    },
    /// The last instruction does not end the program.
    #[error("insn {pc}: the last instruction must be a ret")]
    NoReturn {
        /// The last instruction.
        pc: ClassicPc,
    },
}

impl CheckError {
    /// The instruction that it is about; `None` where it is about all of them.
    #[must_use]
    pub const fn pc(&self) -> Option<ClassicPc> {
        match *self {
            Self::Empty | Self::TooLong { .. } => None,
            Self::UnknownOpcode { pc, .. }
            | Self::JumpOutOfRange { pc, .. }
            | Self::BackwardJump { pc, .. }
            | Self::NoSuchCell { pc, .. }
            | Self::UnwrittenCell { pc, .. }
            | Self::DivisionByZero { pc }
            | Self::ShiftTooFar { pc, .. }
            | Self::UnknownAncillary { pc, .. }
            | Self::NoReturn { pc } => Some(pc),
        }
    }
}

/// A program that the checker has accepted: what it was made of, and the decoded instructions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter {
    original: Vec<SockFilter>,
    insns: Vec<Insn>,
    steps: Vec<Step>,
}

impl Filter {
    /// The most instructions that a filter may have (`BPF_MAXINSNS`).
    pub const MAX_LEN: usize = 4096;

    /// Checks a program by the rules of Linux (`docs/kernel-facts.md`), and decodes it.
    ///
    /// # Errors
    /// The first rule that is broken: see [`CheckError`].
    pub fn new(original: impl Into<Vec<SockFilter>>) -> Result<Self, CheckError> {
        let original = original.into();
        match original.len() {
            0 => return Err(CheckError::Empty),
            1..=Self::MAX_LEN => {}
            len => return Err(CheckError::TooLong { len }),
        }
        let decode = |(pc, raw)| decode(ClassicPc(pc as u16), raw, original.len());
        let insns = original.iter().enumerate().map(decode).collect::<Result<Vec<_>, _>>()?;
        if !matches!(insns.last(), Some(Insn::RetImm(_) | Insn::RetA)) {
            return Err(CheckError::NoReturn { pc: ClassicPc(original.len() as u16 - 1) });
        }
        check_cells(&insns)?;
        let steps = insns.iter().copied().map(Step::of).collect();
        Ok(Self { original, insns, steps })
    }

    /// What the filter was made of, unchanged.
    #[must_use]
    pub fn original(&self) -> &[SockFilter] {
        &self.original
    }

    /// The decoded instructions, one for each of the original.
    #[inline]
    #[must_use]
    pub fn insns(&self) -> &[Insn] {
        &self.insns
    }

    /// The same as the classic machine runs it.
    #[inline]
    pub(crate) fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// All instructions with their positions.
    pub(crate) fn iter(&self) -> impl DoubleEndedIterator<Item = (ClassicPc, Insn)> {
        self.insns.iter().enumerate().map(|(pc, &insn)| (ClassicPc(pc as u16), insn))
    }
}

fn decode(pc: ClassicPc, raw: &SockFilter, len: usize) -> Result<Insn, CheckError> {
    let &SockFilter { code, jt, jf, k } = raw;
    let op = Op::from_code(code).ok_or(CheckError::UnknownOpcode { pc, code })?;
    let cell = || Cell::new(k).ok_or(CheckError::NoSuchCell { pc, cell: k });
    let jump = |skip: u32| {
        let target = u64::from(pc.0) + 1 + u64::from(skip);
        match target < len as u64 {
            true => Ok(ClassicPc(target as u16)),
            false => Err(CheckError::JumpOutOfRange { pc, target, len }),
        }
    };
    let operand = |src| match src {
        Src::K => Operand::Imm(k),
        Src::X => Operand::X,
    };
    Ok(match op {
        Op::LoadAbs(_) if k >= ANCILLARY_OFFSET => {
            Insn::LoadAncillary(Ancillary::at(k).ok_or(CheckError::UnknownAncillary { pc, k })?)
        }
        Op::LoadAbs(size) => Insn::LoadAbs { size, place: Place::of(k) },
        Op::LoadInd(size) => Insn::LoadInd { size, off: k },
        Op::LoadMsh => Insn::LoadMsh { place: Place::of(k) },
        Op::LoadImm(var) => Insn::LoadImm(var, k),
        Op::LoadLen(var) => Insn::LoadLen(var),
        Op::LoadMem(var) => Insn::LoadMem(var, cell()?),
        Op::Store(var) => Insn::Store(var, cell()?),
        Op::Alu(op, src) => {
            let operand = operand(src);
            check_alu(pc, op, operand)?;
            Insn::Alu(op, operand)
        }
        Op::Neg => Insn::Neg,
        Op::Jump if k.cast_signed() < 0 => {
            return Err(CheckError::BackwardJump { pc, back: k.wrapping_neg() });
        }
        Op::Jump => Insn::Jump(jump(k)?),
        Op::Branch(op, src) => {
            let (yes, no) = (jump(jt.into())?, jump(jf.into())?);
            Insn::Branch { op, rhs: operand(src), yes, no }
        }
        Op::RetK => Insn::RetImm(k),
        Op::RetA => Insn::RetA,
        Op::Tax => Insn::Tax,
        Op::Txa => Insn::Txa,
    })
}

fn check_alu(pc: ClassicPc, op: AluOp, operand: Operand) -> Result<(), CheckError> {
    match (op, operand) {
        (AluOp::Div | AluOp::Mod, Operand::Imm(0)) => Err(CheckError::DivisionByZero { pc }),
        (AluOp::Lsh | AluOp::Rsh, Operand::Imm(by)) if by >= 32 => {
            Err(CheckError::ShiftTooFar { pc, by })
        }
        _ => Ok(()),
    }
}

/// Every cell is written before it is read, whichever way is taken. As in Linux, the instruction
/// behind a `ret` counts as reached from there, so the check asks a little more than it must.
fn check_cells(insns: &[Insn]) -> Result<(), CheckError> {
    let mut at = vec![u16::MAX; insns.len()];
    let mut written = 0;
    for (pc, &insn) in insns.iter().enumerate() {
        written &= at[pc];
        match insn {
            Insn::Store(_, cell) => written |= 1 << cell.index(),
            Insn::LoadMem(_, cell) if written & 1 << cell.index() == 0 => {
                return Err(CheckError::UnwrittenCell { pc: ClassicPc(pc as u16), cell });
            }
            Insn::Jump(target) => {
                at[target.index()] &= written;
                written = u16::MAX;
            }
            Insn::Branch { yes, no, .. } => {
                at[yes.index()] &= written;
                at[no.index()] &= written;
                written = u16::MAX;
            }
            _ => {}
        }
    }
    Ok(())
}

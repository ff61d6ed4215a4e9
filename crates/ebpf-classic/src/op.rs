//! Opcodes: what an instruction does, apart from its constants. One table for everything that reads
//! or writes them.

use ebpf_isa::{AluOp, CmpOp, Size};

/// A register of the classic machine, both of 32 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Var {
    /// The accumulator.
    A,
    /// The index register.
    X,
}

/// Where the second operand comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Src {
    /// The constant.
    K,
    /// The index register.
    X,
}

/// An opcode. There are no others: [`Op::from_code`] knows exactly those that Linux takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Op {
    /// `A` = bytes of the packet at `k`, or ancillary data.
    LoadAbs(Size),
    /// `A` = bytes of the packet at `X + k`.
    LoadInd(Size),
    /// `X = 4 * (packet[k] & 0xf)`: the length of an IPv4 header.
    LoadMsh,
    /// Register = `k`.
    LoadImm(Var),
    /// Register = length of the packet.
    LoadLen(Var),
    /// Register = `M[k]`.
    LoadMem(Var),
    /// `M[k]` = register.
    Store(Var),
    /// `A = A op source`, one of the operations of [`ALU_OPS`].
    Alu(AluOp, Src),
    /// `A = -A`
    Neg,
    /// Skip `k` instructions.
    Jump,
    /// Skip `jt` instructions if `A op source`, otherwise `jf`; one of [`CMP_OPS`].
    Branch(CmpOp, Src),
    /// End with `k`.
    RetK,
    /// End with `A`.
    RetA,
    /// `X = A`
    Tax,
    /// `A = X`
    Txa,
}

/// Arithmetic of the classic machine; the codes are those of eBPF.
pub const ALU_OPS: [AluOp; 10] = [
    AluOp::Add,
    AluOp::Sub,
    AluOp::Mul,
    AluOp::Div,
    AluOp::Or,
    AluOp::And,
    AluOp::Lsh,
    AluOp::Rsh,
    AluOp::Mod,
    AluOp::Xor,
];

/// Comparisons of the classic machine; the codes are those of eBPF.
pub const CMP_OPS: [CmpOp; 4] = [CmpOp::Eq, CmpOp::Gt, CmpOp::Ge, CmpOp::Set];

/// Widths of packet loads.
pub const SIZES: [Size; 3] = [Size::W, Size::H, Size::B];

/// Classes of opcodes (`linux/bpf_common.h`), and what distinguishes the opcodes inside of them.
mod bits {
    pub(super) const LD: u16 = 0x00;
    pub(super) const LDX: u16 = 0x01;
    pub(super) const ST: u16 = 0x02;
    pub(super) const STX: u16 = 0x03;
    pub(super) const ALU: u16 = 0x04;
    pub(super) const JMP: u16 = 0x05;
    pub(super) const RET: u16 = 0x06;
    pub(super) const MISC: u16 = 0x07;
    pub(super) const CLASS: u16 = 0x07;

    pub(super) const IMM: u16 = 0x00;
    pub(super) const ABS: u16 = 0x20;
    pub(super) const IND: u16 = 0x40;
    pub(super) const MEM: u16 = 0x60;
    pub(super) const LEN: u16 = 0x80;
    pub(super) const MSH: u16 = 0xa0;
    pub(super) const B: u16 = 0x10;

    pub(super) const NEG: u16 = 0x80;
    pub(super) const X: u16 = 0x08;
    pub(super) const A: u16 = 0x10;
    pub(super) const TXA: u16 = 0x80;
    pub(super) const OPERATION: u16 = 0xf0;
}

impl Src {
    const fn bit(self) -> u16 {
        match self {
            Self::K => 0,
            Self::X => bits::X,
        }
    }
}

impl Op {
    /// The bits of this opcode.
    #[must_use]
    pub const fn code(self) -> u16 {
        match self {
            Self::LoadAbs(size) => bits::LD | bits::ABS | size.code() as u16,
            Self::LoadInd(size) => bits::LD | bits::IND | size.code() as u16,
            Self::LoadMsh => bits::LDX | bits::MSH | bits::B,
            Self::LoadImm(var) => load(var) | bits::IMM,
            Self::LoadLen(var) => load(var) | bits::LEN,
            Self::LoadMem(var) => load(var) | bits::MEM,
            Self::Store(Var::A) => bits::ST,
            Self::Store(Var::X) => bits::STX,
            Self::Alu(op, src) => bits::ALU | op.code().0 as u16 | src.bit(),
            Self::Neg => bits::ALU | bits::NEG,
            Self::Jump => bits::JMP,
            Self::Branch(op, src) => bits::JMP | op.code() as u16 | src.bit(),
            Self::RetK => bits::RET,
            Self::RetA => bits::RET | bits::A,
            Self::Tax => bits::MISC,
            Self::Txa => bits::MISC | bits::TXA,
        }
    }

    /// The opcode with these bits; `None` if Linux takes no such opcode.
    #[must_use]
    pub fn from_code(code: u16) -> Option<Self> {
        let candidate = match code & bits::CLASS {
            bits::LD => Self::load(code, Var::A)?,
            bits::LDX => Self::load(code, Var::X)?,
            bits::ST => Self::Store(Var::A),
            bits::STX => Self::Store(Var::X),
            bits::ALU if code == Self::Neg.code() => Self::Neg,
            bits::ALU => {
                let has_code = |op: &AluOp| u16::from(op.code().0) == code & bits::OPERATION;
                Self::Alu(ALU_OPS.into_iter().find(has_code)?, Self::source(code))
            }
            bits::JMP if code == Self::Jump.code() => Self::Jump,
            bits::JMP => {
                let has_code = |op: &CmpOp| u16::from(op.code()) == code & bits::OPERATION;
                Self::Branch(CMP_OPS.into_iter().find(has_code)?, Self::source(code))
            }
            bits::RET if code & bits::A == 0 => Self::RetK,
            bits::RET => Self::RetA,
            _ if code & bits::TXA == 0 => Self::Tax,
            _ => Self::Txa,
        };
        // Bits that the opcode does not have are not ignored.
        (candidate.code() == code).then_some(candidate)
    }

    fn source(code: u16) -> Src {
        if code & bits::X == 0 { Src::K } else { Src::X }
    }

    fn load(code: u16, var: Var) -> Option<Self> {
        let size = || SIZES.into_iter().find(|size| u16::from(size.code()) == code & 0x18);
        Some(match (code & 0xe0, var) {
            (bits::IMM, _) => Self::LoadImm(var),
            (bits::MEM, _) => Self::LoadMem(var),
            (bits::LEN, _) => Self::LoadLen(var),
            (bits::ABS, Var::A) => Self::LoadAbs(size()?),
            (bits::IND, Var::A) => Self::LoadInd(size()?),
            (bits::MSH, Var::X) => Self::LoadMsh,
            _ => return None,
        })
    }

    /// Whether the instruction ends the program.
    #[must_use]
    pub const fn is_return(self) -> bool {
        matches!(self, Self::RetK | Self::RetA)
    }
}

const fn load(var: Var) -> u16 {
    match var {
        Var::A => bits::LD,
        Var::X => bits::LDX,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every opcode, as the headers' macros give it.
    #[test]
    fn exactly_the_opcodes_of_linux_are_known() {
        let loads = [0x00, 0x20, 0x28, 0x30, 0x40, 0x48, 0x50, 0x60, 0x80];
        let loads_x = [0x01, 0x61, 0x81, 0xb1];
        let stores = [0x02, 0x03];
        let arithmetic = [
            0x04, 0x0c, 0x14, 0x1c, 0x24, 0x2c, 0x34, 0x3c, 0x44, 0x4c, 0x54, 0x5c, 0x64, 0x6c,
            0x74, 0x7c, 0x84, 0x94, 0x9c, 0xa4, 0xac,
        ];
        let jumps = [0x05, 0x15, 0x1d, 0x25, 0x2d, 0x35, 0x3d, 0x45, 0x4d];
        let others = [0x06, 0x16, 0x07, 0x87];
        let mut expected: Vec<u16> =
            [&loads[..], &loads_x, &stores, &arithmetic, &jumps, &others].concat();
        expected.sort_unstable();
        let known = (0..=u16::MAX).filter(|&code| Op::from_code(code).is_some());
        assert_eq!(known.collect::<Vec<_>>(), expected);
    }
}

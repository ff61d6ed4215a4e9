//! The dialect of uBPF's assembler, which the bpf_conformance suite and rbpf share. The table in
//! [`super::assemble`]'s documentation is its grammar.
//!
//! A line is in this dialect if it starts with one of its mnemonics. They are products of the axes
//! of the encoding, as opcodes are.

use super::Parser;
use super::cursor::Result;
use super::error::Expected;
use super::memory::size_of_bits;
use crate::opcode::{AluOp, AtomicOp, ByteOrder, CmpOp, Extend, Size, Width};
use crate::{Imm64, Insn, Operand, Pc, Reg, WideSource};

/// What the first word of a line says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mnemonic {
    Alu(AluOp, Width),
    Mov(Width),
    MovSx(Size, Width),
    Neg(Width),
    Swap(ByteOrder, Size),
    LoadWide,
    Load(Size, Extend),
    StoreImm(Size),
    StoreReg(Size),
    LoadAbsolute(Size),
    LoadIndirect(Size),
    Jump { long: bool },
    Branch(CmpOp, Width),
}

impl Mnemonic {
    pub(super) fn parse(word: &str) -> Option<Self> {
        let (name, width) = split_width(word);
        match (word, name) {
            ("ja", _) => Some(Self::Jump { long: false }),
            ("ja32", _) => Some(Self::Jump { long: true }),
            ("lddw", _) => Some(Self::LoadWide),
            (_, "mov") => Some(Self::Mov(width)),
            (_, "neg") => Some(Self::Neg(width)),
            _ => parse_sign_extension(word)
                .or_else(|| parse_swap(word))
                .or_else(|| parse_memory(word))
                .or_else(|| parse_branch(name, width))
                .or_else(|| Some(Self::Alu(row(AluOp::ALL, alu_name, name)?, width))),
        }
    }
}

/// How this dialect writes the rows of [`AluOp`].
fn alu_name(op: AluOp) -> &'static str {
    match op {
        AluOp::Add => "add",
        AluOp::Sub => "sub",
        AluOp::Mul => "mul",
        AluOp::Div => "div",
        AluOp::SDiv => "sdiv",
        AluOp::Or => "or",
        AluOp::And => "and",
        AluOp::Lsh => "lsh",
        AluOp::Rsh => "rsh",
        AluOp::Mod => "mod",
        AluOp::SMod => "smod",
        AluOp::Xor => "xor",
        AluOp::Arsh => "arsh",
    }
}

/// How this dialect writes the rows of [`CmpOp`], behind a `j`.
fn cmp_name(op: CmpOp) -> &'static str {
    match op {
        CmpOp::Eq => "eq",
        CmpOp::Gt => "gt",
        CmpOp::Ge => "ge",
        CmpOp::Set => "set",
        CmpOp::Ne => "ne",
        CmpOp::Sgt => "sgt",
        CmpOp::Sge => "sge",
        CmpOp::Lt => "lt",
        CmpOp::Le => "le",
        CmpOp::Slt => "slt",
        CmpOp::Sle => "sle",
    }
}

/// How this dialect writes the rows of [`Size`].
fn size_name(size: Size) -> &'static str {
    match size {
        Size::B => "b",
        Size::H => "h",
        Size::W => "w",
        Size::Dw => "dw",
    }
}

/// The row of an axis that has this name.
fn row<T: Copy>(rows: &[T], name: impl Fn(T) -> &'static str, text: &str) -> Option<T> {
    rows.iter().copied().find(|&row| name(row) == text)
}

/// A name and the width at its end; without one it is 64 bits wide.
fn split_width(word: &str) -> (&str, Width) {
    match (word.strip_suffix("32"), word.strip_suffix("64")) {
        (Some(name), _) => (name, Width::W32),
        (_, Some(name)) => (name, Width::W64),
        _ => (word, Width::W64),
    }
}

/// `movsx832`, ...
fn parse_sign_extension(word: &str) -> Option<Mnemonic> {
    let digits = word.strip_prefix("movsx")?;
    let (from, width) = split_width(digits);
    (from.len() < digits.len()).then_some(Mnemonic::MovSx(size_of_bits(from)?, width))
}

/// `be16`, `swap64`, `bswap64`, ...
fn parse_swap(word: &str) -> Option<Mnemonic> {
    let (name, digits) = word.split_at(word.find(|c: char| c.is_ascii_digit())?);
    let order = match name {
        "swap" => ByteOrder::Swap,
        name => ByteOrder::from_mnemonic(name)?,
    };
    Some(Mnemonic::Swap(order, size_of_bits(digits)?))
}

/// `ldxw`, `ldxsw`, `ldxwsx`, `stw`, `stxw`, `ldabsw`, `ldindw`, ...
fn parse_memory(word: &str) -> Option<Mnemonic> {
    let size = |name: &str| row(Size::ALL, size_name, name);
    let behind = |prefix: &str| size(word.strip_prefix(prefix)?);
    let signed = || {
        let name = word.strip_prefix("ldx")?;
        size(name.strip_prefix('s').or_else(|| name.strip_suffix("sx"))?)
    };
    None.or_else(|| Some(Mnemonic::Load(behind("ldx")?, Extend::Zero)))
        .or_else(|| Some(Mnemonic::Load(signed()?, Extend::Sign)))
        .or_else(|| Some(Mnemonic::StoreImm(behind("st")?)))
        .or_else(|| Some(Mnemonic::StoreReg(behind("stx")?)))
        .or_else(|| Some(Mnemonic::LoadAbsolute(behind("ldabs")?)))
        .or_else(|| Some(Mnemonic::LoadIndirect(behind("ldind")?)))
}

/// `jeq`, `jsgt32`, ...
fn parse_branch(name: &str, width: Width) -> Option<Mnemonic> {
    Some(Mnemonic::Branch(row(CmpOp::ALL, cmp_name, name.strip_prefix('j')?)?, width))
}

impl Parser<'_, '_> {
    /// A line that starts with this mnemonic.
    pub(super) fn ubpf(&mut self, mnemonic: Mnemonic) -> Result<Insn> {
        self.cursor.word(Expected::Instruction)?;
        match mnemonic {
            Mnemonic::Jump { long } => Ok(Insn::Jump { target: self.ubpf_target()?, long }),
            Mnemonic::Branch(op, width) => {
                let (lhs, rhs) = (self.ubpf_register()?, self.ubpf_second()?);
                self.cursor.expect(",")?;
                Ok(Insn::Branch { op, width, lhs, rhs, target: self.ubpf_target()? })
            }
            Mnemonic::LoadAbsolute(size) => {
                Ok(Insn::LoadPacket { size, index: None, imm: self.cursor.imm32()? })
            }
            Mnemonic::LoadIndirect(size) => {
                let index = Some(self.ubpf_register()?);
                self.cursor.expect(",")?;
                Ok(Insn::LoadPacket { size, index, imm: self.cursor.imm32()? })
            }
            Mnemonic::StoreImm(size) => {
                let (base, off) = self.ubpf_address()?;
                self.cursor.expect(",")?;
                let src = Operand::Imm(self.cursor.imm32()?);
                Ok(Insn::Store { size, base, off, src })
            }
            Mnemonic::StoreReg(size) => {
                let (base, off) = self.ubpf_address()?;
                self.cursor.expect(",")?;
                let src = Operand::Reg(self.ubpf_register()?);
                Ok(Insn::Store { size, base, off, src })
            }
            into_register => {
                let dst = self.ubpf_register()?;
                self.ubpf_into(into_register, dst)
            }
        }
    }

    /// What is behind the destination register.
    fn ubpf_into(&mut self, mnemonic: Mnemonic, dst: Reg) -> Result<Insn> {
        match mnemonic {
            Mnemonic::Alu(op, width) => Ok(Insn::Alu { op, width, dst, src: self.ubpf_second()? }),
            Mnemonic::Mov(width) => Ok(Insn::Mov { width, dst, src: self.ubpf_second()? }),
            Mnemonic::Neg(width) => Ok(Insn::Neg { width, dst }),
            Mnemonic::Swap(order, size) => Ok(Insn::Swap { order, size, dst }),
            Mnemonic::MovSx(from, width) => {
                self.cursor.expect(",")?;
                Ok(Insn::MovSx { width, dst, src: self.ubpf_register()?, from })
            }
            Mnemonic::LoadWide => {
                self.cursor.expect(",")?;
                let source = WideSource::Imm(Imm64::new(self.cursor.imm64()?));
                Ok(Insn::LoadWide { dst, source })
            }
            Mnemonic::Load(size, extend) => {
                self.cursor.expect(",")?;
                let (base, off) = self.ubpf_address()?;
                Ok(Insn::Load { size, extend, dst, base, off })
            }
            other => unreachable!("{other:?} has no destination register"),
        }
    }

    /// `fetch add32 [base+off], src`, behind `lock`.
    pub(super) fn ubpf_atomic(&mut self) -> Result<Insn> {
        let fetch = self.cursor.eat_word("fetch");
        let start = self.cursor;
        let (name, width) = split_width(self.cursor.word(Expected::AtomicOperation)?);
        let op = AtomicOp::from_mnemonic(name);
        let op = op.ok_or_else(|| start.error(Expected::AtomicOperation))?;
        let size = if width == Width::W32 { Size::W } else { Size::Dw };
        let (base, off) = self.ubpf_address()?;
        self.cursor.expect(",")?;
        let src = self.ubpf_register()?;
        Ok(Insn::Atomic { op, size, fetch: fetch || op.always_fetches(), base, off, src })
    }

    /// `%r1` or `r1`
    pub(super) fn ubpf_register(&mut self) -> Result<Reg> {
        self.cursor.eat("%");
        self.cursor.register_of(Width::W64)
    }

    /// `, src`
    fn ubpf_second(&mut self) -> Result<Operand> {
        self.cursor.expect(",")?;
        if self.cursor.rest().starts_with('%') {
            return Ok(Operand::Reg(self.ubpf_register()?));
        }
        self.operand(Width::W64)
    }

    /// `[base+off]` or `[base]`
    fn ubpf_address(&mut self) -> Result<(Reg, i16)> {
        self.cursor.expect("[")?;
        let base = self.ubpf_register()?;
        if self.cursor.eat("]") {
            return Ok((base, 0));
        }
        let off = self.cursor.displacement(i16::MIN, i16::MAX)?;
        self.cursor.expect("]")?;
        Ok((base, off))
    }

    /// `+3`, a label, or `exit`.
    fn ubpf_target(&mut self) -> Result<Pc> {
        match self.labels.exit_from(self.at) {
            Some(exit) if self.cursor.peek_word() == "exit" && !self.labels.contains("exit") => {
                self.cursor.expect("exit")?;
                Ok(exit)
            }
            _ => self.target(),
        }
    }
}

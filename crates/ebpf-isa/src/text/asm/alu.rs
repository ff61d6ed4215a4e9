//! Arithmetic, moves and byte swaps.

use super::Parser;
use super::cursor::Result;
use super::error::Expected;
use super::memory::size_of_bits;
use crate::opcode::{AluOp, ByteOrder, Extend, Size, Width};
use crate::{Imm64, Insn, Operand, Reg, WideSource};

impl Parser<'_, '_> {
    /// `… += src`
    pub(super) fn binary(&mut self, width: Width, dst: Reg) -> Result<Insn> {
        let op = self.cursor.row(AluOp::ALL, AluOp::mnemonic);
        let op = op.ok_or_else(|| self.cursor.error(Expected::Assignment))?;
        Ok(Insn::Alu { op, width, dst, src: self.operand(width)? })
    }

    /// A register of this width, or a 32-bit immediate.
    pub(super) fn operand(&mut self, width: Width) -> Result<Operand> {
        if self.cursor.at_register() {
            return Ok(Operand::Reg(self.cursor.register_of(width)?));
        }
        if !self.cursor.at_integer() {
            return Err(self.cursor.error(Expected::Operand));
        }
        Ok(Operand::Imm(self.cursor.imm32()?))
    }

    /// `… = src`, where the source is a register, a sign extension, a negation, a byte swap or an
    /// integer of 32 or (with `ll`) 64 bits.
    pub(super) fn mov(&mut self, width: Width, dst: Reg) -> Result<Insn> {
        if self.cursor.eat("(") {
            return self.sign_extension(width, dst);
        }
        if self.cursor.at_integer() {
            return self.integer(width, dst);
        }
        if self.cursor.eat("-") {
            self.cursor.that_register(width, dst)?;
            return Ok(Insn::Neg { width, dst });
        }
        if self.cursor.at_register() {
            return Ok(Insn::Mov { width, dst, src: self.operand(width)? });
        }
        if let Some((order, size)) = parse_swap(self.cursor.peek_word()) {
            self.cursor.word(Expected::Value)?;
            self.cursor.that_register(Width::W64, dst)?;
            return Ok(Insn::Swap { order, size, dst });
        }
        Err(self.cursor.error(Expected::Value))
    }

    fn integer(&mut self, width: Width, dst: Reg) -> Result<Insn> {
        let start = self.cursor;
        let wide = self.cursor.imm64();
        if wide.is_ok() && width == Width::W64 && self.cursor.eat_word("ll") {
            let source = WideSource::Imm(Imm64::new(wide?));
            return Ok(Insn::LoadWide { dst, source });
        }
        self.cursor = start;
        Ok(Insn::Mov { width, dst, src: Operand::Imm(self.cursor.imm32()?) })
    }

    /// `… = (s8)src`, of which the parenthesis has been read.
    fn sign_extension(&mut self, width: Width, dst: Reg) -> Result<Insn> {
        let start = self.cursor;
        let (extend, from) = self.access_type()?;
        if extend == Extend::Zero {
            return Err(start.error(Expected::SignedType));
        }
        self.cursor.expect(")")?;
        let src = self.cursor.register_of(width)?;
        Ok(Insn::MovSx { width, dst, src, from })
    }

    /// `… = addr_space_cast(src, to, from)`
    pub(super) fn addr_space_cast(&mut self, dst: Reg) -> Result<Insn> {
        self.cursor.expect("addr_space_cast")?;
        self.cursor.expect("(")?;
        let src = self.cursor.register_of(Width::W64)?;
        self.cursor.expect(",")?;
        let to = self.cursor.integer(0, u16::MAX)?;
        self.cursor.expect(",")?;
        let from = self.cursor.integer(0, u16::MAX)?;
        self.cursor.expect(")")?;
        Ok(Insn::AddrSpaceCast { dst, src, to, from })
    }
}

/// `be16`, `bswap64`, ...
fn parse_swap(word: &str) -> Option<(ByteOrder, Size)> {
    let split = word.find(|c: char| c.is_ascii_digit())?;
    let (order, bits) = word.split_at(split);
    let order = ByteOrder::from_mnemonic(order)?;
    Some((order, size_of_bits(bits)?))
}

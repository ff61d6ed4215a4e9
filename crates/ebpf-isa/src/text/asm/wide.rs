//! Wide loads of symbols.

use super::Parser;
use super::cursor::Result;
use super::error::Expected;
use crate::decode::decode_slot;
use crate::opcode::{Class, Mode, Size, Width};
use crate::{Insn, MapForm, MapIdx, RawInsn, Reg, WideSource};

impl Parser<'_, '_> {
    /// `dst = map[0] ll`, `dst = map[0][0]+4 ll`, `dst = btf[7] ll`, `dst = func name ll`
    pub(super) fn load_symbol(&mut self, dst: Reg) -> Result<Insn> {
        let source = match self.cursor.word(Expected::Value)? {
            "map" => self.map(),
            "btf" => self.variable(),
            _ => Ok(WideSource::Func(self.target()?)),
        }?;
        self.cursor.expect_word("ll")?;
        Ok(Insn::LoadWide { dst, source })
    }

    /// LLVM's `ld_pseudo dst, 1, 5`: the destination, the source field, the immediates of both
    /// slots as one.
    pub(super) fn ld_pseudo(&mut self) -> Result<Insn> {
        self.cursor.expect("ld_pseudo")?;
        let dst = self.cursor.register_of(Width::W64)?;
        self.cursor.expect(",")?;
        let start = self.cursor;
        let src: u8 = self.cursor.integer(0, u8::MAX)?;
        self.cursor.expect(",")?;
        let imm = self.cursor.imm64()?;
        let opcode = Class::Ld.code() | Mode::Imm.code() | Size::Dw.code();
        let first =
            RawInsn { opcode, dst: dst.number(), src, imm: imm as i32, ..RawInsn::default() };
        let second = RawInsn { imm: (imm >> 32) as i32, ..RawInsn::default() };
        let decoded = decode_slot(first, Some(second), self.at);
        decoded.map_err(|_| start.error(Expected::WideSource))
    }

    /// `[0]`, `[idx:0]`, `[0][0]+4`
    fn map(&mut self) -> Result<WideSource> {
        self.cursor.expect("[")?;
        let mut form = MapForm::Fd;
        if self.cursor.eat_word("idx") {
            self.cursor.expect(":")?;
            form = MapForm::Idx;
        }
        let map = MapIdx(self.cursor.integer(0, u32::MAX)?);
        self.cursor.expect("]")?;
        if !self.cursor.eat("[") {
            return Ok(WideSource::Map(map, form));
        }
        self.cursor.expect("0")?;
        self.cursor.expect("]")?;
        self.cursor.expect("+")?;
        Ok(WideSource::MapValue(map, self.cursor.integer(0, u32::MAX)?, form))
    }

    /// `[7]`, `[7, 2]`
    fn variable(&mut self) -> Result<WideSource> {
        self.cursor.expect("[")?;
        let id = self.cursor.integer(0, u32::MAX)?;
        let module = if self.cursor.eat(",") { self.cursor.integer(0, u32::MAX)? } else { 0 };
        self.cursor.expect("]")?;
        Ok(WideSource::Btf { id, module })
    }
}

//! Loads, stores and atomic operations.

use super::Parser;
use super::cursor::{Cursor, Result};
use super::error::Expected;
use crate::opcode::{AluOp, AtomicOp, Extend, Size, Width};
use crate::{Insn, Reg};

/// What stands between the parentheses of an access: `(u32 *)(r1 +8)`.
struct Address {
    size: Size,
    base: Reg,
    off: i16,
}

impl Parser<'_, '_> {
    /// `u32`, `s16`, ...
    pub(super) fn access_type(&mut self) -> Result<(Extend, Size)> {
        let start = self.cursor;
        let word = self.cursor.word(Expected::AccessType)?;
        parse_type(word).ok_or_else(|| start.error(Expected::AccessType))
    }

    /// `(u32 *)`
    fn pointer_type(&mut self) -> Result<(Extend, Size)> {
        self.cursor.expect("(")?;
        let access = self.access_type()?;
        self.cursor.expect("*")?;
        self.cursor.expect(")")?;
        Ok(access)
    }

    /// `(r1 +8)`, behind the type.
    fn base_and_offset(&mut self) -> Result<(Reg, i16)> {
        let place = self.open_base_and_offset()?;
        self.cursor.expect(")")?;
        Ok(place)
    }

    /// `(r1 +8`
    fn open_base_and_offset(&mut self) -> Result<(Reg, i16)> {
        self.cursor.expect("(")?;
        let base = self.cursor.register_of(Width::W64)?;
        Ok((base, self.cursor.displacement(i16::MIN, i16::MAX)?))
    }

    /// An address of an unsigned type.
    fn address(&mut self) -> Result<Address> {
        let start = self.cursor;
        let (extend, size) = self.pointer_type()?;
        if extend == Extend::Sign {
            return Err(start.error(Expected::UnsignedType));
        }
        let (base, off) = self.base_and_offset()?;
        Ok(Address { size, base, off })
    }

    /// `dst = *(u32 *)(base +off)`, `r0 = *(u32 *)skb[12]`
    pub(super) fn load(&mut self, width: Width, dst: Reg) -> Result<Insn> {
        self.cursor.expect("*")?;
        let start = self.cursor;
        let (extend, size) = self.pointer_type()?;
        if width == Width::W32 && (extend == Extend::Sign || size == Size::Dw) {
            return Err(start.error(Expected::NarrowUnsignedType));
        }
        if dst == Reg::R0 && extend == Extend::Zero && self.cursor.eat_word("skb") {
            return self.load_packet(size);
        }
        let (base, off) = self.base_and_offset()?;
        Ok(Insn::Load { size, extend, dst, base, off })
    }

    /// `[r7 + 12]`
    fn load_packet(&mut self, size: Size) -> Result<Insn> {
        self.cursor.expect("[")?;
        let (index, imm) = if self.cursor.at_register() {
            let index = self.cursor.register_of(Width::W64)?;
            let has_imm = self.cursor.at_displacement();
            let imm = if has_imm { self.cursor.displacement(i32::MIN, i32::MAX)? } else { 0 };
            (Some(index), imm)
        } else {
            (None, self.cursor.imm32()?)
        };
        self.cursor.expect("]")?;
        Ok(Insn::LoadPacket { size, index, imm })
    }

    /// `*(u32 *)(base +off) = src`
    pub(super) fn store(&mut self) -> Result<Insn> {
        self.cursor.expect("*")?;
        let Address { size, base, off } = self.address()?;
        self.cursor.expect("=")?;
        let narrow = size != Size::Dw && self.cursor.peek_word().starts_with(Width::W32.letter());
        let src = self.operand(if narrow { Width::W32 } else { Width::W64 })?;
        Ok(Insn::Store { size, base, off, src })
    }

    /// `dst = load_acquire((u32 *)(base +off))`
    pub(super) fn load_acquire(&mut self, width: Width, dst: Reg) -> Result<Insn> {
        self.cursor.expect("load_acquire")?;
        self.cursor.expect("(")?;
        let start = self.cursor;
        let Address { size, base, off } = self.address()?;
        if width == Width::W32 && size == Size::Dw {
            return Err(start.error(Expected::NarrowUnsignedType));
        }
        self.cursor.expect(")")?;
        Ok(Insn::LoadAcquire { size, dst, base, off })
    }

    /// `store_release((u32 *)(base +off), src)`
    pub(super) fn store_release(&mut self) -> Result<Insn> {
        self.cursor.expect("store_release")?;
        self.cursor.expect("(")?;
        let Address { size, base, off } = self.address()?;
        self.cursor.expect(",")?;
        let src = self.narrow_register(size)?;
        self.cursor.expect(")")?;
        Ok(Insn::StoreRelease { size, base, off, src })
    }

    /// A register whose low bits take part in an access of this size, written with either letter
    /// where 32 bits hold them.
    fn narrow_register(&mut self, size: Size) -> Result<Reg> {
        if size == Size::Dw {
            return self.cursor.register_of(Width::W64);
        }
        Ok(self.cursor.register()?.1)
    }

    /// `lock *(u64 *)(base +off) += src`, or with a mnemonic of uBPF: `lock add [base+off], src`
    pub(super) fn lock(&mut self) -> Result<Insn> {
        self.cursor.expect("lock")?;
        if !self.cursor.peek_word().is_empty() {
            return self.ubpf_atomic();
        }
        self.cursor.expect("*")?;
        let Address { size, base, off } = self.address()?;
        let start = self.cursor;
        let op = self.cursor.row(AluOp::ALL, AluOp::mnemonic).and_then(atomic_form);
        let op = op.ok_or_else(|| start.error(Expected::AtomicAssignment))?;
        let src = self.narrow_register(size)?;
        Ok(Insn::Atomic { op, size, fetch: false, base, off, src })
    }

    /// `src = atomic64_fetch_add((u64 *)(base +off), src)`, and the same with `xchg`;
    /// `r0 = atomic64_cmpxchg((u64 *)(base +off), r0, src)`.
    /// `line` is at the destination.
    pub(super) fn fetch(&mut self, line: Cursor<'_>, width: Width, dst: Reg) -> Result<Insn> {
        let start = self.cursor;
        let name = self.cursor.word(Expected::Value)?;
        let (op, bits) = parse_fetch(name).ok_or_else(|| start.error(Expected::Value))?;
        self.cursor.expect("(")?;
        let at_type = self.cursor;
        let Address { size, base, off } = self.address()?;
        if bits.is_some_and(|bits| bits != size) {
            return Err(at_type.error(Expected::Text("(u64 *)")));
        }
        if width == Width::W32 && size == Size::Dw {
            return Err(at_type.error(Expected::NarrowUnsignedType));
        }
        let src = self.fetch_source(op, line, width, dst)?;
        Ok(Insn::Atomic { op, size, fetch: true, base, off, src })
    }

    /// LLVM's `src = xchg_64(base + off, src)`, `src = xchg32_32(base + off, src)`,
    /// `r0 = cmpxchg_64(base + off, r0, src)`, `w0 = cmpxchg32_32(base + off, w0, src)`.
    /// `line` is at the destination.
    pub(super) fn exchange(&mut self, line: Cursor<'_>, width: Width, dst: Reg) -> Result<Insn> {
        let start = self.cursor;
        let name = self.cursor.word(Expected::Value)?;
        let (op, size) = parse_exchange(name).ok_or_else(|| start.error(Expected::Value))?;
        if (width == Width::W64) != (size == Size::Dw) {
            let wanted = if size == Size::Dw { Width::W64 } else { Width::W32 };
            return Err(line.error(Expected::RegisterOf(wanted)));
        }
        let (base, off) = self.open_base_and_offset()?;
        let src = self.fetch_source(op, line, width, dst)?;
        Ok(Insn::Atomic { op, size, fetch: true, base, off, src })
    }

    /// `, src)`, or `, r0, src)` where the operation compares.
    fn fetch_source(
        &mut self,
        op: AtomicOp,
        line: Cursor<'_>,
        width: Width,
        dst: Reg,
    ) -> Result<Reg> {
        self.cursor.expect(",")?;
        let src = if op == AtomicOp::Cmpxchg {
            if dst != Reg::R0 {
                return Err(line.error(Expected::ThatRegister(width, Reg::R0)));
            }
            self.cursor.that_register(width, Reg::R0)?;
            self.cursor.expect(",")?;
            self.cursor.register_of(width)?
        } else {
            self.cursor.that_register(width, dst)?;
            dst
        };
        self.cursor.expect(")")?;
        Ok(src)
    }
}

/// The atomic operation that does what `op` does: it has its code (RFC 9669, section 5.3).
fn atomic_form(op: AluOp) -> Option<AtomicOp> {
    match op.code() {
        (code, 0) => AtomicOp::from_code(code.into()),
        _ => None,
    }
}

/// `atomic64_fetch_add`: the operation, and the size where the name says it.
fn parse_fetch(name: &str) -> Option<(AtomicOp, Option<Size>)> {
    let name = name.strip_prefix("atomic")?;
    let (size, name) = match name.strip_prefix("64") {
        Some(name) => (Some(Size::Dw), name),
        None => (None, name),
    };
    let name = name.strip_prefix('_')?;
    let (fetch, name) = match name.strip_prefix("fetch_") {
        Some(name) => (true, name),
        None => (false, name),
    };
    let op = AtomicOp::from_mnemonic(name)?;
    (fetch != op.always_fetches()).then_some((op, size))
}

/// Whether a word is LLVM's name of an exchange.
pub(super) fn is_exchange(word: &str) -> bool {
    parse_exchange(word).is_some()
}

/// `xchg_64`, `xchg32_32`, `cmpxchg_64`, `cmpxchg32_32`
fn parse_exchange(name: &str) -> Option<(AtomicOp, Size)> {
    let narrow = name.strip_suffix("32_32").map(|op| (op, Size::W));
    let (op, size) = narrow.or_else(|| Some((name.strip_suffix("_64")?, Size::Dw)))?;
    let op = AtomicOp::from_mnemonic(op).filter(|op| op.always_fetches())?;
    Some((op, size))
}

/// `u8` to `u64`, `s8` to `s64`.
fn parse_type(word: &str) -> Option<(Extend, Size)> {
    let (extend, bits) = match word.split_at_checked(1)? {
        ("u", bits) => (Extend::Zero, bits),
        ("s", bits) => (Extend::Sign, bits),
        _ => return None,
    };
    Some((extend, size_of_bits(bits)?))
}

/// The size that the digits of a type mean.
pub(super) fn size_of_bits(digits: &str) -> Option<Size> {
    let means = |size: &Size| size.mnemonic().strip_prefix('u') == Some(digits);
    Size::ALL.iter().copied().find(means)
}

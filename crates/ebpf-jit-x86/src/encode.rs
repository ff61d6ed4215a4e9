//! Instructions with operands chosen at run time, as bytes.
//!
//! dynasm's dynamic operands cost a SIB byte for each memory access and a REX prefix for each
//! 32-bit register, needed or not. Together that is several per cent of the code of a typical
//! program, so instructions with a ModRM byte are put together here, in their shortest form.
//! Sources: Intel 64 and IA-32 Architectures Software Developer's Manual, volume 2, chapter 2.
//!
//! ```text
//! [66 | F0]  [REX 0100WRXB]  [0F]  opcode  ModRM mod:reg:rm  [SIB]  [disp8 | disp32]  [imm]
//! ```
//!
//! What is optional is appended with a length that may be zero: which registers and constants a
//! program uses is nothing that a branch could predict.

use crate::regs::Gpr;
use ebpf_isa::Width;

/// A memory operand `[base + disp]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mem {
    pub(crate) base: Gpr,
    pub(crate) disp: i32,
}

/// What comes before the operands: prefixes and opcode.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Opcode {
    prefix: Option<u8>,
    rex: u8,
    escape: bool,
    byte: u8,
}

const OPERAND_SIZE_16: u8 = 0x66;
const LOCK: u8 = 0xf0;
const REX: u8 = 0x40;
const REX_W: u8 = 0x48;

impl Opcode {
    /// A one-byte opcode.
    pub(crate) const fn new(byte: u8) -> Self {
        Self { prefix: None, rex: 0, escape: false, byte }
    }

    /// An opcode of the second map, `0F byte`.
    pub(crate) const fn escaped(byte: u8) -> Self {
        Self { prefix: None, rex: 0, escape: true, byte }
    }

    /// With operands of this width; 32 bits need no prefix.
    #[inline]
    pub(crate) const fn width(mut self, width: Width) -> Self {
        self.rex |= REX_W * matches!(width, Width::W64) as u8;
        self
    }

    /// With operands of 16 bits.
    pub(crate) const fn bits16(mut self) -> Self {
        self.prefix = Some(OPERAND_SIZE_16);
        self
    }

    /// With the bus locked: an atomic read-modify-write.
    pub(crate) const fn lock(mut self) -> Self {
        self.prefix = Some(LOCK);
        self
    }

    /// With `reg` as an operand of 8 bits.
    #[inline]
    pub(crate) const fn byte_operand(mut self, reg: Gpr) -> Self {
        self.rex |= REX * reg.byte_needs_rex() as u8;
        self
    }

    /// Prefixes and opcode, with the extension bits R (of ModRM.reg), X (of SIB.index) and B (of
    /// ModRM.rm, SIB.base or the opcode's own register).
    #[inline]
    fn start(self, [r, x, b]: [u8; 3]) -> Bytes {
        let rex = self.rex | r << 2 | x << 1 | b;
        let mut bytes = Bytes::EMPTY;
        bytes.push_if(self.prefix.is_some(), self.prefix.unwrap_or(0));
        bytes.push_if(rex != 0, REX | rex);
        bytes.push_if(self.escape, 0x0f);
        bytes
    }

    /// With operands that the opcode implies.
    #[inline]
    pub(crate) fn alone(self) -> Bytes {
        let mut bytes = self.start([0; 3]);
        bytes.push(self.byte);
        bytes
    }

    /// With a register in the low three bits of the opcode.
    #[inline]
    pub(crate) fn plus(self, reg: Gpr) -> Bytes {
        let mut bytes = self.start([0, 0, reg.high()]);
        bytes.push(self.byte | reg.low());
        bytes
    }

    /// With two registers: `reg` in ModRM.reg, `rm` in ModRM.rm.
    #[inline]
    pub(crate) fn regs(self, reg: Gpr, rm: Gpr) -> Bytes {
        let mut bytes = self.start([reg.high(), 0, rm.high()]);
        bytes.push(self.byte);
        bytes.push(0b11 << 6 | reg.low() << 3 | rm.low());
        bytes
    }

    /// With a register in ModRM.rm and three more bits of opcode (`/digit`) in ModRM.reg.
    #[inline]
    pub(crate) fn digit(self, digit: u8, rm: Gpr) -> Bytes {
        debug_assert!(digit < 8, "a digit has three bits");
        let mut bytes = self.start([0, 0, rm.high()]);
        bytes.push(self.byte);
        bytes.push(0b11 << 6 | digit << 3 | rm.low());
        bytes
    }

    /// With a register and a memory operand.
    #[inline]
    pub(crate) fn mem(self, reg: Gpr, mem: Mem) -> Bytes {
        let mut bytes = self.start([reg.high(), 0, mem.base.high()]);
        bytes.push(self.byte);
        bytes.address(reg.low(), mem);
        bytes
    }

    /// With a memory operand and three more bits of opcode.
    #[inline]
    pub(crate) fn mem_digit(self, digit: u8, mem: Mem) -> Bytes {
        debug_assert!(digit < 8, "a digit has three bits");
        let mut bytes = self.start([0, 0, mem.base.high()]);
        bytes.push(self.byte);
        bytes.address(digit, mem);
        bytes
    }

    /// With a register and the memory operand `[base + index + disp]`; `index` is not `rsp`, whose
    /// number means that there is none.
    #[inline]
    pub(crate) fn indexed(self, reg: Gpr, (base, index, disp): (Gpr, Gpr, i32)) -> Bytes {
        debug_assert!(index != Gpr::Rsp, "rsp is no index");
        // As a base, rbp and r13 take a displacement.
        let swap = base.low() == Gpr::Rbp.low() && index.low() != Gpr::Rbp.low();
        let (base, index) = if swap { (index, base) } else { (base, index) };
        let mut bytes = self.start([reg.high(), index.high(), base.high()]);
        bytes.push(self.byte);
        let (mode, len, mask) = displacement(base, disp);
        bytes.push(mode << 6 | reg.low() << 3 | SIB);
        bytes.push(index.low() << 3 | base.low());
        bytes.append(disp.cast_unsigned() & mask, len);
        bytes
    }
}

/// ModRM.mod, and length and mask of a displacement.
#[inline]
fn displacement(base: Gpr, disp: i32) -> (u8, u32, u32) {
    // ModRM.mod 0 with the number of rbp (and r13) means something else: a displacement it is.
    let none = disp == 0 && base.low() != Gpr::Rbp.low();
    match (none, fits8(disp)) {
        (true, _) => (0b00, 0, 0),
        (_, true) => (0b01, 1, 0xff),
        _ => (0b10, 4, u32::MAX),
    }
}

/// In ModRM.rm: a SIB byte follows.
const SIB: u8 = 0b100;

/// An instruction under construction.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bytes {
    /// The bytes in the order of their significance, and zeros behind them.
    word: u128,
    len: u32,
}

impl Bytes {
    /// One more than the architecture's limit, so that it is a power of two.
    pub(crate) const CAPACITY: usize = 16;

    const EMPTY: Self = Self { word: 0, len: 0 };

    /// An instruction that is known as bytes.
    #[inline]
    pub(crate) const fn of<const N: usize>(known: &[u8; N]) -> Self {
        const { assert!(N < Self::CAPACITY) };
        let (mut word, mut at) = (0, 0);
        while at < N {
            word |= (known[at] as u128) << (8 * at);
            at += 1;
        }
        Self { word, len: N as u32 }
    }

    /// One or the other, without a branch.
    #[inline]
    pub(crate) fn select(first: bool, one: Self, other: Self) -> Self {
        let mask = u128::from(first).wrapping_neg();
        let len = core::hint::select_unpredictable(first, one.len, other.len);
        Self { word: other.word ^ (one.word ^ other.word) & mask, len }
    }

    #[inline]
    pub(crate) const fn len(self) -> usize {
        self.len as usize
    }

    /// The bytes, and zeros behind them.
    #[inline]
    pub(crate) const fn padded(self) -> [u8; Self::CAPACITY] {
        self.word.to_le_bytes()
    }

    /// Appends the low `len` bytes of `value`, whose others are zero.
    #[inline]
    fn append(&mut self, value: u32, len: u32) {
        self.word |= u128::from(value) << (8 * self.len);
        self.len += len;
    }

    #[inline]
    fn push(&mut self, byte: u8) {
        self.append(byte.into(), 1);
    }

    #[inline]
    fn push_if(&mut self, needed: bool, byte: u8) {
        let needed = u32::from(needed);
        self.append(u32::from(byte) * needed, needed);
    }

    /// ModRM, SIB and displacement of a memory operand, each as short as it can be.
    #[inline]
    fn address(&mut self, reg: u8, Mem { base, disp }: Mem) {
        let (mode, len, mask) = displacement(base, disp);
        self.push(mode << 6 | reg << 3 | base.low());
        // In ModRM.rm, the number of rsp and r12 means that a SIB byte follows.
        const NO_INDEX: u8 = 0b100 << 3;
        self.push_if(base.low() == SIB, NO_INDEX | SIB);
        self.append(disp.cast_unsigned() & mask, len);
    }

    /// Followed by an immediate of 8 bits.
    #[inline]
    pub(crate) fn imm8(mut self, imm: u8) -> Self {
        self.push(imm);
        self
    }

    /// Followed by an immediate of 16 bits.
    #[inline]
    pub(crate) fn imm16(mut self, imm: u16) -> Self {
        self.append(imm.into(), 2);
        self
    }

    /// Followed by an immediate of 32 bits.
    #[inline]
    pub(crate) fn imm32(mut self, imm: i32) -> Self {
        self.append(imm.cast_unsigned(), 4);
        self
    }

    /// Followed by an immediate of 8 bits if it fits (see [`fits8`]), else of 32.
    #[inline]
    pub(crate) fn imm8_or_32(mut self, imm: i32) -> Self {
        let (mask, len) = if fits8(imm) { (0xff, 1) } else { (u32::MAX, 4) };
        self.append(imm.cast_unsigned() & mask, len);
        self
    }

    /// Followed by an immediate of 64 bits.
    #[inline]
    pub(crate) fn imm64(mut self, imm: u64) -> Self {
        self.append(imm as u32, 4);
        self.append((imm >> 32) as u32, 4);
        self
    }
}

/// Whether the value is the sign extension of its low 8 bits.
#[inline]
pub(crate) const fn fits8(imm: i32) -> bool {
    imm == imm as i8 as i32
}

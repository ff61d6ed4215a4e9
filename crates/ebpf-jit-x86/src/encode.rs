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
    pub(crate) const fn width(mut self, width: Width) -> Self {
        if matches!(width, Width::W64) {
            self.rex |= REX_W;
        }
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
    pub(crate) const fn byte_operand(mut self, reg: Gpr) -> Self {
        if reg.byte_needs_rex() {
            self.rex |= REX;
        }
        self
    }

    /// Prefixes and opcode, with the extension bits R (of ModRM.reg) and B (of ModRM.rm or of the
    /// opcode's own register).
    fn start(self, r: u8, b: u8) -> Bytes {
        let mut bytes = Bytes { bytes: [0; Bytes::CAPACITY], len: 0 };
        if let Some(prefix) = self.prefix {
            bytes.push(prefix);
        }
        let rex = self.rex | r << 2 | b;
        if rex != 0 {
            bytes.push(REX | rex);
        }
        if self.escape {
            bytes.push(0x0f);
        }
        bytes
    }

    /// With operands that the opcode implies.
    pub(crate) fn alone(self) -> Bytes {
        let mut bytes = self.start(0, 0);
        bytes.push(self.byte);
        bytes
    }

    /// With a register in the low three bits of the opcode.
    pub(crate) fn plus(self, reg: Gpr) -> Bytes {
        let mut bytes = self.start(0, reg.high());
        bytes.push(self.byte | reg.low());
        bytes
    }

    /// With two registers: `reg` in ModRM.reg, `rm` in ModRM.rm.
    pub(crate) fn regs(self, reg: Gpr, rm: Gpr) -> Bytes {
        let mut bytes = self.start(reg.high(), rm.high());
        bytes.push(self.byte);
        bytes.push(0b11 << 6 | reg.low() << 3 | rm.low());
        bytes
    }

    /// With a register in ModRM.rm and three more bits of opcode (`/digit`) in ModRM.reg.
    pub(crate) fn digit(self, digit: u8, rm: Gpr) -> Bytes {
        debug_assert!(digit < 8, "a digit has three bits");
        let mut bytes = self.start(0, rm.high());
        bytes.push(self.byte);
        bytes.push(0b11 << 6 | digit << 3 | rm.low());
        bytes
    }

    /// With a register and a memory operand.
    pub(crate) fn mem(self, reg: Gpr, mem: Mem) -> Bytes {
        let mut bytes = self.start(reg.high(), mem.base.high());
        bytes.push(self.byte);
        bytes.address(reg.low(), mem);
        bytes
    }

    /// With a memory operand and three more bits of opcode.
    pub(crate) fn mem_digit(self, digit: u8, mem: Mem) -> Bytes {
        debug_assert!(digit < 8, "a digit has three bits");
        let mut bytes = self.start(0, mem.base.high());
        bytes.push(self.byte);
        bytes.address(digit, mem);
        bytes
    }
}

/// An instruction under construction.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bytes {
    bytes: [u8; Self::CAPACITY],
    len: usize,
}

impl Bytes {
    /// One more than the architecture's limit, so that it is a power of two.
    const CAPACITY: usize = 16;

    pub(crate) fn as_slice(&self) -> &[u8] {
        &self.bytes[..self.len & (Self::CAPACITY - 1)]
    }

    fn push(&mut self, byte: u8) {
        self.bytes[self.len & (Self::CAPACITY - 1)] = byte;
        self.len += 1;
    }

    /// ModRM, SIB and displacement: none, of 8 or of 32 bits.
    fn address(&mut self, reg: u8, Mem { base, disp }: Mem) {
        // With mod = 00, the number of rbp and r13 means another form: they need a displacement.
        let disp8 = i8::try_from(disp).ok();
        let mode = match disp8 {
            Some(0) if base.low() != Gpr::Rbp.low() => 0b00,
            Some(_) => 0b01,
            None => 0b10,
        };
        self.push(mode << 6 | reg << 3 | base.low());
        // In ModRM.rm, the number of rsp and r12 means that a SIB byte follows.
        if base.low() == Gpr::Rsp.low() {
            const NO_INDEX: u8 = 0b100 << 3;
            self.push(NO_INDEX | Gpr::Rsp.low());
        }
        match (mode, disp8) {
            (0b00, _) => {}
            (_, Some(disp)) => self.push(disp as u8),
            (_, None) => self.push32(disp),
        }
    }

    fn push32(&mut self, value: i32) {
        for byte in value.to_le_bytes() {
            self.push(byte);
        }
    }

    /// Followed by an immediate of 8 bits.
    pub(crate) fn imm8(mut self, imm: u8) -> Self {
        self.push(imm);
        self
    }

    /// Followed by an immediate of 16 bits.
    pub(crate) fn imm16(mut self, imm: u16) -> Self {
        for byte in imm.to_le_bytes() {
            self.push(byte);
        }
        self
    }

    /// Followed by an immediate of 32 bits.
    pub(crate) fn imm32(mut self, imm: i32) -> Self {
        self.push32(imm);
        self
    }
}

//! Slots to instructions. Every malformed form is an error, not a later surprise.

use alloc::vec::Vec;

use crate::insn::{CallTarget, Imm64, Insn, MapForm, MapIdx, Operand, WideSource};
use crate::opcode::{
    self, AluOp, AtomicOp, ByteOrder, Class, CmpOp, Extend, Mode, Size, Width, atomic, call, jump,
    unary, wide,
};
use crate::uapi::HelperId;
use crate::{Pc, RawInsn, Reg};

/// Why a slot is no instruction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// No instruction has this opcode.
    #[error("insn {pc}: unknown opcode {opcode:#04x}")]
    UnknownOpcode {
        /// Where.
        pc: Pc,
        /// The opcode byte.
        opcode: u8,
    },
    /// A register number above 10.
    #[error("insn {pc}: register r{number} does not exist")]
    BadRegister {
        /// Where.
        pc: Pc,
        /// The number.
        number: u8,
    },
    /// A field that the instruction does not use is not zero.
    #[error("insn {pc}: opcode {opcode:#04x} uses reserved field `{field}`")]
    ReservedField {
        /// Where.
        pc: Pc,
        /// The opcode byte.
        opcode: u8,
        /// Name of the field: `dst`, `src`, `off`, `imm` or `next_imm`.
        field: &'static str,
    },
    /// An immediate that selects nothing: atomic operation, byte swap width, sign extension width.
    #[error("insn {pc}: opcode {opcode:#04x} has no variant {value:#x} of {what}")]
    BadVariant {
        /// Where.
        pc: Pc,
        /// The opcode byte.
        opcode: u8,
        /// What the value selects.
        what: &'static str,
        /// The value.
        value: i64,
    },
    /// A wide load without its second slot, or with a second slot that is not empty.
    #[error("insn {pc}: the second slot of the wide load is missing or malformed")]
    HalfWideLoad {
        /// Where the wide load starts.
        pc: Pc,
    },
    /// A jump or call to a negative position.
    #[error("insn {pc}: jump by {offset} leaves the program")]
    TargetOutOfRange {
        /// Where.
        pc: Pc,
        /// Offset from the next slot.
        offset: i64,
    },
}

impl DecodeError {
    /// The slot at fault.
    #[must_use]
    pub const fn pc(&self) -> Pc {
        match *self {
            Self::UnknownOpcode { pc, .. }
            | Self::BadRegister { pc, .. }
            | Self::ReservedField { pc, .. }
            | Self::BadVariant { pc, .. }
            | Self::HalfWideLoad { pc }
            | Self::TargetOutOfRange { pc, .. } => pc,
        }
    }
}

/// An instruction and the position behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decoded {
    /// The instruction.
    pub insn: Insn,
    /// Position of the next one.
    pub next: Pc,
}

/// Decodes the instruction at `at` of `slots`.
///
/// Targets are only known not to be negative; [`crate::Program`] checks that they are in the
/// program.
///
/// # Errors
/// The slot is malformed, or `at` is outside of `slots` (as [`DecodeError::HalfWideLoad`] where it
/// is the second slot of a wide load that is missing).
pub fn decode(slots: &[RawInsn], at: Pc) -> Result<Decoded, DecodeError> {
    let raw = *slots.get(at.index()).ok_or(DecodeError::HalfWideLoad { pc: at })?;
    let insn = decode_slot(raw, slots.get(at.index() + 1).copied(), at)?;
    let next = at.checked_add(insn.slots()).ok_or(DecodeError::HalfWideLoad { pc: at })?;
    Ok(Decoded { insn, next })
}

/// Decodes the instruction whose slot at `at` is `raw`, followed by `next`.
pub(crate) fn decode_slot(raw: RawInsn, next: Option<RawInsn>, at: Pc) -> Result<Insn> {
    let fields = Fields { raw, at };
    let class = Class::from_code(raw.opcode & opcode::CLASS_MASK);
    match class.expect("three bits select one of eight classes") {
        Class::Alu => fields.alu(Width::W32),
        Class::Alu64 => fields.alu(Width::W64),
        Class::Jmp => fields.jmp(Width::W64),
        Class::Jmp32 => fields.jmp(Width::W32),
        Class::Ld => fields.ld(next),
        Class::Ldx => fields.ldx(),
        Class::St => fields.st(),
        Class::Stx => fields.stx(),
    }
}

/// Decodes all of `slots`, one element a slot; the second slot of a wide load is `None`.
///
/// # Errors
/// The first malformed instruction.
pub fn decode_all(slots: &[RawInsn]) -> Result<Vec<Option<Insn>>, DecodeError> {
    let mut insns = Vec::with_capacity(slots.len());
    let mut at = Pc::ENTRY;
    while at.index() < slots.len() {
        let Decoded { insn, next } = decode(slots, at)?;
        insns.push(Some(insn));
        insns.resize(next.index(), None);
        at = next;
    }
    Ok(insns)
}

type Result<T, E = DecodeError> = core::result::Result<T, E>;

/// The fields of one slot, with checked access.
struct Fields {
    raw: RawInsn,
    at: Pc,
}

impl Fields {
    fn reg(&self, number: u8) -> Result<Reg> {
        Reg::new(number).ok_or(DecodeError::BadRegister { pc: self.at, number })
    }

    fn dst(&self) -> Result<Reg> {
        self.reg(self.raw.dst)
    }

    fn src(&self) -> Result<Reg> {
        self.reg(self.raw.src)
    }

    fn is_reg_source(&self) -> bool {
        self.raw.opcode & opcode::SOURCE_REG != 0
    }

    /// The second operand; the field that the other form would use must be zero.
    fn operand(&self) -> Result<Operand> {
        if self.is_reg_source() {
            self.reserved("imm")?;
            Ok(Operand::Reg(self.src()?))
        } else {
            self.reserved("src")?;
            Ok(Operand::Imm(self.raw.imm))
        }
    }

    fn reserved(&self, field: &'static str) -> Result<()> {
        let value = match field {
            "dst" => i32::from(self.raw.dst),
            "src" => i32::from(self.raw.src),
            "off" => i32::from(self.raw.off),
            _ => self.raw.imm,
        };
        if value != 0 {
            return Err(self.reserved_error(field));
        }
        Ok(())
    }

    fn reserved_error(&self, field: &'static str) -> DecodeError {
        DecodeError::ReservedField { pc: self.at, opcode: self.raw.opcode, field }
    }

    fn all_reserved(&self, fields: &[&'static str]) -> Result<()> {
        fields.iter().try_for_each(|field| self.reserved(field))
    }

    fn unknown(&self) -> DecodeError {
        DecodeError::UnknownOpcode { pc: self.at, opcode: self.raw.opcode }
    }

    fn bad_variant(&self, what: &'static str, value: impl Into<i64>) -> DecodeError {
        let value = value.into();
        DecodeError::BadVariant { pc: self.at, opcode: self.raw.opcode, what, value }
    }

    fn target(&self, offset: impl Into<i64>) -> Result<Pc> {
        let offset = offset.into();
        self.at.jump(offset).ok_or(DecodeError::TargetOutOfRange { pc: self.at, offset })
    }

    fn alu(&self, width: Width) -> Result<Insn> {
        match self.raw.opcode & opcode::OPERATION_MASK {
            unary::MOV => self.mov(width),
            unary::NEG => {
                if self.is_reg_source() {
                    return Err(self.unknown());
                }
                self.all_reserved(&["src", "off", "imm"])?;
                Ok(Insn::Neg { width, dst: self.dst()? })
            }
            unary::END => self.swap(width),
            operation => {
                let op = AluOp::from_code((operation, self.raw.off)).ok_or_else(|| {
                    match AluOp::from_code((operation, 0)) {
                        Some(_) => self.reserved_error("off"),
                        None => self.unknown(),
                    }
                })?;
                let src = self.operand()?;
                Ok(Insn::Alu { op, width, dst: self.dst()?, src })
            }
        }
    }

    fn mov(&self, width: Width) -> Result<Insn> {
        let dst = self.dst()?;
        match (self.raw.off, self.is_reg_source()) {
            (0, _) => Ok(Insn::Mov { width, dst, src: self.operand()? }),
            (1, true) if width == Width::W64 => {
                let [f0, f1, t0, t1] = self.raw.imm.to_le_bytes();
                let (from, to) = (u16::from_le_bytes([f0, f1]), u16::from_le_bytes([t0, t1]));
                if from == 0 && to == 0 {
                    return Err(self.bad_variant("address space", 0));
                }
                Ok(Insn::AddrSpaceCast { dst, src: self.src()?, to, from })
            }
            (bits, true) => {
                self.reserved("imm")?;
                let from = match bits {
                    8 => Size::B,
                    16 => Size::H,
                    32 if width == Width::W64 => Size::W,
                    _ => return Err(self.bad_variant("sign extension", bits)),
                };
                Ok(Insn::MovSx { width, dst, src: self.src()?, from })
            }
            (_, false) => Err(self.reserved_error("off")),
        }
    }

    fn swap(&self, width: Width) -> Result<Insn> {
        self.all_reserved(&["src", "off"])?;
        let order = ByteOrder::from_code((width.alu_class(), self.is_reg_source()))
            .ok_or_else(|| self.unknown())?;
        let size = match self.raw.imm {
            16 => Size::H,
            32 => Size::W,
            64 => Size::Dw,
            bits => return Err(self.bad_variant("byte swap", bits)),
        };
        Ok(Insn::Swap { order, size, dst: self.dst()? })
    }

    fn jmp(&self, width: Width) -> Result<Insn> {
        match (self.raw.opcode & opcode::OPERATION_MASK, self.is_reg_source(), width) {
            (jump::JA, false, Width::W64) => {
                self.all_reserved(&["dst", "src", "imm"])?;
                Ok(Insn::Jump { target: self.target(self.raw.off)?, long: false })
            }
            (jump::JA, false, Width::W32) => {
                self.all_reserved(&["dst", "src", "off"])?;
                Ok(Insn::Jump { target: self.target(self.raw.imm)?, long: true })
            }
            (jump::CALL, false, Width::W64) => self.call(),
            (jump::EXIT, false, Width::W64) => {
                self.all_reserved(&["dst", "src", "off", "imm"])?;
                Ok(Insn::Exit)
            }
            (jump::COND, false, Width::W64) => {
                self.all_reserved(&["dst", "imm"])?;
                if self.raw.src != 0 {
                    return Err(self.bad_variant("conditional jump", self.raw.src));
                }
                Ok(Insn::MayGoto { target: self.target(self.raw.off)? })
            }
            (operation, _, _) => {
                let op = CmpOp::from_code(operation).ok_or_else(|| self.unknown())?;
                let (lhs, rhs) = (self.dst()?, self.operand()?);
                Ok(Insn::Branch { op, width, lhs, rhs, target: self.target(self.raw.off)? })
            }
        }
    }

    fn call(&self) -> Result<Insn> {
        self.reserved("dst")?;
        let imm = self.raw.imm;
        let target = match self.raw.src {
            call::HELPER => {
                self.reserved("off")?;
                CallTarget::Helper(HelperId(imm as u32))
            }
            call::SUBPROG => {
                self.reserved("off")?;
                CallTarget::Subprog(self.target(imm)?)
            }
            call::KFUNC => CallTarget::Kfunc { btf_id: imm as u32, module: self.raw.off },
            kind => return Err(self.bad_variant("call", kind)),
        };
        Ok(Insn::Call(target))
    }

    fn size(&self) -> Size {
        Size::from_code(self.raw.opcode & opcode::SIZE_MASK).expect("two bits select a size")
    }

    fn mode(&self) -> Result<Mode> {
        Mode::from_code(self.raw.opcode & opcode::MODE_MASK).ok_or_else(|| self.unknown())
    }

    fn ld(&self, next: Option<RawInsn>) -> Result<Insn> {
        let (mode, size) = (self.mode()?, self.size());
        match mode {
            Mode::Imm if size == Size::Dw => self.load_wide(next),
            Mode::Abs | Mode::Ind if size != Size::Dw => {
                self.all_reserved(&["dst", "off"])?;
                let index = match mode {
                    Mode::Ind => Some(self.src()?),
                    _ => {
                        self.reserved("src")?;
                        None
                    }
                };
                Ok(Insn::LoadPacket { size, index, imm: self.raw.imm })
            }
            _ => Err(self.unknown()),
        }
    }

    fn load_wide(&self, next: Option<RawInsn>) -> Result<Insn> {
        let half = DecodeError::HalfWideLoad { pc: self.at };
        let second = next.ok_or(half)?;
        if (RawInsn { imm: 0, ..second }) != RawInsn::default() {
            return Err(half);
        }
        self.reserved("off")?;
        let (low, high) = (self.raw.imm as u32, second.imm as u32);
        let no_high = |source| match high {
            0 => Ok(source),
            _ => Err(self.reserved_error("next_imm")),
        };
        let map = MapIdx(low);
        let source = match self.raw.src {
            wide::IMM => WideSource::Imm(Imm64::new(u64::from(high) << 32 | u64::from(low))),
            wide::MAP_FD => no_high(WideSource::Map(map, MapForm::Fd))?,
            wide::MAP_IDX => no_high(WideSource::Map(map, MapForm::Idx))?,
            wide::MAP_VALUE_FD => WideSource::MapValue(map, high, MapForm::Fd),
            wide::MAP_VALUE_IDX => WideSource::MapValue(map, high, MapForm::Idx),
            wide::BTF_ID => WideSource::Btf { id: low, module: high },
            wide::FUNC => no_high(WideSource::Func(self.target(self.raw.imm)?))?,
            kind => return Err(self.bad_variant("wide load", kind)),
        };
        Ok(Insn::LoadWide { dst: self.dst()?, source })
    }

    fn ldx(&self) -> Result<Insn> {
        let (mode, size) = (self.mode()?, self.size());
        let extend = match mode {
            Mode::Mem => Extend::Zero,
            Mode::MemSx if size != Size::Dw => Extend::Sign,
            _ => return Err(self.unknown()),
        };
        self.reserved("imm")?;
        let (dst, base, off) = (self.dst()?, self.src()?, self.raw.off);
        Ok(Insn::Load { size, extend, dst, base, off })
    }

    fn st(&self) -> Result<Insn> {
        if self.mode()? != Mode::Mem {
            return Err(self.unknown());
        }
        self.reserved("src")?;
        let src = Operand::Imm(self.raw.imm);
        Ok(Insn::Store { size: self.size(), base: self.dst()?, off: self.raw.off, src })
    }

    fn stx(&self) -> Result<Insn> {
        let (mode, size) = (self.mode()?, self.size());
        match mode {
            Mode::Mem => {
                self.reserved("imm")?;
                let src = Operand::Reg(self.src()?);
                Ok(Insn::Store { size, base: self.dst()?, off: self.raw.off, src })
            }
            Mode::Atomic => self.atomic(size),
            _ => Err(self.unknown()),
        }
    }

    fn atomic(&self, size: Size) -> Result<Insn> {
        let (imm, off) = (self.raw.imm, self.raw.off);
        let (dst, src) = (self.dst()?, self.src()?);
        match imm {
            atomic::LOAD_ACQUIRE => {
                return Ok(Insn::LoadAcquire { size, dst, base: src, off });
            }
            atomic::STORE_RELEASE => {
                return Ok(Insn::StoreRelease { size, base: dst, off, src });
            }
            _ => {}
        }
        if !matches!(size, Size::W | Size::Dw) {
            return Err(self.unknown());
        }
        let fetch = imm & atomic::FETCH != 0;
        let op = AtomicOp::from_code(imm & !atomic::FETCH)
            .filter(|op| fetch || !op.always_fetches())
            .ok_or_else(|| self.bad_variant("atomic operation", imm))?;
        Ok(Insn::Atomic { op, size, fetch, base: dst, off, src })
    }
}

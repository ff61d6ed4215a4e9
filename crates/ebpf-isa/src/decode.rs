//! Slots to instructions. Every malformed form is an error, not a later surprise.

use alloc::vec::Vec;

use crate::form::{Form, Source};
use crate::insn::{CallTarget, Imm64, Insn, MapForm, MapIdx, Operand, WideSource};
use crate::opcode::{AluOp, AtomicOp, ByteOrder, Size, Width, atomic, call, wide};
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
pub(crate) fn decode_slot(
    raw: RawInsn,
    next: Option<RawInsn>,
    at: Pc,
) -> Result<Insn, DecodeError> {
    let mut insn = None;
    Slot { raw, at }.decode(next.as_ref(), &mut insn).map_err(|fault| fault.of(raw.opcode, at))?;
    Ok(insn.expect("decoding without a fault gives an instruction"))
}

/// Decodes all of `slots`, one element a slot; the second slot of a wide load is `None`.
///
/// # Errors
/// The first malformed instruction.
pub fn decode_all(slots: &[RawInsn]) -> Result<Vec<Option<Insn>>, DecodeError> {
    let mut insns = Vec::with_capacity(slots.len());
    let mut at = Pc::ENTRY;
    while let Some(&raw) = slots.get(at.index()) {
        insns.push(None);
        let insn = insns.last_mut().expect("just pushed");
        let size = Slot { raw, at }
            .decode(slots.get(at.index() + 1), insn)
            .map_err(|fault| fault.of(raw.opcode, at))?;
        if size == 2 {
            insns.push(None);
        }
        at = at.checked_add(size).ok_or(DecodeError::HalfWideLoad { pc: at })?;
    }
    Ok(insns)
}

/// Why a slot is no instruction, without the place: small enough that a result is no larger than
/// an instruction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    UnknownOpcode,
    BadRegister(u8),
    ReservedField(Field),
    BadVariant(Variant, i32),
    HalfWideLoad,
    TargetOutOfRange(i32),
}

const _: () = assert!(size_of::<Result<Insn>>() == size_of::<Insn>());

impl Fault {
    /// The error of the slot at `pc`, which has this opcode.
    #[cold]
    fn of(self, opcode: u8, pc: Pc) -> DecodeError {
        match self {
            Self::UnknownOpcode => DecodeError::UnknownOpcode { pc, opcode },
            Self::BadRegister(number) => DecodeError::BadRegister { pc, number },
            Self::ReservedField(field) => {
                DecodeError::ReservedField { pc, opcode, field: field.name() }
            }
            Self::BadVariant(variant, value) => {
                DecodeError::BadVariant { pc, opcode, what: variant.name(), value: value.into() }
            }
            Self::HalfWideLoad => DecodeError::HalfWideLoad { pc },
            Self::TargetOutOfRange(offset) => {
                DecodeError::TargetOutOfRange { pc, offset: offset.into() }
            }
        }
    }
}

/// A field of a slot, as errors name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Field {
    Dst,
    Src,
    Off,
    Imm,
    NextImm,
}

impl Field {
    const fn name(self) -> &'static str {
        match self {
            Self::Dst => "dst",
            Self::Src => "src",
            Self::Off => "off",
            Self::Imm => "imm",
            Self::NextImm => "next_imm",
        }
    }
}

/// What a field other than the opcode selects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Variant {
    AddressSpace,
    AtomicOperation,
    ByteSwap,
    Call,
    ConditionalJump,
    SignExtension,
    WideLoad,
}

impl Variant {
    const fn name(self) -> &'static str {
        match self {
            Self::AddressSpace => "address space",
            Self::AtomicOperation => "atomic operation",
            Self::ByteSwap => "byte swap",
            Self::Call => "call",
            Self::ConditionalJump => "conditional jump",
            Self::SignExtension => "sign extension",
            Self::WideLoad => "wide load",
        }
    }
}

type Result<T, E = Fault> = core::result::Result<T, E>;

/// One slot, with checked access to its fields.
struct Slot {
    raw: RawInsn,
    at: Pc,
}

impl Slot {
    /// Puts the instruction of this slot, followed by `next`, into `insn`; gives its number of
    /// slots.
    ///
    /// Each arm writes in place: to gather fields of different sizes into one value first, and to
    /// move that, takes the processor longer than all the rest.
    #[inline(always)]
    fn decode(&self, next: Option<&RawInsn>, insn: &mut Option<Insn>) -> Result<u32> {
        let raw = self.raw;
        match Form::of(raw.opcode) {
            Form::Alu { op, width, source } => *insn = Some(self.alu(op, width, source)?),
            Form::Mov { width, source } if raw.off == 0 => {
                let (dst, src) = (self.dst()?, self.operand(source)?);
                *insn = Some(Insn::Mov { width, dst, src });
            }
            Form::Mov { source: Source::Imm, .. } => {
                self.dst()?;
                return Err(Fault::ReservedField(Field::Off));
            }
            Form::Mov { width, source: Source::Reg } => *insn = Some(self.mov_variant(width)?),
            Form::Neg { width } => {
                self.reserved([Field::Src, Field::Off, Field::Imm])?;
                *insn = Some(Insn::Neg { width, dst: self.dst()? });
            }
            Form::Swap { order } => *insn = Some(self.swap(order)?),
            Form::Jump { long: false } => {
                self.reserved([Field::Dst, Field::Src, Field::Imm])?;
                *insn = Some(Insn::Jump { target: self.target(raw.off.into())?, long: false });
            }
            Form::Jump { long: true } => {
                self.reserved([Field::Dst, Field::Src, Field::Off])?;
                *insn = Some(Insn::Jump { target: self.target(raw.imm)?, long: true });
            }
            Form::Branch { op, width, source } => {
                let (lhs, rhs) = (self.dst()?, self.operand(source)?);
                let target = self.target(raw.off.into())?;
                *insn = Some(Insn::Branch { op, width, lhs, rhs, target });
            }
            Form::MayGoto => {
                self.reserved([Field::Dst, Field::Imm])?;
                if raw.src != 0 {
                    return Err(Fault::BadVariant(Variant::ConditionalJump, raw.src.into()));
                }
                *insn = Some(Insn::MayGoto { target: self.target(raw.off.into())? });
            }
            Form::Call => *insn = Some(Insn::Call(self.callee()?)),
            Form::CallReg => *insn = Some(Insn::Call(CallTarget::Reg(self.register_called()?))),
            Form::Exit => {
                self.reserved([Field::Dst, Field::Src, Field::Off, Field::Imm])?;
                *insn = Some(Insn::Exit);
            }
            Form::LoadWide => {
                *insn = Some(self.load_wide(next)?);
                return Ok(2);
            }
            Form::LoadPacket { size, indexed } => *insn = Some(self.load_packet(size, indexed)?),
            Form::Load { size, extend } => {
                self.reserved([Field::Imm])?;
                let (dst, base, off) = (self.dst()?, self.src()?, raw.off);
                *insn = Some(Insn::Load { size, extend, dst, base, off });
            }
            Form::Store { size, source } => {
                let src = self.operand(source)?;
                *insn = Some(Insn::Store { size, base: self.dst()?, off: raw.off, src });
            }
            Form::Atomic { size } => *insn = Some(self.atomic(size)?),
            Form::Unknown => return Err(Fault::UnknownOpcode),
        }
        Ok(1)
    }

    #[inline]
    fn dst(&self) -> Result<Reg> {
        Reg::new(self.raw.dst).ok_or(Fault::BadRegister(self.raw.dst))
    }

    #[inline]
    fn src(&self) -> Result<Reg> {
        Reg::new(self.raw.src).ok_or(Fault::BadRegister(self.raw.src))
    }

    /// The second operand; the field that the other form would use must be zero.
    #[inline]
    fn operand(&self, source: Source) -> Result<Operand> {
        match source {
            Source::Reg => {
                self.reserved([Field::Imm])?;
                Ok(Operand::Reg(self.src()?))
            }
            Source::Imm => {
                self.reserved([Field::Src])?;
                Ok(Operand::Imm(self.raw.imm))
            }
        }
    }

    /// Fields that the instruction does not use must be zero.
    #[inline]
    fn reserved<const N: usize>(&self, fields: [Field; N]) -> Result<()> {
        for field in fields {
            let is_zero = match field {
                Field::Dst => self.raw.dst == 0,
                Field::Src => self.raw.src == 0,
                Field::Off => self.raw.off == 0,
                Field::Imm | Field::NextImm => self.raw.imm == 0,
            };
            if !is_zero {
                return Err(Fault::ReservedField(field));
            }
        }
        Ok(())
    }

    #[inline]
    fn target(&self, offset: i32) -> Result<Pc> {
        self.at.jump(offset.into()).ok_or(Fault::TargetOutOfRange(offset))
    }

    #[inline]
    fn alu(&self, op: AluOp, width: Width, source: Source) -> Result<Insn> {
        let op = match self.raw.off {
            0 => op,
            off => AluOp::from_code((op.code().0, off)).ok_or(Fault::ReservedField(Field::Off))?,
        };
        let src = self.operand(source)?;
        Ok(Insn::Alu { op, width, dst: self.dst()?, src })
    }

    /// A move with something in `off`.
    fn mov_variant(&self, width: Width) -> Result<Insn> {
        let dst = self.dst()?;
        if (self.raw.off, width) == (1, Width::W64) {
            return self.addr_space_cast(dst);
        }
        self.reserved([Field::Imm])?;
        let from = match self.raw.off {
            8 => Size::B,
            16 => Size::H,
            32 if width == Width::W64 => Size::W,
            bits => return Err(Fault::BadVariant(Variant::SignExtension, bits.into())),
        };
        Ok(Insn::MovSx { width, dst, src: self.src()?, from })
    }

    /// The address spaces are the halves of the immediate.
    fn addr_space_cast(&self, dst: Reg) -> Result<Insn> {
        let [f0, f1, t0, t1] = self.raw.imm.to_le_bytes();
        let (from, to) = (u16::from_le_bytes([f0, f1]), u16::from_le_bytes([t0, t1]));
        if from == 0 && to == 0 {
            return Err(Fault::BadVariant(Variant::AddressSpace, 0));
        }
        Ok(Insn::AddrSpaceCast { dst, src: self.src()?, to, from })
    }

    #[inline]
    fn swap(&self, order: ByteOrder) -> Result<Insn> {
        self.reserved([Field::Src, Field::Off])?;
        let size = match self.raw.imm {
            16 => Size::H,
            32 => Size::W,
            64 => Size::Dw,
            bits => return Err(Fault::BadVariant(Variant::ByteSwap, bits)),
        };
        Ok(Insn::Swap { order, size, dst: self.dst()? })
    }

    #[inline]
    fn callee(&self) -> Result<CallTarget> {
        self.reserved([Field::Dst])?;
        let imm = self.raw.imm;
        match self.raw.src {
            call::HELPER => {
                self.reserved([Field::Off])?;
                Ok(CallTarget::Helper(HelperId(imm as u32)))
            }
            call::SUBPROG => {
                self.reserved([Field::Off])?;
                Ok(CallTarget::Subprog(self.target(imm)?))
            }
            call::KFUNC => Ok(CallTarget::Kfunc { btf_id: imm as u32, module: self.raw.off }),
            kind => Err(Fault::BadVariant(Variant::Call, kind.into())),
        }
    }

    /// The register is in `dst`, where LLVM 19 and gcc put it. Other encodings of this opcode are
    /// none: LLVM before 19 had the register's number in `imm`, and to Linux the opcode is unknown.
    fn register_called(&self) -> Result<Reg> {
        let only_dst = self.reserved([Field::Src, Field::Off, Field::Imm]);
        only_dst.and_then(|()| self.dst()).map_err(|_| Fault::UnknownOpcode)
    }

    fn load_packet(&self, size: Size, indexed: bool) -> Result<Insn> {
        self.reserved([Field::Dst, Field::Off])?;
        let index = if indexed {
            Some(self.src()?)
        } else {
            self.reserved([Field::Src])?;
            None
        };
        Ok(Insn::LoadPacket { size, index, imm: self.raw.imm })
    }

    #[inline]
    fn load_wide(&self, next: Option<&RawInsn>) -> Result<Insn> {
        let second = next.ok_or(Fault::HalfWideLoad)?;
        if (RawInsn { imm: 0, ..*second }) != RawInsn::default() {
            return Err(Fault::HalfWideLoad);
        }
        self.reserved([Field::Off])?;
        let (low, high) = (self.raw.imm as u32, second.imm as u32);
        let no_high = |source| match high {
            0 => Ok(source),
            _ => Err(Fault::ReservedField(Field::NextImm)),
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
            kind => return Err(Fault::BadVariant(Variant::WideLoad, kind.into())),
        };
        Ok(Insn::LoadWide { dst: self.dst()?, source })
    }

    #[inline]
    fn atomic(&self, size: Size) -> Result<Insn> {
        let (imm, off) = (self.raw.imm, self.raw.off);
        let (dst, src) = (self.dst()?, self.src()?);
        match imm {
            atomic::LOAD_ACQUIRE => return Ok(Insn::LoadAcquire { size, dst, base: src, off }),
            atomic::STORE_RELEASE => return Ok(Insn::StoreRelease { size, base: dst, off, src }),
            _ => {}
        }
        if !matches!(size, Size::W | Size::Dw) {
            return Err(Fault::UnknownOpcode);
        }
        let fetch = imm & atomic::FETCH != 0;
        let op = AtomicOp::from_code(imm & !atomic::FETCH)
            .filter(|op| fetch || !op.always_fetches())
            .ok_or(Fault::BadVariant(Variant::AtomicOperation, imm))?;
        Ok(Insn::Atomic { op, size, fetch, base: dst, off, src })
    }
}

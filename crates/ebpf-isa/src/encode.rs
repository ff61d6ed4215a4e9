//! Instructions to slots: the inverse of decoding.

use alloc::vec::Vec;

use crate::insn::{CallTarget, Insn, MapForm, Operand, WideSource};
use crate::opcode::{
    AluOp, AtomicOp, Class, Extend, Mode, SOURCE_REG, Size, Width, atomic, call, jump, unary, wide,
};
use crate::{Pc, RawInsn, Reg};

/// Why an instruction has no encoding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// A jump whose target its offset field cannot reach.
    #[error("insn {pc}: the jump to {target} does not fit its {bits}-bit offset")]
    OffsetTooFar {
        /// Where the jump is.
        pc: Pc,
        /// Where it leads.
        target: Pc,
        /// Width of the offset field.
        bits: u32,
    },
    /// A combination that the instruction set does not have (a byte swap of one byte, a
    /// sign-extending 8-byte load, an exchange without fetch, ...).
    #[error("insn {pc}: {what} does not exist in this form")]
    NoSuchForm {
        /// Where.
        pc: Pc,
        /// The instruction's kind.
        what: &'static str,
    },
}

/// Encodes `insn` at `at`: the slot, and the second one of a wide load.
///
/// # Errors
/// The instruction has no encoding.
pub fn encode(insn: Insn, at: Pc) -> Result<(RawInsn, Option<RawInsn>), EncodeError> {
    if let Insn::LoadWide { dst, source } = insn {
        return encode_wide(dst, source, at);
    }
    let raw = match insn {
        Insn::Alu { op, width, dst, src } => encode_alu(op, width, dst, src),
        Insn::Mov { width, dst, src } => {
            operand_form(width.alu_class().code() | unary::MOV, dst, src)
        }
        Insn::MovSx { width, dst, src, from } => {
            if from == Size::Dw || (from, width) == (Size::W, Width::W32) {
                return Err(EncodeError::NoSuchForm { pc: at, what: "sign extension" });
            }
            let opcode = width.alu_class().code() | unary::MOV;
            RawInsn { off: i16::from(from.bits()), ..operand_form(opcode, dst, Operand::Reg(src)) }
        }
        Insn::AddrSpaceCast { dst, src, to, from } => {
            if to == 0 && from == 0 {
                return Err(EncodeError::NoSuchForm { pc: at, what: "address-space cast" });
            }
            let opcode = Class::Alu64.code() | unary::MOV;
            let imm = (u32::from(to) << 16 | u32::from(from)) as i32;
            RawInsn { off: 1, imm, ..operand_form(opcode, dst, Operand::Reg(src)) }
        }
        Insn::Neg { width, dst } => {
            let opcode = width.alu_class().code() | unary::NEG;
            RawInsn { opcode, dst: dst.number(), ..RawInsn::default() }
        }
        Insn::Swap { order, size, dst } => {
            if size == Size::B {
                return Err(EncodeError::NoSuchForm { pc: at, what: "byte swap" });
            }
            let (class, source_bit) = order.code();
            let opcode = class.code() | unary::END | if source_bit { SOURCE_REG } else { 0 };
            RawInsn { opcode, dst: dst.number(), imm: i32::from(size.bits()), ..RawInsn::default() }
        }
        Insn::Jump { target, long } => encode_jump(target, long, at)?,
        Insn::MayGoto { target } => RawInsn {
            opcode: Class::Jmp.code() | jump::COND,
            off: short_offset(at, target)?,
            ..RawInsn::default()
        },
        Insn::Branch { op, width, lhs, rhs, target } => RawInsn {
            off: short_offset(at, target)?,
            ..operand_form(width.jmp_class().code() | op.code(), lhs, rhs)
        },
        Insn::Call(target) => encode_call(target, at)?,
        Insn::Exit => RawInsn { opcode: Class::Jmp.code() | jump::EXIT, ..RawInsn::default() },
        memory => encode_memory(memory, at)?,
    };
    Ok((raw, None))
}

/// Encodes a whole program, given one element a slot as [`crate::decode_all`] gives it.
///
/// # Errors
/// The first instruction that has no encoding.
pub fn encode_all(insns: &[Option<Insn>]) -> Result<Vec<RawInsn>, EncodeError> {
    let mut slots = Vec::with_capacity(insns.len());
    for (at, insn) in insns.iter().enumerate() {
        let Some(insn) = insn else { continue };
        let (first, second) = encode(*insn, Pc(at as u32))?;
        slots.push(first);
        slots.extend(second);
    }
    Ok(slots)
}

/// A slot with a register or an immediate as its second operand.
fn operand_form(opcode: u8, dst: Reg, src: Operand) -> RawInsn {
    let base = RawInsn { opcode, dst: dst.number(), ..RawInsn::default() };
    match src {
        Operand::Reg(reg) => RawInsn { opcode: opcode | SOURCE_REG, src: reg.number(), ..base },
        Operand::Imm(imm) => RawInsn { imm, ..base },
    }
}

fn encode_alu(op: AluOp, width: Width, dst: Reg, src: Operand) -> RawInsn {
    let (operation, off) = op.code();
    RawInsn { off, ..operand_form(width.alu_class().code() | operation, dst, src) }
}

fn short_offset(at: Pc, target: Pc) -> Result<i16, EncodeError> {
    i16::try_from(at.offset_to(target)).map_err(|_| EncodeError::OffsetTooFar {
        pc: at,
        target,
        bits: 16,
    })
}

fn long_offset(at: Pc, target: Pc) -> Result<i32, EncodeError> {
    i32::try_from(at.offset_to(target)).map_err(|_| EncodeError::OffsetTooFar {
        pc: at,
        target,
        bits: 32,
    })
}

fn encode_jump(target: Pc, long: bool, at: Pc) -> Result<RawInsn, EncodeError> {
    Ok(if long {
        let opcode = Class::Jmp32.code() | jump::JA;
        RawInsn { opcode, imm: long_offset(at, target)?, ..RawInsn::default() }
    } else {
        let opcode = Class::Jmp.code() | jump::JA;
        RawInsn { opcode, off: short_offset(at, target)?, ..RawInsn::default() }
    })
}

fn encode_call(target: CallTarget, at: Pc) -> Result<RawInsn, EncodeError> {
    let (src, off, imm) = match target {
        CallTarget::Helper(id) => (call::HELPER, 0, id.0 as i32),
        CallTarget::Subprog(target) => (call::SUBPROG, 0, long_offset(at, target)?),
        CallTarget::Kfunc { btf_id, module } => (call::KFUNC, module, btf_id as i32),
    };
    Ok(RawInsn { opcode: Class::Jmp.code() | jump::CALL, dst: 0, src, off, imm })
}

fn encode_wide(
    dst: Reg,
    source: WideSource,
    at: Pc,
) -> Result<(RawInsn, Option<RawInsn>), EncodeError> {
    let (src, low, high) = match source {
        WideSource::Imm(imm) => (wide::IMM, imm.get() as u32, (imm.get() >> 32) as u32),
        WideSource::Map(map, MapForm::Fd) => (wide::MAP_FD, map.0, 0),
        WideSource::Map(map, MapForm::Idx) => (wide::MAP_IDX, map.0, 0),
        WideSource::MapValue(map, offset, MapForm::Fd) => (wide::MAP_VALUE_FD, map.0, offset),
        WideSource::MapValue(map, offset, MapForm::Idx) => (wide::MAP_VALUE_IDX, map.0, offset),
        WideSource::Btf { id, module } => (wide::BTF_ID, id, module),
        WideSource::Func(target) => (wide::FUNC, long_offset(at, target)? as u32, 0),
    };
    let opcode = Class::Ld.code() | Mode::Imm.code() | Size::Dw.code();
    let first = RawInsn { opcode, dst: dst.number(), src, off: 0, imm: low as i32 };
    Ok((first, Some(RawInsn { imm: high as i32, ..RawInsn::default() })))
}

fn memory_form(class: Class, mode: Mode, size: Size, dst: Reg, src: u8, off: i16) -> RawInsn {
    let opcode = class.code() | mode.code() | size.code();
    RawInsn { opcode, dst: dst.number(), src, off, imm: 0 }
}

fn encode_memory(insn: Insn, at: Pc) -> Result<RawInsn, EncodeError> {
    let no_such_form = |what| EncodeError::NoSuchForm { pc: at, what };
    let stx = |size, base, src: Reg, off, imm| RawInsn {
        imm,
        ..memory_form(Class::Stx, Mode::Atomic, size, base, src.number(), off)
    };
    Ok(match insn {
        Insn::Load { size, extend: Extend::Zero, dst, base, off } => {
            memory_form(Class::Ldx, Mode::Mem, size, dst, base.number(), off)
        }
        Insn::Load { size, extend: Extend::Sign, dst, base, off } if size != Size::Dw => {
            memory_form(Class::Ldx, Mode::MemSx, size, dst, base.number(), off)
        }
        Insn::Load { .. } => return Err(no_such_form("sign-extending load")),
        Insn::Store { size, base, off, src: Operand::Reg(src) } => {
            memory_form(Class::Stx, Mode::Mem, size, base, src.number(), off)
        }
        Insn::Store { size, base, off, src: Operand::Imm(imm) } => {
            RawInsn { imm, ..memory_form(Class::St, Mode::Mem, size, base, 0, off) }
        }
        Insn::LoadAcquire { size, dst, base, off } => {
            stx(size, dst, base, off, atomic::LOAD_ACQUIRE)
        }
        Insn::StoreRelease { size, base, off, src } => {
            stx(size, base, src, off, atomic::STORE_RELEASE)
        }
        Insn::Atomic { op, size, fetch, base, off, src } => {
            let legal = matches!(size, Size::W | Size::Dw) && (fetch || !op.always_fetches());
            if !legal {
                return Err(no_such_form("atomic operation"));
            }
            stx(size, base, src, off, atomic_imm(op, fetch))
        }
        Insn::LoadPacket { size, index, imm } if size != Size::Dw => {
            let mode = if index.is_some() { Mode::Ind } else { Mode::Abs };
            let src = index.map_or(0, Reg::number);
            RawInsn { imm, ..memory_form(Class::Ld, mode, size, Reg::R0, src, 0) }
        }
        _ => return Err(no_such_form("packet load")),
    })
}

const fn atomic_imm(op: AtomicOp, fetch: bool) -> i32 {
    op.code() | if fetch { atomic::FETCH } else { 0 }
}

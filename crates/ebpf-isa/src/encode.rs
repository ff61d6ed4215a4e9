//! Instructions to slots: the inverse of decoding.

use alloc::vec::Vec;

use crate::form::{Form, Source};
use crate::insn::{CallTarget, Insn, MapForm, Operand, WideSource};
use crate::opcode::{AtomicOp, Extend, Size, Width, atomic, call, wide};
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
    /// An instruction that names [`Reg::Ax`], which exists only after rewriting.
    #[error("insn {pc}: the auxiliary register exists only after rewriting and has no encoding")]
    AuxiliaryRegister {
        /// Where.
        pc: Pc,
    },
    /// A call of a function of the host by number, which exists only after rewriting.
    #[error("insn {pc}: calls of native functions exist only after rewriting and have no encoding")]
    NativeCall {
        /// Where.
        pc: Pc,
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
#[inline]
pub fn encode(insn: Insn, at: Pc) -> Result<(RawInsn, Option<RawInsn>), EncodeError> {
    let (first, second) = match insn {
        Insn::LoadWide { dst, source } => {
            let (first, next_imm) = encode_wide(dst, source, at)?;
            (first, Some(RawInsn { imm: next_imm as i32, ..RawInsn::default() }))
        }
        one_slot => (encode_slot(one_slot, at)?, None),
    };
    // What else these fields hold is never that large.
    if first.dst == Reg::Ax.number() || first.src == Reg::Ax.number() {
        return Err(EncodeError::AuxiliaryRegister { pc: at });
    }
    Ok((first, second))
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
        if let Some(second) = second {
            slots.push(second);
        }
    }
    Ok(slots)
}

/// Every instruction but a wide load.
#[inline(always)]
fn encode_slot(insn: Insn, at: Pc) -> Result<RawInsn, EncodeError> {
    let no_such_form = |what| Err(EncodeError::NoSuchForm { pc: at, what });
    Ok(match insn {
        Insn::Alu { op, width, dst, src } => {
            let (_, off) = op.code();
            RawInsn { off, ..with_operand(|source| Form::Alu { op, width, source }, dst, src) }
        }
        Insn::Mov { width, dst, src } => {
            with_operand(|source| Form::Mov { width, source }, dst, src)
        }
        Insn::MovSx { width, from, .. }
            if from == Size::Dw || (from, width) == (Size::W, Width::W32) =>
        {
            return no_such_form("sign extension");
        }
        Insn::MovSx { width, dst, src, from } => {
            let form = Form::Mov { width, source: Source::Reg };
            RawInsn { off: i16::from(from.bits()), ..with_regs(form, dst, src) }
        }
        Insn::AddrSpaceCast { to: 0, from: 0, .. } => return no_such_form("address-space cast"),
        Insn::AddrSpaceCast { dst, src, to, from } => {
            let form = Form::Mov { width: Width::W64, source: Source::Reg };
            let imm = (u32::from(to) << 16 | u32::from(from)) as i32;
            RawInsn { off: 1, imm, ..with_regs(form, dst, src) }
        }
        Insn::Neg { width, dst } => with_dst(Form::Neg { width }, dst),
        Insn::Swap { size: Size::B, .. } => return no_such_form("byte swap"),
        Insn::Swap { order, size, dst } => {
            RawInsn { imm: i32::from(size.bits()), ..with_dst(Form::Swap { order }, dst) }
        }
        Insn::Jump { target, long: false } => {
            RawInsn { off: short_offset(at, target)?, ..empty(Form::Jump { long: false }) }
        }
        Insn::Jump { target, long: true } => {
            RawInsn { imm: long_offset(at, target)?, ..empty(Form::Jump { long: true }) }
        }
        Insn::Branch { op, width, lhs, rhs, target } => RawInsn {
            off: short_offset(at, target)?,
            ..with_operand(|source| Form::Branch { op, width, source }, lhs, rhs)
        },
        Insn::MayGoto { target } => {
            RawInsn { off: short_offset(at, target)?, ..empty(Form::MayGoto) }
        }
        Insn::Call(target) => encode_call(target, at)?,
        Insn::Exit => empty(Form::Exit),
        Insn::LoadWide { dst, source } => encode_wide(dst, source, at)?.0,
        Insn::Load { size: Size::Dw, extend: Extend::Sign, .. } => {
            return no_such_form("sign-extending load");
        }
        Insn::Load { size, extend, dst, base, off } => {
            RawInsn { off, ..with_regs(Form::Load { size, extend }, dst, base) }
        }
        Insn::Store { size, base, off, src } => {
            RawInsn { off, ..with_operand(|source| Form::Store { size, source }, base, src) }
        }
        Insn::LoadAcquire { size, dst, base, off } => {
            let imm = atomic::LOAD_ACQUIRE;
            RawInsn { off, imm, ..with_regs(Form::Atomic { size }, dst, base) }
        }
        Insn::StoreRelease { size, base, off, src } => {
            let imm = atomic::STORE_RELEASE;
            RawInsn { off, imm, ..with_regs(Form::Atomic { size }, base, src) }
        }
        Insn::Atomic { op, size, fetch, base, off, src } => {
            let Some(imm) = atomic_imm(op, size, fetch) else {
                return no_such_form("atomic operation");
            };
            RawInsn { off, imm, ..with_regs(Form::Atomic { size }, base, src) }
        }
        Insn::LoadPacket { size: Size::Dw, .. } => return no_such_form("packet load"),
        Insn::LoadPacket { size, index, imm } => {
            let form = Form::LoadPacket { size, indexed: index.is_some() };
            RawInsn { src: index.map_or(0, Reg::number), imm, ..empty(form) }
        }
    })
}

/// A slot of this form; every other field is zero.
#[inline]
fn empty(form: Form) -> RawInsn {
    RawInsn { opcode: form.opcode(), ..RawInsn::default() }
}

#[inline]
fn with_dst(form: Form, dst: Reg) -> RawInsn {
    RawInsn { dst: dst.number(), ..empty(form) }
}

#[inline]
fn with_regs(form: Form, dst: Reg, src: Reg) -> RawInsn {
    RawInsn { src: src.number(), ..with_dst(form, dst) }
}

/// A slot with a register or an immediate as its second operand.
#[inline]
fn with_operand(form: impl Fn(Source) -> Form, dst: Reg, src: Operand) -> RawInsn {
    match src {
        Operand::Reg(src) => with_regs(form(Source::Reg), dst, src),
        Operand::Imm(imm) => RawInsn { imm, ..with_dst(form(Source::Imm), dst) },
    }
}

#[inline]
fn short_offset(at: Pc, target: Pc) -> Result<i16, EncodeError> {
    i16::try_from(at.offset_to(target)).map_err(|_| EncodeError::OffsetTooFar {
        pc: at,
        target,
        bits: 16,
    })
}

#[inline]
fn long_offset(at: Pc, target: Pc) -> Result<i32, EncodeError> {
    i32::try_from(at.offset_to(target)).map_err(|_| EncodeError::OffsetTooFar {
        pc: at,
        target,
        bits: 32,
    })
}

fn encode_call(target: CallTarget, at: Pc) -> Result<RawInsn, EncodeError> {
    let (src, off, imm) = match target {
        CallTarget::Helper(id) => (call::HELPER, 0, id.0 as i32),
        CallTarget::Subprog(target) => (call::SUBPROG, 0, long_offset(at, target)?),
        CallTarget::Kfunc { btf_id, module } => (call::KFUNC, module, btf_id as i32),
        CallTarget::Reg(callee) => return Ok(with_dst(Form::CallReg, callee)),
        CallTarget::Native(_) => return Err(EncodeError::NativeCall { pc: at }),
    };
    Ok(RawInsn { src, off, imm, ..empty(Form::Call) })
}

/// The first slot, and the immediate of the second.
fn encode_wide(dst: Reg, source: WideSource, at: Pc) -> Result<(RawInsn, u32), EncodeError> {
    let (src, low, high) = match source {
        WideSource::Imm(imm) => (wide::IMM, imm.get() as u32, (imm.get() >> 32) as u32),
        WideSource::Map(map, MapForm::Fd) => (wide::MAP_FD, map.0, 0),
        WideSource::Map(map, MapForm::Idx) => (wide::MAP_IDX, map.0, 0),
        WideSource::MapValue(map, offset, MapForm::Fd) => (wide::MAP_VALUE_FD, map.0, offset),
        WideSource::MapValue(map, offset, MapForm::Idx) => (wide::MAP_VALUE_IDX, map.0, offset),
        WideSource::Btf { id, module } => (wide::BTF_ID, id, module),
        WideSource::Func(target) => (wide::FUNC, long_offset(at, target)? as u32, 0),
    };
    Ok((RawInsn { src, imm: low as i32, ..with_dst(Form::LoadWide, dst) }, high))
}

/// `imm` of a read-modify-write; `None` where there is none of this size, or none without fetch.
const fn atomic_imm(op: AtomicOp, size: Size, fetch: bool) -> Option<i32> {
    if !matches!(size, Size::W | Size::Dw) || (op.always_fetches() && !fetch) {
        return None;
    }
    Some(op.code() | if fetch { atomic::FETCH } else { 0 })
}

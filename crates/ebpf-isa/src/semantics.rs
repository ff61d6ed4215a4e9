//! What each operation computes: pure, total functions on 64-bit register values.
//!
//! They are always inlined: where the operation is a constant, nothing is left of the choice.
//!
//! RFC 9669, sections 4.1 to 4.3 and 5.3. Every engine must agree with these functions, and all of
//! them with tables of literal expected values.

use crate::opcode::{AluOp, AtomicOp, ByteOrder, CmpOp, Extend, Size, Width};

/// Zero-extends the low bits of `value` that `width` keeps.
#[inline(always)]
#[must_use]
pub const fn truncate(width: Width, value: u64) -> u64 {
    match width {
        Width::W32 => value as u32 as u64,
        Width::W64 => value,
    }
}

/// A 32-bit immediate as the operand of a 64-bit operation.
#[inline(always)]
#[must_use]
pub const fn immediate(imm: i32) -> u64 {
    imm as i64 as u64
}

/// `dst op src`; a 32-bit result is zero-extended.
#[inline(always)]
#[must_use]
pub const fn alu(op: AluOp, width: Width, dst: u64, src: u64) -> u64 {
    match width {
        Width::W32 => alu32(op, dst as u32, src as u32) as u64,
        Width::W64 => alu64(op, dst, src),
    }
}

macro_rules! define_alu {
    ($name:ident, $unsigned:ty, $signed:ty) => {
        #[allow(trivial_numeric_casts, reason = "the 32-bit form casts a shift count to itself")]
        #[inline(always)]
        const fn $name(op: AluOp, dst: $unsigned, src: $unsigned) -> $unsigned {
            match op {
                AluOp::Add => dst.wrapping_add(src),
                AluOp::Sub => dst.wrapping_sub(src),
                AluOp::Mul => dst.wrapping_mul(src),
                AluOp::Div => match src {
                    0 => 0,
                    _ => dst / src,
                },
                AluOp::SDiv => match src {
                    0 => 0,
                    _ => (dst as $signed).wrapping_div(src as $signed) as $unsigned,
                },
                AluOp::Mod => match src {
                    0 => dst,
                    _ => dst % src,
                },
                AluOp::SMod => match src {
                    0 => dst,
                    _ => (dst as $signed).wrapping_rem(src as $signed) as $unsigned,
                },
                AluOp::Or => dst | src,
                AluOp::And => dst & src,
                AluOp::Xor => dst ^ src,
                AluOp::Lsh => dst.wrapping_shl(src as u32),
                AluOp::Rsh => dst.wrapping_shr(src as u32),
                AluOp::Arsh => (dst as $signed).wrapping_shr(src as u32) as $unsigned,
            }
        }
    };
}
define_alu!(alu32, u32, i32);
define_alu!(alu64, u64, i64);

/// `-dst`; a 32-bit result is zero-extended.
#[inline(always)]
#[must_use]
pub const fn neg(width: Width, dst: u64) -> u64 {
    truncate(width, dst.wrapping_neg())
}

/// The low `from` bits of `src`, sign-extended to `width`; a 32-bit result is zero-extended.
#[inline(always)]
#[must_use]
pub const fn movsx(width: Width, from: Size, src: u64) -> u64 {
    truncate(width, extend(Extend::Sign, from, src))
}

/// The low `size` bits of a loaded `value`, extended to 64 bits.
#[inline(always)]
#[must_use]
pub const fn extend(extend: Extend, size: Size, value: u64) -> u64 {
    match (extend, size) {
        (_, Size::Dw) => value,
        (Extend::Zero, Size::B) => value as u8 as u64,
        (Extend::Zero, Size::H) => value as u16 as u64,
        (Extend::Zero, Size::W) => value as u32 as u64,
        (Extend::Sign, Size::B) => value as i8 as u64,
        (Extend::Sign, Size::H) => value as i16 as u64,
        (Extend::Sign, Size::W) => value as i32 as u64,
    }
}

/// Byte order conversion of the low `size` bits on a little-endian machine; the rest is cleared.
/// A size of one byte leaves that byte.
#[inline(always)]
#[must_use]
pub const fn swap(order: ByteOrder, size: Size, value: u64) -> u64 {
    let low = extend(Extend::Zero, size, value);
    match order {
        ByteOrder::Le => low,
        ByteOrder::Be | ByteOrder::Swap => low.swap_bytes() >> (64 - size.bits() as u32),
    }
}

/// Whether the comparison holds.
#[inline(always)]
#[must_use]
pub const fn compare(op: CmpOp, width: Width, lhs: u64, rhs: u64) -> bool {
    let (ul, ur) = (truncate(width, lhs), truncate(width, rhs));
    let (sl, sr) = match width {
        Width::W32 => (lhs as i32 as i64, rhs as i32 as i64),
        Width::W64 => (lhs as i64, rhs as i64),
    };
    match op {
        CmpOp::Eq => ul == ur,
        CmpOp::Ne => ul != ur,
        CmpOp::Gt => ul > ur,
        CmpOp::Ge => ul >= ur,
        CmpOp::Lt => ul < ur,
        CmpOp::Le => ul <= ur,
        CmpOp::Sgt => sl > sr,
        CmpOp::Sge => sl >= sr,
        CmpOp::Slt => sl < sr,
        CmpOp::Sle => sl <= sr,
        CmpOp::Set => ul & ur != 0,
    }
}

/// What an atomic operation leaves in memory, of which the low `size` bits are stored: `old` is
/// the value there, `src` the operand, `r0` what compare-and-exchange expects.
#[inline(always)]
#[must_use]
pub const fn atomic(op: AtomicOp, size: Size, old: u64, src: u64, r0: u64) -> u64 {
    match op {
        AtomicOp::Add => old.wrapping_add(src),
        AtomicOp::Or => old | src,
        AtomicOp::And => old & src,
        AtomicOp::Xor => old ^ src,
        AtomicOp::Xchg => src,
        AtomicOp::Cmpxchg => {
            if extend(Extend::Zero, size, old) == extend(Extend::Zero, size, r0) {
                src
            } else {
                old
            }
        }
    }
}

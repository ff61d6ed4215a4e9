//! Machine words: the one place where widths and signs are told apart.
//!
//! A word is a pattern of bits without a sign, as in a register; the *operations* are signed or
//! unsigned. All rules of the domain are written over these traits, so none of them contains a
//! cast, and the 32-bit and the 64-bit form of a rule are the same code.

use core::cmp::Ordering;
use core::fmt;
use core::ops::{BitAnd, BitOr, BitXor, Not, Shl, Shr};

/// A pattern of bits with two orders: unsigned ([`Ord`]) and signed (two's complement).
///
/// Shift counts are below [`Word::BITS`].
pub trait Word:
    Copy
    + Ord
    + fmt::Debug
    + Not<Output = Self>
    + BitAnd<Output = Self>
    + BitOr<Output = Self>
    + BitXor<Output = Self>
    + Shl<u32, Output = Self>
    + Shr<u32, Output = Self>
{
    /// Number of bits.
    const BITS: u32;
    /// 0.
    const ZERO: Self;
    /// 1.
    const ONE: Self;
    /// All bits set: the greatest unsigned value, and -1.
    const ONES: Self;
    /// The smallest signed value: the sign bit alone.
    const SIGNED_MIN: Self;
    /// The greatest signed value: all bits but the sign.
    const SIGNED_MAX: Self;

    /// Sum, modulo 2^BITS.
    #[must_use]
    fn wrapping_add(self, other: Self) -> Self;
    /// Difference, modulo 2^BITS.
    #[must_use]
    fn wrapping_sub(self, other: Self) -> Self;
    /// Product, modulo 2^BITS.
    #[must_use]
    fn wrapping_mul(self, other: Self) -> Self;
    /// Whether the unsigned sum does not fit.
    fn add_carries(self, other: Self) -> bool;
    /// The unsigned product, if it fits.
    fn unsigned_mul(self, other: Self) -> Option<Self>;
    /// The signed sum, if it fits.
    fn signed_add(self, other: Self) -> Option<Self>;
    /// The signed difference, if it fits.
    fn signed_sub(self, other: Self) -> Option<Self>;
    /// The signed product, if it fits.
    fn signed_mul(self, other: Self) -> Option<Self>;
    /// Shift right, with copies of the sign bit coming in.
    #[must_use]
    fn signed_shr(self, count: u32) -> Self;
    /// Signed comparison.
    fn signed_cmp(self, other: Self) -> Ordering;
    /// The highest set bit and all bits below it set; 0 for 0.
    #[must_use]
    fn fill_below(self) -> Self;
    /// The bytes in reverse order.
    #[must_use]
    fn swap_bytes(self) -> Self;

    /// The word as a number of bits to shift by, if it is below [`Word::BITS`].
    fn as_shift(self) -> Option<u32>;

    /// Whether the sign bit is set.
    fn is_negative(self) -> bool {
        self & Self::SIGNED_MIN != Self::ZERO
    }

    /// Signed `self <= other`.
    fn signed_le(self, other: Self) -> bool {
        self.signed_cmp(other) != Ordering::Greater
    }

    /// Signed `self < other`.
    fn signed_lt(self, other: Self) -> bool {
        self.signed_cmp(other) == Ordering::Less
    }

    /// The smaller of two signed values.
    #[must_use]
    fn signed_min(self, other: Self) -> Self {
        if self.signed_le(other) { self } else { other }
    }

    /// The greater of two signed values.
    #[must_use]
    fn signed_max(self, other: Self) -> Self {
        if self.signed_le(other) { other } else { self }
    }

    /// The word whose low `bits` bits are set; `bits` is at most [`Word::BITS`].
    #[must_use]
    fn low_mask(bits: u32) -> Self {
        match bits {
            0 => Self::ZERO,
            _ => Self::ONES >> (Self::BITS - bits),
        }
    }

    /// The low `bits` bits with their sign extended; `bits` is between 1 and [`Word::BITS`].
    #[must_use]
    fn sign_extend(self, bits: u32) -> Self {
        let unused = Self::BITS - bits;
        (self << unused).signed_shr(unused)
    }
}

/// A word of two halves: a register and its subregister.
pub trait Wide: Word {
    /// The word of half the width.
    type Half: Word;

    /// The low half.
    fn low(self) -> Self::Half;
    /// The high half.
    fn high(self) -> Self::Half;
    /// The word of these halves.
    #[must_use]
    fn join(high: Self::Half, low: Self::Half) -> Self;

    /// A half, extended with zeroes.
    #[must_use]
    fn zero_extended(half: Self::Half) -> Self {
        Self::join(Self::Half::ZERO, half)
    }

    /// A half, extended with copies of its sign bit.
    #[must_use]
    fn sign_extended(half: Self::Half) -> Self {
        Self::zero_extended(half).sign_extend(Self::Half::BITS)
    }

    /// The same word with another low half.
    #[must_use]
    fn with_low(self, low: Self::Half) -> Self {
        Self::join(self.high(), low)
    }
}

macro_rules! machine_word {
    ($unsigned:ty, $signed:ty) => {
        impl Word for $unsigned {
            const BITS: u32 = <$unsigned>::BITS;
            const ZERO: Self = 0;
            const ONE: Self = 1;
            const ONES: Self = <$unsigned>::MAX;
            const SIGNED_MIN: Self = <$signed>::MIN.cast_unsigned();
            const SIGNED_MAX: Self = <$signed>::MAX.cast_unsigned();

            fn wrapping_add(self, other: Self) -> Self {
                self.wrapping_add(other)
            }
            fn wrapping_sub(self, other: Self) -> Self {
                self.wrapping_sub(other)
            }
            fn wrapping_mul(self, other: Self) -> Self {
                self.wrapping_mul(other)
            }
            fn add_carries(self, other: Self) -> bool {
                self.checked_add(other).is_none()
            }
            fn unsigned_mul(self, other: Self) -> Option<Self> {
                self.checked_mul(other)
            }
            fn signed_add(self, other: Self) -> Option<Self> {
                let sum = self.cast_signed().checked_add(other.cast_signed());
                sum.map(<$signed>::cast_unsigned)
            }
            fn signed_sub(self, other: Self) -> Option<Self> {
                let difference = self.cast_signed().checked_sub(other.cast_signed());
                difference.map(<$signed>::cast_unsigned)
            }
            fn signed_mul(self, other: Self) -> Option<Self> {
                let product = self.cast_signed().checked_mul(other.cast_signed());
                product.map(<$signed>::cast_unsigned)
            }
            fn signed_shr(self, count: u32) -> Self {
                (self.cast_signed() >> count).cast_unsigned()
            }
            fn signed_cmp(self, other: Self) -> Ordering {
                self.cast_signed().cmp(&other.cast_signed())
            }
            fn fill_below(self) -> Self {
                Self::low_mask(Self::BITS - self.leading_zeros())
            }
            fn swap_bytes(self) -> Self {
                self.swap_bytes()
            }
            fn as_shift(self) -> Option<u32> {
                u32::try_from(self).ok().filter(|&count| count < Self::BITS)
            }
        }
    };
}
machine_word!(u32, i32);
machine_word!(u64, i64);

impl Wide for u64 {
    type Half = u32;

    fn low(self) -> u32 {
        self as u32
    }
    fn high(self) -> u32 {
        (self >> 32) as u32
    }
    fn join(high: u32, low: u32) -> Self {
        Self::from(high) << 32 | Self::from(low)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signed_order_differs_from_unsigned_order_at_the_sign_bit() {
        assert!(1_u32 < 0x8000_0000 && 0x8000_0000_u32.signed_lt(1));
        assert_eq!(u64::MAX.signed_min(0), u64::MAX);
        assert_eq!(u64::MAX.signed_max(0), 0);
    }

    #[test]
    fn halves_join_and_extend() {
        assert_eq!(u64::join(0x1234_5678, 0x9abc_def0), 0x1234_5678_9abc_def0);
        assert_eq!(0x1234_5678_9abc_def0_u64.low(), 0x9abc_def0);
        assert_eq!(0x1234_5678_9abc_def0_u64.high(), 0x1234_5678);
        assert_eq!(u64::zero_extended(0x8000_0000), 0x8000_0000);
        assert_eq!(u64::sign_extended(0x8000_0000), 0xffff_ffff_8000_0000);
        assert_eq!(0x80_u64.sign_extend(8), 0xffff_ffff_ffff_ff80);
        assert_eq!(0xff7f_u64.sign_extend(8), 0x7f);
    }

    #[test]
    fn masks_reach_from_nothing_to_the_whole_word() {
        assert_eq!(u32::low_mask(0), 0);
        assert_eq!(u32::low_mask(5), 0x1f);
        assert_eq!(u32::low_mask(32), u32::MAX);
        assert_eq!(0_u64.fill_below(), 0);
        assert_eq!(0x1400_u64.fill_below(), 0x1fff);
        assert_eq!((1_u64 << 63).fill_below(), u64::MAX);
    }
}

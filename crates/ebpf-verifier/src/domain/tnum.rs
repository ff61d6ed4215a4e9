//! Tristate numbers: what is known of each bit of a value.
//!
//! The operations are those of Vishwanathan et al., *Sound, Precise, and Fast Abstract
//! Interpretation with Tristate Numbers* (CGO 2022), as far as the kernel uses them; where it uses
//! another one, `docs/kernel-facts.md` says which.

use core::fmt;
use core::ops::{Add, BitAnd, BitOr, BitXor, Mul, Shl, Shr, Sub};

use super::word::{Wide, Word};

/// For each bit: known to be 0, known to be 1, or unknown.
///
/// A set bit of `mask` is unknown (and 0 in `value`), any other bit is that of `value`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Tnum<W = u64> {
    /// The known bits.
    pub value: W,
    /// The unknown bits.
    pub mask: W,
}

impl<W: Word> Tnum<W> {
    /// Any value.
    pub const UNKNOWN: Self = Self { value: W::ZERO, mask: W::ONES };

    /// Exactly this value.
    #[must_use]
    pub fn constant(value: W) -> Self {
        Self { value, mask: W::ZERO }
    }

    /// The known bits of `value` that are not in `mask`.
    fn known(value: W, mask: W) -> Self {
        Self { value: value & !mask, mask }
    }

    /// The common leading bits of `min` and `max`, and nothing of the rest.
    #[must_use]
    pub fn range(min: W, max: W) -> Self {
        Self::known(min, (min ^ max).fill_below())
    }

    /// The value, if all bits are known.
    #[must_use]
    pub fn as_const(self) -> Option<W> {
        (self.mask == W::ZERO).then_some(self.value)
    }

    /// The smallest unsigned value.
    #[must_use]
    pub fn min(self) -> W {
        self.value
    }

    /// The greatest unsigned value.
    #[must_use]
    pub fn max(self) -> W {
        self.value | self.mask
    }

    /// The smallest signed value: the sign bit set if it may be, the other bits as low as can be.
    #[must_use]
    pub fn signed_min(self) -> W {
        self.value | self.mask & W::SIGNED_MIN
    }

    /// The greatest signed value.
    #[must_use]
    pub fn signed_max(self) -> W {
        self.value | self.mask & W::SIGNED_MAX
    }

    /// Whether `value` agrees with all known bits.
    #[must_use]
    pub fn contains(self, value: W) -> bool {
        value & !self.mask == self.value
    }

    /// Whether each value of `self` is one of `other`.
    #[must_use]
    pub fn is_subset_of(self, other: Self) -> bool {
        self.mask & !other.mask == W::ZERO && other.contains(self.value)
    }

    /// Whether a value is in both: whether no bit is known differently.
    #[must_use]
    pub fn overlaps(self, other: Self) -> bool {
        (self.value ^ other.value) & !self.mask & !other.mask == W::ZERO
    }

    /// What is known when both are true. A bit known differently comes out as 1: the caller looks
    /// at [`Tnum::overlaps`] first, or lives with a value that the kernel calls the same.
    #[must_use]
    pub fn intersect(self, other: Self) -> Self {
        Self::known(self.value | other.value, self.mask & other.mask)
    }

    /// What is known when one of them is true.
    #[must_use]
    pub fn union(self, other: Self) -> Self {
        Self::known(self.value, self.mask | other.mask | self.value ^ other.value)
    }

    /// The smallest member greater than `value`; the greatest member where there is none.
    #[must_use]
    pub fn next_above(self, value: W) -> W {
        if value >= self.max() {
            return self.max();
        }
        let from = value.wrapping_add(W::ONE);
        let astray = (from ^ self.value) & !self.mask;
        // From the highest bit that contradicts a known one downwards, nothing of `from` stays.
        let below = astray.fill_below();
        let highest = astray & !(below >> 1);
        if self.value & highest == highest {
            // That bit goes up from 0 to 1, which is enough (or there is no such bit).
            return from & !below | self.value & below;
        }
        // It goes down from 1 to 0: the unknown bits above count up by one. Ones in all other
        // places let the carry run through them.
        let counted = (from | !self.mask | below).wrapping_add(W::ONE);
        counted & self.mask | self.value
    }

    /// Arithmetic shift right by a known count, below [`Word::BITS`].
    #[must_use]
    pub fn signed_shr(self, count: u32) -> Self {
        Self { value: self.value.signed_shr(count), mask: self.mask.signed_shr(count) }
    }

    /// The bytes of the low `bits` bits in reverse order; the rest is cleared.
    #[must_use]
    pub fn swap_bytes(self, bits: u32) -> Self {
        let swapped = Self { value: self.value.swap_bytes(), mask: self.mask.swap_bytes() };
        swapped >> (W::BITS - bits)
    }

    /// The low `bits` bits; the rest is cleared.
    #[must_use]
    pub fn truncate(self, bits: u32) -> Self {
        let kept = W::low_mask(bits);
        Self { value: self.value & kept, mask: self.mask & kept }
    }
}

impl<W: Word> Add for Tnum<W> {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        let lowest = self.value.wrapping_add(other.value);
        let highest = lowest.wrapping_add(self.mask.wrapping_add(other.mask));
        Self::known(lowest, lowest ^ highest | self.mask | other.mask)
    }
}

impl<W: Word> Sub for Tnum<W> {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        let middle = self.value.wrapping_sub(other.value);
        let (highest, lowest) = (middle.wrapping_add(self.mask), middle.wrapping_sub(other.mask));
        Self::known(middle, highest ^ lowest | self.mask | other.mask)
    }
}

/// The partial products of the left side's bits, each of which is added, not added, or maybe
/// added.
impl<W: Word> Mul for Tnum<W> {
    type Output = Self;

    fn mul(self, other: Self) -> Self {
        if self == Self::UNKNOWN {
            // What is below the lowest bit of the other side is 0, and nothing else is known.
            let lowest = other.max();
            return Self { value: W::ZERO, mask: lowest | W::ZERO.wrapping_sub(lowest) };
        }
        let mut product = Self::constant(W::ZERO);
        let (mut bits, mut shifted) = (self, other);
        while bits.max() != W::ZERO {
            product = product.plus_if_odd(bits, shifted);
            bits = bits >> 1;
            shifted = shifted << 1;
        }
        product
    }
}

impl<W: Word> Tnum<W> {
    /// `self + addend` where `bits` is odd, `self` where it is even, either where that is unknown.
    pub(super) fn plus_if_odd(self, bits: Self, addend: Self) -> Self {
        let added = self + addend;
        if bits.value & W::ONE != W::ZERO {
            added
        } else if bits.mask & W::ONE != W::ZERO {
            self.union(added)
        } else {
            self
        }
    }
}

impl<W: Word> BitAnd for Tnum<W> {
    type Output = Self;

    fn bitand(self, other: Self) -> Self {
        let ones = self.value & other.value;
        Self { value: ones, mask: self.max() & other.max() & !ones }
    }
}

impl<W: Word> BitOr for Tnum<W> {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        let ones = self.value | other.value;
        Self { value: ones, mask: (self.mask | other.mask) & !ones }
    }
}

impl<W: Word> BitXor for Tnum<W> {
    type Output = Self;

    fn bitxor(self, other: Self) -> Self {
        Self::known(self.value ^ other.value, self.mask | other.mask)
    }
}

/// By a known count, below [`Word::BITS`].
impl<W: Word> Shl<u32> for Tnum<W> {
    type Output = Self;

    fn shl(self, count: u32) -> Self {
        Self { value: self.value << count, mask: self.mask << count }
    }
}

/// Zeroes come in; by a known count, below [`Word::BITS`].
impl<W: Word> Shr<u32> for Tnum<W> {
    type Output = Self;

    fn shr(self, count: u32) -> Self {
        Self { value: self.value >> count, mask: self.mask >> count }
    }
}

impl<W: Wide> Tnum<W> {
    /// The low half: the subregister.
    #[must_use]
    pub fn low(self) -> Tnum<W::Half> {
        Tnum { value: self.value.low(), mask: self.mask.low() }
    }

    /// A half, extended with zeroes.
    #[must_use]
    pub fn zero_extended(half: Tnum<W::Half>) -> Self {
        Self { value: W::zero_extended(half.value), mask: W::zero_extended(half.mask) }
    }

    /// The same number with another low half.
    #[must_use]
    pub fn with_low(self, low: Tnum<W::Half>) -> Self {
        Self { value: self.value.with_low(low.value), mask: self.mask.with_low(low.mask) }
    }
}

/// The kernel's form: `(value; mask)`.
impl fmt::Display for Tnum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "(")?;
        super::print::hex(f, self.value)?;
        write!(f, "; ")?;
        super::print::hex(f, self.mask)?;
        write!(f, ")")
    }
}

//! The value of a scalar register, and how its parts learn from each other.

use super::bounds::Bounds;
use super::tnum::Tnum;
use super::word::Wide;

/// What is known of a 64-bit scalar.
pub type Scalar = ScalarOf<u64>;

/// What is known of a scalar of any width: each bit, the intervals of the whole word, and the
/// intervals of its low half. A concrete value belongs to the scalar if it agrees with every part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ScalarOf<W: Wide> {
    /// Known bits.
    pub(super) bits: Tnum<W>,
    /// Bounds of the whole word.
    pub(super) full: Bounds<W>,
    /// Bounds of the low half.
    pub(super) low: Bounds<W::Half>,
}

impl<W: Wide> ScalarOf<W> {
    /// Any value.
    pub const UNKNOWN: Self = Self { bits: Tnum::UNKNOWN, full: Bounds::FULL, low: Bounds::FULL };

    /// Exactly this value.
    #[must_use]
    pub fn constant(value: W) -> Self {
        Self {
            bits: Tnum::constant(value),
            full: Bounds::constant(value),
            low: Bounds::constant(value.low()),
        }
    }

    /// The value, if all its bits are known.
    #[must_use]
    pub fn as_const(&self) -> Option<W> {
        self.bits.as_const()
    }

    /// The low half, if all its bits are known.
    #[must_use]
    pub fn low_as_const(&self) -> Option<W::Half> {
        self.bits.low().as_const()
    }

    /// What is known of each bit.
    #[must_use]
    pub fn tnum(&self) -> Tnum<W> {
        self.bits
    }

    /// Whether `value` agrees with every part.
    #[must_use]
    pub fn contains(&self, value: W) -> bool {
        self.bits.contains(value) && self.full.contains(value) && self.low.contains(value.low())
    }

    /// Whether each part lies within that of `other`, so that every value of `self` is one of
    /// `other`.
    #[must_use]
    pub fn is_subset_of(&self, other: &Self) -> bool {
        self.full.is_subset_of(&other.full)
            && self.low.is_subset_of(&other.low)
            && self.bits.is_subset_of(other.bits)
    }

    /// The same value after learning that it lies in an unsigned interval.
    #[must_use]
    pub fn within_unsigned(mut self, min: W, max: W) -> Self {
        self.full.meet_unsigned(min, max);
        self.settle();
        self
    }

    /// The same value after learning that it lies in a signed interval, given as words.
    #[must_use]
    pub fn within_signed(mut self, min: W, max: W) -> Self {
        self.full.meet_signed(min, max);
        self.settle();
        self
    }
}

impl Scalar {
    /// Smallest value, unsigned.
    #[must_use]
    pub fn umin(&self) -> u64 {
        self.full.umin
    }

    /// Greatest value, unsigned.
    #[must_use]
    pub fn umax(&self) -> u64 {
        self.full.umax
    }

    /// Smallest value, signed.
    #[must_use]
    pub fn smin(&self) -> i64 {
        self.full.smin.cast_signed()
    }

    /// Greatest value, signed.
    #[must_use]
    pub fn smax(&self) -> i64 {
        self.full.smax.cast_signed()
    }

    /// Smallest value of the low 32 bits, unsigned.
    #[must_use]
    pub fn umin32(&self) -> u32 {
        self.low.umin
    }

    /// Greatest value of the low 32 bits, unsigned.
    #[must_use]
    pub fn umax32(&self) -> u32 {
        self.low.umax
    }

    /// Smallest value of the low 32 bits, signed.
    #[must_use]
    pub fn smin32(&self) -> i32 {
        self.low.smin.cast_signed()
    }

    /// Greatest value of the low 32 bits, signed.
    #[must_use]
    pub fn smax32(&self) -> i32 {
        self.low.smax.cast_signed()
    }
}

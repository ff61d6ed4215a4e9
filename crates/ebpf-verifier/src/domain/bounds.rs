//! Intervals of one word, unsigned and signed at once.

use super::tnum::Tnum;
use super::word::Word;

/// An unsigned and a signed interval, both inclusive, that a word lies in.
///
/// An interval whose lower end exceeds its upper end is empty: the program point cannot be
/// reached. The rules go on with it as the kernel does; `ScalarOf::checked` ends that.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Bounds<W> {
    /// Smallest value, unsigned.
    pub umin: W,
    /// Greatest value, unsigned.
    pub umax: W,
    /// Smallest value, signed.
    pub smin: W,
    /// Greatest value, signed.
    pub smax: W,
}

impl<W: Word> Bounds<W> {
    /// Any value.
    pub const FULL: Self =
        Self { umin: W::ZERO, umax: W::ONES, smin: W::SIGNED_MIN, smax: W::SIGNED_MAX };

    /// Exactly this value.
    #[must_use]
    pub fn constant(value: W) -> Self {
        Self::both(value, value)
    }

    /// One interval, unsigned and signed.
    #[must_use]
    pub fn both(min: W, max: W) -> Self {
        Self { umin: min, umax: max, smin: min, smax: max }
    }

    /// What the known bits say.
    #[must_use]
    pub fn of_bits(bits: Tnum<W>) -> Self {
        Self {
            umin: bits.min(),
            umax: bits.max(),
            smin: bits.signed_min(),
            smax: bits.signed_max(),
        }
    }

    /// An unsigned interval, which is a signed one too unless the sign changes within it.
    #[must_use]
    pub fn unsigned(umin: W, umax: W) -> Self {
        let mut bounds = Self { umin, umax, ..Self::FULL };
        if umin.signed_le(umax) {
            (bounds.smin, bounds.smax) = (umin, umax);
        }
        bounds
    }

    /// Whether `value` is in both intervals.
    #[must_use]
    pub fn contains(&self, value: W) -> bool {
        self.umin <= value
            && value <= self.umax
            && self.smin.signed_le(value)
            && value.signed_le(self.smax)
    }

    /// Whether both intervals lie within those of `other`.
    #[must_use]
    pub fn is_subset_of(&self, other: &Self) -> bool {
        other.umin <= self.umin
            && self.umax <= other.umax
            && other.smin.signed_le(self.smin)
            && self.smax.signed_le(other.smax)
    }

    /// Whether one of the intervals is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.umin > self.umax || self.smax.signed_lt(self.smin)
    }

    /// Whether no value can be in both `self` and `other`, by one of their intervals.
    #[must_use]
    pub fn is_disjoint_from(&self, other: &Self) -> bool {
        self.umin > other.umax
            || self.umax < other.umin
            || other.smax.signed_lt(self.smin)
            || self.smax.signed_lt(other.smin)
    }

    /// Keeps of the unsigned interval what is in `min..=max`.
    pub fn meet_unsigned(&mut self, min: W, max: W) {
        self.umin = self.umin.max(min);
        self.umax = self.umax.min(max);
    }

    /// Keeps of the signed interval what is in `min..=max`.
    pub fn meet_signed(&mut self, min: W, max: W) {
        self.smin = self.smin.signed_max(min);
        self.smax = self.smax.signed_min(max);
    }

    /// Keeps of both intervals what is in those of `other`.
    pub fn meet(&mut self, other: &Self) {
        self.meet_unsigned(other.umin, other.umax);
        self.meet_signed(other.smin, other.smax);
    }

    /// Learns from the known bits.
    pub fn meet_bits(&mut self, bits: Tnum<W>) {
        self.meet(&Self::of_bits(bits));
    }

    /// Learns each of the two intervals from the other.
    pub fn exchange_signs(&mut self) {
        if self.umin.signed_le(self.umax) {
            self.meet_signed(self.umin, self.umax);
        }
        if self.smin <= self.smax {
            self.meet_unsigned(self.smin, self.smax);
        } else if self.umax < self.smin {
            // The signed interval is two unsigned ones, [0, smax] and [smin, ONES], and the
            // unsigned interval touches only the first of them...
            self.smin = self.umin;
            self.umax = self.umax.min(self.smax);
        } else if self.smax < self.umin {
            // ... or only the second.
            self.smax = self.umax;
            self.umin = self.umin.max(self.smin);
        }
    }
}

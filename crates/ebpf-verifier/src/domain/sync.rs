//! How the parts of a scalar learn from each other.
//!
//! The deductions and their order are observable in verdicts: `docs/kernel-facts.md`, "Scalars".

use super::bounds::Bounds;
use super::scalar::ScalarOf;
use super::tnum::Tnum;
use super::word::{Wide, Word};

/// How often the bounds learn from each other.
pub(super) const ROUNDS: usize = 3;

impl<W: Wide> ScalarOf<W> {
    /// Lets all parts learn from each other, in the kernel's order and as often as the kernel
    /// does: more rounds could find more, and would then accept what the kernel refuses. Steps
    /// that would find nothing are left out.
    #[inline]
    pub(super) fn sync(&mut self) {
        if !self.knows_bits_alone() && !self.learns_from_bits_alone() {
            self.deduce();
        }
    }

    /// Lets the bounds learn from the bits; says whether there is no more to learn.
    #[inline(never)]
    fn learns_from_bits_alone(&mut self) -> bool {
        self.bounds_from_bits();
        self.knows_bits_alone()
    }

    /// What follows after the bounds have learnt from the bits.
    fn deduce(&mut self) {
        let learnt = *self;
        for _ in 0..ROUNDS {
            if self.is_one_interval() {
                break;
            }
            let mut next = *self;
            next.exchange();
            if next == *self {
                break;
            }
            *self = next;
        }
        self.bits_from_bounds();
        if *self != learnt {
            self.bounds_from_bits();
        }
    }

    /// Whether the bounds say just what the bits say. Then no part can learn anything, nor do they
    /// contradict each other.
    #[inline]
    fn knows_bits_alone(&self) -> bool {
        self.full == Bounds::of_bits(self.bits) && self.low == Bounds::of_bits(self.bits.low())
    }

    /// Whether all bounds, signed or not, are one interval of the low half. Then they learn nothing from
    /// each other, nor the bits more than from the unsigned bounds.
    #[inline]
    fn is_one_interval(&self) -> bool {
        let Bounds { umin, umax, .. } = self.low;
        self.low == Bounds::both(umin, umax)
            && self.full == Bounds::both(W::zero_extended(umin), W::zero_extended(umax))
    }

    /// One round, in which the bounds learn from each other.
    pub(super) fn exchange(&mut self) {
        self.low_from_full();
        self.low.exchange_signs();
        self.full.exchange_signs();
        self.full_from_low();
    }

    /// The bounds learn from the bits.
    #[inline]
    pub(super) fn bounds_from_bits(&mut self) {
        self.low.meet_bits(self.bits.low());
        self.full.meet_bits(self.bits);
        if let Some(only) = self.only_common_value() {
            *self = Self::constant(only);
        }
    }

    /// The one value that has the known bits and lies in the unsigned interval, if it is found to
    /// be the only one.
    fn only_common_value(&self) -> Option<W> {
        self.only_common_value_by(|value| self.bits.next_above(value))
    }

    /// The same, by what gives the smallest member of the bits above a number.
    pub(super) fn only_common_value_by(&self, next_above: impl Fn(W) -> W) -> Option<W> {
        let (bits, Bounds { umin, umax, .. }) = (self.bits, self.full);
        if umin == bits.min() && umax == bits.max() {
            // Both ends have the known bits: either there are two values, or there is nothing to learn.
            return None;
        }
        let next = next_above(umin);
        if bits.contains(umin) {
            return (next > umax).then_some(umin);
        }
        let alone = next == bits.max() || next <= umax && next_above(next) > umax;
        alone.then_some(next)
    }

    /// The bits learn from the unsigned bounds: leading bits that both ends share are known.
    pub(super) fn bits_from_bounds(&mut self) {
        let bits = self.bits.intersect(Tnum::range(self.full.umin, self.full.umax));
        let low = bits.low().intersect(Tnum::range(self.low.umin, self.low.umax));
        self.bits = bits.with_low(low);
    }

    /// The bounds of the low half learn from those of the whole, where the high half is constant
    /// over an interval or steps by one while the low half crosses zero.
    pub(super) fn low_from_full(&mut self) {
        let Bounds { umin, umax, smin, smax } = self.full;
        if umin.high() == umax.high() {
            self.low.meet_unsigned(umin.low(), umax.low());
            if umin.low().signed_le(umax.low()) {
                self.low.meet_signed(umin.low(), umax.low());
            }
        }
        if smin.high() == smax.high() {
            if smin.low() <= smax.low() {
                self.low.meet_unsigned(smin.low(), smax.low());
            }
            if smin.low().signed_le(smax.low()) {
                self.low.meet_signed(smin.low(), smax.low());
            }
        }
        for (min, max) in [(umin, umax), (smin, smax)] {
            let steps = min.high().wrapping_add(Word::ONE) == max.high();
            if steps && min.low().is_negative() && !max.low().is_negative() {
                self.low.meet_signed(min.low(), max.low());
            }
        }
    }

    /// The bounds of the whole learn from those of the low half.
    pub(super) fn full_from_low(&mut self) {
        let low = self.low;
        self.splice_low(low.umin, low.umax);
        if low.smin <= low.smax {
            self.splice_low(low.smin, low.smax);
        }
        // A value that is the sign extension of its low half, or nearly: if the low half is not
        // negative, neither is the whole, and both are the same number.
        let extends_low = W::sign_extended(W::Half::SIGNED_MIN).signed_le(self.full.smin)
            && self.full.smax.signed_le(W::zero_extended(W::Half::SIGNED_MAX));
        if extends_low && !low.smin.is_negative() {
            let (min, max) = (W::zero_extended(low.smin), W::sign_extended(low.smax));
            self.full = Bounds::both(min, max);
            self.bits = self.bits.intersect(Tnum::range(min, max));
        }
    }

    /// No value is below the lower end with its low half replaced by the least one there is, nor
    /// above the upper end with the greatest.
    fn splice_low(&mut self, min: W::Half, max: W::Half) {
        let Bounds { umin, umax, smin, smax } = self.full;
        self.full.meet_unsigned(umin.with_low(min), umax.with_low(max));
        self.full.meet_signed(smin.with_low(min), smax.with_low(max));
    }

    /// Where the parts contradict each other, the path cannot be taken by any value; the kernel
    /// then forgets all bounds (the known bits stay) and goes on. This is the one place where
    /// that is done.
    pub(super) fn check(&mut self) {
        if self.is_contradictory() {
            *self = self.without_bounds();
        }
    }

    /// All that follows a rule: [`ScalarOf::sync`], then [`ScalarOf::check`].
    #[inline]
    pub(super) fn settle(&mut self) {
        if !self.knows_bits_alone() && !self.learns_from_bits_alone() {
            self.deduce();
            self.check();
        }
    }

    /// Only the known bits are kept.
    pub(super) fn without_bounds(self) -> Self {
        Self { bits: self.bits, ..Self::UNKNOWN }
    }

    pub(super) fn is_contradictory(&self) -> bool {
        self.full.is_empty()
            || self.low.is_empty()
            || self.as_const().is_some_and(|value| self.full != Bounds::constant(value))
            || self.low_as_const().is_some_and(|value| self.low != Bounds::constant(value))
    }
}

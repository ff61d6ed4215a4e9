//! Variable offsets of pointers: their own, coarser rule of addition and subtraction.

use super::bounds::Bounds;
use super::scalar::ScalarOf;
use super::word::Wide;

/// The variable offset of a pointer after `by` has been added. Unlike scalars, pointers keep no
/// bounds of the low half, and forget an interval as soon as one end of it overflows.
#[must_use]
pub fn offset_add<W: Wide>(offset: &ScalarOf<W>, by: &ScalarOf<W>) -> ScalarOf<W> {
    let mut sum = offset_sum(offset, by);
    sum.sync();
    sum
}

/// The variable offset of a pointer after `by` has been subtracted.
#[must_use]
pub fn offset_sub<W: Wide>(offset: &ScalarOf<W>, by: &ScalarOf<W>) -> ScalarOf<W> {
    let mut difference = offset_difference(offset, by);
    difference.sync();
    difference
}

/// The sum before its parts learn from each other.
pub(super) fn offset_sum<W: Wide>(offset: &ScalarOf<W>, by: &ScalarOf<W>) -> ScalarOf<W> {
    let (a, b) = (&offset.full, &by.full);
    let mut full = Bounds::FULL;
    if let (Some(min), Some(max)) = (a.smin.signed_add(b.smin), a.smax.signed_add(b.smax)) {
        (full.smin, full.smax) = (min, max);
    }
    if !a.umin.add_carries(b.umin) && !a.umax.add_carries(b.umax) {
        (full.umin, full.umax) = (a.umin.wrapping_add(b.umin), a.umax.wrapping_add(b.umax));
    }
    ScalarOf { bits: offset.bits + by.bits, full, low: Bounds::FULL }
}

/// The difference before its parts learn from each other.
pub(super) fn offset_difference<W: Wide>(offset: &ScalarOf<W>, by: &ScalarOf<W>) -> ScalarOf<W> {
    let (a, b) = (&offset.full, &by.full);
    let mut full = Bounds::FULL;
    if let (Some(min), Some(max)) = (a.smin.signed_sub(b.smax), a.smax.signed_sub(b.smin)) {
        (full.smin, full.smax) = (min, max);
    }
    if a.umin >= b.umax {
        (full.umin, full.umax) = (a.umin.wrapping_sub(b.umax), a.umax.wrapping_sub(b.umin));
    }
    ScalarOf { bits: offset.bits - by.bits, full, low: Bounds::FULL }
}

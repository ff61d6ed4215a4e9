//! Variable offsets of pointers: their own, coarser rule of addition and subtraction.

use super::bounds::Bounds;
use super::scalar::Scalar;

/// The variable offset of a pointer after `by` has been added. Unlike scalars, pointers keep no
/// bounds of the low half, and forget an interval as soon as one end of it overflows.
#[must_use]
pub fn offset_add(offset: &Scalar, by: &Scalar) -> Scalar {
    let (a, b) = (&offset.full, &by.full);
    let full = Bounds {
        smin: a.smin.wrapping_add(b.smin),
        smax: a.smax.wrapping_add(b.smax),
        umin: a.umin.wrapping_add(b.umin),
        umax: a.umax.wrapping_add(b.umax),
    };
    let signed = offset.smin().checked_add(by.smin()).and(offset.smax().checked_add(by.smax()));
    let unsigned = a.umin.checked_add(b.umin).and(a.umax.checked_add(b.umax));
    let full = without_overflow(full, signed.is_some(), unsigned.is_some());
    Scalar { bits: offset.bits + by.bits, full, low: Bounds::FULL }.sync()
}

/// The variable offset of a pointer after `by` has been subtracted.
#[must_use]
pub fn offset_sub(offset: &Scalar, by: &Scalar) -> Scalar {
    let (a, b) = (&offset.full, &by.full);
    let full = Bounds {
        smin: a.smin.wrapping_sub(b.smax),
        smax: a.smax.wrapping_sub(b.smin),
        umin: a.umin.wrapping_sub(b.umax),
        umax: a.umax.wrapping_sub(b.umin),
    };
    let signed = offset.smin().checked_sub(by.smax()).and(offset.smax().checked_sub(by.smin()));
    let full = without_overflow(full, signed.is_some(), a.umin >= b.umax);
    Scalar { bits: offset.bits - by.bits, full, low: Bounds::FULL }.sync()
}

fn without_overflow(mut bounds: Bounds<u64>, signed: bool, unsigned: bool) -> Bounds<u64> {
    if !signed {
        (bounds.smin, bounds.smax) = (Bounds::<u64>::FULL.smin, Bounds::<u64>::FULL.smax);
    }
    if !unsigned {
        (bounds.umin, bounds.umax) = (Bounds::<u64>::FULL.umin, Bounds::<u64>::FULL.umax);
    }
    bounds
}

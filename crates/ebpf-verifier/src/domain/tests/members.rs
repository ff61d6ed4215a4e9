//! Values by the members that they must have.

use crate::domain::bounds::Bounds;
use crate::domain::{ScalarOf, Tnum, Wide, Word};

/// The least value that has these members, every part as narrow as it can be.
pub(super) fn hull<W: Wide>(members: impl IntoIterator<Item = W>) -> ScalarOf<W> {
    let constants = members.into_iter().map(ScalarOf::constant);
    let hull = constants.reduce(|a, b| {
        let full = wider(&a.full, &b.full);
        ScalarOf { bits: a.bits.union(b.bits), full, low: wider(&a.low, &b.low) }
    });
    hull.expect("there is a member")
}

fn wider<W: Word>(a: &Bounds<W>, b: &Bounds<W>) -> Bounds<W> {
    Bounds {
        umin: a.umin.min(b.umin),
        umax: a.umax.max(b.umax),
        smin: a.smin.signed_min(b.smin),
        smax: a.smax.signed_max(b.smax),
    }
}

/// The same value with some of its four parts forgotten: one for each set bit.
pub(super) fn forget<W: Wide>(mut value: ScalarOf<W>, parts: u64) -> ScalarOf<W> {
    if parts & 1 != 0 {
        value.bits = Tnum::UNKNOWN;
    }
    if parts & 2 != 0 {
        value.low = Bounds::FULL;
    }
    if parts & 4 != 0 {
        (value.full.umin, value.full.umax) = (W::ZERO, W::ONES);
    }
    if parts & 8 != 0 {
        (value.full.smin, value.full.smax) = (W::SIGNED_MIN, W::SIGNED_MAX);
    }
    value
}

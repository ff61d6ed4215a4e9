//! A value that is -1 or 0: the mask of a sign, explored as two constants.

use ebpf_isa::AluOp;

use super::bounds::Bounds;
use super::scalar::ScalarOf;
use super::tnum::Tnum;
use super::word::{Wide, Word};

/// The two values of `dst` that the kernel explores one after the other when a mask of signs
/// (`-1` or `0`, as `s>>= 63` leaves it) meets `&=` or `|=` with a constant: `(minus_one, zero)`.
///
/// Execution goes on with `minus_one`; a second state, with `zero`, is pending at the same
/// instruction. If only the low half is such a mask, only the low half becomes constant, whatever
/// the width of the instruction.
#[inline]
#[must_use]
pub fn fork<W: Wide>(
    op: AluOp,
    dst: &ScalarOf<W>,
    src: &ScalarOf<W>,
) -> Option<(ScalarOf<W>, ScalarOf<W>)> {
    if !matches!(op, AluOp::And | AluOp::Or) || src.as_const().is_none() {
        return None;
    }
    if is_sign_mask(&dst.full) {
        return Some((ScalarOf::constant(W::ONES), ScalarOf::constant(W::ZERO)));
    }
    is_sign_mask(&dst.low).then(|| {
        let with_low = |value| ScalarOf {
            bits: dst.bits.with_low(Tnum::constant(value)),
            low: Bounds::constant(value),
            full: dst.full,
        };
        (with_low(W::Half::ONES), with_low(W::Half::ZERO))
    })
}

fn is_sign_mask<W: Word>(bounds: &Bounds<W>) -> bool {
    bounds.smin == W::ONES && bounds.smax == W::ZERO
}

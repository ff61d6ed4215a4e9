//! Arithmetic on scalars.
//!
//! Each rule computes the known bits, the bounds of the whole word and those of the low half from
//! the same parts of its operands; what a part can learn from another is left to the shared
//! sequence of deductions afterwards. Division and remainder are not tracked.

use ebpf_isa::{AluOp, Width};

use super::bounds::Bounds;
use super::scalar::ScalarOf;
use super::tnum::Tnum;
use super::word::{Wide, Word};

/// `dst op= src`; a 32-bit result is zero-extended.
///
/// Unknown where the kernel does not follow the operation: division, remainder, and shifts by
/// anything but a constant below the width. Then a 32-bit result is unknown in its high half too.
pub fn alu<W: Wide>(op: AluOp, width: Width, dst: &mut ScalarOf<W>, src: &ScalarOf<W>) {
    let Some(mut result) = transfer(op, width, dst, src) else {
        *dst = ScalarOf::UNKNOWN;
        return;
    };
    // What the other rules leave to the bits must be known before the high half is cleared.
    if width == Width::W32 && !matches!(op, AluOp::Add | AluOp::Sub | AluOp::Mul) {
        result.bounds_from_bits();
    }
    *dst = result.of_width(width);
    dst.settle();
}

/// Whether anything is known of the result: of division, and of shifts by what is no constant count,
/// nothing is.
pub fn is_followed<W: Wide>(op: AluOp, width: Width, src: &ScalarOf<W>) -> bool {
    match op {
        AluOp::Lsh | AluOp::Rsh | AluOp::Arsh => shift_count(width, src).is_some(),
        AluOp::Div | AluOp::SDiv | AluOp::Mod | AluOp::SMod => false,
        AluOp::Add | AluOp::Sub | AluOp::Mul | AluOp::And | AluOp::Or | AluOp::Xor => true,
    }
}

/// The number at a constant distance from another, as [`alu`] adds it; but where the parts contradict
/// each other, they stay as they are.
#[must_use]
pub fn at_distance<W: Wide>(width: Width, from: &ScalarOf<W>, by: W) -> ScalarOf<W> {
    let by = ScalarOf::constant(by);
    let mut sum = arithmetic(from.bits + by.bits, (add, add), from, &by).of_width(width);
    sum.sync();
    sum
}

/// The result before its parts learn from each other and, of all but shifts, before the high half
/// is cleared in 32-bit operations; `None` if the operation is not followed.
pub(super) fn transfer<W: Wide>(
    op: AluOp,
    width: Width,
    dst: &ScalarOf<W>,
    src: &ScalarOf<W>,
) -> Option<ScalarOf<W>> {
    let result = match op {
        AluOp::Add => arithmetic(dst.bits + src.bits, (add, add), dst, src),
        AluOp::Sub => arithmetic(dst.bits - src.bits, (sub, sub), dst, src),
        AluOp::Mul => arithmetic(dst.bits * src.bits, (mul, mul), dst, src),
        AluOp::And => bitwise(dst.bits & src.bits, (and, and), dst, src),
        AluOp::Or => bitwise(dst.bits | src.bits, (or, or), dst, src),
        AluOp::Xor => bitwise(dst.bits ^ src.bits, (xor, xor), dst, src),
        AluOp::Lsh | AluOp::Rsh | AluOp::Arsh => shift(op, width, dst, shift_count(width, src)?),
        AluOp::Div | AluOp::SDiv | AluOp::Mod | AluOp::SMod => return None,
    };
    Some(result)
}

/// `-dst`; a 32-bit result is zero-extended.
#[must_use]
pub fn neg<W: Wide>(width: Width, dst: &ScalarOf<W>) -> ScalarOf<W> {
    let mut negated = difference_from_zero(width, dst);
    negated.settle();
    negated
}

/// The negated scalar before its parts learn from each other.
pub(super) fn difference_from_zero<W: Wide>(width: Width, dst: &ScalarOf<W>) -> ScalarOf<W> {
    let zero = ScalarOf::constant(W::ZERO);
    arithmetic(zero.bits - dst.bits, (sub, sub), &zero, dst).of_width(width)
}

/// Operations whose bounds follow from those of the operands, by one rule for both widths.
fn arithmetic<W: Wide>(
    bits: Tnum<W>,
    (low, full): (BoundsRule<W::Half>, BoundsRule<W>),
    dst: &ScalarOf<W>,
    src: &ScalarOf<W>,
) -> ScalarOf<W> {
    ScalarOf { bits, full: full(&dst.full, &src.full), low: low(&dst.low, &src.low) }
}

type BoundsRule<W> = fn(&Bounds<W>, &Bounds<W>) -> Bounds<W>;

/// Both ends move alike. An unsigned interval is lost if only its upper end wraps around; a
/// signed one if any end overflows.
fn add<W: Word>(dst: &Bounds<W>, src: &Bounds<W>) -> Bounds<W> {
    let mut sum = Bounds::FULL;
    if dst.umin.add_carries(src.umin) == dst.umax.add_carries(src.umax) {
        (sum.umin, sum.umax) = (dst.umin.wrapping_add(src.umin), dst.umax.wrapping_add(src.umax));
    }
    let ends = (dst.smin.signed_add(src.smin), dst.smax.signed_add(src.smax));
    if let (Some(min), Some(max)) = ends {
        (sum.smin, sum.smax) = (min, max);
    }
    sum
}

/// As for sums, with the ends of `src` exchanged.
fn sub<W: Word>(dst: &Bounds<W>, src: &Bounds<W>) -> Bounds<W> {
    let mut difference = Bounds::FULL;
    if (dst.umin < src.umax) == (dst.umax < src.umin) {
        (difference.umin, difference.umax) =
            (dst.umin.wrapping_sub(src.umax), dst.umax.wrapping_sub(src.umin));
    }
    let ends = (dst.smin.signed_sub(src.smax), dst.smax.signed_sub(src.smin));
    if let (Some(min), Some(max)) = ends {
        (difference.smin, difference.smax) = (min, max);
    }
    difference
}

/// The extreme products of the ends, if none of them overflows.
pub(super) fn mul<W: Word>(dst: &Bounds<W>, src: &Bounds<W>) -> Bounds<W> {
    let mut product = Bounds::FULL;
    let ends = (dst.umin.unsigned_mul(src.umin), dst.umax.unsigned_mul(src.umax));
    if let (Some(min), Some(max)) = ends {
        (product.umin, product.umax) = (min, max);
    }
    let corners = [
        dst.smin.signed_mul(src.smin),
        dst.smin.signed_mul(src.smax),
        dst.smax.signed_mul(src.smin),
        dst.smax.signed_mul(src.smax),
    ];
    if let [Some(a), Some(b), Some(c), Some(d)] = corners {
        product.smin = a.signed_min(b).signed_min(c.signed_min(d));
        product.smax = a.signed_max(b).signed_max(c.signed_max(d));
    }
    product
}

/// Operations whose bounds follow from the bits of the result and the bounds of the operands.
fn bitwise<W: Wide>(
    bits: Tnum<W>,
    (low, full): (BitwiseRule<W::Half>, BitwiseRule<W>),
    dst: &ScalarOf<W>,
    src: &ScalarOf<W>,
) -> ScalarOf<W> {
    ScalarOf {
        bits,
        full: full(bits, &dst.full, &src.full),
        low: low(bits.low(), &dst.low, &src.low),
    }
}

type BitwiseRule<W> = fn(Tnum<W>, &Bounds<W>, &Bounds<W>) -> Bounds<W>;

/// No result is greater than either operand.
fn and<W: Word>(bits: Tnum<W>, dst: &Bounds<W>, src: &Bounds<W>) -> Bounds<W> {
    Bounds::unsigned(bits.min(), dst.umax.min(src.umax))
}

/// No result is smaller than either operand.
fn or<W: Word>(bits: Tnum<W>, dst: &Bounds<W>, src: &Bounds<W>) -> Bounds<W> {
    Bounds::unsigned(dst.umin.max(src.umin), bits.max())
}

/// Only the bits say something.
fn xor<W: Word>(bits: Tnum<W>, _: &Bounds<W>, _: &Bounds<W>) -> Bounds<W> {
    Bounds::unsigned(bits.min(), bits.max())
}

/// The count of a shift, if it is a constant below the width. For a 32-bit shift the low half of
/// `src` must be constant, and yet it is the whole register that must be below 32.
pub(super) fn shift_count<W: Wide>(width: Width, src: &ScalarOf<W>) -> Option<u32> {
    let (is_const, limit) = match width {
        Width::W32 => (src.low_as_const().is_some() && is_point(&src.low), W::Half::BITS),
        Width::W64 => (src.as_const().is_some() && is_point(&src.full), W::BITS),
    };
    src.full.umax.as_shift().filter(|&count| is_const && count < limit)
}

fn is_point<W: Word>(bounds: &Bounds<W>) -> bool {
    bounds.umin == bounds.umax && bounds.smin == bounds.smax
}

/// A shift by a known count. The half that is not shifted as such is found again from the bits,
/// except that bits shifted left stay within the low half for as long as there is room.
fn shift<W: Wide>(op: AluOp, width: Width, dst: &ScalarOf<W>, count: u32) -> ScalarOf<W> {
    let mut result = match width {
        Width::W32 => {
            let (bits, low) = shift_word(op, dst.bits.low(), &dst.low, count);
            ScalarOf { bits: Tnum::zero_extended(bits), low, full: Bounds::FULL }
        }
        Width::W64 => {
            let (bits, full) = shift_word(op, dst.bits, &dst.full, count);
            ScalarOf { bits, full, low: Bounds::FULL }
        }
    };
    if op == AluOp::Lsh && width == Width::W64 {
        if count < W::Half::BITS {
            result.low = shift_word(op, dst.bits.low(), &dst.low, count).1;
        } else if count == W::Half::BITS {
            // The low half becomes the high half, with its sign.
            result.full.smin = W::join(dst.low.smin, W::Half::ZERO);
            result.full.smax = W::join(dst.low.smax, W::Half::ZERO);
        }
    }
    result
}

fn shift_word<W: Word>(
    op: AluOp,
    bits: Tnum<W>,
    bounds: &Bounds<W>,
    count: u32,
) -> (Tnum<W>, Bounds<W>) {
    let mut shifted = Bounds::FULL;
    match op {
        AluOp::Lsh => {
            // The greatest value may come to lie on the sign bit exactly. For a count of 0 that
            // is stricter than need be.
            if bounds.umax <= W::SIGNED_MIN >> count {
                (shifted.umin, shifted.umax) = (bounds.umin << count, bounds.umax << count);
            }
            (bits << count, shifted)
        }
        AluOp::Rsh => {
            (shifted.umin, shifted.umax) = (bounds.umin >> count, bounds.umax >> count);
            (bits >> count, shifted)
        }
        _ => {
            shifted.smin = bounds.smin.signed_shr(count);
            shifted.smax = bounds.smax.signed_shr(count);
            (bits.signed_shr(count), shifted)
        }
    }
}

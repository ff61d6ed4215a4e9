//! Conditional jumps: which way they go, and what is known afterwards.

use ebpf_isa::{CmpOp, Width};

use super::bounds::Bounds;
use super::scalar::ScalarOf;
use super::tnum::Tnum;
use super::word::{Wide, Word};

/// Whether `lhs op rhs` holds for all values (`Some(true)`), for none (`Some(false)`), or for
/// some, as far as the kernel can tell.
#[must_use]
pub fn branch<W: Wide>(
    op: CmpOp,
    width: Width,
    lhs: &ScalarOf<W>,
    rhs: &ScalarOf<W>,
) -> Option<bool> {
    match width {
        Width::W32 => outcome(op, &View::low(lhs), &View::low(rhs)),
        Width::W64 => outcome(op, &View::full(lhs), &View::full(rhs)).or_else(|| {
            // Values whose low halves differ are different.
            let unequal = lhs.low.is_disjoint_from(&rhs.low);
            match op {
                CmpOp::Eq if unequal => Some(false),
                CmpOp::Ne if unequal => Some(true),
                _ => None,
            }
        }),
    }
}

/// Both operands after `lhs op rhs` has been found to hold (`taken`) or not; `None` where that
/// cannot be. Where the outcome was known beforehand, nothing is learnt.
#[must_use]
pub fn refine<W: Wide>(
    op: CmpOp,
    width: Width,
    taken: bool,
    lhs: &ScalarOf<W>,
    rhs: &ScalarOf<W>,
) -> Option<(ScalarOf<W>, ScalarOf<W>)> {
    match branch(op, width, lhs, rhs) {
        Some(known) => (known == taken).then_some((*lhs, *rhs)),
        None => {
            let (mut lhs, mut rhs) = learn(op, width, taken, lhs, rhs);
            lhs.settle();
            rhs.settle();
            Some((lhs, rhs))
        }
    }
}

/// A register after `reg op reg` has been found to hold (`taken`) or not; `None` where that
/// cannot be, as far as the kernel can tell: it does not see that both operands are one value, so
/// that `reg < reg` may hold for it, and takes what both sides learn.
#[must_use]
pub fn refine_same<W: Wide>(
    op: CmpOp,
    width: Width,
    taken: bool,
    reg: &ScalarOf<W>,
) -> Option<ScalarOf<W>> {
    match branch(op, width, reg, reg) {
        Some(known) => (known == taken).then_some(*reg),
        None => {
            let mut learnt = learn_same(op, width, taken, reg);
            learnt.sync();
            learnt.settle();
            Some(learnt)
        }
    }
}

/// What both sides learn where they are one register.
pub(super) fn learn_same<W: Wide>(
    op: CmpOp,
    width: Width,
    taken: bool,
    reg: &ScalarOf<W>,
) -> ScalarOf<W> {
    let (mut both, other) = learn(op, width, taken, reg, reg);
    both.full.meet(&other.full);
    both.low.meet(&other.low);
    both
}

/// The part of a scalar that a comparison looks at.
struct View<W> {
    bits: Tnum<W>,
    bounds: Bounds<W>,
}

impl<W: Word> View<W> {
    fn full(scalar: &ScalarOf<W>) -> Self
    where
        W: Wide,
    {
        Self { bits: scalar.bits, bounds: scalar.full }
    }

    fn low<Whole: Wide<Half = W>>(scalar: &ScalarOf<Whole>) -> Self {
        Self { bits: scalar.bits.low(), bounds: scalar.low }
    }
}

fn outcome<W: Word>(op: CmpOp, lhs: &View<W>, rhs: &View<W>) -> Option<bool> {
    let (l, r) = (&lhs.bounds, &rhs.bounds);
    // Orders are decided by the ends of the intervals that lie nearest and farthest.
    let decide = |holds: bool, fails: bool| match (holds, fails) {
        (true, _) => Some(true),
        (_, true) => Some(false),
        _ => None,
    };
    match op {
        CmpOp::Eq => equal(lhs, rhs),
        CmpOp::Ne => equal(lhs, rhs).map(|equal| !equal),
        CmpOp::Set => common_bit(lhs.bits, rhs.bits),
        CmpOp::Gt => decide(l.umin > r.umax, l.umax <= r.umin),
        CmpOp::Ge => decide(l.umin >= r.umax, l.umax < r.umin),
        CmpOp::Lt => decide(l.umax < r.umin, l.umin >= r.umax),
        CmpOp::Le => decide(l.umax <= r.umin, l.umin > r.umax),
        CmpOp::Sgt => decide(r.smax.signed_lt(l.smin), l.smax.signed_le(r.smin)),
        CmpOp::Sge => decide(r.smax.signed_le(l.smin), l.smax.signed_lt(r.smin)),
        CmpOp::Slt => decide(l.smax.signed_lt(r.smin), r.smax.signed_le(l.smin)),
        CmpOp::Sle => decide(l.smax.signed_le(r.smin), r.smax.signed_lt(l.smin)),
    }
}

fn equal<W: Word>(lhs: &View<W>, rhs: &View<W>) -> Option<bool> {
    if let (Some(a), Some(b)) = (lhs.bits.as_const(), rhs.bits.as_const()) {
        return Some(a == b);
    }
    let apart = !lhs.bits.overlaps(rhs.bits) || lhs.bounds.is_disjoint_from(&rhs.bounds);
    apart.then_some(false)
}

/// Whether `lhs & rhs` is not 0; known only where one of them is constant.
fn common_bit<W: Word>(lhs: Tnum<W>, rhs: Tnum<W>) -> Option<bool> {
    let (bits, constant) = match (lhs.as_const(), rhs.as_const()) {
        (_, Some(constant)) => (lhs, constant),
        (Some(constant), None) => (rhs, constant),
        (None, None) => return None,
    };
    if bits.value & constant != W::ZERO {
        return Some(true);
    }
    (bits.max() & constant == W::ZERO).then_some(false)
}

/// What an outcome says: the eleven comparisons and their opposites come down to these.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Learnt {
    Equal,
    Different,
    Common,
    Disjoint,
    /// An order: `strict` for less, otherwise less or equal; `swapped` if it is `rhs` that is less.
    Order {
        signed: bool,
        strict: bool,
        swapped: bool,
    },
}

impl Learnt {
    fn from(op: CmpOp, taken: bool) -> Self {
        // The opposite of `a < b` is `b <= a`: both the strictness and the sides change.
        let order = |signed, strict, swapped| Self::Order {
            signed,
            strict: strict == taken,
            swapped: swapped == taken,
        };
        match (op, taken) {
            (CmpOp::Eq, true) | (CmpOp::Ne, false) => Self::Equal,
            (CmpOp::Ne, true) | (CmpOp::Eq, false) => Self::Different,
            (CmpOp::Set, true) => Self::Common,
            (CmpOp::Set, false) => Self::Disjoint,
            (CmpOp::Lt, _) => order(false, true, false),
            (CmpOp::Le, _) => order(false, false, false),
            (CmpOp::Gt, _) => order(false, true, true),
            (CmpOp::Ge, _) => order(false, false, true),
            (CmpOp::Slt, _) => order(true, true, false),
            (CmpOp::Sle, _) => order(true, false, false),
            (CmpOp::Sgt, _) => order(true, true, true),
            (CmpOp::Sge, _) => order(true, false, true),
        }
    }
}

/// What the operands learn from `lhs op rhs` or its opposite, before their parts learn from each
/// other.
pub(super) fn learn<W: Wide>(
    op: CmpOp,
    width: Width,
    taken: bool,
    lhs: &ScalarOf<W>,
    rhs: &ScalarOf<W>,
) -> (ScalarOf<W>, ScalarOf<W>) {
    let learnt = Learnt::from(op, taken);
    let (mut a, mut b) = (*lhs, *rhs);
    match width {
        Width::W64 => {
            let (mut l, mut r) = (View::full(lhs), View::full(rhs));
            apply(learnt, &mut l, &mut r);
            (a.bits, a.full) = (l.bits, l.bounds);
            (b.bits, b.full) = (r.bits, r.bounds);
        }
        Width::W32 => {
            let (mut l, mut r) = (View::low(lhs), View::low(rhs));
            apply(learnt, &mut l, &mut r);
            (a.bits, a.low) = (a.bits.with_low(l.bits), l.bounds);
            (b.bits, b.low) = (b.bits.with_low(r.bits), r.bounds);
        }
    }
    if learnt == Learnt::Disjoint {
        // The kernel drops the bounds of the operand whose bits it narrows, so that they cannot
        // contradict; they are found again from the bits alone.
        a = if a.bits == lhs.bits { a } else { a.without_bounds() };
        b = if b.bits == rhs.bits { b } else { b.without_bounds() };
    }
    (a, b)
}

fn apply<W: Word>(learnt: Learnt, lhs: &mut View<W>, rhs: &mut View<W>) {
    match learnt {
        Learnt::Equal => {
            lhs.bounds.meet(&rhs.bounds);
            lhs.bits = lhs.bits.intersect(rhs.bits);
            (rhs.bounds, rhs.bits) = (lhs.bounds, lhs.bits);
        }
        Learnt::Order { signed, strict, swapped } => {
            let (less, more) = match swapped {
                true => (&mut rhs.bounds, &mut lhs.bounds),
                false => (&mut lhs.bounds, &mut rhs.bounds),
            };
            match signed {
                true => order_signed(less, more, strict),
                false => order_unsigned(less, more, strict),
            }
        }
        // The others need a constant, on either side.
        _ => match (lhs.bits.as_const(), rhs.bits.as_const()) {
            (_, Some(constant)) => apply_constant(learnt, lhs, constant),
            (Some(constant), None) => apply_constant(learnt, rhs, constant),
            (None, None) => {}
        },
    }
}

fn apply_constant<W: Word>(learnt: Learnt, view: &mut View<W>, constant: W) {
    let bounds = &mut view.bounds;
    match learnt {
        Learnt::Different => {
            // Only an end of an interval can be cut off.
            if bounds.umin == constant {
                bounds.umin = constant.wrapping_add(W::ONE);
            }
            if bounds.umax == constant {
                bounds.umax = constant.wrapping_sub(W::ONE);
            }
            if bounds.smin == constant {
                bounds.smin = constant.wrapping_add(W::ONE);
            }
            if bounds.smax == constant {
                bounds.smax = constant.wrapping_sub(W::ONE);
            }
        }
        // A common bit is known only if there is one candidate.
        Learnt::Common if constant & constant.wrapping_sub(W::ONE) == W::ZERO => {
            view.bits = view.bits | Tnum::constant(constant);
        }
        Learnt::Disjoint => view.bits = view.bits & Tnum::constant(!constant),
        Learnt::Common | Learnt::Equal | Learnt::Order { .. } => {}
    }
}

fn order_unsigned<W: Word>(less: &mut Bounds<W>, more: &mut Bounds<W>, strict: bool) {
    let one = if strict { W::ONE } else { W::ZERO };
    less.umax = less.umax.min(more.umax.wrapping_sub(one));
    more.umin = more.umin.max(less.umin.wrapping_add(one));
}

fn order_signed<W: Word>(less: &mut Bounds<W>, more: &mut Bounds<W>, strict: bool) {
    let one = if strict { W::ONE } else { W::ZERO };
    less.smax = less.smax.signed_min(more.smax.wrapping_sub(one));
    more.smin = more.smin.signed_max(less.smin.wrapping_add(one));
}

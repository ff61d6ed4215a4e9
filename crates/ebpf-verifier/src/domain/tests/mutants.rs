//! Rules that are wrong on purpose, each in one point. A check that lets one of them pass is not
//! worth its time.

use ebpf_isa::{AluOp, CmpOp, Width};

use super::exhaustive::{Universe, Word4};
use super::goals::{Goal, Register, goals};
use super::reference::Reference;
use super::rules::{Claim, Rule, Unary};
use super::solver::{self, Answer};
use crate::domain::alu::{difference_from_zero, transfer};
use crate::domain::bounds::Bounds;
use crate::domain::cmp::learn;
use crate::domain::convert::{reverse_bytes, sign_extend};
use crate::domain::offset::offset_sum;
use crate::domain::{ScalarOf, Tnum, Word, branch};

/// For each part of a claim: counterexamples are found quickly or not at all.
const EFFORT: u32 = 20_000_000;

const FULL_WIDTH: Width = Width::W64;

/// Multiplication of machine words is out of the solver's reach.
fn in_reach(operator: &str) -> bool {
    !operator.starts_with("mul")
}

/// An operation whose result has been tampered with.
fn operation<W: Reference>(
    operator: &'static str,
    op: AluOp,
    tamper: fn(&mut ScalarOf<W>, &ScalarOf<W>, &ScalarOf<W>),
) -> Rule<W> {
    let rule = move |a: &ScalarOf<W>, b: &ScalarOf<W>| {
        let mut result = transfer(op, FULL_WIDTH, a, b)?;
        tamper(&mut result, a, b);
        Some(result)
    };
    let claim = Claim::Combines(
        Box::new(move |a, b| rule(a, b).unwrap_or(ScalarOf::UNKNOWN)),
        Box::new(move |x, y| W::compute(op, FULL_WIDTH, x, y)),
    );
    let is_shift = matches!(op, AluOp::Lsh | AluOp::Rsh | AluOp::Arsh);
    Rule { counts: is_shift.then_some(W::BITS), ..Rule::new(operator, "", claim) }
}

fn deduction<W: Reference>(operator: &'static str, tampered: fn(&mut ScalarOf<W>)) -> Rule<W> {
    let rule: Unary<W> = Box::new(move |a| {
        let mut scalar = *a;
        tampered(&mut scalar);
        scalar
    });
    Rule::new(operator, "", Claim::Keeps(rule))
}

fn map<W: Reference>(
    operator: &'static str,
    rule: fn(&ScalarOf<W>) -> ScalarOf<W>,
    result: fn(W) -> W,
) -> Rule<W> {
    Rule::new(operator, "", Claim::Maps(Box::new(rule), Box::new(result)))
}

fn outcome<W: Reference>(
    operator: &'static str,
    op: CmpOp,
    rule: fn(&ScalarOf<W>, &ScalarOf<W>) -> Option<bool>,
) -> Rule<W> {
    let holds = move |x, y| W::holds(op, FULL_WIDTH, x, y);
    Rule::new(operator, "", Claim::Decides(Box::new(rule), Box::new(holds)))
}

type Both<W> = (ScalarOf<W>, ScalarOf<W>);

/// What is learnt from the comparison's being true.
fn refinement<W: Reference>(
    operator: &'static str,
    op: CmpOp,
    tamper: fn(&mut Both<W>, &ScalarOf<W>, &ScalarOf<W>),
) -> Rule<W> {
    let rule = move |a: &ScalarOf<W>, b: &ScalarOf<W>| {
        let mut learnt = learn(op, FULL_WIDTH, true, a, b);
        tamper(&mut learnt, a, b);
        learnt
    };
    let holds = move |x, y| W::holds(op, FULL_WIDTH, x, y);
    Rule::new(operator, "", Claim::Learns(Box::new(rule), Box::new(holds)))
}

fn half<W: Reference>() -> u32 {
    W::BITS / 2
}

fn mutants<W: Reference>() -> Vec<Rule<W>> {
    [arithmetic(), bitwise(), shifts(), deductions(), conversions(), comparisons()]
        .into_iter()
        .flatten()
        .collect()
}

fn arithmetic<W: Reference>() -> Vec<Rule<W>> {
    vec![
        operation("add: no end carries", AluOp::Add, |sum, a, b| {
            sum.full.umin = a.full.umin.wrapping_add(b.full.umin);
            sum.full.umax = a.full.umax.wrapping_add(b.full.umax);
        }),
        operation("add: no end overflows", AluOp::Add, |sum, a, b| {
            sum.full.smin = a.full.smin.wrapping_add(b.full.smin);
            sum.full.smax = a.full.smax.wrapping_add(b.full.smax);
        }),
        operation("add: bits do not carry", AluOp::Add, |sum, a, b| {
            sum.bits.mask = a.bits.mask | b.bits.mask;
            sum.bits.value = sum.bits.value & !sum.bits.mask;
        }),
        operation(
            "sub: the ends of the right side are not exchanged",
            AluOp::Sub,
            |result, a, b| {
                if a.full.umin >= b.full.umax {
                    result.full.umin = a.full.umin.wrapping_sub(b.full.umin);
                    result.full.umax = a.full.umax.wrapping_sub(b.full.umax);
                }
            },
        ),
        operation("sub: no end borrows", AluOp::Sub, |result, a, b| {
            result.full.umin = a.full.umin.wrapping_sub(b.full.umax);
            result.full.umax = a.full.umax.wrapping_sub(b.full.umin);
        }),
        operation("sub: bits as for add", AluOp::Sub, |result, a, b| {
            result.bits = a.bits + b.bits;
        }),
        operation(
            "mul: products of the lower and of the upper ends",
            AluOp::Mul,
            |product, a, b| {
                let ends =
                    (a.full.smin.signed_mul(b.full.smin), a.full.smax.signed_mul(b.full.smax));
                if let (Some(min), Some(max)) = ends {
                    (product.full.smin, product.full.smax) = (min, max);
                }
            },
        ),
        operation("mul: no product overflows", AluOp::Mul, |product, a, b| {
            product.full.umin = a.full.umin.wrapping_mul(b.full.umin);
            product.full.umax = a.full.umax.wrapping_mul(b.full.umax);
        }),
        operation("mul: masks of bits are forgotten", AluOp::Mul, |product, a, b| {
            product.bits = Tnum::constant(a.bits.value.wrapping_mul(b.bits.value));
        }),
        map(
            "neg: the smallest value has a negative",
            |a| {
                let mut negated = difference_from_zero(FULL_WIDTH, a);
                negated.full.smin = W::ZERO.wrapping_sub(a.full.smax);
                negated.full.smax = W::ZERO.wrapping_sub(a.full.smin);
                negated
            },
            |x| W::compute(AluOp::Sub, FULL_WIDTH, W::ZERO, x),
        ),
        Rule::new(
            "offsets: only the lower end is looked at",
            "",
            Claim::Combines(
                Box::new(|a, b| {
                    let mut sum = offset_sum(a, b);
                    if !a.full.umin.add_carries(b.full.umin) {
                        sum.full.umin = a.full.umin.wrapping_add(b.full.umin);
                        sum.full.umax = a.full.umax.wrapping_add(b.full.umax);
                    }
                    sum
                }),
                Box::new(|x, y| W::compute(AluOp::Add, FULL_WIDTH, x, y)),
            ),
        ),
    ]
}

fn bitwise<W: Reference>() -> Vec<Rule<W>> {
    vec![
        operation("and: at least the smaller of the lower ends", AluOp::And, |result, a, b| {
            result.full.umin = a.full.umin.min(b.full.umin);
        }),
        operation("and: signed bounds whatever the sign", AluOp::And, |result, _, _| {
            (result.full.smin, result.full.smax) = (result.full.umin, result.full.umax);
        }),
        operation("or: at most the greater of the upper ends", AluOp::Or, |result, a, b| {
            result.full.umax = a.full.umax.max(b.full.umax);
        }),
        operation("or: known ones only where both are", AluOp::Or, |result, a, b| {
            result.bits.value = a.bits.value & b.bits.value;
        }),
        operation("xor: unknown only where both are", AluOp::Xor, |result, a, b| {
            result.bits.mask = a.bits.mask & b.bits.mask;
        }),
    ]
}

fn shifts<W: Reference>() -> Vec<Rule<W>> {
    vec![
        operation("lsh: bits that leave do not matter", AluOp::Lsh, |result, a, b| {
            if let Some(count) = b.full.umax.as_shift() {
                result.full.umin = a.full.umin << count;
                result.full.umax = a.full.umax << count;
            }
        }),
        operation("lsh: the low half keeps its bounds", AluOp::Lsh, |result, a, _| {
            result.low = a.low;
        }),
        operation("rsh: the sign is copied", AluOp::Rsh, |result, a, b| {
            if let Some(count) = b.full.umax.as_shift() {
                result.bits = a.bits.signed_shr(count);
            }
        }),
        operation("arsh: zeroes come in", AluOp::Arsh, |result, a, b| {
            if let Some(count) = b.full.umax.as_shift() {
                result.bits = a.bits >> count;
            }
        }),
        operation(
            "arsh: signed bounds are shifted as unsigned ones",
            AluOp::Arsh,
            |result, a, b| {
                if let Some(count) = b.full.umax.as_shift() {
                    (result.full.smin, result.full.smax) =
                        (a.full.smin >> count, a.full.smax >> count);
                }
            },
        ),
    ]
}

fn deductions<W: Reference>() -> Vec<Rule<W>> {
    vec![
        deduction("bounds from bits: the sign bit is not asked", |scalar| {
            scalar.full.meet_signed(scalar.bits.min(), scalar.bits.max());
        }),
        deduction("bounds from bits: the next value is the only one", |scalar| {
            if !scalar.bits.contains(scalar.full.umin) {
                *scalar = ScalarOf::constant(scalar.bits.next_above(scalar.full.umin));
            }
        }),
        deduction("low half from whole: high halves may differ", |scalar| {
            let Bounds { umin, umax, .. } = scalar.full;
            scalar.low.meet_unsigned(umin.low(), umax.low());
        }),
        deduction("signed from unsigned: the sign may change", |scalar| {
            let Bounds { umin, umax, .. } = scalar.full;
            scalar.full.meet_signed(umin, umax);
        }),
        deduction("unsigned from signed: the sign may change", |scalar| {
            let Bounds { smin, smax, .. } = scalar.low;
            scalar.low.meet_unsigned(smin, smax);
        }),
        deduction("whole from low half: the lower end takes the greatest", |scalar| {
            scalar.full.umin = scalar.full.umin.max(scalar.full.umin.with_low(scalar.low.umax));
        }),
        deduction("whole from low half: whatever the whole is", |scalar| {
            if !scalar.low.smin.is_negative() {
                let (min, max) = (scalar.low.smin, scalar.low.smax);
                scalar.full.meet_unsigned(W::zero_extended(min), W::zero_extended(max));
            }
        }),
        deduction("bits from bounds: one more bit is known", |scalar| {
            let Bounds { umin, umax, .. } = scalar.full;
            let mask = (umin ^ umax).fill_below() >> 1;
            scalar.bits = scalar.bits.intersect(Tnum { value: umin & !mask, mask });
        }),
        deduction("contradictions: the lower end is the value", |scalar| {
            if scalar.bits.as_const().is_none() {
                *scalar = ScalarOf::constant(scalar.full.umin);
            }
        }),
    ]
}

fn conversions<W: Reference>() -> Vec<Rule<W>> {
    vec![
        map(
            "mov: negative bounds of the low half are extended",
            |a| {
                let mut moved = a.zero_extend_low();
                moved.full.smin = W::zero_extended(a.low.smin);
                moved.full.smax = W::zero_extended(a.low.smax);
                moved
            },
            |x| W::compute(AluOp::Or, Width::W32, x, x),
        ),
        map(
            "movsx: the ends are extended, whatever is between them",
            |a| {
                let mut extended = sign_extend(FULL_WIDTH, half::<W>(), a);
                extended.full.smin = a.full.smin.sign_extend(half::<W>());
                extended.full.smax = a.full.smax.sign_extend(half::<W>());
                extended
            },
            |x| {
                let count = W::number((W::BITS - half::<W>()).into());
                let up = W::compute(AluOp::Lsh, FULL_WIDTH, x, count);
                W::compute(AluOp::Arsh, FULL_WIDTH, up, count)
            },
        ),
        map(
            "truncation: the ends are truncated, whatever is between them",
            |a| {
                let mut truncated = a.zero_extend(half::<W>());
                let kept = W::low_mask(half::<W>());
                truncated.full.umin = a.full.umin & kept;
                truncated.full.umax = a.full.umax & kept;
                truncated
            },
            |x| W::compute(AluOp::Or, Width::W32, x, x),
        ),
        map(
            "byte swap: unknown bits stay where they are",
            |a| {
                let mut swapped = reverse_bytes(W::BITS, a);
                swapped.bits.mask = a.bits.mask;
                swapped
            },
            W::reversed,
        ),
        Rule::new(
            "masks of signs: zero is forgotten",
            "",
            Claim::Splits(Box::new(|a| {
                let is_mask = a.full.smin == W::ONES && a.full.smax == W::ZERO;
                is_mask.then(|| (ScalarOf::constant(W::ONES), ScalarOf::constant(W::ONES)))
            })),
        ),
    ]
}

fn comparisons<W: Reference>() -> Vec<Rule<W>> {
    vec![
        outcome("jlt: equal ends are less", CmpOp::Lt, |a, b| {
            (a.full.umax <= b.full.umin).then_some(true)
        }),
        outcome("jsgt: as unsigned", CmpOp::Sgt, |a, b| branch(CmpOp::Gt, FULL_WIDTH, a, b)),
        outcome("jset: unknown bits are not set", CmpOp::Set, |a, b| {
            let constant = b.as_const()?;
            Some(a.bits.value & constant != W::ZERO)
        }),
        outcome("jeq: overlapping means equal", CmpOp::Eq, |a, b| {
            (a.bits.overlaps(b.bits) && a.full == b.full).then_some(true)
        }),
        refinement("jle taken: strictly", CmpOp::Le, |learnt, a, b| {
            *learnt = learn(CmpOp::Lt, FULL_WIDTH, true, a, b);
        }),
        refinement("jslt taken: unsigned bounds learn", CmpOp::Slt, |learnt, a, b| {
            *learnt = learn(CmpOp::Lt, FULL_WIDTH, true, a, b);
        }),
        refinement("jne taken: the lower end is cut off", CmpOp::Ne, |learnt, a, _| {
            learnt.0.full.umin = a.full.umin.wrapping_add(W::ONE);
        }),
        refinement("jset taken: all bits of the constant", CmpOp::Set, |learnt, a, b| {
            if let Some(constant) = b.as_const() {
                learnt.0.bits = a.bits | Tnum::constant(constant);
            }
        }),
        refinement("jeq taken: bits as in a union's values", CmpOp::Eq, |learnt, a, b| {
            learnt.0.bits.mask = a.bits.mask & b.bits.mask;
            learnt.0.bits.value = a.bits.value & b.bits.value;
        }),
        refinement("jgt taken: sides exchanged", CmpOp::Gt, |learnt, a, b| {
            *learnt = learn(CmpOp::Lt, FULL_WIDTH, true, a, b);
        }),
    ]
}

#[test]
fn every_mutant_has_a_counterexample_of_four_bits() {
    let universe = Universe::new();
    let mutants = mutants::<Word4>();
    assert_eq!(mutants.len(), 45);
    let survives = |rule: &&Rule<Word4>| universe.counterexample(rule).is_none();
    let survivors: Vec<&str> =
        mutants.iter().filter(survives).map(|rule| rule.name.as_str()).collect();
    assert!(survivors.is_empty(), "{survivors:?}");
}

#[test]
fn every_mutant_in_reach_is_refuted_by_the_solver() {
    if solver::version().is_none() {
        eprintln!("skipped: z3 is not installed, no mutant is shown to it");
        return;
    }
    for rule in mutants::<Register>().iter().filter(|rule| in_reach(rule.operator)) {
        let refuted = |goal: &Goal| {
            goal.scripts().any(|script| solver::ask(&[script], EFFORT) == [Answer::Refuted])
        };
        assert!(goals(rule).iter().any(refuted), "{} survives", rule.name);
    }
}

//! What is to be proved of a rule, as terms.

use ebpf_isa::Width;

use super::expr::{self, Expr};
use super::paths::{all_ways, truth, ways};
use super::rules::{Claim, Outcome, Rule};
use super::term::Term;
use crate::domain::alu::{mul, shift_count};
use crate::domain::bounds::Bounds;
use crate::domain::{ScalarOf, Tnum, Wide};

/// The word that proofs are about.
pub(super) type Register = Term<64>;

/// The conclusion follows from the premises, whatever the values of the variables.
pub(super) struct Goal {
    premises: Vec<Expr>,
    conclusion: Expr,
}

impl Goal {
    pub(super) fn new(premises: Vec<Expr>, conclusion: Expr) -> Self {
        Self { premises, conclusion }
    }

    /// Scripts none of which has a model exactly if the goal holds: one for each part of the
    /// conclusion.
    pub(super) fn scripts(&self) -> impl Iterator<Item = String> {
        expr::conjuncts(self.conclusion).into_iter().map(|part| {
            let mut asserted = self.premises.clone();
            asserted.push(expr::not(part));
            expr::assertions(&asserted)
        })
    }
}

/// Any tristate number: no bit is both known to be 1 and unknown.
fn any_tnum<const N: u32>(name: &str) -> (Tnum<Term<N>>, Expr) {
    let part = |part: &str| Term::variable(&format!("{name}.{part}"));
    let bits = Tnum { value: part("value"), mask: part("mask") };
    let both = Term::apply("bvand", bits.value, bits.mask);
    (bits, expr::equal(both.0, Expr::Number(0, N)))
}

/// Any bounds, empty ones too.
fn any_bounds<const N: u32>(name: &str) -> Bounds<Term<N>> {
    let part = |part: &str| Term::variable(&format!("{name}.{part}"));
    Bounds { umin: part("umin"), umax: part("umax"), smin: part("smin"), smax: part("smax") }
}

/// Any scalar, one of its members, and that it is one.
fn any_member<const N: u32, const H: u32>(name: &str) -> (ScalarOf<Term<N>>, Term<N>, Vec<Expr>)
where
    Term<N>: Wide<Half = Term<H>>,
{
    let (bits, premise) = any_tnum(&format!("{name}.bits"));
    let full = any_bounds(&format!("{name}.full"));
    let low = any_bounds(&format!("{name}.low"));
    let (scalar, member) = (ScalarOf { bits, full, low }, Term::variable(name));
    (scalar, member, vec![premise, truth(|| scalar.contains(member))])
}

fn has(scalar: &ScalarOf<Register>, member: Register) -> Expr {
    truth(|| scalar.contains(member))
}

/// What the rule claims. For shifts, the second operand is each of the constants in turn.
pub(super) fn goals(rule: &Rule<Register>) -> Vec<Goal> {
    let (a, x, of_x) = any_member("x");
    let one = |premises, conclusion| vec![Goal::new(premises, conclusion)];
    match &rule.claim {
        Claim::Keeps(rule) => one(of_x, has(&all_ways(|| rule(&a)), x)),
        Claim::KeepsIf(rule, when) => {
            let premises = [of_x, vec![truth(|| when(x))]].concat();
            one(premises, has(&all_ways(|| rule(&a)), x))
        }
        Claim::Splits(rule) => {
            let covers = || rule(&a).is_none_or(|(l, r)| l.contains(x) || r.contains(x));
            one(of_x, truth(covers))
        }
        Claim::Maps(rule, result) => one(of_x, has(&all_ways(|| rule(&a)), result(x))),
        Claim::Combines(combine, result) => match rule.counts {
            None => {
                let (b, y, of_y) = any_member("y");
                let combined = all_ways(|| combine(&a, &b));
                one([of_x, of_y].concat(), has(&combined, result(x, y)))
            }
            Some(counts) => (0..counts)
                .map(|count| {
                    let y = Register::number(count.into());
                    let combined = all_ways(|| combine(&a, &ScalarOf::constant(y)));
                    Goal::new(of_x.clone(), has(&combined, result(x, y)))
                })
                .collect(),
        },
        Claim::Decides(outcome, holds) => decisions(outcome, holds),
        Claim::Learns(learn, when) => {
            let (b, y, of_y) = any_member("y");
            let (l, r) = all_ways(|| learn(&a, &b));
            let premises = [of_x, of_y, vec![truth(|| when(x, y))]].concat();
            one(premises, expr::both(has(&l, x), has(&r, y)))
        }
    }
}

/// One goal for each way to an outcome.
fn decisions(outcome: &Outcome<Register>, holds: &dyn Fn(Register, Register) -> bool) -> Vec<Goal> {
    let (a, x, of_x) = any_member("x");
    let (b, y, of_y) = any_member("y");
    let mut goals = Vec::new();
    for (answers, decided) in ways(|| outcome(&a, &b)) {
        if let Some(decided) = decided {
            let premises = [of_x.clone(), of_y.clone(), conditions(&answers)].concat();
            goals.push(Goal::new(premises, truth(|| holds(x, y) == decided)));
        }
    }
    goals
}

fn conditions(answers: &[(Expr, bool)]) -> Vec<Expr> {
    let condition = |&(asked, answer): &(Expr, bool)| if answer { asked } else { expr::not(asked) };
    answers.iter().map(condition).collect()
}

/// A shift goes by what is left of the second operand modulo the width.
///
/// The rule rests on what deductions leave: bits that have learnt from the bounds, and no
/// contradiction. Without that, the 32-bit form could read another count from the upper bound than
/// the low half has.
pub(super) fn count_of_shift(width: Width) -> Vec<Goal> {
    let (b, y, of_y) = any_member::<64, 32>("y");
    let mask = Register::number((width.bits() - 1).into());
    let right = || {
        let expected = Register::apply("bvand", y, mask);
        shift_count(width, &b).is_none_or(|count| expected == Register::number(count.into()))
    };
    let learnt = truth(|| b.bits.is_subset_of(Tnum::range(b.full.umin, b.full.umax)));
    let consistent = truth(|| !b.is_contradictory());
    vec![Goal::new([of_y, vec![learnt, consistent]].concat(), truth(right))]
}

/// Bounds learn the ends of the bits.
pub(super) fn meeting_bits() -> Vec<Goal> {
    let (a, x, of_x) = any_member::<64, 32>("x");
    let mut met = a;
    met.full.meet_bits(a.bits);
    met.low.meet_bits(a.bits.low());
    vec![Goal::new(of_x, has(&met, x))]
}

/// Between a number and the next member of the bits above it there is no member.
pub(super) fn next_member() -> Vec<Goal> {
    let (bits, premise) = any_tnum::<64>("bits");
    let (x, from) = (Register::variable("x"), Register::variable("from"));
    let member = truth(|| bits.contains(x));
    let next = all_ways(|| bits.next_above(from));
    vec![Goal::new(vec![premise, member], is_not_passed_over(x, from, next))]
}

/// If `x` is above `from`, it is not below `next`.
fn is_not_passed_over(x: Register, from: Register, next: Register) -> Expr {
    truth(|| x <= from || next <= x)
}

/// Where the bounds say just what the bits say, every deduction leaves it at that.
pub(super) fn bits_alone() -> Vec<Goal> {
    let (bits, premise) = any_tnum::<64>("bits");
    let value = ScalarOf { bits, full: Bounds::of_bits(bits), low: Bounds::of_bits(bits.low()) };
    let deductions: [fn(&mut ScalarOf<Register>); 6] = [
        |value| value.full.meet_bits(value.bits),
        |value| value.low.meet_bits(value.bits.low()),
        ScalarOf::low_from_full,
        |value| value.low.exchange_signs(),
        |value| value.full.exchange_signs(),
        ScalarOf::full_from_low,
    ];
    let deductions = deductions.into_iter().chain([ScalarOf::bits_from_bounds as fn(&mut _)]);
    let left = deductions.map(|deduce| {
        truth(|| {
            let mut learnt = value;
            deduce(&mut learnt);
            learnt == value
        })
    });
    let others = [
        truth(|| bits.contains(bits.min()) && bits.next_above(bits.min()) <= bits.max()),
        truth(|| !value.is_contradictory()),
    ];
    left.chain(others).map(|conclusion| Goal::new(vec![premise], conclusion)).collect()
}

/// Where all bounds are one interval, empty or not, a round leaves the bounds at that, and the bits at
/// what they learn from the unsigned bounds afterwards.
pub(super) fn one_interval() -> Vec<Goal> {
    let (bits, premise) = any_tnum::<64>("bits");
    let (min, max) = (Term::<32>::variable("min"), Term::variable("max"));
    let full = Bounds::both(Register::zero_extended(min), Register::zero_extended(max));
    let value = ScalarOf { bits, full, low: Bounds::both(min, max) };
    let deductions: [fn(&mut ScalarOf<Register>); 4] = [
        ScalarOf::low_from_full,
        |value| value.low.exchange_signs(),
        |value| value.full.exchange_signs(),
        ScalarOf::full_from_low,
    ];
    let left = deductions.map(|deduce| {
        truth(|| {
            let (mut learnt, mut other) = (value, value);
            deduce(&mut learnt);
            learnt.bits_from_bounds();
            other.bits_from_bounds();
            learnt == other
        })
    });
    left.into_iter().map(|conclusion| Goal::new(vec![premise], conclusion)).collect()
}

/// The one common value of bits and bounds is the member, by any function that passes over no
/// member: [`next_member`] is about ours.
pub(super) fn only_common_value() -> Vec<Goal> {
    let (a, x, of_x) = any_member::<64, 32>("x");
    let (first, second) = (Register::variable("first"), Register::variable("second"));
    let next_above = |from: Register| if from.0 == a.full.umin.0 { first } else { second };
    let passed_over = [(a.full.umin, first), (first, second)]
        .map(|(from, next)| is_not_passed_over(x, from, next));
    let found = ways(|| a.only_common_value_by(next_above)).into_iter();
    found
        .filter_map(|(answers, only)| {
            let premises = [&of_x[..], &passed_over, &conditions(&answers)].concat();
            only.map(|only| Goal::new(premises, expr::equal(only.0, x.0)))
        })
        .collect()
}

/// The step of the multiplication of bits: if `product` has `p`, `bits` has `n` and `addend` has
/// `d`, the next product has `p`, or `p + d` if `n` is odd.
pub(super) fn partial_product() -> Vec<Goal> {
    let of = |name: &str| {
        let (bits, premise) = any_tnum::<64>(&format!("{name}.bits"));
        let member = Register::variable(name);
        (bits, member, vec![premise, truth(|| bits.contains(member))])
    };
    let ((product, p, of_p), (bits, n, of_n), (addend, d, of_d)) = (of("p"), of("n"), of("d"));
    let odd = expr::equal(Term::apply("bvand", n, Term::number(1)).0, Register::number(1).0);
    let next = Term(expr::choice(odd, Term::apply("bvadd", p, d).0, p.0));
    let result = all_ways(|| product.plus_if_odd(bits, addend));
    vec![Goal::new([of_p, of_n, of_d].concat(), truth(|| result.contains(next)))]
}

/// The bounds of a product.
pub(super) fn product_bounds<const N: u32>() -> Vec<Goal> {
    let (a, b) = (any_bounds::<N>("a"), any_bounds("b"));
    let (x, y) = (Term::variable("x"), Term::variable("y"));
    let premises = vec![truth(|| a.contains(x)), truth(|| b.contains(y))];
    let product = all_ways(|| mul(&a, &b));
    vec![Goal::new(premises, truth(|| product.contains(Term::apply("bvmul", x, y))))]
}

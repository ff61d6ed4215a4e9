//! What is to be proved of a rule, as terms.

use super::expr::{self, Expr};
use super::paths::{all_ways, truth};
use super::reference::Reference as _;
use super::rules::{Claim, Rule};
use super::term::Term;
use crate::domain::bounds::Bounds;
use crate::domain::{ScalarOf, Tnum};

/// The word that proofs are about.
pub(super) type Register = Term<64>;
type Value = ScalarOf<Register>;

/// The conclusion follows from the premises, whatever the values of the variables.
pub(super) struct Goal {
    pub(super) premises: Vec<Expr>,
    pub(super) conclusion: Expr,
}

impl Goal {
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
pub(super) fn any_tnum<const N: u32>(name: &str) -> (Tnum<Term<N>>, Expr) {
    let part = |part: &str| Term::variable(&format!("{name}.{part}"));
    let bits = Tnum { value: part("value"), mask: part("mask") };
    let both = Term::apply("bvand", bits.value, bits.mask);
    (bits, expr::equal(both.0, Expr::Number(0, N)))
}

/// Any bounds, empty ones too.
pub(super) fn any_bounds<const N: u32>(name: &str) -> Bounds<Term<N>> {
    let part = |part: &str| Term::variable(&format!("{name}.{part}"));
    Bounds { umin: part("umin"), umax: part("umax"), smin: part("smin"), smax: part("smax") }
}

/// Any scalar, one of its members, and that it is one.
fn any_member(name: &str) -> (Value, Register, Vec<Expr>) {
    let (bits, premise) = any_tnum(&format!("{name}.bits"));
    let full = any_bounds(&format!("{name}.full"));
    let low = any_bounds(&format!("{name}.low"));
    let (scalar, member) = (ScalarOf { bits, full, low }, Term::variable(name));
    (scalar, member, vec![premise, truth(|| scalar.contains(member))])
}

fn has(scalar: &Value, member: Register) -> Expr {
    truth(|| scalar.contains(member))
}

/// What the rule claims. For shifts, the second operand is each of the constants in turn.
pub(super) fn goals(rule: &Rule<Register>) -> Vec<Goal> {
    let (a, x, of_x) = any_member("x");
    let one = |premises: Vec<Expr>, conclusion| vec![Goal { premises, conclusion }];
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
                    Goal { premises: of_x.clone(), conclusion: has(&combined, result(x, y)) }
                })
                .collect(),
        },
        Claim::Decides(outcome, holds) => {
            let (b, y, of_y) = any_member("y");
            let right = truth(|| outcome(&a, &b).is_none_or(|known| known == holds(x, y)));
            one([of_x, of_y].concat(), right)
        }
        Claim::Learns(learn, when) => {
            let (b, y, of_y) = any_member("y");
            let (l, r) = all_ways(|| learn(&a, &b));
            let premises = [of_x, of_y, vec![truth(|| when(x, y))]].concat();
            one(premises, expr::both(has(&l, x), has(&r, y)))
        }
    }
}

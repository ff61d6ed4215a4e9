//! Every rule on random values of six bits, wider than they need to be in some of their parts.

use ebpf_testkit::Rng;

use super::reference::Reference;
use super::rules::{Claim, rules};
use super::words::Toy;
use crate::domain::bounds::Bounds;
use crate::domain::{ScalarOf, Tnum, Wide, Word};

type Word6 = Toy<6>;
type Value = ScalarOf<Word6>;

const SAMPLES: usize = 4000;

/// The least value of some members, with some parts forgotten; and all members that it has.
fn sample(rng: &mut Rng) -> (Value, Vec<Word6>) {
    let count = rng.range(1..5);
    let some = (0..count).map(|_| Word6::number(rng.range(0..64)));
    let mut value = some.map(Value::constant).reduce(|a, b| hull(&a, &b)).unwrap();
    if rng.chance(1, 3) {
        value.bits = Tnum::UNKNOWN;
    }
    if rng.chance(1, 3) {
        value.low = Bounds::FULL;
    }
    if rng.chance(1, 3) {
        (value.full.umin, value.full.umax) = (Word6::ZERO, Word6::ONES);
    }
    if rng.chance(1, 3) {
        (value.full.smin, value.full.smax) = (Word6::SIGNED_MIN, Word6::SIGNED_MAX);
    }
    (value, Word6::all().filter(|&word| value.contains(word)).collect())
}

fn hull(a: &Value, b: &Value) -> Value {
    let full = span(&a.full, &b.full);
    ScalarOf { bits: a.bits.union(b.bits), full, low: span(&a.low, &b.low) }
}

fn span<W: Word>(a: &Bounds<W>, b: &Bounds<W>) -> Bounds<W> {
    Bounds {
        umin: a.umin.min(b.umin),
        umax: a.umax.max(b.umax),
        smin: a.smin.signed_min(b.smin),
        smax: a.smax.signed_max(b.smax),
    }
}

fn is_kept<W: Reference + Wide>(
    claim: &Claim<W>,
    (a, xs): &(ScalarOf<W>, Vec<W>),
    (b, ys): &(ScalarOf<W>, Vec<W>),
) -> bool {
    let pairs = || xs.iter().flat_map(|&x| ys.iter().map(move |&y| (x, y)));
    match claim {
        Claim::Keeps(rule) => xs.iter().all(|&x| rule(a).contains(x)),
        Claim::KeepsIf(rule, when) => xs.iter().all(|&x| !when(x) || rule(a).contains(x)),
        Claim::Splits(rule) => {
            rule(a).is_none_or(|(l, r)| xs.iter().all(|&x| l.contains(x) || r.contains(x)))
        }
        Claim::Maps(rule, result) => xs.iter().all(|&x| rule(a).contains(result(x))),
        Claim::Combines(rule, result) => {
            let combined = rule(a, b);
            pairs().all(|(x, y)| combined.contains(result(x, y)))
        }
        Claim::Decides(rule, holds) => {
            rule(a, b).is_none_or(|decided| pairs().all(|(x, y)| holds(x, y) == decided))
        }
        Claim::Learns(rule, when) => {
            let (l, r) = rule(a, b);
            pairs().all(|(x, y)| !when(x, y) || l.contains(x) && r.contains(y))
        }
    }
}

#[test]
fn every_rule_holds_on_samples_of_six_bits() {
    let mut rng = Rng::seed(6);
    let samples: Vec<_> = (0..SAMPLES).map(|_| sample(&mut rng)).collect();
    for rule in rules::<Word6>() {
        for first in &samples {
            let constant = Word6::number(rng.range(0..64));
            let second = match rng.chance(1, 4) {
                true => (Value::constant(constant), vec![constant]),
                false => rng.pick(&samples).clone(),
            };
            assert!(is_kept(&rule.claim, first, &second), "{}: {first:?}, {second:?}", rule.name);
        }
    }
}

//! Every rule on random values of six and of ten bits, wider than they need to be in some of their
//! parts.
//!
//! The rules are about words of two halves, so a word of five bits has none of its own; it is the
//! half of a word of ten.

use ebpf_testkit::Rng;

use super::members::{forget, hull};
use super::reference::Reference;
use super::rules::{Claim, rules};
use super::words::Toy;
use crate::domain::ScalarOf;

/// Values for each rule.
const SAMPLES: usize = 4000;
/// Members of a value that are tried; of six bits there are no more.
const MEMBERS: usize = 64;

/// A value, and members of it.
type Sample<W> = (ScalarOf<W>, Vec<W>);

fn word<const N: u32>(rng: &mut Rng) -> Toy<N> {
    Toy::new(rng.range(0..1 << N) as i32)
}

/// The least value of some members, with some parts forgotten; and members that it has.
fn sample<const N: u32>(rng: &mut Rng) -> Sample<Toy<N>>
where
    Toy<N>: Reference,
{
    let count = rng.range(1..5);
    let value = forget(hull((0..count).map(|_| word(rng))), rng.next_u64() & rng.next_u64());
    let mut members: Vec<_> = Toy::all().filter(|&word| value.contains(word)).collect();
    if members.len() > MEMBERS {
        // The first and the last one are most likely to be lost.
        let ends = [members[0], members[members.len() - 1]];
        let some = (ends.len()..MEMBERS).map(|_| *rng.pick(&members));
        members = some.chain(ends).collect();
    }
    (value, members)
}

fn is_kept<W: Reference>(claim: &Claim<W>, (a, xs): &Sample<W>, (b, ys): &Sample<W>) -> bool {
    let pairs = || xs.iter().flat_map(|&x| ys.iter().map(move |&y| (x, y)));
    match claim {
        Claim::Keeps(rule) => {
            let kept = rule(a);
            xs.iter().all(|&x| kept.contains(x))
        }
        Claim::KeepsIf(rule, when) => {
            let kept = rule(a);
            xs.iter().all(|&x| !when(x) || kept.contains(x))
        }
        Claim::Splits(rule) => {
            rule(a).is_none_or(|(l, r)| xs.iter().all(|&x| l.contains(x) || r.contains(x)))
        }
        Claim::Maps(rule, result) => {
            let mapped = rule(a);
            xs.iter().all(|&x| mapped.contains(result(x)))
        }
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

fn check_samples<const N: u32>()
where
    Toy<N>: Reference,
{
    let mut rng = Rng::seed(N.into());
    let samples: Vec<_> = (0..SAMPLES).map(|_| sample::<N>(&mut rng)).collect();
    for rule in rules::<Toy<N>>() {
        for first in &samples {
            let constant = word(&mut rng);
            let second = match rng.chance(1, 4) {
                true => (ScalarOf::constant(constant), vec![constant]),
                false => rng.pick(&samples).clone(),
            };
            assert!(is_kept(&rule.claim, first, &second), "{}: {first:?}, {second:?}", rule.name);
        }
    }
}

#[test]
fn every_rule_holds_on_samples_of_six_bits() {
    check_samples::<6>();
}

#[test]
fn every_rule_holds_on_samples_of_ten_bits_whose_halves_have_five() {
    check_samples::<10>();
}

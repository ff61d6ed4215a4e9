//! Deductions that are left out are those that would find nothing.

use ebpf_testkit::Rng;

use super::exhaustive::tnums;
use super::goals::{Goal, bits_alone, one_interval};
use super::proofs::EFFORT;
use super::solver::{self, Answer};
use super::words::Toy;
use crate::domain::bounds::Bounds;
use crate::domain::sync::ROUNDS;
use crate::domain::{Scalar, ScalarOf, Tnum, Wide, Word};

/// Compares with the whole sequence, step by step.
fn check<W: Wide>(value: ScalarOf<W>) {
    let (mut short, mut whole) = (value, value);
    short.sync();
    whole.bounds_from_bits();
    let once = whole;
    whole.bounds_from_bits();
    assert_eq!(whole, once, "{value:?} learns from its bits twice");
    for _ in 0..ROUNDS {
        whole.exchange();
    }
    whole.bits_from_bounds();
    whole.bounds_from_bits();
    assert_eq!(short, whole, "{value:?}");
}

/// Any intervals, empty ones too.
fn bounds<W: Word>(mut word: impl FnMut() -> W) -> Bounds<W> {
    Bounds { umin: word(), umax: word(), smin: word(), smax: word() }
}

#[test]
fn all_bounds_of_four_bits_with_some_of_their_halves() {
    let mut rng = Rng::seed(0);
    for bits in tnums::<4>() {
        for ends in 0..1 << 16 {
            let mut part = 0;
            let full = bounds(|| {
                part += 4;
                Toy::new(ends >> (part - 4))
            });
            let low = bounds(|| Toy::new(rng.range(0..4) as i32));
            check(ScalarOf { bits, full, low });
        }
    }
}

fn known_by_bits<W: Wide>(bits: Tnum<W>) -> ScalarOf<W> {
    ScalarOf { bits, full: Bounds::of_bits(bits), low: Bounds::of_bits(bits.low()) }
}

#[test]
fn bounds_that_say_what_the_bits_say_learn_nothing() {
    assert_eq!(known_by_bits(Tnum::UNKNOWN), Scalar::UNKNOWN);
    assert_eq!(known_by_bits(Tnum::constant(5)), Scalar::constant(5));
    tnums::<6>().map(known_by_bits).for_each(check);
    check_proofs(&bits_alone());
}

#[test]
fn bounds_that_are_one_interval_learn_nothing() {
    for bits in tnums::<6>() {
        for (min, max) in (0..8).flat_map(|max| (0..8).map(move |min| (min, max))) {
            let (full, low) = (Bounds::both(Toy(min), Toy(max)), Bounds::both(Toy(min), Toy(max)));
            check(ScalarOf { bits, full, low });
        }
    }
    check_proofs(&one_interval());
}

/// Has the solver prove them at 64 bits.
fn check_proofs(goals: &[Goal]) {
    if solver::version().is_none() {
        eprintln!("skipped: z3 is not installed: not proved at 64 bits");
        return;
    }
    let scripts: Vec<String> = goals.iter().flat_map(Goal::scripts).collect();
    let proved = vec![Answer::Proved; scripts.len()];
    assert_eq!(solver::ask(&scripts, EFFORT), proved);
}

#[test]
fn numbers_of_64_bits() {
    let mut rng = Rng::seed(1);
    for _ in 0..1_000_000 {
        let mut word = |bits: u64| {
            // Small, large, negative, and next to what is special.
            let near = 1_u64.wrapping_shl(rng.range(0..bits) as u32);
            let value = near.wrapping_add(rng.range(0..3)).wrapping_sub(1);
            if rng.chance(1, 3) { !value } else { value }
        };
        let full = Bounds { umin: word(64), umax: word(64), smin: word(64), smax: word(64) };
        let full = if full.umin & 2 == 0 { full } else { Bounds::FULL };
        let low = bounds(|| word(32) as u32);
        let low = if low.umin & 2 == 0 { low } else { Bounds::FULL };
        let mask = word(64);
        let bits = Tnum { value: word(64) & !mask, mask };
        for bits in [bits, Tnum::UNKNOWN, Tnum::constant(full.umin)] {
            let mut value = Scalar { bits, full, low };
            check(value);
            value.settle();
            check(value);
        }
    }
}

/// The product, digit by digit.
fn product<W: Word>(left: Tnum<W>, right: Tnum<W>) -> Tnum<W> {
    let digits = (0..W::BITS).map(|digit| (left >> digit, right << digit));
    digits
        .fold(Tnum::constant(W::ZERO), |product, (bits, addend)| product.plus_if_odd(bits, addend))
}

#[test]
fn products_of_five_bits_and_of_any_value_of_64() {
    for (left, right) in tnums::<5>().flat_map(|left| tnums::<5>().map(move |right| (left, right)))
    {
        assert_eq!(left * right, product(left, right), "{left:?} * {right:?}");
    }
    let mut rng = Rng::seed(2);
    for _ in 0..100_000 {
        let mask = rng.next_u64() & rng.next_u64() << rng.range(0..64);
        let right = Tnum { value: rng.next_u64() << rng.range(0..64) & !mask, mask };
        assert_eq!(Tnum::UNKNOWN * right, product(Tnum::UNKNOWN, right), "{right:?}");
    }
}

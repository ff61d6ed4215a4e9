//! Words of four bits, where every abstract value can be tried.

use std::collections::BTreeMap;

use ebpf_isa::{AluOp, CmpOp, Width};

use super::exhaustive::{intervals, tnums};
use super::reference::Reference as _;
use super::rules::{FOLLOWED, WIDTHS};
use super::words::Toy;
use crate::domain::bounds::Bounds;
use crate::domain::{ScalarOf, Tnum, Word as _, alu, branch, fork, mov, neg, refine, refine_same};

type Full = Toy<4>;
type Value = ScalarOf<Full>;

fn members(value: &Value) -> Vec<Full> {
    Full::all().filter(|&word| value.contains(word)).collect()
}

/// What the deductions make of every value that is known by its bits and the bounds of the whole
/// word, or by its bits and the bounds of its low half.
fn values() -> Vec<Value> {
    let (full_bounds, low_bounds) = (intervals::<4>(), intervals::<2>());
    let mut all = BTreeMap::new();
    for bits in tnums::<4>() {
        let wholes = full_bounds.iter().map(|&full| ScalarOf { full, low: Bounds::FULL, bits });
        let halves = low_bounds.iter().map(|&low| ScalarOf { full: Bounds::FULL, low, bits });
        for raw in wholes.chain(halves) {
            let inside = members(&raw);
            if inside.is_empty() {
                continue;
            }
            // The result may even have gained members, as the kernel's has.
            let mut synced = raw;
            synced.sync();
            let kept = inside.iter().all(|&word| synced.contains(word));
            assert!(kept, "{raw:?} became {synced:?}");
            assert!(!synced.is_contradictory(), "{raw:?}");
            all.insert(format!("{synced:?}"), synced);
        }
    }
    all.into_values().collect()
}

fn check_unary(a: &Value) {
    for x in members(a) {
        let zero = Toy(0);
        for width in WIDTHS {
            assert!(neg(width, a).contains(Full::compute(AluOp::Sub, width, zero, x)), "-{a:?}");
            assert!(mov(width, a).contains(Full::compute(AluOp::Or, width, zero, x)), "{a:?}");
            for &op in CmpOp::ALL {
                let kept = refine_same(op, width, Full::holds(op, width, x, x), a);
                assert!(kept.is_some_and(|kept| kept.contains(x)), "{a:?} {op:?} itself");
            }
        }
        if let Some((ones, none)) = fork(AluOp::Or, a, &Value::constant(Toy(5))) {
            assert!(ones.contains(x) || none.contains(x), "{a:?} forks");
        }
    }
}

fn check_pair(a: &Value, b: &Value) {
    let (xs, ys) = (members(a), members(b));
    for width in WIDTHS {
        for (op, _) in FOLLOWED {
            let mut result = *a;
            alu(op, width, &mut result, b);
            for (&x, &y) in xs.iter().flat_map(|x| ys.iter().map(move |y| (x, y))) {
                let value = Full::compute(op, width, x, y);
                assert!(result.contains(value), "{a:?} {op:?} {width:?} {b:?} has no {value:?}");
            }
        }
        for &op in CmpOp::ALL {
            check_comparison(op, width, a, b, &xs, &ys);
        }
    }
}

fn check_comparison(op: CmpOp, width: Width, a: &Value, b: &Value, xs: &[Full], ys: &[Full]) {
    let outcome = branch(op, width, a, b);
    let learnt = [false, true].map(|taken| refine(op, width, taken, a, b));
    for (&x, &y) in xs.iter().flat_map(|x| ys.iter().map(move |y| (x, y))) {
        let held = Full::holds(op, width, x, y);
        assert!(outcome != Some(!held), "{a:?} {op:?} {width:?} {b:?} is not {outcome:?}");
        let kept = learnt[usize::from(held)].is_some_and(|(l, r)| l.contains(x) && r.contains(y));
        assert!(kept, "{a:?} {op:?} {width:?} {b:?} ({held}) loses {x:?}, {y:?}");
    }
}

#[test]
fn deductions_and_unary_operations_on_every_value() {
    let values = values();
    assert!(values.len() > 3000, "only {} values", values.len());
    values.iter().for_each(check_unary);
}

/// A sample of all pairs; with `EXHAUSTIVE` in the environment all of them, which takes minutes.
#[test]
fn binary_operations_on_pairs() {
    let step = if std::env::var_os("EXHAUSTIVE").is_some() { 1 } else { 1009 };
    let values = values();
    let count = values.len();
    for pair in (0..count * count).step_by(step) {
        check_pair(&values[pair / count], &values[pair % count]);
    }
}

fn members_of<const N: u32>(tnum: Tnum<Toy<N>>) -> impl Iterator<Item = Toy<N>> {
    Toy::all().filter(move |&word| tnum.contains(word))
}

fn check_tristate_operations<const N: u32>() {
    let all: Vec<Tnum<Toy<N>>> = tnums().collect();
    assert_eq!(all.len(), 3_usize.pow(N));
    for (&a, &b) in all.iter().flat_map(|a| all.iter().map(move |b| (a, b))) {
        let overlap = members_of(a).any(|x| b.contains(x));
        assert_eq!(a.overlaps(b), overlap, "{a:?} {b:?}");
        assert_eq!(a.is_subset_of(b), members_of(a).all(|x| b.contains(x)), "{a:?} {b:?}");
        let (sum, difference, product) = (a + b, a - b, a * b);
        for x in members_of(a) {
            assert!(a.union(b).contains(x) && b.union(a).contains(x));
            assert!(!b.contains(x) || a.intersect(b).contains(x));
            for y in members_of(b) {
                assert!(sum.contains(x.wrapping_add(y)) && difference.contains(x.wrapping_sub(y)));
                assert!(product.contains(x.wrapping_mul(y)) && (a & b).contains(x & y));
                assert!((a | b).contains(x | y) && (a ^ b).contains(x ^ y));
            }
        }
    }
}

/// Tristate numbers need no halves, so they can be of any width.
#[test]
fn tristate_operations_are_sound_on_every_pair_of_four_and_of_five_bits() {
    check_tristate_operations::<4>();
    check_tristate_operations::<5>();
}

fn check_next_member<const N: u32>() {
    for tnum in tnums::<N>() {
        for from in Toy::all() {
            let next = members_of(tnum).find(|&word| word > from);
            assert_eq!(tnum.next_above(from), next.unwrap_or(tnum.max()), "{tnum:?} {from:?}");
        }
    }
}

#[test]
fn the_next_member_is_the_next_one() {
    check_next_member::<4>();
    check_next_member::<5>();
}

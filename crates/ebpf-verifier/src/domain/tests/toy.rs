//! Words of four bits, where every abstract value can be tried.

use std::collections::BTreeMap;

use ebpf_isa::{AluOp, CmpOp, Width};

use super::words::Toy;
use crate::domain::bounds::Bounds;
use crate::domain::{ScalarOf, Tnum, Word, alu, branch, fork, mov, neg, refine, refine_same};

type Full = Toy<4>;
type Value = ScalarOf<Full>;

/// What the operation computes, on integers and without [`Word`].
fn concrete(op: AluOp, width: Width, x: Full, y: Full) -> Full {
    let bits = if width == Width::W64 { 4 } else { 2 };
    let mask = (1 << bits) - 1;
    let sign = |v: i32| v - if v >> (bits - 1) == 1 { 1 << bits } else { 0 };
    let (a, b) = (i32::from(x.0) & mask, i32::from(y.0) & mask);
    let count = b % bits;
    let result = match op {
        AluOp::Add => a + b,
        AluOp::Sub => a - b,
        AluOp::Mul => a * b,
        AluOp::And => a & b,
        AluOp::Or => a | b,
        AluOp::Xor => a ^ b,
        AluOp::Lsh => a << count,
        AluOp::Rsh => a >> count,
        AluOp::Arsh => sign(a) >> count,
        _ => panic!("{op:?} is not tracked"),
    };
    Toy::new(result & mask)
}

fn holds(op: CmpOp, width: Width, x: Full, y: Full) -> bool {
    let bits = if width == Width::W64 { 4 } else { 2 };
    let (a, b) = (i32::from(x.0) % (1 << bits), i32::from(y.0) % (1 << bits));
    let sign = |v: i32| v - if v >> (bits - 1) == 1 { 1 << bits } else { 0 };
    match op {
        CmpOp::Eq => a == b,
        CmpOp::Ne => a != b,
        CmpOp::Set => a & b != 0,
        CmpOp::Gt => a > b,
        CmpOp::Ge => a >= b,
        CmpOp::Lt => a < b,
        CmpOp::Le => a <= b,
        CmpOp::Sgt => sign(a) > sign(b),
        CmpOp::Sge => sign(a) >= sign(b),
        CmpOp::Slt => sign(a) < sign(b),
        CmpOp::Sle => sign(a) <= sign(b),
    }
}

/// Members as a set of bits, one for each of the sixteen words.
fn members(value: &Value) -> Vec<Full> {
    Full::all().filter(|&word| value.contains(word)).collect()
}

fn intervals<const N: u32>() -> Vec<Bounds<Toy<N>>> {
    let pairs: Vec<(i32, i32)> =
        (0..1 << N).flat_map(|min| (min..1 << N).map(move |max| (min, max))).collect();
    let from = 1 << (N - 1);
    let signed = |(min, max): (i32, i32)| (Toy::new(min - from), Toy::new(max - from));
    pairs
        .iter()
        .flat_map(|&(min, max)| {
            pairs.iter().map(move |&other| {
                let (smin, smax) = signed(other);
                Bounds { umin: Toy::new(min), umax: Toy::new(max), smin, smax }
            })
        })
        .collect()
}

/// What the deductions make of every value that is known by its bits and the bounds of the whole
/// word, or by its bits and the bounds of its low half.
fn values() -> Vec<Value> {
    let tnums = Full::all().flat_map(|mask| {
        Full::all().filter(move |&v| v & mask == Toy(0)).map(move |value| Tnum { value, mask })
    });
    let (full_bounds, low_bounds) = (intervals::<4>(), intervals::<2>());
    let mut all = BTreeMap::new();
    for bits in tnums {
        let wholes = full_bounds.iter().map(|&full| ScalarOf { full, low: Bounds::FULL, bits });
        let halves = low_bounds.iter().map(|&low| ScalarOf { full: Bounds::FULL, low, bits });
        for raw in wholes.chain(halves) {
            let inside = members(&raw);
            if inside.is_empty() {
                continue;
            }
            // The result may even have gained members, as the kernel's has.
            let synced = raw.sync();
            let kept = inside.iter().all(|&word| synced.contains(word));
            assert!(kept, "{raw:?} became {synced:?}");
            assert_eq!(synced.checked(), synced, "{raw:?}");
            all.insert(format!("{synced:?}"), synced);
        }
    }
    all.into_values().collect()
}

const WIDTHS: [Width; 2] = [Width::W32, Width::W64];

const TRACKED: [AluOp; 9] = [
    AluOp::Add,
    AluOp::Sub,
    AluOp::Mul,
    AluOp::And,
    AluOp::Or,
    AluOp::Xor,
    AluOp::Lsh,
    AluOp::Rsh,
    AluOp::Arsh,
];

fn check_unary(a: &Value) {
    for x in members(a) {
        let zero = Toy(0);
        for width in WIDTHS {
            assert!(neg(width, a).contains(concrete(AluOp::Sub, width, zero, x)), "-{a:?}");
            assert!(mov(width, a).contains(concrete(AluOp::Or, width, zero, x)), "{a:?}");
            for &op in CmpOp::ALL {
                let kept = refine_same(op, width, holds(op, width, x, x), a);
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
        for op in TRACKED {
            let result = alu(op, width, a, b);
            for (&x, &y) in xs.iter().flat_map(|x| ys.iter().map(move |y| (x, y))) {
                let value = concrete(op, width, x, y);
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
        let held = holds(op, width, x, y);
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

#[test]
fn tristate_operations_are_sound_on_every_pair() {
    let all: Vec<Tnum<Full>> = Full::all()
        .flat_map(|mask| Full::all().map(move |value| Tnum { value, mask }))
        .filter(|t| t.value & t.mask == Toy(0))
        .collect();
    assert_eq!(all.len(), 81);
    let members = |t: Tnum<Full>| Full::all().filter(move |&word| t.contains(word));
    for (&a, &b) in all.iter().flat_map(|a| all.iter().map(move |b| (a, b))) {
        let overlap = members(a).any(|x| b.contains(x));
        assert_eq!(a.overlaps(b), overlap, "{a:?} {b:?}");
        assert_eq!(a.is_subset_of(b), members(a).all(|x| b.contains(x)), "{a:?} {b:?}");
        for x in members(a) {
            assert!(a.union(b).contains(x) && b.union(a).contains(x));
            assert!(!b.contains(x) || a.intersect(b).contains(x));
            for y in members(b) {
                assert!((a + b).contains(x.wrapping_add(y)) && (a - b).contains(x.wrapping_sub(y)));
                assert!((a * b).contains(x.wrapping_mul(y)) && (a & b).contains(x & y));
                assert!((a | b).contains(x | y) && (a ^ b).contains(x ^ y));
            }
        }
    }
}

#[test]
fn the_next_member_is_the_next_one() {
    for (mask, value) in Full::all().flat_map(|mask| Full::all().map(move |v| (mask, v))) {
        if value & mask != Toy(0) {
            continue;
        }
        let tnum = Tnum { value, mask };
        for from in Full::all() {
            let next = Full::all().find(|&word| word > from && tnum.contains(word));
            assert_eq!(tnum.next_above(from), next.unwrap_or(tnum.max()), "{tnum:?} {from:?}");
        }
    }
}

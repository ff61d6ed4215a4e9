//! Whatever values the operands have, the result has the one that `ebpf_isa::semantics` computes.

use ebpf_isa::{AluOp, ByteOrder, CmpOp, Extend, Size, Width, semantics};
use proptest::prelude::*;
use proptest::sample::select;

use super::members::{forget, hull};
use crate::domain::{
    Scalar, alu, branch, fork, mov, movsx, narrow, neg, offset_add, offset_sub, refine,
    refine_same, swap,
};

/// Words near the places where intervals break.
const CORNERS: &[u64] = &[
    0,
    1,
    2,
    31,
    32,
    63,
    64,
    0x7f,
    0x80,
    0x7fff,
    0x8000,
    0x7fff_ffff,
    0x8000_0000,
    0x8000_0001,
    0xffff_ffff,
    0x1_0000_0000,
    0x1_0000_0001,
    0xffff_fffe_ffff_ffff,
    0xffff_ffff_0000_0000,
    0xffff_ffff_7fff_ffff,
    0xffff_ffff_8000_0000,
    0x7fff_ffff_ffff_ffff,
    0x8000_0000_0000_0000,
    0x8000_0000_0000_0001,
    0xffff_ffff_ffff_fffe,
    0xffff_ffff_ffff_ffff,
];

fn word() -> impl Strategy<Value = u64> {
    prop_oneof![
        3 => select(CORNERS),
        2 => (any::<u64>(), 0..64_u32).prop_map(|(word, count)| word >> count),
        1 => (any::<i64>(), 0..63_u32).prop_map(|(word, count)| (word >> count).cast_unsigned()),
        1 => any::<u64>(),
    ]
}

/// A scalar and some of its members: their hull, with some parts forgotten.
fn value() -> impl Strategy<Value = (Scalar, Vec<u64>)> {
    let members = prop_oneof![
        prop::collection::vec(word(), 1..4),
        (word(), prop::collection::vec(0..300_u64, 1..4)).prop_map(|(base, offsets)| {
            offsets.into_iter().map(|offset| base.wrapping_add(offset)).collect()
        }),
    ];
    (members, 0..16_u64, any::<bool>()).prop_map(|(members, parts, learnt)| {
        let mut scalar = forget(hull(members.iter().copied()), parts);
        if learnt {
            scalar.sync();
        }
        (scalar, members)
    })
}

fn width() -> impl Strategy<Value = Width> {
    select(vec![Width::W32, Width::W64])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn deductions_keep_every_member((scalar, members) in value()) {
        for member in members {
            prop_assert!(scalar.contains(member), "{scalar} has lost {member:#x}");
        }
    }

    #[test]
    fn arithmetic(op in select(AluOp::ALL), width in width(), (a, xs) in value(), (b, ys) in value()) {
        let mut result = a;
        alu(op, width, &mut result, &b);
        for &x in &xs {
            for &y in &ys {
                let value = semantics::alu(op, width, x, y);
                prop_assert!(result.contains(value), "{a} {op:?} {b} = {result}, not {value:#x}");
            }
        }
    }

    #[test]
    fn shifts_by_constants(
        op in select(vec![AluOp::Lsh, AluOp::Rsh, AluOp::Arsh]),
        width in width(),
        (a, xs) in value(),
        count in 0..64_u64,
    ) {
        let mut result = a;
        alu(op, width, &mut result, &Scalar::constant(count));
        for &x in &xs {
            let value = semantics::alu(op, width, x, count);
            prop_assert!(result.contains(value), "{a} {op:?} {count} = {result}, not {value:#x}");
        }
    }

    #[test]
    fn unary_operations(
        width in width(),
        size in select(vec![Size::B, Size::H, Size::W, Size::Dw]),
        order in select(ByteOrder::ALL),
        (a, xs) in value(),
    ) {
        for &x in &xs {
            prop_assert!(neg(width, &a).contains(semantics::neg(width, x)));
            prop_assert!(mov(width, &a).contains(semantics::truncate(width, x)));
            for extend in [Extend::Zero, Extend::Sign] {
                let narrowed = semantics::extend(extend, size, x);
                prop_assert!(narrow(size, extend, &a).contains(narrowed));
            }
            if size.bits() < width.bits() as u8 {
                prop_assert!(movsx(width, size, &a).contains(semantics::movsx(width, size, x)));
            }
            if size != Size::B {
                prop_assert!(swap(order, size, &a).contains(semantics::swap(order, size, x)));
            }
        }
    }

    #[test]
    fn offsets_of_pointers((a, xs) in value(), (b, ys) in value()) {
        for &x in &xs {
            for &y in &ys {
                prop_assert!(offset_add(&a, &b).contains(x.wrapping_add(y)), "{a} + {b}");
                prop_assert!(offset_sub(&a, &b).contains(x.wrapping_sub(y)), "{a} - {b}");
            }
        }
    }

    #[test]
    fn comparisons(op in select(CmpOp::ALL), width in width(), (a, xs) in value(), (b, ys) in value()) {
        let outcome = branch(op, width, &a, &b);
        for &x in &xs {
            for &y in &ys {
                let holds = semantics::compare(op, width, x, y);
                prop_assert!(outcome != Some(!holds), "{a} {op:?} {b}: {x:#x} and {y:#x}");
                let learnt = refine(op, width, holds, &a, &b);
                let kept = learnt.is_some_and(|(l, r)| l.contains(x) && r.contains(y));
                prop_assert!(kept, "{a} {op:?} {b} ({holds}): {x:#x} and {y:#x}, {learnt:?}");
            }
        }
    }

    #[test]
    fn comparisons_of_a_register_with_itself(
        op in select(CmpOp::ALL), width in width(), (a, xs) in value(),
    ) {
        for &x in &xs {
            let holds = semantics::compare(op, width, x, x);
            let learnt = refine_same(op, width, holds, &a);
            prop_assert!(learnt.is_some_and(|l| l.contains(x)), "{a} {op:?}: {x:#x}");
        }
    }

    #[test]
    fn forks_cover_every_member((a, xs) in value(), k in word()) {
        if let Some((ones, zero)) = fork(AluOp::And, &a, &Scalar::constant(k)) {
            for &x in &xs {
                prop_assert!(ones.contains(x) || zero.contains(x));
            }
        }
    }

    #[test]
    fn subsets_hold_no_other_members((a, xs) in value(), (b, _) in value()) {
        if a.is_subset_of(&b) {
            for &x in &xs {
                prop_assert!(b.contains(x));
            }
        }
        prop_assert!(a.is_subset_of(&a) && a.is_subset_of(&Scalar::UNKNOWN));
    }
}

#[test]
fn corners_against_each_other() {
    let both = [Width::W32, Width::W64];
    for (&x, &y) in CORNERS.iter().flat_map(|x| CORNERS.iter().map(move |y| (x, y))) {
        let (a, b) = (Scalar::constant(x), Scalar::constant(y));
        for width in both {
            for &op in AluOp::ALL {
                let mut result = a;
                alu(op, width, &mut result, &b);
                assert!(result.contains(semantics::alu(op, width, x, y)));
            }
            for &op in CmpOp::ALL {
                let holds = semantics::compare(op, width, x, y);
                assert_eq!(branch(op, width, &a, &b), Some(holds), "{x:#x} {op:?} {y:#x}");
            }
        }
    }
}

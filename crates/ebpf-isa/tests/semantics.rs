//! What every operation computes, against literal values: worked out by hand from RFC 9669,
//! sections 4.1 to 4.3 and 5.3.

use ebpf_isa::semantics::{alu, atomic, compare, extend, immediate, movsx, neg, swap, truncate};
use ebpf_isa::{AluOp, AtomicOp, ByteOrder, CmpOp, Extend, Size, Width};

use AluOp::{Add, And, Arsh, Div, Lsh, Mod, Mul, Or, Rsh, SDiv, SMod, Sub, Xor};
use Size::{B, Dw, H, W};
use Width::{W32, W64};

/// -1 as 64 bits.
const M1: u64 = 0xffff_ffff_ffff_ffff;
/// The least signed number of 64 bits.
const MIN: u64 = 0x8000_0000_0000_0000;
/// The greatest.
const MAX: u64 = 0x7fff_ffff_ffff_ffff;
/// Upper halves that no 32-bit operation may let through.
const HIGH: u64 = 0xaaaa_aaaa_0000_0000;

#[track_caller]
fn check_alu(rows: &[(AluOp, Width, u64, u64, u64)]) {
    for &(op, width, dst, src, expected) in rows {
        let actual = alu(op, width, dst, src);
        assert_eq!(actual, expected, "{op:?} {width:?} {dst:#x} {src:#x}: got {actual:#x}");
    }
}

#[test]
fn addition_subtraction_multiplication_wrap() {
    check_alu(&[
        (Add, W64, 2, 3, 5),
        (Add, W64, M1, 1, 0),
        (Add, W64, MAX, 1, MIN),
        (Add, W64, 0xffff_ffff, 1, 0x1_0000_0000),
        (Add, W32, 0xffff_ffff, 1, 0),
        (Add, W32, HIGH | 2, HIGH | 3, 5),
        (Sub, W64, 3, 5, 0xffff_ffff_ffff_fffe),
        (Sub, W64, MIN, 1, MAX),
        (Sub, W64, 0, 0, 0),
        (Sub, W32, 3, 5, 0xffff_fffe),
        (Sub, W32, HIGH | 5, 3, 2),
        (Mul, W64, 0x1_0000_0001, 0x1_0000_0001, 0x0000_0002_0000_0001),
        (Mul, W64, M1, M1, 1),
        (Mul, W64, MIN, 2, 0),
        (Mul, W32, 0x8000_0000, 2, 0),
        (Mul, W32, 0xffff_ffff, 0xffff_ffff, 1),
        (Mul, W32, HIGH | 7, HIGH | 6, 42),
    ]);
}

#[test]
fn unsigned_division() {
    check_alu(&[
        (Div, W64, 7, 2, 3),
        (Div, W64, M1, 2, MAX),
        (Div, W64, MIN, M1, 0),
        (Div, W64, 7, 0, 0),
        (Div, W64, 0, 7, 0),
        (Div, W32, 0xffff_ffff, 2, 0x7fff_ffff),
        (Div, W32, 0x8000_0000, 0xffff_ffff, 0),
        (Div, W32, HIGH | 7, HIGH | 2, 3),
        (Div, W32, M1, HIGH, 0), // the low half of the divisor is zero
        (Mod, W64, 7, 4, 3),
        (Mod, W64, M1, 10, 5), // 18446744073709551615 ends in 5
        (Mod, W64, MIN, M1, MIN),
        (Mod, W64, M1, 0, M1),
        (Mod, W32, 0xffff_ffff, 10, 5), // 4294967295 ends in 5
        (Mod, W32, HIGH | 7, HIGH | 4, 3),
        (Mod, W32, HIGH | 7, 0, 7), // the upper half of the dividend goes
        (Mod, W32, M1, HIGH, 0xffff_ffff),
    ]);
}

#[test]
fn signed_division_truncates() {
    let minus = |value: u64| value.wrapping_neg();
    check_alu(&[
        (SDiv, W64, 13, 3, 4),
        (SDiv, W64, minus(13), 3, minus(4)),
        (SDiv, W64, 13, minus(3), minus(4)),
        (SDiv, W64, minus(13), minus(3), 4),
        (SDiv, W64, MIN, M1, MIN),
        (SDiv, W64, MIN, 1, MIN),
        (SDiv, W64, minus(13), 0, 0),
        (SDiv, W32, 0xffff_fff3, 3, 0xffff_fffc), // -13 / 3 = -4
        (SDiv, W32, 0x8000_0000, 0xffff_ffff, 0x8000_0000),
        (SDiv, W32, HIGH | 13, 3, 4),
        (SDiv, W32, M1, HIGH, 0),
        (SMod, W64, 13, 3, 1),
        (SMod, W64, minus(13), 3, minus(1)), // the sign of the dividend
        (SMod, W64, 13, minus(3), 1),
        (SMod, W64, minus(13), minus(3), minus(1)),
        (SMod, W64, MIN, M1, 0),
        (SMod, W64, minus(13), 0, minus(13)),
        (SMod, W32, 0xffff_fff3, 3, 0xffff_ffff), // -13 % 3 = -1
        (SMod, W32, 0x8000_0000, 0xffff_ffff, 0),
        (SMod, W32, M1, HIGH, 0xffff_ffff),
        (SMod, W32, HIGH | 13, 3, 1),
    ]);
}

#[test]
fn bitwise_operations() {
    check_alu(&[
        (Or, W64, 0xf0f0, 0x0ff0, 0xfff0),
        (Or, W64, MIN, 1, 0x8000_0000_0000_0001),
        (Or, W32, HIGH | 0xf0, HIGH | 0x0f, 0xff),
        (And, W64, 0xf0f0, 0x0ff0, 0x00f0),
        (And, W64, M1, MIN, MIN),
        (And, W32, M1, M1, 0xffff_ffff),
        (Xor, W64, 0xf0f0, 0x0ff0, 0xff00),
        (Xor, W64, M1, M1, 0),
        (Xor, W32, HIGH | 1, 3, 2),
    ]);
}

#[test]
fn shift_counts_are_masked() {
    check_alu(&[
        (Lsh, W64, 1, 63, MIN),
        (Lsh, W64, 1, 64, 1),
        (Lsh, W64, 1, 65, 2),
        (Lsh, W64, 1, M1, MIN),
        (Lsh, W64, 1, 0x1_0000_0000, 1),
        (Lsh, W32, 1, 31, 0x8000_0000),
        (Lsh, W32, 1, 32, 1),
        (Lsh, W32, 1, 33, 2),
        (Lsh, W32, 0xffff_ffff, 4, 0xffff_fff0),
        (Lsh, W32, HIGH | 1, HIGH, 1),
        (Rsh, W64, MIN, 63, 1),
        (Rsh, W64, MIN, 64, MIN),
        (Rsh, W64, M1, 1, MAX),
        (Rsh, W32, 0x8000_0000, 31, 1),
        (Rsh, W32, 0x8000_0000, 32, 0x8000_0000),
        (Rsh, W32, M1, 1, 0x7fff_ffff),
        (Arsh, W64, MIN, 63, M1),
        (Arsh, W64, MIN, 64, MIN),
        (Arsh, W64, MAX, 62, 1),
        (Arsh, W32, 0x8000_0000, 31, 0xffff_ffff),
        (Arsh, W32, 0x8000_0000, 32, 0x8000_0000),
        (Arsh, W32, 0x8000_0000, 4, 0xf800_0000),
        (Arsh, W32, HIGH | 0x7fff_ffff, 30, 1), // the sign is that of the low half
    ]);
}

#[test]
fn negation() {
    assert_eq!(neg(W64, 1), M1);
    assert_eq!(neg(W64, 0), 0);
    assert_eq!(neg(W64, MIN), MIN);
    assert_eq!(neg(W32, 1), 0xffff_ffff);
    assert_eq!(neg(W32, 0x8000_0000), 0x8000_0000);
    assert_eq!(neg(W32, HIGH), 0);
}

#[test]
fn moves_with_sign_extension() {
    let rows = [
        (W64, B, 0x1234_5680, 0xffff_ffff_ffff_ff80),
        (W64, B, 0xff7f, 0x7f),
        (W64, H, 0x1234_8000, 0xffff_ffff_ffff_8000),
        (W64, H, 0xffff_7fff, 0x7fff),
        (W64, W, 0x1234_8000_0000, 0xffff_ffff_8000_0000),
        (W64, W, 0xffff_ffff_7fff_ffff, 0x7fff_ffff),
        (W32, B, 0x80, 0xffff_ff80),
        (W32, B, M1 - 0x80, 0x7f),
        (W32, H, 0x8000, 0xffff_8000),
        (W32, H, HIGH | 0x7fff, 0x7fff),
    ];
    for (width, from, src, expected) in rows {
        assert_eq!(movsx(width, from, src), expected, "{width:?} {from:?} {src:#x}");
    }
}

#[test]
fn extension_of_loaded_values() {
    let value = 0x8182_8384_8586_8788;
    let rows = [
        (Extend::Zero, B, 0x88),
        (Extend::Zero, H, 0x8788),
        (Extend::Zero, W, 0x8586_8788),
        (Extend::Zero, Dw, value),
        (Extend::Sign, B, 0xffff_ffff_ffff_ff88),
        (Extend::Sign, H, 0xffff_ffff_ffff_8788),
        (Extend::Sign, W, 0xffff_ffff_8586_8788),
        (Extend::Sign, Dw, value),
    ];
    for (how, size, expected) in rows {
        assert_eq!(extend(how, size, value), expected, "{how:?} {size:?}");
    }
    assert_eq!(truncate(W32, value), 0x8586_8788);
    assert_eq!(truncate(W64, value), value);
    assert_eq!(immediate(-1), M1);
    assert_eq!(immediate(i32::MIN), 0xffff_ffff_8000_0000);
    assert_eq!(immediate(i32::MAX), 0x7fff_ffff);
}

#[test]
fn byte_swaps() {
    let value = 0x0102_0304_0506_0708;
    let rows = [
        (ByteOrder::Le, H, 0x0708),
        (ByteOrder::Le, W, 0x0506_0708),
        (ByteOrder::Le, Dw, value),
        (ByteOrder::Be, H, 0x0807),
        (ByteOrder::Be, W, 0x0807_0605),
        (ByteOrder::Be, Dw, 0x0807_0605_0403_0201),
        (ByteOrder::Swap, H, 0x0807),
        (ByteOrder::Swap, W, 0x0807_0605),
        (ByteOrder::Swap, Dw, 0x0807_0605_0403_0201),
    ];
    for (order, size, expected) in rows {
        assert_eq!(swap(order, size, value), expected, "{order:?} {size:?}");
    }
}

/// For each pair of operands, which comparisons hold; all others do not.
#[track_caller]
fn check_compare(width: Width, lhs: u64, rhs: u64, hold: &[CmpOp]) {
    for &op in CmpOp::ALL {
        let expected = hold.contains(&op);
        assert_eq!(compare(op, width, lhs, rhs), expected, "{lhs:#x} {op:?} {rhs:#x}, {width:?}");
    }
}

#[test]
fn comparisons() {
    use CmpOp::{Eq, Ge, Gt, Le, Lt, Ne, Set, Sge, Sgt, Sle, Slt};
    for width in [W32, W64] {
        check_compare(width, 5, 5, &[Eq, Ge, Le, Sge, Sle, Set]);
        check_compare(width, 0, 0, &[Eq, Ge, Le, Sge, Sle]);
        check_compare(width, 4, 3, &[Ne, Gt, Ge, Sgt, Sge]);
        check_compare(width, 3, 4, &[Ne, Lt, Le, Slt, Sle]);
        check_compare(width, M1, 1, &[Ne, Gt, Ge, Slt, Sle, Set]);
        check_compare(width, 1, M1, &[Ne, Lt, Le, Sgt, Sge, Set]);
    }
    check_compare(W64, MIN, MAX, &[Ne, Gt, Ge, Slt, Sle]);
    check_compare(W64, HIGH, 0, &[Ne, Gt, Ge, Slt, Sle]);
    check_compare(W64, 0x8000_0000, 0x7fff_ffff, &[Ne, Gt, Ge, Sgt, Sge]);
    check_compare(W32, HIGH, 0, &[Eq, Ge, Le, Sge, Sle]);
    check_compare(W32, HIGH | 5, HIGH | 5, &[Eq, Ge, Le, Sge, Sle, Set]);
    check_compare(W32, 0x8000_0000, 0x7fff_ffff, &[Ne, Gt, Ge, Slt, Sle]);
}

#[test]
fn atomic_operations() {
    let old = 0x1111_1111_ffff_fff0;
    let rows = [
        (AtomicOp::Add, Dw, 0x20, 0, 0x1111_1112_0000_0010),
        (AtomicOp::Or, Dw, 0x0f, 0, 0x1111_1111_ffff_ffff),
        (AtomicOp::And, Dw, 0xff, 0, 0xf0),
        (AtomicOp::Xor, Dw, M1, 0, 0xeeee_eeee_0000_000f),
        (AtomicOp::Xchg, Dw, 7, 0, 7),
        (AtomicOp::Cmpxchg, Dw, 7, old, 7),
        (AtomicOp::Cmpxchg, Dw, 7, 0xffff_fff0, old),
        (AtomicOp::Cmpxchg, W, 7, HIGH | 0xffff_fff0, 7), // four bytes are compared
        (AtomicOp::Cmpxchg, W, 7, 0xffff_fff1, old),
    ];
    for (op, size, src, r0, expected) in rows {
        assert_eq!(atomic(op, size, old, src, r0), expected, "{op:?} {size:?} {r0:#x}");
    }
    let low = atomic(AtomicOp::Add, W, old, 0x20, 0);
    assert_eq!(extend(Extend::Zero, W, low), 0x10);
}

//! The rules against what the live kernel printed.

use core::fmt::Debug;

use ebpf_isa::{AluOp, ByteOrder, CmpOp, Extend, Size, Width};

use super::kernel_text::scalar;
use crate::domain::{
    Scalar, alu, branch, fork, load, mov, movsx, narrow, neg, refine, refine_same, swap,
};

const ROWS: &str = include_str!("kernel_rows.txt");

fn by_name<T: Copy + Debug>(all: &[T], name: &str) -> Option<T> {
    all.iter().copied().find(|one| format!("{one:?}") == name)
}

fn size_of_bits(bits: &str) -> Option<Size> {
    Size::ALL.iter().copied().find(|size| size.bits().to_string() == bits)
}

/// The results of one row, as our rules have them.
fn results(operation: &str, dst: &Scalar, src: &str) -> Vec<Scalar> {
    let words: Vec<&str> = operation.split(' ').collect();
    let width = by_name(&[Width::W32, Width::W64], words[1]).unwrap();
    if let Some(op) = words[0].strip_prefix('J').and_then(|op| by_name(CmpOp::ALL, op)) {
        let taken = words[2] == "taken";
        let (lhs, rhs) = refine(op, width, taken, dst, &scalar(src)).unwrap();
        return vec![lhs, rhs];
    }
    if let Some(op) = by_name(AluOp::ALL, words[0]) {
        return vec![computed(op, width, dst, &scalar(src))];
    }
    let (name, bits) = words[0].split_at(words[0].find(|c: char| c.is_ascii_digit()).unwrap_or(3));
    let size = size_of_bits(bits);
    vec![match (name, size) {
        ("Neg", None) => neg(width, dst),
        ("Movsx", Some(size)) => movsx(width, size, dst),
        (order, Some(size)) => swap(by_name(ByteOrder::ALL, order).unwrap(), size, dst),
        _ => panic!("no such operation: {operation}"),
    }]
}

fn computed(op: AluOp, width: Width, dst: &Scalar, src: &Scalar) -> Scalar {
    let mut result = *dst;
    alu(op, width, &mut result, src);
    result
}

#[test]
fn every_row_of_the_kernels_log_comes_out_the_same() {
    let rows = ROWS.lines().filter(|line| !line.starts_with('#'));
    let mut count = 0;
    for row in rows {
        let columns: Vec<&str> = row.split(" | ").collect();
        let results = results(columns[0], &scalar(columns[1]), columns[2]);
        for (result, expected) in results.iter().zip(&columns[3..]) {
            assert_eq!(result.to_string(), *expected, "{row}");
        }
        count += 1;
    }
    assert_eq!(count, 122);
}

#[test]
fn loads_of_unknown_memory() {
    let text = |size, extend| load(size, extend).to_string();
    assert_eq!(
        text(Size::B, Extend::Zero),
        "scalar(smin=smin32=0,smax=umax=smax32=umax32=255,var_off=(0x0; 0xff))"
    );
    assert_eq!(
        text(Size::W, Extend::Zero),
        "scalar(smin=0,smax=umax=0xffffffff,var_off=(0x0; 0xffffffff))"
    );
    assert_eq!(text(Size::H, Extend::Sign), "scalar(smin=smin32=-32768,smax=smax32=32767)");
    assert_eq!(text(Size::W, Extend::Sign), "scalar(smin=0xffffffff80000000,smax=0x7fffffff)");
    assert_eq!(text(Size::Dw, Extend::Zero), "scalar()");
}

#[test]
fn narrow_loads_keep_what_fits() {
    let stored = scalar("scalar(smin=umin=0x105,smax=umax=0x1f0,var_off=(0x100; 0xff))");
    assert_eq!(
        narrow(Size::B, Extend::Zero, &stored).to_string(),
        "scalar(smin=umin=smin32=umin32=5,smax=umax=smax32=umax32=240,var_off=(0x0; 0xff))"
    );
    assert_eq!(narrow(Size::Dw, Extend::Zero, &stored), stored);
}

#[test]
fn moves_of_32_bits_clear_the_high_half() {
    let minus = scalar("scalar(smin=smin32=-2,smax=smax32=-1,umin=0xfffffffffffffffe)");
    assert_eq!(
        mov(Width::W32, &minus).to_string(),
        "scalar(smin=umin=umin32=0xfffffffe,smax=umax=0xffffffff,smin32=-2,smax32=-1,\
         var_off=(0xfffffffe; 0x1))"
    );
    assert_eq!(mov(Width::W64, &minus), minus);
}

#[test]
fn a_shift_count_is_read_from_the_whole_register() {
    let byte = load(Size::B, Extend::Zero);
    let count = Scalar::constant(0x1_0000_0003);
    assert_eq!(computed(AluOp::Lsh, Width::W32, &byte, &count), Scalar::UNKNOWN);
}

#[test]
fn contradicting_bounds_are_forgotten_and_known_bits_stay() {
    // The kernel does not see that no value with 32 low zeroes lies between 1 and 0xffffffff.
    let high = scalar(
        "scalar(smin=umin=1,smax=umax=0x7fffffff00000000,smin32=0,smax32=umax32=0,\
         var_off=(0x0; 0x7fffffff00000000))",
    );
    let low = load(Size::W, Extend::Zero);
    let (lhs, rhs) = refine(CmpOp::Le, Width::W64, true, &high, &low).unwrap();
    assert_eq!(lhs.as_const(), Some(0));
    assert_eq!((lhs.umin(), lhs.umax()), (0, u64::MAX));
    assert_eq!((lhs.smin32(), lhs.smax32()), (i32::MIN, i32::MAX));
    assert_eq!(
        rhs.to_string(),
        "scalar(smin=umin=umin32=1,smax=umax=0xffffffff,var_off=(0x0; 0xffffffff))"
    );
}

#[test]
fn a_register_compared_with_itself_is_taken_for_two() {
    let byte = load(Size::B, Extend::Zero);
    let less = refine_same(CmpOp::Lt, Width::W32, true, &byte).unwrap();
    assert_eq!(
        less.to_string(),
        "scalar(smin=umin=smin32=umin32=1,smax=umax=smax32=umax32=254,var_off=(0x0; 0xff))"
    );
    assert_eq!(refine_same(CmpOp::Lt, Width::W32, false, &byte), Some(byte));
    assert_eq!(refine_same(CmpOp::Ne, Width::W64, true, &byte), Some(byte));
    let five = Scalar::constant(5);
    assert_eq!(refine_same(CmpOp::Ne, Width::W64, true, &five), None);
}

#[test]
fn known_outcomes_teach_nothing() {
    let byte = load(Size::B, Extend::Zero);
    let big = Scalar::constant(256);
    assert_eq!(branch(CmpOp::Lt, Width::W64, &byte, &big), Some(true));
    assert_eq!(refine(CmpOp::Lt, Width::W64, true, &byte, &big), Some((byte, big)));
    assert_eq!(refine(CmpOp::Lt, Width::W64, false, &byte, &big), None);
}

#[test]
fn masks_of_signs_fork() {
    let twelve = Scalar::constant(12);
    let mask = computed(AluOp::Arsh, Width::W64, &Scalar::UNKNOWN, &Scalar::constant(63));
    let both = Some((Scalar::constant(u64::MAX), Scalar::constant(0)));
    assert_eq!(fork(AluOp::And, &mask, &twelve), both);
    assert_eq!(fork(AluOp::Or, &mask, &twelve), both);
    assert_eq!(fork(AluOp::Xor, &mask, &twelve), None);
    assert_eq!(fork(AluOp::And, &twelve, &mask), None);

    let low_mask = computed(AluOp::Arsh, Width::W32, &Scalar::UNKNOWN, &Scalar::constant(31));
    let (ones, zero) = fork(AluOp::And, &low_mask, &twelve).unwrap();
    assert_eq!((ones.as_const(), zero.as_const()), (Some(0xffff_ffff), Some(0)));
    assert_eq!(computed(AluOp::And, Width::W64, &ones, &twelve).to_string(), "12");
}

#[test]
fn ranges_of_return_values() {
    let range = |min: i64, max: i64| {
        Scalar::UNKNOWN.within_signed(min.cast_unsigned(), max.cast_unsigned()).to_string()
    };
    assert_eq!(range(-4095, 0), "scalar(smin=smin32=-4095,smax=smax32=0)");
    assert_eq!(range(0, 7), "scalar(smin=smin32=0,smax=umax=smax32=umax32=7,var_off=(0x0; 0x7))");
}

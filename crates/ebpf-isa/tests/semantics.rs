//! What every operation computes, against the literal values of `fixtures/semantics`.

mod rows;

use ebpf_isa::semantics::{alu, atomic, compare, extend, immediate, movsx, neg, swap, truncate};
use ebpf_isa::{AluOp, AtomicOp, CmpOp, Extend, Size, Width};
use rows::UnaryOp;

#[test]
fn binary_arithmetic() {
    for row in rows::alu() {
        let actual = alu(row.op, row.width, row.dst, row.src);
        assert_eq!(actual, row.expected, "{row:x?}: got {actual:#x}");
    }
}

#[test]
fn unary_arithmetic() {
    for row in rows::unary() {
        let actual = match row.op {
            UnaryOp::Mov(width) => truncate(width, row.operand),
            UnaryOp::MovSx(width, from) => movsx(width, from, row.operand),
            UnaryOp::Neg(width) => neg(width, row.operand),
            UnaryOp::Swap(order, size) => swap(order, size, row.operand),
        };
        assert_eq!(actual, row.expected, "{row:x?}: got {actual:#x}");
    }
}

#[test]
fn comparisons() {
    for row in rows::compare() {
        for &op in CmpOp::ALL {
            let expected = row.hold.contains(&op);
            assert_eq!(compare(op, row.width, row.lhs, row.rhs), expected, "{op:?} in {row:x?}");
        }
    }
}

#[test]
fn atomic_operations() {
    for row in rows::atomic() {
        let stored = atomic(row.op, row.size, row.before, row.src, row.r0);
        let low = |value| extend(Extend::Zero, row.size, value);
        assert_eq!(low(stored), low(row.after), "{row:x?}: got {stored:#x}");
    }
}

#[test]
fn loaded_values() {
    for row in rows::load() {
        let actual = extend(row.extend, row.size, row.memory);
        assert_eq!(actual, row.expected, "{row:x?}: got {actual:#x}");
    }
}

#[test]
fn stored_values() {
    for row in rows::store() {
        let low = |value| extend(Extend::Zero, row.size, value);
        assert_eq!(low(row.after), low(row.src), "{row:x?}");
        assert_eq!(row.after ^ low(row.after), row.before ^ low(row.before), "{row:x?}");
    }
}

#[test]
fn immediates_are_sign_extended() {
    assert_eq!(immediate(-1), 0xffff_ffff_ffff_ffff);
    assert_eq!(immediate(i32::MIN), 0xffff_ffff_8000_0000);
    assert_eq!(immediate(i32::MAX), 0x7fff_ffff);
}

/// Tables without a row for some operation would say nothing of it.
#[test]
fn tables_have_every_operation() {
    let (alu, unary, compare) = (rows::alu(), rows::unary(), rows::compare());
    let (atomic, load, store) = (rows::atomic(), rows::load(), rows::store());
    for width in [Width::W32, Width::W64] {
        for &op in AluOp::ALL {
            assert!(alu.iter().any(|row| (row.op, row.width) == (op, width)), "{op:?} {width:?}");
        }
        for &op in CmpOp::ALL {
            for holds in [false, true] {
                let is_row =
                    |row: &rows::Compare| row.width == width && row.hold.contains(&op) == holds;
                assert!(compare.iter().any(is_row), "{op:?} {width:?} {holds}");
            }
        }
    }
    for (name, op) in UnaryOp::all() {
        assert!(unary.iter().any(|row| row.op == op), "{name}");
    }
    for &op in AtomicOp::ALL {
        for size in [Size::W, Size::Dw] {
            assert!(atomic.iter().any(|row| (row.op, row.size) == (op, size)), "{op:?} {size:?}");
        }
    }
    for &size in Size::ALL {
        assert!(store.iter().any(|row| row.size == size), "{size:?}");
        for extend in [Extend::Zero, Extend::Sign] {
            let missing = !load.iter().any(|row| (row.size, row.extend) == (size, extend));
            assert_eq!(missing, (size, extend) == (Size::Dw, Extend::Sign), "{size:?} {extend:?}");
        }
    }
}

#[test]
fn an_inverse_comparison_holds_where_the_comparison_does_not() {
    let values = [0, 1, 2, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff, 1 << 63, u64::MAX];
    for &op in CmpOp::ALL {
        let Some(inverse) = op.inverse() else {
            assert_eq!(op, CmpOp::Set);
            continue;
        };
        for (lhs, rhs) in values.iter().flat_map(|lhs| values.map(|rhs| (*lhs, rhs))) {
            for width in [Width::W32, Width::W64] {
                let holds = compare(op, width, lhs, rhs);
                assert_eq!(compare(inverse, width, lhs, rhs), !holds, "{op:?}");
            }
        }
    }
}

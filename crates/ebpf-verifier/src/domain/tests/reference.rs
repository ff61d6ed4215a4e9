//! What operations compute, said without the rules of the domain and without [`Word`]: on
//! integers for small words, by the operators of SMT-LIB for terms.

use ebpf_isa::{AluOp, CmpOp, Width};

use super::expr::{self, Expr};
use super::paths::{Choice, decide};
use super::term::Term;
use super::words::Toy;
use crate::domain::Wide;

pub(super) trait Reference: Wide + Send + Sync + 'static {
    fn number(value: u64) -> Self;
    /// `x op y`; a 32-bit result is zero-extended.
    fn compute(op: AluOp, width: Width, x: Self, y: Self) -> Self;
    /// Whether `x op y` holds.
    fn holds(op: CmpOp, width: Width, x: Self, y: Self) -> bool;
    /// The bytes in reverse order.
    fn reversed(self) -> Self;
}

/// `width` for a word of `bits` bits: the whole, or its low half.
pub(super) fn width_of<W: Wide>(width: Width) -> u32 {
    match width {
        Width::W64 => W::BITS,
        Width::W32 => W::BITS / 2,
    }
}

impl<const N: u32> Reference for Toy<N>
where
    Self: Wide,
{
    fn number(value: u64) -> Self {
        Self::new(value as i32)
    }

    fn compute(op: AluOp, width: Width, x: Self, y: Self) -> Self {
        let bits = width_of::<Self>(width);
        let mask = (1 << bits) - 1;
        let sign = |v: i32| v - if v >> (bits - 1) == 1 { 1 << bits } else { 0 };
        let (a, b) = (i32::from(x.0) & mask, i32::from(y.0) & mask);
        let count = b % bits.cast_signed();
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
            AluOp::Div => a.checked_div(b).unwrap_or(0),
            AluOp::Mod => a.checked_rem(b).unwrap_or(a),
            AluOp::SDiv => sign(a).checked_div(sign(b)).unwrap_or(0),
            AluOp::SMod => sign(a).checked_rem(sign(b)).unwrap_or(a),
        };
        Self::new(result & mask)
    }

    fn holds(op: CmpOp, width: Width, x: Self, y: Self) -> bool {
        let bits = width_of::<Self>(width);
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

    /// A byte of such a word is one bit.
    fn reversed(self) -> Self {
        Self::new((0..N).map(|bit| i32::from(self.0) >> bit & 1).fold(0, |all, bit| all * 2 + bit))
    }
}

impl<const N: u32> Reference for Term<N>
where
    Self: Wide + Choice,
{
    fn number(value: u64) -> Self {
        Self(Expr::Number(value & u64::MAX >> (64 - N), N))
    }

    fn compute(op: AluOp, width: Width, x: Self, y: Self) -> Self {
        let bits = width_of::<Self>(width);
        let (a, b) = (lowest(x.0, bits, N), lowest(y.0, bits, N));
        let apply = |head, b| expr::apply(head, &[a, b], bits);
        let count = expr::apply("bvand", &[b, Expr::Number((bits - 1).into(), bits)], bits);
        let zero = Expr::Number(0, bits);
        let defined = |head, by_zero| expr::choice(expr::equal(b, zero), by_zero, apply(head, b));
        let result = match op {
            AluOp::Add => apply("bvadd", b),
            AluOp::Sub => apply("bvsub", b),
            AluOp::Mul => apply("bvmul", b),
            AluOp::And => apply("bvand", b),
            AluOp::Or => apply("bvor", b),
            AluOp::Xor => apply("bvxor", b),
            AluOp::Lsh => apply("bvshl", count),
            AluOp::Rsh => apply("bvlshr", count),
            AluOp::Arsh => apply("bvashr", count),
            AluOp::Div => defined("bvudiv", zero),
            AluOp::Mod => defined("bvurem", a),
            AluOp::SDiv => defined("bvsdiv", zero),
            AluOp::SMod => defined("bvsrem", a),
        };
        match width {
            Width::W64 => Self(result),
            Width::W32 => Self(expr::apply(&format!("(_ zero_extend {})", N - bits), &[result], N)),
        }
    }

    fn holds(op: CmpOp, width: Width, x: Self, y: Self) -> bool {
        let bits = width_of::<Self>(width);
        let (a, b) = (lowest(x.0, bits, N), lowest(y.0, bits, N));
        let zero = Expr::Number(0, bits);
        let less = |head, a, b| expr::apply(head, &[a, b], 0);
        decide(match op {
            CmpOp::Eq => expr::equal(a, b),
            CmpOp::Ne => expr::not(expr::equal(a, b)),
            CmpOp::Set => expr::not(expr::equal(expr::apply("bvand", &[a, b], bits), zero)),
            CmpOp::Gt => less("bvult", b, a),
            CmpOp::Ge => expr::not(less("bvult", a, b)),
            CmpOp::Lt => less("bvult", a, b),
            CmpOp::Le => expr::not(less("bvult", b, a)),
            CmpOp::Sgt => less("bvslt", b, a),
            CmpOp::Sge => expr::not(less("bvslt", a, b)),
            CmpOp::Slt => less("bvslt", a, b),
            CmpOp::Sle => expr::not(less("bvslt", b, a)),
        })
    }

    fn reversed(self) -> Self {
        let byte = |low: u32| {
            let moved = Self::apply("bvlshr", self, Self::number(low.into()));
            let byte = Self::apply("bvand", moved, Self::number(0xff));
            Self::apply("bvshl", byte, Self::number((N - 8 - low).into()))
        };
        let bytes = (0..N).step_by(8).map(byte);
        bytes.fold(Self::number(0), |all, byte| Self::apply("bvor", all, byte))
    }
}

fn lowest(word: Expr, bits: u32, of: u32) -> Expr {
    match bits == of {
        true => word,
        false => expr::apply(&format!("(_ extract {} 0)", bits - 1), &[word], bits),
    }
}

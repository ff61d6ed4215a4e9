//! Words that are terms: the rules of the domain, run on them, write down what they compute.

use core::cmp::Ordering;
use core::ops::{BitAnd, BitOr, BitXor, Not, Shl, Shr};

use super::expr::{self, Expr};
use super::paths::decide;
use crate::domain::{Wide, Word};

/// A term of `N` bits.
#[derive(Debug, Clone, Copy)]
pub(super) struct Term<const N: u32>(pub(super) Expr);

impl<const N: u32> Term<N> {
    pub(super) fn variable(name: &str) -> Self {
        Self(expr::variable(name, N))
    }

    pub(super) fn number(value: u64) -> Self {
        Self(Expr::Number(value & u64::MAX >> (64 - N), N))
    }

    /// An operation of two operands, by its name in SMT-LIB.
    pub(super) fn apply(head: &str, a: Self, b: Self) -> Self {
        Self(expr::apply(head, &[a.0, b.0], N))
    }

    /// The result, if it is that of the same operation on the operands extended by `more` bits.
    fn checked(head: &str, extension: &str, more: u32, a: Self, b: Self) -> Option<Self> {
        let extension = format!("(_ {extension} {more})");
        let extend = |x: Self| expr::apply(&extension, &[x.0], N + more);
        let result = Self::apply(head, a, b);
        let exact = expr::apply(head, &[extend(a), extend(b)], N + more);
        decide(expr::equal(extend(result), exact)).then_some(result)
    }
}

impl<const N: u32> PartialEq for Term<N> {
    fn eq(&self, other: &Self) -> bool {
        decide(expr::equal(self.0, other.0))
    }
}

impl<const N: u32> Eq for Term<N> {}

impl<const N: u32> PartialOrd for Term<N> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
    fn lt(&self, other: &Self) -> bool {
        decide(expr::less(false, self.0, other.0))
    }
    fn le(&self, other: &Self) -> bool {
        !other.lt(self)
    }
    fn gt(&self, other: &Self) -> bool {
        other.lt(self)
    }
    fn ge(&self, other: &Self) -> bool {
        !self.lt(other)
    }
}

impl<const N: u32> Ord for Term<N> {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self == other, self < other) {
            (true, _) => Ordering::Equal,
            (_, true) => Ordering::Less,
            _ => Ordering::Greater,
        }
    }
    fn min(self, other: Self) -> Self {
        Self(expr::choice(expr::less(false, other.0, self.0), other.0, self.0))
    }
    fn max(self, other: Self) -> Self {
        Self(expr::choice(expr::less(false, other.0, self.0), self.0, other.0))
    }
}

macro_rules! operator {
    ($trait:ident, $name:ident, $other:ty, $head:literal, |$b:ident| $operand:expr) => {
        impl<const N: u32> $trait<$other> for Term<N> {
            type Output = Self;
            fn $name(self, $b: $other) -> Self {
                Self::apply($head, self, $operand)
            }
        }
    };
}
operator!(BitAnd, bitand, Self, "bvand", |b| b);
operator!(BitOr, bitor, Self, "bvor", |b| b);
operator!(BitXor, bitxor, Self, "bvxor", |b| b);
operator!(Shl, shl, u32, "bvshl", |b| Self::number(b.into()));
operator!(Shr, shr, u32, "bvlshr", |b| Self::number(b.into()));

impl<const N: u32> Not for Term<N> {
    type Output = Self;
    fn not(self) -> Self {
        Self(expr::apply("bvnot", &[self.0], N))
    }
}

impl<const N: u32> Word for Term<N> {
    const BITS: u32 = N;
    const ZERO: Self = Self(Expr::Number(0, N));
    const ONE: Self = Self(Expr::Number(1, N));
    const ONES: Self = Self(Expr::Number(u64::MAX >> (64 - N), N));
    const SIGNED_MIN: Self = Self(Expr::Number(1 << (N - 1), N));
    const SIGNED_MAX: Self = Self(Expr::Number(u64::MAX >> (64 - N) >> 1, N));

    fn wrapping_add(self, other: Self) -> Self {
        Self::apply("bvadd", self, other)
    }
    fn wrapping_sub(self, other: Self) -> Self {
        Self::apply("bvsub", self, other)
    }
    fn wrapping_mul(self, other: Self) -> Self {
        Self::apply("bvmul", self, other)
    }
    fn add_carries(self, other: Self) -> bool {
        Self::checked("bvadd", "zero_extend", 1, self, other).is_none()
    }
    fn unsigned_mul(self, other: Self) -> Option<Self> {
        Self::checked("bvmul", "zero_extend", N, self, other)
    }
    fn signed_add(self, other: Self) -> Option<Self> {
        Self::checked("bvadd", "sign_extend", 1, self, other)
    }
    fn signed_sub(self, other: Self) -> Option<Self> {
        Self::checked("bvsub", "sign_extend", 1, self, other)
    }
    fn signed_mul(self, other: Self) -> Option<Self> {
        Self::checked("bvmul", "sign_extend", N, self, other)
    }
    fn signed_shr(self, count: u32) -> Self {
        Self::apply("bvashr", self, Self::number(count.into()))
    }
    fn signed_cmp(self, other: Self) -> Ordering {
        match (self == other, self.signed_lt(other)) {
            (true, _) => Ordering::Equal,
            (_, true) => Ordering::Less,
            _ => Ordering::Greater,
        }
    }
    fn signed_lt(self, other: Self) -> bool {
        decide(expr::less(true, self.0, other.0))
    }
    fn signed_le(self, other: Self) -> bool {
        !other.signed_lt(self)
    }
    fn signed_min(self, other: Self) -> Self {
        Self(expr::choice(expr::less(true, other.0, self.0), other.0, self.0))
    }
    fn signed_max(self, other: Self) -> Self {
        Self(expr::choice(expr::less(true, other.0, self.0), self.0, other.0))
    }
    fn fill_below(self) -> Self {
        let counts = (0..).map(|power| 1 << power).take_while(|&count| count < N);
        counts.fold(self, |filled, count| filled | filled >> count)
    }
    fn swap_bytes(self) -> Self {
        let byte = |low: u32| expr::apply(&format!("(_ extract {} {low})", low + 7), &[self.0], 8);
        let bytes = (0..N).step_by(8).map(byte);
        Self(bytes.reduce(expr::concat).expect("a word has a byte"))
    }
    fn as_shift(self) -> Option<u32> {
        if self >= Self::number(N.into()) {
            return None;
        }
        let last = N - 1;
        Some((0..last).find(|&count| self == Self::number(count.into())).unwrap_or(last))
    }
}

macro_rules! wide {
    ($bits:literal, $half:literal) => {
        impl Wide for Term<$bits> {
            type Half = Term<$half>;

            fn low(self) -> Term<$half> {
                Term(expr::apply(&format!("(_ extract {} 0)", $half - 1), &[self.0], $half))
            }
            fn high(self) -> Term<$half> {
                let range = format!("(_ extract {} {})", $bits - 1, $half);
                Term(expr::apply(&range, &[self.0], $half))
            }
            fn join(high: Term<$half>, low: Term<$half>) -> Self {
                Self(expr::concat(high.0, low.0))
            }
        }
    };
}
wide!(64, 32);
wide!(8, 4);

//! Words of few bits, of which all can be tried, or many.

use core::cmp::Ordering;
use core::ops::{BitAnd, BitOr, BitXor, Not, Shl, Shr};

use crate::domain::{Wide, Word};

/// A word of `N` bits, at most 10.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Toy<const N: u32>(pub(super) u16);

impl<const N: u32> Toy<N> {
    const MASK: u16 = (1 << N) - 1;

    pub(super) fn new(value: i32) -> Self {
        Self((value & i32::from(Self::MASK)) as u16)
    }

    pub(super) fn signed(self) -> i32 {
        i32::from(self.0) - if self.0 >> (N - 1) == 1 { 1 << N } else { 0 }
    }

    fn if_signed_fits(value: i32) -> Option<Self> {
        (-(1 << (N - 1))..1 << (N - 1)).contains(&value).then(|| Self::new(value))
    }

    pub(super) fn all() -> impl Iterator<Item = Self> + Clone {
        (0..=Self::MASK).map(Self)
    }
}

macro_rules! operator {
    ($trait:ident, $name:ident, $other:ty, |$a:ident, $b:ident| $result:expr) => {
        impl<const N: u32> $trait<$other> for Toy<N> {
            type Output = Self;
            fn $name(self, other: $other) -> Self {
                let ($a, $b) = (self, other);
                Self::new($result)
            }
        }
    };
}
operator!(BitAnd, bitand, Self, |a, b| i32::from(a.0 & b.0));
operator!(BitOr, bitor, Self, |a, b| i32::from(a.0 | b.0));
operator!(BitXor, bitxor, Self, |a, b| i32::from(a.0 ^ b.0));
operator!(Shl, shl, u32, |a, b| i32::from(a.0) << b);
operator!(Shr, shr, u32, |a, b| i32::from(a.0) >> b);

impl<const N: u32> Not for Toy<N> {
    type Output = Self;
    fn not(self) -> Self {
        Self(!self.0 & Self::MASK)
    }
}

impl<const N: u32> Word for Toy<N> {
    const BITS: u32 = N;
    const ZERO: Self = Self(0);
    const ONE: Self = Self(1);
    const ONES: Self = Self(Self::MASK);
    const SIGNED_MIN: Self = Self(1 << (N - 1));
    const SIGNED_MAX: Self = Self(Self::MASK >> 1);

    fn wrapping_add(self, other: Self) -> Self {
        Self::new(i32::from(self.0) + i32::from(other.0))
    }
    fn wrapping_sub(self, other: Self) -> Self {
        Self::new(i32::from(self.0) - i32::from(other.0))
    }
    fn wrapping_mul(self, other: Self) -> Self {
        Self::new(i32::from(self.0) * i32::from(other.0))
    }
    fn add_carries(self, other: Self) -> bool {
        self.0 + other.0 > Self::MASK
    }
    fn unsigned_mul(self, other: Self) -> Option<Self> {
        let product = i32::from(self.0) * i32::from(other.0);
        (product <= i32::from(Self::MASK)).then(|| Self::new(product))
    }
    fn signed_add(self, other: Self) -> Option<Self> {
        Self::if_signed_fits(self.signed() + other.signed())
    }
    fn signed_sub(self, other: Self) -> Option<Self> {
        Self::if_signed_fits(self.signed() - other.signed())
    }
    fn signed_mul(self, other: Self) -> Option<Self> {
        Self::if_signed_fits(self.signed() * other.signed())
    }
    fn signed_shr(self, count: u32) -> Self {
        Self::new(self.signed() >> count)
    }
    fn signed_cmp(self, other: Self) -> Ordering {
        self.signed().cmp(&other.signed())
    }
    fn fill_below(self) -> Self {
        Self(u16::MAX.checked_shr(self.0.leading_zeros()).unwrap_or(0))
    }
    /// A byte of such a word is one bit.
    fn swap_bytes(self) -> Self {
        Self(self.0.reverse_bits() >> (u16::BITS - N))
    }
    fn as_shift(self) -> Option<u32> {
        (u32::from(self.0) < N).then(|| u32::from(self.0))
    }
}

macro_rules! wide {
    ($bits:literal, $half:literal) => {
        impl Wide for Toy<$bits> {
            type Half = Toy<$half>;

            fn low(self) -> Toy<$half> {
                Toy(self.0 & Toy::<$half>::MASK)
            }
            fn high(self) -> Toy<$half> {
                Toy(self.0 >> $half)
            }
            fn join(high: Toy<$half>, low: Toy<$half>) -> Self {
                Toy(high.0 << $half | low.0)
            }
        }
    };
}
wide!(4, 2);
wide!(6, 3);
wide!(10, 5);

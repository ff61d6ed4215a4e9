//! Positions in a program.

use core::fmt;

/// A position in a program, in 8-byte slots from its first instruction. A wide load takes two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Pc(pub u32);

impl Pc {
    /// The first slot of a program.
    pub const ENTRY: Self = Self(0);

    /// The position `slots` further on; `None` where that leaves the range of a `u32`.
    #[inline]
    #[must_use]
    pub const fn checked_add(self, slots: u32) -> Option<Self> {
        match self.0.checked_add(slots) {
            Some(pc) => Some(Self(pc)),
            None => None,
        }
    }

    /// The target of a jump at `self` by `offset`, which counts from the next slot (RFC 9669,
    /// section 4.3); `None` where it would be negative or beyond a `u32`.
    #[inline]
    #[must_use]
    pub const fn jump(self, offset: i64) -> Option<Self> {
        let target = self.0 as i64 + 1 + offset;
        if target < 0 || target > u32::MAX as i64 {
            return None;
        }
        Some(Self(target as u32))
    }

    /// The offset that a jump at `self` needs to reach `target`: the inverse of [`Pc::jump`].
    #[inline]
    #[must_use]
    pub const fn offset_to(self, target: Self) -> i64 {
        target.0 as i64 - self.0 as i64 - 1
    }

    /// As an index into arrays that have one element a slot.
    #[inline]
    #[must_use]
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

impl fmt::Display for Pc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

//! Moves, loads, extensions and byte swaps.

use ebpf_isa::{ByteOrder, Extend, Size, Width};

use super::bounds::Bounds;
use super::scalar::{Scalar, ScalarOf};
use super::tnum::Tnum;
use super::word::{Wide, Word};

/// A scalar moved by an instruction of this width: a 32-bit move clears the high half.
#[must_use]
pub fn mov<W: Wide>(width: Width, src: &ScalarOf<W>) -> ScalarOf<W> {
    let mut moved = src.of_width(width);
    match width {
        Width::W32 => moved.settle(),
        Width::W64 => moved.check(),
    }
    moved
}

/// The low bits of `src`, sign-extended to `width`; a 32-bit result is zero-extended.
#[must_use]
pub fn movsx(width: Width, from: Size, src: &Scalar) -> Scalar {
    let mut extended = sign_extend(width, u32::from(from.bits()), src);
    match width {
        Width::W32 => extended.settle(),
        Width::W64 => extended.check(),
    }
    extended
}

/// What a load of this size gives, when nothing is known of the memory.
#[must_use]
pub fn load(size: Size, extend: Extend) -> Scalar {
    narrow(size, extend, &Scalar::UNKNOWN)
}

/// What a load of the low `size` bytes of a stored scalar gives.
#[inline]
#[must_use]
pub fn narrow(size: Size, extend: Extend, stored: &Scalar) -> Scalar {
    let mut loaded = *stored;
    match (size, extend) {
        (Size::Dw, _) => loaded.check(),
        (_, Extend::Zero) => {
            loaded = loaded.zero_extend(u32::from(size.bits()));
            loaded.settle();
        }
        (_, Extend::Sign) => loaded = movsx(Width::W64, size, stored),
    }
    loaded
}

/// Byte order conversion of the low bytes, on a little-endian machine; the rest is cleared.
#[must_use]
pub fn swap(order: ByteOrder, size: Size, dst: &Scalar) -> Scalar {
    let bits = u32::from(size.bits());
    let mut converted = match order {
        ByteOrder::Le => *dst,
        ByteOrder::Be | ByteOrder::Swap => reverse_bytes(bits, dst),
    };
    if size != Size::Dw {
        converted = converted.zero_extend(bits);
    }
    converted.settle();
    converted
}

/// The low `count` bits with their bytes in reverse order, before the parts learn from each other.
pub(super) fn reverse_bytes<W: Wide>(count: u32, src: &ScalarOf<W>) -> ScalarOf<W> {
    ScalarOf { bits: src.bits.swap_bytes(count), ..ScalarOf::UNKNOWN }
}

/// Sign extension of the low `count` bits, before the parts learn from each other; `count` is below
/// the width, and at most half the word.
pub(super) fn sign_extend<W: Wide>(width: Width, count: u32, src: &ScalarOf<W>) -> ScalarOf<W> {
    let constant = src.as_const();
    match width {
        Width::W64 => match constant {
            Some(value) => ScalarOf::constant(value.sign_extend(count)),
            None => sign_extend_full(count, &src.full),
        },
        Width::W32 => {
            let (bits, low) = match constant {
                Some(value) => {
                    let value = value.low().sign_extend(count);
                    (Tnum::constant(value), Bounds::constant(value))
                }
                None => sign_extend_word(count, &src.low),
            };
            let bits = Tnum::zero_extended(bits);
            ScalarOf { bits, low, full: Bounds::FULL }.zero_extend_low()
        }
    }
}

/// The 64-bit form: the bounds of the low half are those of the result, cut in half.
fn sign_extend_full<W: Wide>(count: u32, full: &Bounds<W>) -> ScalarOf<W> {
    let (bits, full) = sign_extend_word(count, full);
    let low = Bounds {
        umin: full.umin.low(),
        umax: full.umax.low(),
        smin: full.smin.low(),
        smax: full.smax.low(),
    };
    ScalarOf { bits, full, low }
}

/// What is known of a word after sign extension of its low `count` bits: the signed interval is
/// kept if its ends differ in those bits only and have the same sign afterwards.
fn sign_extend_word<W: Word>(count: u32, bounds: &Bounds<W>) -> (Tnum<W>, Bounds<W>) {
    let Bounds { smin, smax, .. } = *bounds;
    let (a, b) = (smin.sign_extend(count), smax.sign_extend(count));
    let (min, max) = (a.signed_min(b), a.signed_max(b));
    if (smin ^ smax) & !W::low_mask(count) == W::ZERO && min.is_negative() == max.is_negative() {
        let bounds = Bounds::both(min, max);
        return (Tnum::range(min, max), bounds);
    }
    let max = W::low_mask(count - 1);
    (Tnum::UNKNOWN, Bounds { smin: !max, smax: max, ..Bounds::FULL })
}

impl<W: Wide> ScalarOf<W> {
    /// What an operation of this width leaves of its result.
    pub(super) fn of_width(self, width: Width) -> Self {
        match width {
            Width::W32 => self.zero_extend_low(),
            Width::W64 => self,
        }
    }

    /// The low half, extended with zeroes: what every 32-bit operation leaves.
    pub(super) fn zero_extend_low(self) -> Self {
        let Bounds { umin, umax, smin, smax } = self.low;
        let mut full = Bounds {
            umin: W::zero_extended(umin),
            umax: W::zero_extended(umax),
            smin: W::ZERO,
            smax: W::zero_extended(W::Half::ONES),
        };
        if !smin.is_negative() && !smax.is_negative() {
            (full.smin, full.smax) = (W::zero_extended(smin), W::zero_extended(smax));
        }
        Self { bits: Tnum::zero_extended(self.bits.low()), full, low: self.low }
    }

    /// The low `count` bits, extended with zeroes; `count` is below the width. The parts are yet to
    /// learn from each other.
    pub(super) fn zero_extend(mut self, count: u32) -> Self {
        let kept = W::low_mask(count);
        let Bounds { umin, umax, .. } = self.full;
        let (min, max) = match umin & !kept == umax & !kept {
            true => (umin & kept, umax & kept),
            false => (W::ZERO, kept),
        };
        self.bits = self.bits.truncate(count);
        self.full = Bounds::both(min, max);
        if count < W::Half::BITS {
            self.low = Bounds::FULL;
        }
        self
    }
}

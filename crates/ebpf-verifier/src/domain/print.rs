//! Scalars in the spelling of the kernel's verifier log.

use core::fmt;

use super::scalar::Scalar;

/// A hexadecimal number as the kernel prints it: 0 is `0x0`.
pub(super) fn hex(f: &mut fmt::Formatter<'_>, value: u64) -> fmt::Result {
    write!(f, "{value:#x}")
}

/// Decimal up to 16 bits, hexadecimal beyond.
fn unsigned(f: &mut fmt::Formatter<'_>, value: u64) -> fmt::Result {
    match u16::try_from(value) {
        Ok(small) => write!(f, "{small}"),
        Err(_) => hex(f, value),
    }
}

/// A number as the kernel prints unsigned ones.
pub struct Unsigned(pub u64);

impl fmt::Display for Unsigned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        unsigned(f, self.0)
    }
}

/// Decimal if it fits 16 bits with a sign, hexadecimal beyond.
fn signed(f: &mut fmt::Formatter<'_>, value: u64) -> fmt::Result {
    match i16::try_from(value.cast_signed()) {
        Ok(small) => write!(f, "{small}"),
        Err(_) => hex(f, value),
    }
}

/// One bound: its name, its value as a 64-bit pattern, whether it is signed, whether it says
/// nothing.
#[derive(Clone, Copy)]
struct Bound {
    name: &'static str,
    value: u64,
    signed: bool,
    trivial: bool,
}

impl Bound {
    fn is_negative(&self) -> bool {
        self.signed && self.value.cast_signed() < 0
    }
}

/// The eight bounds in the kernel's order. A signed 32-bit bound is sign-extended only if it is
/// printed in decimal.
fn bounds(scalar: &Scalar) -> [Bound; 8] {
    let of = |name, value, signed, trivial| Bound { name, value, signed, trivial };
    let half = |value: i32| match i16::try_from(value) {
        Ok(small) => i64::from(small).cast_unsigned(),
        Err(_) => u64::from(value.cast_unsigned()),
    };
    [
        of("smin", scalar.smin().cast_unsigned(), true, scalar.smin() == i64::MIN),
        of("smax", scalar.smax().cast_unsigned(), true, scalar.smax() == i64::MAX),
        of("umin", scalar.umin(), false, scalar.umin() == 0),
        of("umax", scalar.umax(), false, scalar.umax() == u64::MAX),
        of("smin32", half(scalar.smin32()), true, scalar.smin32() == i32::MIN),
        of("smax32", half(scalar.smax32()), true, scalar.smax32() == i32::MAX),
        of("umin32", u64::from(scalar.umin32()), false, scalar.umin32() == 0),
        of("umax32", u64::from(scalar.umax32()), false, scalar.umax32() == u32::MAX),
    ]
}

/// The attributes of a scalar alone, comma-separated and without the word `scalar`:
/// `smin=0,smax=umax=255,var_off=(0x0; 0xff)`. Empty if nothing is known.
#[derive(Debug, Clone, Copy)]
pub struct Attributes<'a>(pub &'a Scalar);

impl fmt::Display for Attributes<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        let mut rest = bounds(self.0);
        // Minima are at even places, maxima at odd ones; equal ones are printed together.
        for first in 0..rest.len() {
            let bound = rest[first];
            if bound.trivial {
                continue;
            }
            write!(f, "{separator}{}=", bound.name)?;
            separator = ",";
            for other in rest.iter_mut().skip(first + 2).step_by(2) {
                let equal = other.value == bound.value;
                if !other.trivial && equal && other.is_negative() == bound.is_negative() {
                    write!(f, "{}=", other.name)?;
                    other.trivial = true;
                }
            }
            match bound.signed {
                true => signed(f, bound.value)?,
                false => unsigned(f, bound.value)?,
            }
        }
        if self.0.tnum() != super::Tnum::UNKNOWN {
            write!(f, "{separator}var_off={}", self.0.tnum())?;
        }
        Ok(())
    }
}

/// The kernel's form: a known value as its number, any other as `scalar(...)`.
impl fmt::Display for Scalar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.as_const() {
            Some(value) => signed(f, value),
            None => write!(f, "scalar({})", Attributes(self)),
        }
    }
}

//! Reads scalars in the spelling of the kernel's verifier log.

use crate::domain::bounds::Bounds;
use crate::domain::{Scalar, Tnum};

/// A number as the kernel prints it: decimal, negative decimal, or hexadecimal.
fn number(text: &str) -> u64 {
    match text.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16).unwrap(),
        None => text.parse::<i64>().unwrap().cast_unsigned(),
    }
}

/// The scalar that the kernel prints like this; what it leaves out says nothing.
pub(super) fn scalar(text: &str) -> Scalar {
    let Some(inner) = text.strip_prefix("scalar(").and_then(|rest| rest.strip_suffix(')')) else {
        return Scalar::constant(number(text));
    };
    let mut scalar = Scalar::UNKNOWN;
    let (bounds, var_off) = inner.split_once("var_off=").unwrap_or((inner, ""));
    if let Some((value, mask)) = var_off.split_once("; ") {
        let mask = number(mask.strip_suffix(')').unwrap());
        scalar.bits = Tnum { value: number(value.strip_prefix('(').unwrap()), mask };
    }
    for group in bounds.split(',').filter(|group| !group.is_empty()) {
        let (names, value) = group.rsplit_once('=').unwrap();
        for name in names.split('=') {
            set(&mut scalar, name, number(value));
        }
    }
    scalar
}

fn set(scalar: &mut Scalar, name: &str, value: u64) {
    let Bounds { umin, umax, smin, smax } = &mut scalar.full;
    let low = &mut scalar.low;
    match name {
        "umin" => *umin = value,
        "umax" => *umax = value,
        "smin" => *smin = value,
        "smax" => *smax = value,
        "umin32" => low.umin = value as u32,
        "umax32" => low.umax = value as u32,
        "smin32" => low.smin = value as u32,
        "smax32" => low.smax = value as u32,
        _ => panic!("no bound is called {name}"),
    }
}

#[test]
fn scalars_print_as_the_kernel_prints_them() {
    for text in [
        "scalar()",
        "0",
        "-32768",
        "0xffffffffffff7fff",
        "32767",
        "0x8000",
        "scalar(smin=smin32=0,smax=umax=smax32=umax32=255,var_off=(0x0; 0xff))",
        "scalar(smin=smin32=-128,smax=smax32=127)",
        "scalar(smin=0,smax=umax=0xffffffff,smin32=-2,smax32=-1,var_off=(0x0; 0xffffffff))",
        "scalar(smin=0xffffffff80000000,smax=0x7fffffff,umin=1)",
        "scalar(umin=0x10000,umax32=65535)",
    ] {
        assert_eq!(scalar(text).to_string(), text);
    }
}

#[test]
fn bounds_are_read_in_their_own_width_and_sign() {
    let read = scalar("scalar(smin=-3,smax32=-2,umin32=7,var_off=(0x1; 0xf0))");
    assert_eq!((read.smin(), read.smax32(), read.umin32()), (-3, -2, 7));
    assert_eq!((read.smax(), read.umax32()), (i64::MAX, u32::MAX));
    assert_eq!(read.tnum(), Tnum { value: 1, mask: 0xf0 });
}

//! The abstract domain of scalars: known bits and four intervals, with the kernel's own rules.
//!
//! A [`Scalar`] says of a register which bits are known ([`Tnum`]) and in which intervals the
//! value and its low half lie, read as unsigned and as signed numbers ([`Bounds`]). Operations take
//! scalars to scalars ([`alu`], [`mov`], ...); conditional jumps are decided by [`branch`] and
//! teach both operands something by [`refine`].
//!
//! Two things must hold of every rule. It is **sound**: whatever values the operands may have,
//! the result has the value that [`ebpf_isa::semantics`] computes. And it says **exactly what the
//! kernel says**: a verdict that rests on knowing more is one that the kernel would not give.

mod alu;
mod bounds;
mod cmp;
mod convert;
mod fork;
mod offset;
mod print;
mod scalar;
mod sync;
mod tnum;
mod word;

#[cfg(test)]
mod tests;

pub use alu::{alu, at_distance, is_followed, neg};
pub use bounds::Bounds;
pub use cmp::{branch, refine, refine_same};
pub use convert::{load, mov, movsx, narrow, swap};
pub use fork::fork;
pub use offset::{offset_add, offset_sub};
pub use print::{Attributes, Unsigned};
pub use scalar::{Scalar, ScalarOf};
pub use tnum::Tnum;
pub use word::{Wide, Word};

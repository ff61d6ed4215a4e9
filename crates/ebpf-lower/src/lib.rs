//! What every engine wants to know about a program before it runs it or compiles it.
//!
//! [`lower`] turns a [`Program`](ebpf_isa::Program) into *fused operations*: mostly its instructions
//! one by one, but where several of them are one operation of a machine (a load of four bytes
//! written as four loads, shifts and ors; a rotation written as two shifts), that one. It is the one
//! place where such merges are found, each in a file of its own under `fuse` with the argument why it
//! is allowed:
//!
//! - [`Outline`]: what one pass over the program finds.
//! - [`Blocks`]: which instructions control can come to from elsewhere. Nothing is fused across.
//! - [`Effects`]: what each instruction reads and writes.
//! - [`Liveness`]: which registers are still read. A merge drops the values in between, so nobody may
//!   read them.
//! - [`FusedOp`]: an operation, and the instructions that it stands for.
//! - [`by_use`]: which registers matter most, for engines that have few of them.
//!
//! A fused operation is an exact stand-in: after it, each register that is live and all of memory
//! are as after its instructions. Where its access fails, it has changed nothing: the engine runs the
//! instructions of its window one by one instead, and so finds the trap that they lead to.
//!
//! ```
//! use ebpf_isa::text::assemble;
//! use ebpf_isa::{Reg, Size};
//! use ebpf_lower::{Fused, lower};
//!
//! let program = assemble(
//!     "r0 = *(u8 *)(r1 +1)
//!      r2 = *(u8 *)(r1 +0)
//!      r2 <<= 8
//!      r0 |= r2
//!      exit",
//! )?;
//! let ops = lower(&program);
//! let be16 = Fused::LoadSwapped { size: Size::H, dst: Reg::R0, base: Reg::R1, off: 0 };
//! assert_eq!((ops[0].op, ops[0].slots), (be16, 4));
//! # Ok::<(), Box<dyn core::error::Error>>(())
//! ```
//!
//! What is absent: anything about how an engine encodes its operations, and about machines.

#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

mod blocks;
mod effects;
mod fuse;
mod hot;
mod liveness;
mod op;
mod outline;
mod slots;

pub use blocks::Blocks;
pub use effects::{Effect, Effects};
pub use fuse::{lower, lower_each, plain};
pub use hot::by_use;
pub use liveness::Liveness;
pub use op::{Fused, FusedOp, Shift};
pub use outline::Outline;
pub use slots::SlotSet;

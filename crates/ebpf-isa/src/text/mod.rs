//! The text form of instructions: one language for fixtures, listings, logs and messages.
//!
//! Canonical text is what the kernel's verifier prints, made lossless: wide loads end in ` ll`,
//! loads of symbols print as `map[0] ll`, `map[0][0]+4 ll`, `btf[7] ll`, `func pc+3 ll`, calls of
//! kernel functions carry their id and module. [`Insn::text`](crate::Insn::text) and
//! [`Program::listing`](crate::Program::listing) write it, [`assemble`] reads it, and with it the
//! spelling of LLVM and the dialect of uBPF.
//!
//! # The kernel's own bytes
//!
//! [`Insn::kernel_text`](crate::Insn::kernel_text) and [`Listing::kernel`] write exactly what the
//! kernel prints (Linux 6.18). Each line has the opcode between the position and the text:
//! `12: (61) r1 = *(u32 *)(r0 +0)`. These are all the differences of the text itself, in which the
//! kernel says less than the instruction, or what only a running kernel knows:
//!
//! | instruction | canonical | kernel |
//! |---|---|---|
//! | wide load of a number | `r1 = 0x5 ll` | `r1 = 0x5` |
//! | of a map | `r1 = map[3] ll` | `r1 = 0x0` (1) |
//! | of an address in a map's value | `r1 = map[3][0]+16 ll` | `r1 = 0x0` (1) |
//! | of the address of a kernel variable | `r1 = btf[7] ll` | `r1 = 0x0` (1) |
//! | of the address of a subprogram | `r1 = func pc+3 ll` | `r1 = 0x3` |
//! | call of a kernel function | `call kfunc#7 module#2` | `call bpf_task_acquire#7` (2) |
//!
//! 1. For those who may see pointers, the kernel has the address instead of the 0.
//! 2. With [`KernelText::with_kfunc_name`]; canonical without.

mod asm;
mod disasm;
mod kernel;

pub use asm::{AsmError, Expected, assemble};
pub use disasm::{Listing, Mark, Text};
pub use kernel::{KernelListing, KernelText};

//! The text form of instructions: one language for fixtures, listings, logs and messages.
//!
//! Canonical text is what the kernel's verifier prints, made lossless: wide loads end in ` ll`,
//! loads of symbols print as `map[0] ll`, `map[0][0]+4 ll`, `btf[7] ll`, `func pc+3 ll`, calls of
//! kernel functions carry their id and module. [`Insn::text`](crate::Insn::text) and
//! [`Program::listing`](crate::Program::listing) write it, [`assemble`] reads it.

mod asm;
mod disasm;

pub use asm::{AsmError, Expected, assemble};
pub use disasm::{Listing, Text};

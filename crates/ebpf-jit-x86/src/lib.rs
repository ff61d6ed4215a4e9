//! A compiler from BPF to x86-64 that is a pure function from program to image.
//!
//! [`compile`] takes a [`Program`] and gives an [`Image`]: code bytes, and as data what they leave
//! open. It knows no address, owns no page and draws no random number, so it gives the same image
//! on every machine and in every run, and this crate builds on any host. To place and call an image
//! is the business of others.
//!
//! ```text
//!  Program ── frame: what does each subprogram save? ── lower/*: what does each instruction mean?
//!                                                            │ verbs: mov, load, jump_if, call_symbol
//!  Image ──── positions: displacements, pc map ──────── emitter, encode: bytes, in their shortest form
//! ```
//!
//! - One pass over the instructions, each compiled on its own or with its next neighbours (the
//!   optimiser's place is before this crate); nothing is allocated for an instruction but its place
//!   in the tables.
//! - BPF registers live in machine registers throughout: the table is in `regs`. Arguments are
//!   where the System V ABI wants them.
//! - The entry is `extern "sysv64" fn(ctx: *mut u8, env: *mut ExecEnv) -> u64` ([`abi::EntryFn`]).
//!   `ctx` arrives in `r1`; the other registers hold nothing that may be relied upon. Helpers get
//!   their five arguments and the environment ([`abi::HelperFn`]).
//! - What instructions compute is what [`ebpf_isa::semantics`] says, on all operands.
//! - By default **memory is not checked**, and neither are stack depth and recursion: calling the
//!   code is sound only for programs that were verified. With [`MemoryMode::Checked`] it is for any
//!   program: what it must not touch ends the run. [`Options`] has the rest: fuel, blinded constants,
//!   linked frames.
//!
//! ```
//! use ebpf_isa::{Insn, LineTable, Operand, Program, Reg, Width};
//!
//! let mov = Insn::Mov { width: Width::W64, dst: Reg::R0, src: Operand::Imm(1) };
//! let slots = vec![Some(mov), Some(Insn::Exit)];
//! let program = Program::new(slots, Default::default(), LineTable::new())?;
//! let image = ebpf_jit_x86::compile(&program, None, &Default::default())?;
//! assert_eq!(image.code(), [0xb8, 1, 0, 0, 0, 0xc3]); // mov eax, 1; ret
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! [`abi::EntryFn`]: ebpf_isa::abi::EntryFn
//! [`abi::HelperFn`]: ebpf_isa::abi::HelperFn

#![forbid(unsafe_code)]

mod code;
mod emitter;
mod encode;
mod error;
#[cfg(feature = "listing")]
mod listing;
mod lower;
mod options;
mod positions;
mod regs;

use ebpf_image::{Image, Symbol};
use ebpf_isa::{CallTarget, Facts, Program};

pub use error::JitError;
#[cfg(feature = "listing")]
pub use listing::Listing;
pub use options::{MemoryMode, Options};

/// What tail calls ask for their target:
/// `unsafe extern "sysv64" fn(map: u64, index: u64, env: *mut ExecEnv) -> u64`, from the handle of
/// a map and an index of 32 bits to the address of a program's entry, or 0 where there is none.
pub const TAIL_CALL_TARGET: Symbol = Symbol::Native(CallTarget::MAX_NATIVES);

/// Compiles a program and all its subprograms into one image.
///
/// The first entry point of the image is the program's; one for each other subprogram follows, and
/// then, by their order, one for each subprogram whose address is taken: what the address is of, a
/// [`HelperFn`](ebpf_isa::abi::HelperFn). The host calls the first one. Native functions call back the last
/// ones, when a program hands them their address; an unverified program may hand them anything, so
/// they have to look whether it is one of these.
///
/// `facts` make frames smaller; without them a subprogram that uses its frame pointer gets
/// [`abi::STACK_SIZE`](ebpf_isa::abi::STACK_SIZE) bytes.
///
/// Takes time and memory linear in the length of the program.
///
/// # Errors
/// - [`JitError::Unsupported`] for kernel variables, for kernel functions of a module with a negative
///   index, and for atomic operations of 1 or 2 bytes.
/// - [`JitError::Blinding`] where constants are to be blinded and the program would grow too long.
/// - [`JitError::Image`] where the code would exceed [`Image::MAX_CODE_LEN`].
pub fn compile(
    program: &Program,
    facts: Option<&Facts>,
    options: &Options,
) -> Result<Image, JitError> {
    lower::compile(program, facts, options)
}

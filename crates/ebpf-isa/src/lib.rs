//! The BPF instruction set, for everything that reads, writes or runs BPF programs.
//!
//! Eight-byte slots ([`RawInsn`]) are decoded **once**, at the edge, into [`Insn`]: an honest value
//! in which the encoding's disguises (a signed division hidden in `off`, an atomic hidden in `imm`,
//! a wide load spread over two slots) are gone. After that nobody looks at opcode bits. A
//! [`Program`] is a sequence of such instructions that is *sound by construction*: every jump and
//! call lands on an instruction of the program, wide loads are whole, each subprogram is closed and
//! ends in an instruction that does not fall through.
//!
//! - [`opcode`]: one table per axis of the encoding (operation, size, mode, ...); decoder, encoder,
//!   disassembler and assembler are derived from them.
//! - [`semantics`]: what each operation computes, as pure total functions.
//! - [`text`]: the disassembler and the assembler; one language for fixtures, logs and messages.
//! - [`uapi`]: numbers and names of the Linux ABI (program types, map types, helpers).
//! - [`abi`]: how compiled or interpreted programs meet their host: [`abi::ExecEnv`], [`abi::Trap`].
//! - [`Facts`]: what an analysis proved about a program, as plain data.
//!
//! ```
//! use ebpf_isa::text::assemble;
//! use ebpf_isa::{Insn, Operand, Pc, Program, RawInsn, Reg, Width};
//!
//! let program = assemble(
//!     "    r0 = 0
//!          if r1 == 0 goto done
//!          r0 = 1
//!     done:
//!          exit",
//! )?;
//! let mov = Insn::Mov { width: Width::W64, dst: Reg::R0, src: Operand::Imm(1) };
//! assert_eq!(program.get(Pc(2)), Some(mov));
//!
//! let slots: Vec<RawInsn> = program.to_slots()?;
//! assert_eq!(slots[1].to_bytes(), [0x15, 0x01, 0x01, 0, 0, 0, 0, 0]);
//! assert_eq!(Program::from_slots(&slots)?, program);
//!
//! let listing = program.listing().to_string();
//! assert_eq!(listing.lines().nth(1), Some("   1: if r1 == 0x0 goto pc+1"));
//! assert_eq!(assemble(&listing)?, program);
//! # Ok::<(), Box<dyn core::error::Error>>(())
//! ```
//!
//! Sources: RFC 9669 for the instruction set, the kernel's `Documentation/bpf` for what Linux adds.

#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod abi;
mod builder;
mod code;
#[cfg(feature = "serde")]
mod data;
mod decode;
mod encode;
mod facts;
mod form;
mod groups;
mod insn;
mod lines;
pub mod opcode;
mod pc;
mod program;
mod raw;
mod reg;
pub mod semantics;
pub mod text;
pub mod uapi;

pub use builder::ProgramBuilder;
pub use code::Code;
pub use decode::{DecodeError, Decoded, decode, decode_all};
pub use encode::{EncodeError, encode, encode_all};
pub use facts::{Facts, SubprogFacts};
pub use groups::ConformanceGroup;
pub use insn::{
    CallTarget, Imm64, Insn, MapForm, MapIdx, Operand, Operands, Successors, WideSource,
};
pub use lines::{LineInfo, LineTable, SourceLine, StrIdx};
pub use opcode::{AluOp, AtomicOp, ByteOrder, CmpOp, Extend, Size, Width};
pub use pc::Pc;
pub use program::{Program, ProgramError, Subprog, SubprogIdx, SubprogInfo};
pub use raw::{RawInsn, SlotBytesError};
pub use reg::{Reg, RegSet};

//! BTF and BTF.ext: types, functions and line information of BPF objects.
//!
//! BTF ("BPF Type Format") is the type information that clang puts into a BPF object's `.BTF`
//! section and that the running kernel publishes in `/sys/kernel/btf`. `.BTF.ext` stands beside it
//! in objects only and says which instruction belongs to which function and source line. The
//! formats are those of the kernel documentation's `bpf/btf.rst` and of the UAPI header
//! `linux/btf.h`.
//!
//! [`Btf::parse`] reads a whole blob into plain data in one pass: a [`Type`] for each id, names as
//! offsets into one string table. Whatever it returns is *closed*: every type id that a type
//! mentions exists, and every name offset is a string. It is not yet *sensible*: a typedef may name
//! itself, a struct may be smaller than its members. Functions that follow references are therefore
//! bounded by [`MAX_RESOLVE_DEPTH`], and nothing here recurses.
//!
//! ```
//! # fn main() -> Result<(), ebpf_btf::BtfError> {
//! use ebpf_btf::{Btf, Kind};
//!
//! // An empty type section and a string section with the empty string.
//! let bytes = [0x9f, 0xeb, 1, 0, 24, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0];
//! let btf = Btf::parse(&bytes)?;
//! assert_eq!(btf.find_by_name(Kind::Struct, "task_struct"), None);
//! # Ok(())
//! # }
//! ```
//!
//! What is absent, on purpose: big-endian BTF, split BTF (that of kernel modules), and the checks
//! that the kernel makes before it accepts a program's BTF (valid identifiers, members inside their
//! struct, …).

#![forbid(unsafe_code)]
#![cfg_attr(not(test), no_std)]

extern crate alloc;

mod btf;
pub mod core_relo;
mod error;
mod ext;
mod index;
mod parse;
mod reader;
#[cfg(test)]
mod testing;
mod types;

pub use btf::{Btf, MAX_RESOLVE_DEPTH, POINTER_SIZE};
pub use error::BtfError;
pub use ext::{BtfExt, CoreRelo, FuncInfo, LineInfo, MAX_EXT_SECTIONS};
pub use index::TypeIndex;
pub use parse::{MAX_BTF_BYTES, MAX_TYPES};
pub use reader::MAX_STRING_LEN;
pub use types::{
    Array, Composite, DeclTag, Enum, EnumValue, Func, FuncProto, Int, Kind, Linkage, Member,
    NameOff, Param, SecVar, Type, TypeId, Var,
};

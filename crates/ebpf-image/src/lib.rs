//! Compiled BPF code as plain data: bytes, relocations, pc map.
//!
//! A compiler that draws addresses while it emits can neither be tested by its bytes nor share its output. So a compiler
//! here produces an [`Image`]: position-independent code in which every value that depends on where things lie is
//! left open and listed as a [`Reloc`]. Whoever places the image (ebpf-pack, or a test with a `Vec<u8>`) asks for the
//! address of each [`Symbol`] and fills the fields in.
//!
//! An image holds no address, page, pointer or file descriptor. Two compilations of one program compare equal, on
//! every machine and in every run.
//!
//! **Invariants**, established by [`Image::new`] and relied upon by the linker:
//! - the code is shorter than 2 GiB, so that any displacement inside it fits in a `rel32` field;
//! - each relocated field lies inside the code, no two overlap, and a call's field follows the opcode of `call rel32`;
//! - there is at least one entry point, and all lie inside the code;
//! - the pc map is sorted by code offset.
//!
//! ```
//! use ebpf_image::{CodeOffset, EntryPoint, Image, ImageParts, Reloc, RelocKind, SourcePc, Symbol};
//!
//! let image = Image::new(ImageParts {
//!     code: vec![0xe8, 0, 0, 0, 0, 0xc3], // call helper#5; ret
//!     relocs: vec![Reloc { at: CodeOffset(1), kind: RelocKind::Call(Symbol::Helper(5)) }],
//!     entries: vec![EntryPoint { offset: CodeOffset(0), pc: SourcePc(0), name: "main".into() }],
//!     pc_map: [(CodeOffset(0), SourcePc(0)), (CodeOffset(5), SourcePc(1))].into_iter().collect(),
//! })?;
//! assert_eq!(image.pc_at(CodeOffset(3)), Some(SourcePc(0)));
//! # Ok::<(), ebpf_image::ImageError>(())
//! ```
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod error;
mod image;
mod pc_map;
mod position;
mod reloc;

pub use error::ImageError;
pub use image::{EntryPoint, Image, ImageParts};
pub use pc_map::PcMap;
pub use position::{CodeOffset, SourcePc};
pub use reloc::{Reloc, RelocKind, Symbol};

//! BPF ELF objects: programs, maps, relocations, line information.
//!
//! [`Object::parse`] reads an object file as clang makes it (`-target bpf -O2 -g`) into plain data:
//! the programs and the sections they stand in, the maps that are declared in `.maps` or stand for
//! data sections, the types. Nothing is loaded anywhere, and maps are descriptions.
//!
//! [`Object::program`] *links* one program: its main function, followed by every subprogram that it
//! reaches, with calls, function addresses and references to maps resolved. The result is an
//! [`ebpf_isa::Program`], with names and source lines. Functions follow one another in the order in
//! which they are first reached, the order libbpf gives them, so that instruction numbers are those
//! of the kernel's log.
//!
//! ```no_run
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let object = ebpf_object::Object::parse(&std::fs::read("xdp_firewall.o")?)?;
//! let linked = object.program("xdp_firewall")?;
//! println!("{} slots, {} maps", linked.program.len(), object.maps().len());
//! # Ok(())
//! # }
//! ```
//!
//! Functions of the kernel that a program calls (`extern … __ksym`) are whatever the caller of
//! [`Object::program_with`] says.
//!
//! What a program asks about the types of the kernel that it is for (CO-RE relocations) is answered
//! from the types that the caller gives. What these do not have becomes a call of a helper that there
//! is not, as libbpf has it, and is listed in [`ObjectProgram::missing`]: programs that ask first
//! whether it is there do not come there.
//!
//! What is absent: `extern` variables. A program that needs one of them is refused by name; it is never
//! linked without it. What a map of maps or of programs holds at first is not read.
//!
//! With the feature `cases`, the module `cases` reads programs that come without an ELF file: JSON
//! lines, as tools exchange them that judge programs.
//!
//! Sources: the kernel's `Documentation/bpf` (`llvm_reloc.rst`, `btf.rst`,
//! `libbpf/program_types.rst`).

#![forbid(unsafe_code)]

#[cfg(feature = "cases")]
pub mod cases;
mod code;
mod core_relocation;
mod elf;
mod error;
mod link;
mod maps;
mod object;
mod sections;

pub use core_relocation::CoreProblem;
pub use elf::{MAX_NAME_LEN, MAX_SECTIONS, MAX_SYMBOLS};
pub use error::{ObjectError, RelocationProblem};
pub use maps::ObjectMap;
pub use object::{KernelFunction, MissingType, Object, ObjectProgram, ProgramInfo, text_section};
pub use sections::SectionKind;

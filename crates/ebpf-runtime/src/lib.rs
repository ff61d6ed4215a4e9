//! The whole BPF pipeline in one call: verify, rewrite, compile or link, place, run.
//!
//! [`Runtime::load`] is the only safe seam between a program and native execution. It builds the
//! verifier's environment **from the very objects that it then binds** (maps, context layout,
//! helpers), so what runs is what was verified, and it is the only place that turns a verdict into
//! the right to run unchecked.
//!
//! - [`ProgramKind`]: everything that a program type is here, in one value: the verifier's rules,
//!   the conversion of context accesses, the native functions. [`xdp`] has the one for XDP, [`skb`]
//!   the one for traffic control, [`seccomp`] one for filters of system calls.
//! - [`kfuncs`]: native functions of the host that programs call; [`native!`] defines one.
//! - [`maps`]: memory that programs and their host share.
//! - [`Loaded`]: a program that can be run any number of times, from any thread.
//! - [`flat`]: unverified programs, checked access by access, on one block of memory.
//! - [`filter`]: classic filters, converted and loaded.
//! - [`open`]: from an object file to maps and bindings.
//! - `cases` (with the feature of that name): from a case, a program without ELF file, to a verdict.
//! - `kernel` (likewise): what the running kernel says about a case, and what it can do.
//!
//! The verdict is the one that the kernel gives to root: a verified program cannot crash or hang its
//! host, or touch memory that it was not given. It may read stack that it did not write (in machine
//! code, whatever the host left there), and store addresses in maps. Do not show the maps of a
//! program to people who must not learn such things.
//!
//! The layers below are re-exported under their short names.
//!
//! `unsafe` lives in `maps::slab`, `helpers`, `native`, `kfuncs`, `loaded`, `checked`, `flat`, `xdp`, `skb`, `seccomp` and `filter`: memory that
//! outlives every run, native functions behind prototypes, and the call into code that was verified or checks itself;
//! and in `kernel::sys` and `kernel::map`, which call `bpf(2)`.

pub use ebpf_btf as btf;
pub use ebpf_classic as classic;
pub use ebpf_image as image;
pub use ebpf_interp as interp;
pub use ebpf_isa as isa;
pub use ebpf_jit_x86 as jit;
pub use ebpf_object as object;
pub use ebpf_pack as pack;
pub use ebpf_patch as patch;
pub use ebpf_verifier as verifier;

#[cfg(feature = "cases")]
pub mod cases;
mod checked;
mod compiler;
pub mod filter;
pub mod flat;
#[cfg(feature = "gdb")]
mod gdb;
mod helpers;
pub mod host;
#[cfg(feature = "kernel")]
pub mod kernel;
pub mod kfuncs;
mod kind;
mod load;
mod loaded;
pub mod maps;
pub mod native;
pub mod open;
mod perf_map;
pub mod seccomp;
pub mod skb;
pub mod xdp;

pub use compiler::{Blinding, Compiler};
pub use kind::ProgramKind;
pub use load::{Bindings, LoadError, Runtime};
pub use loaded::{Engine, Loaded, MachineCode};

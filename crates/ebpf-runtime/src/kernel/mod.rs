//! The running kernel as a judge of BPF programs.
//!
//! Programs are loaded by raw `bpf(2)`, run on test packets where that is asked for, and forgotten:
//! nothing is ever attached or pinned, and what was made (programs, maps, types) goes with its
//! descriptor. Everything here needs the right to load programs (`CAP_BPF` and more, or root);
//! [`KernelError`] says so where it is missing.
//!
//! - [`Oracle`]: what the kernel says about a case ([`ebpf_object::cases`]).
//! - [`probe()`]: a [`KernelProfile`](ebpf_verifier::KernelProfile) filled from what the kernel says.
//! - [`types()`]: its types, for which no right is needed.
//! - [`Map`], [`LoadedProgram`]: the parts, for tools that measure.
//!
//! A verdict can take long, and a kernel has bugs: who judges programs of others should do it in a
//! process that can be killed.
//!
//! `unsafe` lives in `sys`, the only place of the workspace that calls `bpf(2)`, and in `map`, which
//! holds the sizes that one of its commands relies on.

mod error;
mod log;
mod map;
mod oracle;
mod probe;
mod program;
mod sys;
mod types;

pub use error::{Errno, KernelError};
pub use log::{Statistics, without_time};
pub use map::{MAX_MAP_BYTES, Map, MapSpec};
pub use oracle::{Judgement, NotJudged, Oracle, Outcome};
pub use probe::{Probe, probe};
pub use program::{LoadedProgram, ProgramLoad, Refusal};
pub use types::{KERNEL_BTF, types};

//! What can be measured: one file a group.

mod classic;
mod code;
mod interp;
mod isa;
mod jit;
mod load;
mod pack;
mod patch;
mod rewrite;
mod run_time;
mod verifier;

use std::path::PathBuf;

use crate::harness::Effort;
use crate::output::Report;

/// A set of workloads whose numbers belong into one table.
pub struct Group {
    /// What `cargo xtask bench` calls it.
    pub name: &'static str,
    /// What it measures.
    pub about: &'static str,
    /// Whether large allocations are to come from the system each time, not from what the allocator
    /// has at hand from an earlier run. With glibc, that takes `MALLOC_MMAP_THRESHOLD_` in the
    /// environment of the process.
    pub fresh_memory: bool,
    /// Measures it.
    pub run: fn(Effort) -> Result<Report, GroupError>,
}

impl Group {
    const fn new(
        name: &'static str,
        about: &'static str,
        run: fn(Effort) -> Result<Report, GroupError>,
    ) -> Self {
        Self { name, about, fresh_memory: false, run }
    }

    const fn with_fresh_memory(mut self) -> Self {
        self.fresh_memory = true;
        self
    }
}

/// All groups.
pub const GROUPS: &[Group] = &[
    Group::new("classic", "two classic filters, converted and not, on packets", classic::run),
    Group::new("interp", "interpreters on ten programs, lowering", interp::run),
    Group::new("jit", "compilers on ten programs, compiling", jit::run),
    Group::new("isa", "decoding and encoding, beside a plain copy", isa::run),
    Group::new("load", "each stage from object file to placed code", load::run),
    Group::new("pack", "small programs in shared pages", pack::run),
    Group::new("patch", "rewriting programs of up to a million instructions", patch::run)
        .with_fresh_memory(),
    Group::new(
        "rewrite",
        "rewriting of accepted programs, beside the running kernel",
        rewrite::run,
    ),
    Group::new("verifier", "verification, beside that of the running kernel", verifier::run),
];

/// Why a group could not be measured.
#[derive(Debug, thiserror::Error)]
#[error("{what}: {reason}")]
pub struct GroupError {
    what: String,
    reason: String,
}

impl GroupError {
    fn new(what: impl Into<String>) -> impl FnOnce(Box<dyn std::error::Error>) -> Self {
        let what = what.into();
        move |reason| Self { what, reason: reason.to_string() }
    }
}

/// The firewall fixture: a real object with five maps, two functions and 273 instructions.
const FIREWALL: &str = "xdp_firewall";

fn firewall() -> Result<Vec<u8>, GroupError> {
    let fixture = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../fixtures/xdp")
        .join(FIREWALL)
        .with_extension("o");
    std::fs::read(&fixture)
        .map_err(|error| GroupError::new(fixture.display().to_string())(error.into()))
}

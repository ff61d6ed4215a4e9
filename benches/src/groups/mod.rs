//! What can be measured: one file a group.

mod isa;
mod load;
mod patch;

use std::path::PathBuf;

use crate::harness::Effort;
use crate::output::Report;

/// A set of workloads whose numbers belong into one table.
pub struct Group {
    /// What `cargo xtask bench` calls it.
    pub name: &'static str,
    /// What it measures.
    pub about: &'static str,
    /// Where its memory is to come from.
    pub memory: Memory,
    /// Measures it.
    pub run: fn(Effort) -> Result<Report, GroupError>,
}

/// Where large allocations come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Memory {
    /// From the allocator, which may have them at hand from an earlier run.
    Recycled,
    /// From the system each time. With glibc, that takes `MALLOC_MMAP_THRESHOLD_` in the
    /// environment of the process.
    Fresh,
}

/// All groups.
pub const GROUPS: &[Group] = &[
    Group {
        name: "isa",
        about: "decoding and encoding, beside a plain copy",
        memory: Memory::Recycled,
        run: isa::run,
    },
    Group {
        name: "load",
        about: "each stage from object file to placed code",
        memory: Memory::Recycled,
        run: load::run,
    },
    Group {
        name: "patch",
        about: "rewriting programs of up to a million instructions",
        memory: Memory::Fresh,
        run: patch::run,
    },
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

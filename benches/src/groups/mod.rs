//! What can be measured: one file a group.

mod code;
mod interp;
mod isa;
mod jit;
mod load;
mod run_time;

use std::path::PathBuf;

use crate::harness::Effort;
use crate::output::Report;

/// A set of workloads whose numbers belong into one table.
pub struct Group {
    /// What `cargo xtask bench` calls it.
    pub name: &'static str,
    /// What it measures.
    pub about: &'static str,
    /// Measures it.
    pub run: fn(Effort) -> Result<Report, GroupError>,
}

/// All groups.
pub const GROUPS: &[Group] = &[
    Group { name: "interp", about: "interpreters on ten programs, lowering", run: interp::run },
    Group { name: "jit", about: "compilers on ten programs, compiling", run: jit::run },
    Group { name: "isa", about: "decoding and encoding, beside a plain copy", run: isa::run },
    Group { name: "load", about: "each stage from object file to placed code", run: load::run },
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

//! Fixture files, blessing and generators for the tests of this workspace.
//!
//! One corpus serves every engine: the text files `fixtures/**/*.bpf`, each of them a program with
//! what is expected of it. A test names a directory and a check:
//!
//! ```no_run
//! ebpf_testkit::for_each_fixture("exec", |fixture| {
//!     let source = fixture.section("asm").ok_or("no asm section")?;
//!     # let disassemble = |text: &str| text.to_string();
//!     fixture.expect_section("disasm", &disassemble(source))
//! });
//! ```
//!
//! The format and the rule for expected values are in `docs/fixtures.md`. In short: `BLESS=1`
//! rewrites what a program *looks like* (listings, states), never what it *must do* (`result`,
//! `verdict`); `FIXTURE=substring` narrows a run.
//!
//! Beside the corpus there are generated programs ([`tame_program`], [`wild_program`]), and a plain
//! [`Machine`] that says what they do.
//!
//! This crate is for tests and build tasks: its functions panic where a test should fail.
#![forbid(unsafe_code)]

mod bless;
mod diff;
mod expected;
mod fixture;
mod machine;
mod programs;
mod rng;
mod suite;

use std::io::Write as _;
use std::path::{Path, PathBuf};

pub use bless::JUDGED_SECTIONS;
pub use diff::line_diff;
pub use expected::{RunResult, Verdict};
pub use fixture::{Fixture, FixtureError, FixtureErrorKind, Section};
pub use machine::{Machine, Ran, UpperHalf, same_end};
pub use programs::{BLOCK_BYTES, tame_program, wild_program};
pub use rng::Rng;
pub use suite::{fixture_paths, for_each_fixture};

/// The root directory of the workspace this crate was compiled in.
pub fn workspace_root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .nth(2)
        .expect("this crate lies in crates/ebpf-testkit")
}

/// The workspace's `fixtures` directory.
pub fn fixtures_dir() -> PathBuf {
    workspace_root().join("fixtures")
}

/// Says that something was not tested, and why: `skipped: why` on standard error.
///
/// It is written past the capture of the test harness, so that `cargo xtask ci` can count skips:
/// what was skipped was not measured, and must not look as if it had passed.
pub fn skip(why: &str) {
    // A closed standard error leaves nobody to tell.
    let _ = writeln!(std::io::stderr(), "skipped: {why}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_is_where_the_workspace_manifest_is() {
        let manifest = std::fs::read_to_string(workspace_root().join("Cargo.toml")).unwrap();
        assert!(manifest.contains("[workspace]"));
        assert!(fixtures_dir().starts_with(workspace_root()));
    }
}

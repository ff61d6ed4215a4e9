//! `cargo xtask soundness [--check]`: the proofs of the scalar domain, and the document that lists
//! them.
//!
//! Proofs need the solver z3; without it nothing is proved, and `--check` says so.

use std::process::Command;

use crate::ci::cargo;
use crate::error::TaskError;
use crate::say;

/// Tries every operation with its deductions on all pairs of values of four bits, which takes
/// minutes, and writes `docs/soundness.md`; or checks that the document says what is proved.
pub(crate) fn run(arguments: &[String]) -> Result<(), TaskError> {
    let is_check = match arguments {
        [] => false,
        [check] if check == "--check" => true,
        _ => return Err(TaskError::Usage("soundness takes --check or nothing".into())),
    };
    let version = Command::new("z3").arg("--version").output();
    if !version.is_ok_and(|output| output.status.success()) {
        if is_check {
            say("skipped: z3 is not installed: docs/soundness.md is not measured");
            return Ok(());
        }
        return Err(TaskError::Failed("z3 is not installed; without it nothing is proved".into()));
    }
    let mut tests = cargo();
    tests.args(["test", "--package", "ebpf-verifier", "--lib"]);
    match is_check {
        true => tests.arg("domain::tests::proofs").env("PROOFS", "check"),
        false => tests.arg("domain::tests").env("PROOFS", "bless").env("EXHAUSTIVE", "1"),
    };
    let status = tests.status().map_err(|error| TaskError::Failed(format!("cargo: {error}")))?;
    match status.success() {
        true => Ok(()),
        false => Err(TaskError::Failed("a rule of the domain is not what the table says".into())),
    }
}

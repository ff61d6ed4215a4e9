//! `cargo xtask soundness`: all proofs of the scalar domain, and the document that lists them.
//!
//! Takes minutes, and the solver z3.

use std::process::Command;

use crate::ci::cargo;
use crate::error::TaskError;

/// Writes `docs/soundness.md`, or checks that it says what is proved; then tries every operation
/// with its deductions on all pairs of values of four bits.
pub(crate) fn run(arguments: &[String]) -> Result<(), TaskError> {
    let mode = match arguments {
        [] => "bless",
        [check] if check == "--check" => "check",
        _ => return Err(TaskError::Usage("soundness takes --check or nothing".into())),
    };
    let version = Command::new("z3").arg("--version").output();
    if !version.is_ok_and(|output| output.status.success()) {
        return Err(TaskError::Failed("z3 is not installed; without it nothing is proved".into()));
    }
    let status = cargo()
        .args(["test", "--release", "--package", "ebpf-verifier", "--lib", "domain::tests"])
        .env("PROOFS", mode)
        .env("EXHAUSTIVE", "1")
        .status()
        .map_err(|error| TaskError::Failed(format!("cargo: {error}")))?;
    match status.success() {
        true => Ok(()),
        false => Err(TaskError::Failed("a rule of the domain is not what the table says".into())),
    }
}

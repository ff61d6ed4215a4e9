//! `cargo xtask bless`: runs the tests, and takes what they see for what they expect.
//!
//! Fixture sections and snapshots are rewritten; `result` and `verdict` sections never are. The
//! difference is to be reviewed like code.

use crate::ci::cargo;
use crate::error::TaskError;

/// Runs the test suite with the bless switches on.
pub(crate) fn run(arguments: &[String]) -> Result<(), TaskError> {
    let filter = match arguments {
        [] => "",
        [filter] if !filter.starts_with('-') => filter,
        _ => return Err(TaskError::Usage("bless takes one filter or nothing".into())),
    };
    let status = cargo()
        .args(["test", "--workspace", "--no-fail-fast"])
        .env("BLESS", "1")
        .env("FIXTURE", filter)
        .env("INSTA_UPDATE", "always")
        // With CI set, insta writes nothing.
        .env_remove("CI")
        .status()
        .map_err(|error| TaskError::Failed(format!("cargo: {error}")))?;
    if status.success() {
        return Ok(());
    }
    Err(TaskError::Failed("some tests fail for other reasons than what can be blessed".into()))
}

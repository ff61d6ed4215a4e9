//! `cargo xtask bench GROUP [--quick] [--json]`: the benchmarks, built for speed.

use crate::ci::cargo;
use crate::error::TaskError;

/// Runs a group of benchmarks. What it measures goes to standard output.
pub(crate) fn run(arguments: &[String]) -> Result<(), TaskError> {
    if arguments.first().is_none_or(|group| group.starts_with('-')) {
        return Err(TaskError::Usage("bench takes a group".into()));
    }
    let status = cargo()
        .args(["run", "--quiet", "--release", "--package", "ebpf-benches", "--"])
        .args(arguments)
        .status()
        .map_err(|error| TaskError::Failed(format!("cargo: {error}")))?;
    match status.code() {
        Some(0) => Ok(()),
        Some(2) => Err(TaskError::Usage("see above".into())),
        _ => Err(TaskError::Failed("the benchmark failed".into())),
    }
}

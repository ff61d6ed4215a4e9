//! `cargo xtask miri`: the interpreter's tests under Miri, where it is installed.
//!
//! Miri has no machine code, so programs run in the loop, and accesses are those of Rust.

use crate::error::TaskError;
use crate::say;

pub(crate) fn run(arguments: &[String]) -> Result<(), TaskError> {
    if !arguments.is_empty() {
        return Err(TaskError::Usage("miri takes no arguments".into()));
    }
    let is_there = rustup_cargo().args(["miri", "--version"]).output();
    if !is_there.is_ok_and(|output| output.status.success()) {
        say("skipped: Miri is not installed: rustup component add --toolchain nightly miri");
        return Ok(());
    }
    let status = rustup_cargo()
        .args(["miri", "test", "--package", "ebpf-interp", "--package", "ebpf-lower"])
        // Programs get addresses as numbers; fixtures and time are the host's.
        .env("MIRIFLAGS", "-Zmiri-permissive-provenance -Zmiri-disable-isolation")
        .status()
        .map_err(|error| TaskError::Failed(format!("cargo: {error}")))?;
    if status.success() { Ok(()) } else { Err(TaskError::Failed("Miri found something".into())) }
}

/// Cargo of the nightly toolchain, at the root of the workspace.
fn rustup_cargo() -> std::process::Command {
    let mut command = std::process::Command::new("rustup");
    command.args(["run", "nightly", "cargo"]).current_dir(ebpf_testkit::workspace_root());
    // What the stable cargo that runs this has set is not for the other one.
    for name in ["CARGO", "RUSTC", "RUSTDOC", "RUSTUP_TOOLCHAIN"] {
        command.env_remove(name);
    }
    command
}

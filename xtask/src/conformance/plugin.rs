//! The plugin as a process.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use super::case::Outcome;
use crate::ci::cargo;
use crate::error::TaskError;

const NAME: &str = "ebpf-conformance";

/// The plugin's program file.
pub(super) struct Plugin {
    path: PathBuf,
}

impl Plugin {
    /// Builds the plugin.
    pub(super) fn build() -> Result<Self, TaskError> {
        let failed = |why: String| TaskError::Failed(format!("building {NAME}: {why}"));
        let output = cargo()
            .args(["build", "--quiet", "--package", NAME, "--message-format", "json"])
            .stderr(Stdio::inherit())
            .output()
            .map_err(|error| failed(error.to_string()))?;
        if !output.status.success() {
            return Err(failed(output.status.to_string()));
        }
        let executables =
            cargo_metadata::Message::parse_stream(&*output.stdout).filter_map(|message| {
                match message {
                    Ok(cargo_metadata::Message::CompilerArtifact(artifact)) => artifact.executable,
                    _ => None,
                }
            });
        let path = executables.last().ok_or_else(|| failed("cargo names no executable".into()))?;
        Ok(Self { path: path.into() })
    }

    /// Runs a program by the suite's protocol.
    pub(super) fn run(
        &self,
        engine: &str,
        memory: &[u8],
        program: &[u8],
    ) -> Result<Outcome, TaskError> {
        let failed = |why: String| TaskError::Failed(format!("{}: {why}", self.path.display()));
        let mut command = Command::new(&self.path);
        if !memory.is_empty() {
            command.arg(hex::encode(memory));
        }
        let mut child = command
            .arg(format!("--{engine}"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| failed(error.to_string()))?;
        let mut stdin = child.stdin.take().expect("standard input is a pipe");
        // A plugin that refuses its arguments does not read; its exit code tells.
        let _ = writeln!(stdin, "{}", hex::encode(program));
        drop(stdin);
        let output = child.wait_with_output().map_err(|error| failed(error.to_string()))?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_string();
        if !output.status.success() {
            return Ok(Outcome::Failure(text(&output.stderr)));
        }
        let printed = text(&output.stdout);
        let value = u64::from_str_radix(&printed, 16);
        value.map(Outcome::Value).map_err(|_| failed(format!("printed `{printed}`")))
    }
}

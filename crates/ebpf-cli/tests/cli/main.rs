//! The `ebpf` command as scripts see it: output, exit codes, one-line errors.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod bad_input;
mod cases;
mod coverage;
mod filter;
mod pack_info;
mod run;
mod text;
mod verify;

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use ebpf_testkit::workspace_root;

/// Runs the command at the root of the workspace.
fn ebpf(args: &[&str]) -> Done {
    Done::from(command(args).stdin(Stdio::null()).output().unwrap())
}

fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ebpf"));
    command.current_dir(workspace_root()).args(args);
    command
}

/// A command that has ended.
#[derive(Debug, PartialEq)]
struct Done {
    code: Option<i32>,
    out: String,
    err: String,
}

impl From<Output> for Done {
    fn from(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Self { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
    }
}

impl Done {
    /// The output of a command that found nothing wrong.
    #[track_caller]
    fn fine(self) -> String {
        assert_eq!((self.code, self.err.as_str()), (Some(0), ""), "{}", self.out);
        self.out
    }
}

/// A file for one test, which names it.
fn temporary(name: &str, bytes: &[u8]) -> String {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    fs::write(&path, bytes).unwrap();
    path.to_str().unwrap().to_owned()
}

const FIREWALL: &str = "fixtures/xdp/xdp_firewall.o";
const MISSING_CHECK: &str = "fixtures/xdp/xdp_missing_check.o";
const MINIMAL: &str = "fixtures/xdp/xdp_minimal.o";
const MIXED: &str = "fixtures/xdp/mixed.pcap";

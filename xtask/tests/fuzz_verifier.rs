//! `cargo xtask fuzz verifier` from outside, for a moment: it asks the kernel in child processes,
//! which are the task's own program.
#![forbid(unsafe_code)]

use std::path::Path;
use std::process::Command;

/// What a task exits with that cannot ask the kernel.
const NO_KERNEL: Option<i32> = Some(3);

#[test]
fn two_verifiers_agree_for_a_moment() {
    let output = Command::new(env!("CARGO_BIN_EXE_xtask"))
        .args(["fuzz", "verifier", "--seconds", "2"])
        .env("CARGO_TARGET_DIR", Path::new(env!("CARGO_TARGET_TMPDIR")))
        .output()
        .expect("the task runs");
    let said = String::from_utf8_lossy(&output.stderr);
    if output.status.code() == NO_KERNEL {
        assert!(said.contains("not measured"), "{said}");
        return ebpf_testkit::skip(&format!("generated programs, judged by the kernel: {said}"));
    }
    assert!(output.status.success(), "{said}");
    assert!(said.contains("accepted by both"), "{said}");
}

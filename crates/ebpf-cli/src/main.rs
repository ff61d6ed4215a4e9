//! The `ebpf` command.
#![forbid(unsafe_code)]
fn main() {}

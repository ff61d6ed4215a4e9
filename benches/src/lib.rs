//! Benchmarks: all columns of a group in one run, interleaved, on one core, with results asserted
//! equal. `cargo xtask bench GROUP` prints a group's table.
//!
//! `unsafe` lives in `ours`, `peers`, `native`, `libpcap` and `groups/pack/native`, which call what is measured: programs
//! that run unchecked, and machine code of others; in `counter`, which asks the system for its counters; and in `allocated`,
//! an allocator that counts.

#![deny(unsafe_code)]

mod allocated;
mod counter;
mod groups;
mod harness;
pub mod kernel;
pub mod libpcap;
mod memory;
pub mod native;
pub mod ours;
mod output;
mod packets;
pub mod peers;
pub mod programs;

pub use allocated::Counting;
pub use groups::{GROUPS, Group, GroupError};
pub use harness::{Cell, Column, Effort, Workload, measure, pin_to_one_core};
pub use memory::Memory;
pub use output::{Claim, Goal, Report, geomean, json_lines, table};

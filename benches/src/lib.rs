//! Benchmarks: all columns of a group in one run, interleaved, on one core, with results asserted
//! equal. `cargo xtask bench GROUP` prints a group's table.

#![forbid(unsafe_code)]

mod groups;
mod harness;
mod output;

pub use groups::{GROUPS, Group, GroupError, Memory};
pub use harness::{Cell, Column, Effort, Workload, measure, pin_to_one_core};
pub use output::{Claim, Goal, Report, geomean, json_lines, table};

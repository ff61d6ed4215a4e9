//! Classic filters, converted for every kind of program: verified, and run on every engine with the
//! classic interpreter as the judge.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod engines;
mod generate;
#[cfg(feature = "kernel")]
mod kernel;
mod programs;

//! Benchmarks: interleaved, with results asserted equal.
#![forbid(unsafe_code)]

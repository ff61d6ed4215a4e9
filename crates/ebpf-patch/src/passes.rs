//! Passes that need no more than a [`crate::Patch`], each in a file of its own.

mod dead_code;

pub use dead_code::remove_unreached;

//! The verdict of the Linux BPF verifier, in user space.

#![cfg_attr(not(any(test, feature = "std")), no_std)]
#![forbid(unsafe_code)]

pub mod domain;

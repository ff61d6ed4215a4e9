//! An interpreter for BPF programs.
//!
//! A [`Vm`] is a [`Program`](ebpf_isa::Program) with its symbols resolved: helpers to native
//! functions, maps to handles and addresses. It runs in two ways:
//!
//! - [`Vm::run`] is for **any** program. Each access is checked against the declared regions of a
//!   [`Memory`] and the stack; a violation is a [`Trap`](ebpf_isa::abi::Trap) with the instruction
//!   and the address.
//! - [`Vm::run_unchecked`] is for **verified** programs. It is `unsafe`, and its safety section is
//!   the list of what a verifier must guarantee.
//!
//! Both share one dispatch loop (`exec`), which takes the meaning of every operation from
//! [`ebpf_isa::semantics`]. They differ only in how an address becomes an access (`memory`).
//! The loop never recurses: calls of subprograms and tail calls change its state.
//!
//! **Fuel.** Instructions are charged to [`ExecEnv::fuel`](ebpf_isa::abi::ExecEnv) at backward
//! jumps, calls and returns of subprograms, so a loop can always be stopped, from another thread
//! too; a run overshoots by at most the instructions between two such points.
//!
//! `unsafe` lives in `memory` (accesses through checked addresses) and in `exec::control`, at the
//! calls of native functions.

#![cfg_attr(not(test), no_std)]

extern crate alloc;

mod exec;
mod link;
mod memory;

pub use link::{Helpers, LinkError, Links, TailTarget, TailTargetFn, Vm};
pub use memory::Memory;

//! An interpreter for BPF programs.
//!
//! A [`Vm`] is a [`Program`](ebpf_isa::Program) that is ready to run: its symbols are resolved,
//! helpers to native functions, maps to handles and addresses, and its instructions are fused into
//! operations (`ebpf_lower`), each of which begins with the address of its handler (`code`). It runs
//! in two ways:
//!
//! - [`Vm::run`] is for **any** program. Each access is checked against the declared regions of a
//!   [`Memory`] and the stack; a violation is a [`Trap`](ebpf_isa::abi::Trap) with the instruction
//!   and the address.
//! - [`Vm::run_unchecked`] is for **verified** programs. It is `unsafe`, and its safety section is
//!   the list of what a verifier must guarantee.
//!
//! What operations do (`ops`) is written once, on top of [`ebpf_isa::semantics`]. Two *dispatchers*
//! lead from one to the next: see [`Dispatcher`]. Beside them, single instructions can be run
//! (`step`): operations that need it fall back to that, a [`Run`] can be stepped and observed so, and
//! it is what tests compare operations with. Nothing recurses: calls of subprograms and tail calls
//! change the state of the run.
//!
//! **Fuel.** Instructions are charged to [`ExecEnv::fuel`](ebpf_isa::abi::ExecEnv) at backward
//! jumps, calls and returns of subprograms, so a loop can always be stopped, from another thread
//! too ([`ExecEnv::stopper`](ebpf_isa::abi::ExecEnv::stopper)); a run overshoots by at most the
//! instructions between two such points.
//!
//! `unsafe` lives in `memory` (accesses), `dispatch` and `ops` (handlers), `state` (the register
//! file and the environment), and at the calls of native functions in `step`.

#![cfg_attr(not(test), no_std)]

extern crate alloc;

mod clobbers;
mod code;
mod dispatch;
mod link;
mod memory;
mod observe;
mod ops;
mod run;
mod state;
mod step;
mod vm;

pub use dispatch::Dispatcher;
pub use link::{Functions, Helpers, Kfuncs, LinkError, Links, Natives, TailTarget, TailTargetFn};
pub use memory::Memory;
pub use observe::{Coverage, LineCoverage, Moment, Observer};
pub use run::Run;
pub use vm::{Options, Runs, Vm};

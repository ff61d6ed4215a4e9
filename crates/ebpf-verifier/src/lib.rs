//! The verdict of the Linux BPF verifier, in user space.
//!
//! [`verify`] takes a [`Program`](ebpf_isa::Program) and an [`Environment`] (program type, maps,
//! licence, kernel) and says what the kernel would say: a [`Verified`] program, or a [`Rejection`]
//! with the kernel's error number and wording, the source line, and the numbers that the wording is
//! made of ([`Payload`]). It needs no kernel and no privileges.
//!
//! **An accept is always meant.** What this verifier does not know is rejected, with the code
//! [`ErrorCode::Unsupported`]: the kernel's own functions, and all program types, helpers
//! and types of maps without a row in the tables of [`rules`]. A program that the kernel refuses must never be accepted here; one that the kernel
//! accepts may still be refused as unsupported.
//!
//! From outside in: [`verify`] checks the structure, explores the paths (`explore`) one
//! instruction at a time (`step`) over states of registers and stack (`state`), whose numbers are
//! those of [`domain`]. Program types are data ([`rules`]), and so are
//! functions of a host's modules ([`Module`]). [`Verified::rewrite`] makes the
//! accepted program one that can run. Where the kernel is mistaken, [`verify`] does not follow it;
//! [`kernel_verdict`] does, and gives nothing to run.
//!
//! Where the rules come from is written in `docs/kernel-facts.md`.

#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

mod digest;
pub mod domain;
mod environment;
mod error;
mod explore;
mod function;
mod kernel_types;
mod kfunc;
mod liveness;
mod log;
mod map_fields;
mod observe;
mod outline;
mod profile;
mod rewrite;
pub mod rules;
mod state;
mod step;
mod structure;
mod verify;

pub use ebpf_patch::{ContextError, HostField, Inserted, PatchInsn, Target as JumpTarget};

pub use digest::{Digest, DigestWriter};
pub use environment::{Environment, MapInfo};
pub use error::{
    ArgumentRule, ArithmeticRule, BadSize, Ending, Errno, ErrorCode, Extreme, FarOffset,
    FieldFault, Held, LaterFault, LockFault, Misplaced, ObjectAccess, ObjectFault, Payload,
    PayloadKind, PrototypeFault, Region, RejectedLine, Rejection, StackAccess, TargetFault,
    Unsupported, WalkFault,
};
pub use kernel_types::KernelTypes;
pub use kfunc::{
    IterType, IterUse, KfuncArg, KfuncArgKind, KfuncFlags, KfuncProto, KfuncRet, Module,
    ModuleError, ModuleTable, Modules, NewDynptr, ObjectType, kernel_function, kernel_module,
};
pub use log::{LOG_BYTES_MAX, Log, LogLevel};
pub use map_fields::{SpecialField, ValueField, ValueFields};
pub use observe::{Concrete, Excluded, ExploredState, Observer, PacketBounds, Place};
pub use profile::{Feature, Features, KernelProfile, Span, TypeHelpers, Version};
pub use rewrite::{
    ArrayLayout, ContextAccessInsn, Forward, Hook, HookCode, HookFault, Pass, RewriteError,
    RewriteHooks, Rewritten, Target,
};
pub use rules::{ProgramTypeRules, program_types};
pub use structure::check_slots;
pub use verify::{
    Exploration, Options, Stats, Verified, kernel_log, kernel_verdict, verify, verify_logged,
    verify_observed,
};

//! Stack frames: what each subprogram saves, and the entry from the host.
//!
//! ```text
//!            return address
//!   rbp ->   caller's rbp          only where r10 is read: rbp is r10
//!            BPF stack             rbp - stack_depth .. rbp
//!            host's r12            only at the entry, where r12 holds the environment
//!            r6 .. r10             those that are written
//!   rsp ->   padding               where calls would be misaligned otherwise
//! ```
//!
//! A subprogram that needs nothing of this has no frame at all. Where there is one with `rbp`, it
//! is linked as debuggers and profilers expect.

use ebpf_isa::{Reg, RegSet, SubprogIdx, Width};

use super::plan::Scan;
use crate::emitter::Emitter;
use crate::regs::{ENV, ENV_AT_ENTRY, Gpr, PRESERVED};

/// Alignment of the stack at calls (System V ABI, section 3.2.2).
const STACK_ALIGN: u32 = 16;
/// Bytes of a register on the stack.
const SLOT: u32 = 8;

/// The frame of a subprogram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Frame {
    /// Bytes between `rbp` and the saved registers, if `rbp` is set up at all.
    stack: Option<u32>,
    /// The registers of [`PRESERVED`] that are written.
    saved: RegSet,
    /// Whether the frame is entered from the host and has to set up [`ENV`].
    takes_env: bool,
    /// Whether 8 more bytes are needed to align calls; never together with `stack`.
    padded: bool,
}

impl Frame {
    /// The frame of a subprogram with a BPF stack of `stack_depth` bytes.
    pub(super) fn new(scan: &Scan, stack_depth: u32, takes_env: bool) -> Self {
        let written = |&reg: &Reg| scan.writes.contains(reg);
        let saved: RegSet = PRESERVED.into_iter().filter(written).collect();
        let pushed = SLOT * (saved.iter().count() as u32 + u32::from(takes_env));
        // The return address is there already, and rbp where it is saved.
        let misaligned = |size: u32| scan.calls && !(SLOT + size).is_multiple_of(STACK_ALIGN);
        if scan.reads_fp {
            let stack = stack_depth.next_multiple_of(SLOT);
            let pad = if misaligned(SLOT + stack + pushed) { SLOT } else { 0 };
            Self { stack: Some(stack + pad), saved, takes_env, padded: false }
        } else {
            Self { stack: None, saved, takes_env, padded: misaligned(pushed) }
        }
    }

    /// What is pushed, in this order.
    fn pushes(&self) -> impl DoubleEndedIterator<Item = Gpr> {
        let env = self.takes_env.then_some(ENV);
        let saved = PRESERVED.into_iter().filter(|&reg| self.saved.contains(reg));
        // Any register will do for padding that may change in a call, but for the result.
        let padding = self.padded.then_some(Gpr::Rcx);
        env.into_iter().chain(saved.map(Gpr::from)).chain(padding)
    }
}

/// Emits what comes before the first instruction of a subprogram.
pub(super) fn prologue(e: &mut Emitter, frame: &Frame) {
    if let Some(stack) = frame.stack {
        e.enter(stack);
    }
    for reg in frame.pushes() {
        e.push(reg);
    }
    if frame.takes_env {
        e.mov(Width::W64, ENV, ENV_AT_ENTRY);
    }
}

/// Emits a return.
pub(super) fn epilogue(e: &mut Emitter, frame: &Frame) {
    for reg in frame.pushes().rev() {
        e.pop(reg);
    }
    if frame.stack.is_some() {
        e.leave();
    }
    e.ret();
}

/// Emits an entry that sets up the environment and calls the main program.
pub(super) fn thunk(e: &mut Emitter) {
    e.push(ENV);
    e.mov(Width::W64, ENV, ENV_AT_ENTRY);
    e.call_subprog(SubprogIdx::MAIN);
    e.pop(ENV);
    e.ret();
}

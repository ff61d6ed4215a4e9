//! Stack frames: what each subprogram saves, and the entry from the host.
//!
//! ```text
//!            return address
//!   rbp ->   caller's rbp          only where r10 is used: rbp is r10
//!            BPF stack             rbp - stack_depth .. rbp
//!            host's r12            only at the entry, where r12 holds the environment
//!            r6 .. r9              those that are written
//!   rsp ->   8 bytes               where calls would be misaligned otherwise
//! ```
//!
//! A subprogram that needs nothing of this has no frame at all. Where there is one with `rbp`, it
//! is linked as debuggers and profilers expect.

use ebpf_isa::{
    CallTarget, Facts, Insn, Pc, Program, Reg, RegSet, Subprog, SubprogIdx, Width, abi,
};

use super::unsupported;
use crate::JitError;
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

/// What a look at the whole program tells, before anything is emitted.
#[derive(Debug)]
pub(super) struct Plan {
    frames: Vec<Frame>,
    thunk: bool,
}

impl Plan {
    /// # Errors
    /// The frame pointer is written.
    pub(super) fn new(program: &Program, facts: Option<&Facts>) -> Result<Self, JitError> {
        let subprogs = program.subprogs();
        let scans = subprogs
            .iter()
            .map(|subprog| Scan::new(program, subprog))
            .collect::<Result<Vec<_>, _>>()?;
        let needs_env = scans.iter().any(|scan| scan.calls_helper);
        let main_is_called = scans.iter().any(|scan| scan.refers_to_main);
        let thunk = needs_env && main_is_called;
        let frames = (0..)
            .zip(&scans)
            .map(|(index, scan)| {
                let depth = facts.and_then(|facts| facts.subprog(SubprogIdx(index)));
                let depth = depth.map_or(abi::STACK_SIZE as u32, |facts| facts.stack_depth.into());
                Frame::new(scan, depth, index == 0 && needs_env && !thunk)
            })
            .collect();
        Ok(Self { frames, thunk })
    }

    /// The frames, by subprogram.
    pub(super) fn frames(&self) -> &[Frame] {
        &self.frames
    }

    /// Whether the entry is a [`thunk`]: the program needs its environment, and the main program
    /// is also called from within, where no environment arrives.
    pub(super) fn needs_thunk(&self) -> bool {
        self.thunk
    }
}

/// What the instructions of a subprogram do that matters to frames.
#[derive(Debug, Default)]
struct Scan {
    reads: RegSet,
    writes: RegSet,
    calls: bool,
    calls_helper: bool,
    refers_to_main: bool,
}

impl Scan {
    fn new(program: &Program, subprog: &Subprog) -> Result<Self, JitError> {
        let mut scan = Self::default();
        for pc in (subprog.start.0..subprog.end.0).map(Pc) {
            let Some(insn) = program.get(pc) else { continue };
            scan.reads = scan.reads.union(insn.reads());
            scan.writes = scan.writes.union(insn.writes());
            // An unverified program might; the frame would be lost.
            if scan.writes.contains(Reg::FP) {
                return Err(unsupported(pc, "a write to the frame pointer"));
            }
            if let Insn::Call(target) = insn {
                scan.calls = true;
                scan.calls_helper |= matches!(target, CallTarget::Helper(_));
            }
            scan.refers_to_main |= insn.subprog_ref() == Some(Pc::ENTRY);
        }
        Ok(scan)
    }
}

impl Frame {
    fn new(scan: &Scan, stack_depth: u32, takes_env: bool) -> Self {
        let saved: RegSet = PRESERVED.into_iter().filter(|&r| scan.writes.contains(r)).collect();
        let pushed = SLOT * (saved.iter().count() as u32 + u32::from(takes_env));
        // The return address is there already, and rbp where it is saved.
        let misaligned = |size: u32| scan.calls && !(SLOT + size).is_multiple_of(STACK_ALIGN);
        if scan.reads.contains(Reg::FP) {
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

//! Stack frames: what each subprogram saves.
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
//! is linked as debuggers and profilers expect; by option every subprogram has such a one.
//!
//! With checked memory the BPF stack lies apart (see [`entry`](super::entry)), and every
//! subprogram has a frame, unless neither it nor what it calls touches memory:
//!
//! ```text
//!            return address
//!            caller's r10
//!            caller's env.stack_low and .stack_room
//!            r6 .. r9              those that are written
//!   rsp ->   padding               where calls would be misaligned otherwise
//! ```

use ebpf_isa::abi::FRAME_SIZE;
use ebpf_isa::{Reg, RegSet, Size, Width};

use super::checked::Checks;
use super::env::{DEPTH, STACK_LOW, STACK_ROOM};
use super::plan::Scan;
use crate::Options;
use crate::emitter::{Arith, Emitter};
use crate::regs::{ENV, ENV_AT_ENTRY, Gpr, PRESERVED, SCRATCH};

/// Alignment of the stack at calls (System V ABI, section 3.2.2).
const STACK_ALIGN: u32 = 16;
/// Bytes of a register on the stack.
const SLOT: u32 = 8;

/// Where the BPF stack of a subprogram is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stack {
    /// Nowhere: it is not used, and `rbp` is the caller's.
    None,
    /// In the machine's stack, so many bytes between `rbp` and the saved registers.
    Machine(u32),
    /// In a block of its own, of which the program may touch so many bytes.
    Apart(u32),
    /// Nowhere, but the frame counts.
    Counted,
}

/// The frame of a subprogram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Frame {
    stack: Stack,
    /// The registers of [`PRESERVED`] that are written.
    saved: RegSet,
    /// Whether the frame pointer stays what the prologue made it.
    fixed_fp: bool,
    /// Whether the frame is entered from the host and has to set up [`ENV`].
    takes_env: bool,
    /// Whether 8 more bytes are needed to align calls; never together with [`Stack::Machine`].
    padded: bool,
}

impl Frame {
    /// The frame of a subprogram with a BPF stack of `stack_depth` bytes.
    pub(super) fn new(scan: &Scan, stack_depth: u32, takes_env: bool, options: &Options) -> Self {
        let written = |&reg: &Reg| scan.writes.contains(reg);
        let saved: RegSet = PRESERVED.into_iter().filter(written).collect();
        if options.checks_memory() {
            return Self::checked(scan, saved, stack_depth);
        }
        let fixed_fp = !saved.contains(Reg::FP);
        let pushed = SLOT * (saved.iter().count() as u32 + u32::from(takes_env));
        // The return address is there already, and rbp where it is saved.
        let misaligned = |size: u32| scan.calls && !(SLOT + size).is_multiple_of(STACK_ALIGN);
        if scan.reads_fp || options.frame_pointers {
            let depth = if scan.reads_fp { stack_depth.next_multiple_of(SLOT) } else { 0 };
            let pad = if misaligned(SLOT + depth + pushed) { SLOT } else { 0 };
            Self { stack: Stack::Machine(depth + pad), saved, fixed_fp, takes_env, padded: false }
        } else {
            let padded = misaligned(pushed);
            Self { stack: Stack::None, saved, fixed_fp, takes_env, padded }
        }
    }

    /// A frame with a BPF stack apart, unless nobody can tell whether there is one: neither the
    /// subprogram nor what it calls touches memory. Whether frames are counted is for those to see
    /// who call.
    fn checked(scan: &Scan, saved: RegSet, stack_depth: u32) -> Self {
        if !scan.touches_memory {
            let stack = if scan.calls { Stack::Counted } else { Stack::None };
            let size = SLOT * (1 + saved.iter().count() as u32);
            let padded = scan.calls && !size.is_multiple_of(STACK_ALIGN);
            return Self { stack, saved, fixed_fp: true, takes_env: false, padded };
        }
        let stack = Stack::Apart(stack_depth.min(FRAME_SIZE as u32).next_multiple_of(SLOT));
        let fixed_fp = !saved.contains(Reg::FP);
        let saved = saved.without(Reg::FP);
        // The return address, rbp and the caller's bounds.
        let slots = 4 + saved.iter().count() as u32;
        let padded = !(SLOT * slots).is_multiple_of(STACK_ALIGN);
        Self { stack, saved, fixed_fp, takes_env: false, padded }
    }

    /// Whether an access by the frame pointer is good wherever the frame lies: it is inside of the
    /// program's own part of the stack, and aligned if it has to be.
    pub(super) fn has(&self, off: i16, size: Size, atomic: bool) -> bool {
        let Stack::Apart(depth) = self.stack else { return false };
        let (off, bytes) = (i32::from(off), i32::from(size.bytes()));
        // Frames begin and end at multiples of 8.
        let aligned = !atomic || off % bytes == 0;
        self.fixed_fp && aligned && off >= -(depth as i32) && off + bytes <= 0
    }

    /// Whether the frame counts among the frames there are.
    pub(super) fn counts(&self) -> bool {
        matches!(self.stack, Stack::Apart(_) | Stack::Counted)
    }

    /// What is pushed, in this order.
    fn pushes(&self) -> impl DoubleEndedIterator<Item = Gpr> {
        let env = self.takes_env.then_some(ENV);
        let saved = PRESERVED.into_iter().filter(|&reg| self.saved.contains(reg));
        // Any register will do for padding that may change in a call, but for the result; what an
        // unverified program has in its registers, it finds there again.
        let padding = if self.counts() { SCRATCH[1] } else { Gpr::Rcx };
        let padding = self.padded.then_some(padding);
        env.into_iter().chain(saved.map(Gpr::from)).chain(padding)
    }
}

/// Emits what comes before the first instruction of a subprogram.
pub(super) fn prologue(e: &mut Emitter, frame: &Frame, checks: Option<Checks>) {
    match frame.stack {
        Stack::None => {}
        Stack::Machine(size) => e.enter(size),
        Stack::Apart(_) => {
            e.push(Gpr::Rbp);
            e.push_mem(STACK_LOW);
            e.push_mem(STACK_ROOM);
        }
        Stack::Counted => e.arith_mem_imm(Arith::Add, Width::W32, DEPTH, 1),
    }
    for reg in frame.pushes() {
        e.push(reg);
    }
    if frame.takes_env {
        e.mov(Width::W64, ENV, ENV_AT_ENTRY);
    }
    if let (Stack::Apart(size), Some(checks)) = (frame.stack, checks) {
        checks.enter_frame(e, size);
    }
}

/// Emits a return.
pub(super) fn epilogue(e: &mut Emitter, frame: &Frame) {
    leave(e, frame);
    e.ret();
}

/// Undoes the prologue: the return address is what is left.
pub(super) fn leave(e: &mut Emitter, frame: &Frame) {
    for reg in frame.pushes().rev() {
        e.pop(reg);
    }
    match frame.stack {
        Stack::None => {}
        Stack::Machine(_) => e.leave(),
        Stack::Apart(_) => {
            e.pop_mem(STACK_ROOM);
            e.pop_mem(STACK_LOW);
            e.arith_mem_imm(Arith::Sub, Width::W32, DEPTH, 1);
            e.pop(Gpr::Rbp);
        }
        Stack::Counted => e.arith_mem_imm(Arith::Sub, Width::W32, DEPTH, 1),
    }
}

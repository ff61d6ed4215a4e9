//! The ways in from the host, and the ways out from any depth.
//!
//! An entry that can be unwound to saves what the machine's convention preserves, then notes its
//! stack pointer in the environment:
//!
//! ```text
//!               return address
//!               rbp rbx r12 r13 r14 r15
//!               env.unwind                     of the run that this one is nested in, if it is
//!               env.stack_low .stack_high .depth, padding       with checked memory only
//!  unwind ->    8 BPF frames of 512 bytes                       with checked memory only
//!               frames of the subprograms: see `frame`
//! ```

use ebpf_image::CodeOffset;
use ebpf_isa::abi::{MAX_CALL_DEPTH, STACK_SIZE};
use ebpf_isa::{Extend, Reg, Size, SubprogIdx, Width};

use super::env::{DEPTH, FUEL, IN_PLACE, STACK_HIGH, STACK_LOW, UNCHARGED, UNWIND};
use crate::MemoryMode;
use crate::emitter::{Arith, Cond, Emitter};
use crate::encode::Mem;
use crate::regs::{CALLEE_SAVED, ENV, ENV_AT_ENTRY, Gpr, SCRATCH};

/// How the host gets into the main program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Entry {
    /// The main program is the entry.
    Direct,
    /// A [`thunk`]: the program needs its environment, and the main program is also called from
    /// within, where no environment arrives.
    Thunk,
    /// An entry that can be unwound to: the program may end early.
    Unwindable,
}

/// Where a program goes to end, from any depth.
#[derive(Debug, Clone, Copy)]
pub(super) struct Exits {
    /// Returns `r0` to the host.
    pub(super) finish: CodeOffset,
    /// Returns 0 to the host: a trap was noted.
    pub(super) trap: CodeOffset,
}

/// Emits an entry that sets up the environment and calls the main program.
pub(super) fn thunk(e: &mut Emitter) {
    e.push(ENV);
    e.mov(Width::W64, ENV, ENV_AT_ENTRY);
    e.call_subprog(SubprogIdx::MAIN);
    e.pop(ENV);
    e.ret();
}

/// Emits an entry that can be unwound to.
pub(super) fn unwindable(e: &mut Emitter, memory: MemoryMode) -> Exits {
    for reg in CALLEE_SAVED {
        e.push(reg);
    }
    e.mov(Width::W64, ENV, ENV_AT_ENTRY);
    e.push_mem(UNWIND);
    if memory == MemoryMode::Checked {
        for field in STACK_FIELDS {
            e.push_mem(field);
        }
        e.push(PADDING);
    }
    e.store(Size::Dw, UNWIND, Gpr::Rsp);
    if memory == MemoryMode::Checked {
        make_stack(e);
        // Nothing of the host shows in registers.
        for reg in Reg::ALL.into_iter().filter(|&reg| reg != Reg::R1 && reg != Reg::FP) {
            e.mov_imm(reg.into(), 0);
        }
    }
    e.call_subprog(SubprogIdx::MAIN);
    exits(e, memory)
}

/// What describes the BPF stack of a checked program.
const STACK_FIELDS: [Mem; 3] = [STACK_LOW, STACK_HIGH, DEPTH];
/// Scratch, pushed so that the BPF stack begins at a multiple of 16.
const PADDING: Gpr = SCRATCH[1];

/// Reserves the BPF stack, but not for a program that a tail call puts in the place of another. Its
/// first frame is made when the main program is entered.
fn make_stack(e: &mut Emitter) {
    const BYTES: i32 = (STACK_SIZE * MAX_CALL_DEPTH) as i32;
    let [in_place, ..] = SCRATCH;
    e.load(Extend::Zero, Size::W, in_place, IN_PLACE);
    e.store_imm(Size::W, IN_PLACE, 0);
    e.test(Width::W32, in_place, in_place);
    let there_is_one = e.skip(Some(Cond::NotEqual));
    e.store(Size::Dw, STACK_HIGH, Gpr::Rsp);
    e.store(Size::Dw, STACK_LOW, Gpr::Rsp);
    e.store_imm(Size::W, DEPTH, 0);
    // Touched on the way, so that no step is longer than the guard page below a thread's stack.
    e.store(Size::Dw, Mem { base: Gpr::Rsp, disp: -BYTES / 2 }, ENV);
    e.arith_imm(Arith::Sub, Width::W64, Gpr::Rsp, BYTES);
    e.land(there_is_one);
}

fn exits(e: &mut Emitter, memory: MemoryMode) -> Exits {
    let finish = e.here();
    if memory == MemoryMode::Checked {
        // The last charge never turns a finished run into a trap.
        charge(e);
    }
    restore(e, memory);
    e.ret();
    let trap = e.here();
    e.mov_imm(Gpr::Rax, 0);
    e.jump_back(None, finish);
    Exits { finish, trap }
}

/// Takes what was run since the last time from the fuel; the flags are those of the subtraction.
/// Uses the last scratch register only.
pub(super) fn charge(e: &mut Emitter) {
    let [.., charged] = SCRATCH;
    e.load(Extend::Zero, Size::Dw, charged, UNCHARGED);
    e.store_imm(Size::Dw, UNCHARGED, 0);
    e.lock_arith(Arith::Sub, Width::W64, FUEL, charged);
}

/// Undoes everything that the entry and whatever it called pushed.
fn restore(e: &mut Emitter, memory: MemoryMode) {
    e.load(Extend::Zero, Size::Dw, Gpr::Rsp, UNWIND);
    if memory == MemoryMode::Checked {
        e.pop(PADDING);
        for field in STACK_FIELDS.into_iter().rev() {
            e.pop_mem(field);
        }
    }
    e.pop_mem(UNWIND);
    for reg in CALLEE_SAVED.into_iter().rev() {
        e.pop(reg);
    }
}

//! The ways in from the host, and the ways out from any depth.
//!
//! An entry that can be unwound to saves what the machine's convention preserves, then notes its
//! stack pointer in the environment:
//!
//! ```text
//!               return address
//!               rbp rbx r12 r13 r14 r15
//!               fields of the environment      of the run that this one is nested in, if it is
//!               padding                        where calls would be misaligned otherwise
//!  unwind ->    8 BPF frames of 560 bytes      with checked memory only
//!               frames of the subprograms: see `frame`
//! ```

use ebpf_image::CodeOffset;
use ebpf_isa::abi::{FRAME_SIZE, MAX_CALL_DEPTH};
use ebpf_isa::{Extend, Reg, Size, SubprogIdx, Width};

use super::checked::ZEROED_AT_ONCE;
use super::env::{DEPTH, IN_PLACE, STACK_HIGH, STACK_LOW, STACK_ROOM, UNWIND, WindowFields};
use super::fuel;
use crate::Options;
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

/// Whether a tail call enters on the stack that is there.
const ENTERS_IN_PLACE: Gpr = SCRATCH[0];
/// Where a run that is unwound goes on.
const RESUME: Gpr = SCRATCH[1];
/// Scratch, pushed so that calls are aligned.
const PADDING: Gpr = SCRATCH[1];

/// An entry that can be unwound to, and what it saves.
pub(super) struct Unwindable {
    checked: bool,
    fuel: bool,
    /// The fields of the environment that are the run's own.
    fields: &'static [Mem],
    /// Whether callbacks can be unwound to as well, so that the top of the stack says where to go.
    callbacks: bool,
}

impl Unwindable {
    pub(super) fn new(options: &Options, callbacks: bool) -> Self {
        let (checked, fuel) = (options.checks_memory(), options.fuel);
        let fields: &[Mem] = match (checked, fuel) {
            (true, _) => &[UNWIND, DEPTH, STACK_LOW, STACK_HIGH, STACK_ROOM],
            (false, true) => &[UNWIND, DEPTH],
            (false, false) => &[UNWIND],
        };
        Self { checked, fuel, fields, callbacks }
    }

    /// Whether the number of what is saved would misalign calls, with the return address.
    fn padded(&self) -> bool {
        let saved = CALLEE_SAVED.len() + self.fields.len() + usize::from(self.callbacks);
        !(1 + saved).is_multiple_of(2)
    }

    pub(super) fn emit(&self, e: &mut Emitter) -> Exits {
        for reg in CALLEE_SAVED {
            e.push(reg);
        }
        e.mov(Width::W64, ENV, ENV_AT_ENTRY);
        let counts_frames = self.fields.contains(&DEPTH);
        if counts_frames {
            e.load(Extend::Zero, Size::W, ENTERS_IN_PLACE, IN_PLACE);
            e.store_imm(Size::W, IN_PLACE, 0);
        }
        for &field in self.fields {
            e.push_mem(field);
        }
        if self.padded() {
            e.push(PADDING);
        }
        let resumes = self.callbacks.then(|| {
            let resumes = e.lea_ahead(RESUME);
            e.push(RESUME);
            resumes
        });
        e.store(Size::Dw, UNWIND, Gpr::Rsp);
        if counts_frames {
            self.make_stack(e);
        }
        if self.fuel {
            fuel::load_allowance(e);
        }
        if self.checked {
            clear_windows(e);
            // Nothing of the host shows in registers.
            for reg in Reg::ALL.into_iter().filter(|&reg| reg != Reg::R1 && reg != Reg::FP) {
                e.mov_imm(reg.into(), 0);
            }
        }
        e.call_subprog(SubprogIdx::MAIN);
        if let Some(resumes) = resumes {
            e.land_far(resumes);
        }
        self.exits(e)
    }

    /// Starts to count frames, and reserves the BPF stack, but not for a program that a tail call
    /// puts in the place of another. Its first frame is made when the main program is entered.
    fn make_stack(&self, e: &mut Emitter) {
        /// What is zeroed below the last frame belongs to the stack, too.
        const BYTES: i32 = (FRAME_SIZE * MAX_CALL_DEPTH) as i32 + ZEROED_AT_ONCE;
        e.test(Width::W32, ENTERS_IN_PLACE, ENTERS_IN_PLACE);
        let there_is_one = e.skip(Some(Cond::NotEqual));
        e.store_imm(Size::W, DEPTH, 0);
        if self.checked {
            e.store(Size::Dw, STACK_HIGH, Gpr::Rsp);
            e.store(Size::Dw, STACK_LOW, Gpr::Rsp);
            // Touched on the way, so that no step is longer than the guard page below a stack.
            e.store(Size::Dw, Mem { base: Gpr::Rsp, disp: -BYTES / 2 }, ENV);
            e.arith_imm(Arith::Sub, Width::W64, Gpr::Rsp, BYTES);
        }
        e.land(there_is_one);
    }

    fn exits(&self, e: &mut Emitter) -> Exits {
        let finish = e.here();
        if self.fuel {
            fuel::settle(e);
        }
        if self.checked {
            // The next run has other regions, as may have the one that this one is nested in.
            clear_windows(e);
        }
        self.restore(e);
        e.ret();
        let trap = e.here();
        e.mov_imm(Gpr::Rax, 0);
        if !self.callbacks {
            e.jump_back(None, finish);
            return Exits { finish, trap };
        }
        let finish = e.here();
        e.load(Extend::Zero, Size::Dw, RESUME, UNWIND);
        e.load(Extend::Zero, Size::Dw, RESUME, Mem { base: RESUME, disp: 0 });
        e.jump_reg(RESUME);
        Exits { finish, trap }
    }

    /// Undoes everything that the entry and whatever it called pushed.
    fn restore(&self, e: &mut Emitter) {
        e.load(Extend::Zero, Size::Dw, Gpr::Rsp, UNWIND);
        if self.callbacks {
            e.pop(RESUME);
        }
        if self.padded() {
            e.pop(PADDING);
        }
        restore(e, self.fields);
    }
}

/// Pops these fields of the environment, and what the machine's convention preserves.
pub(super) fn restore(e: &mut Emitter, fields: &[Mem]) {
    for &field in fields.iter().rev() {
        e.pop_mem(field);
    }
    for reg in CALLEE_SAVED.into_iter().rev() {
        e.pop(reg);
    }
}

/// Forgets the regions that were hit.
fn clear_windows(e: &mut Emitter) {
    e.zero_vector();
    for window in [WindowFields::READABLE, WindowFields::WRITABLE] {
        for half in [window.starts(Size::B), window.starts(Size::W)] {
            e.store_zeros_at(half);
        }
    }
}

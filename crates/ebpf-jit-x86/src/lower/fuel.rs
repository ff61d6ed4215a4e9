//! Fuel: how many instructions a run may take.
//!
//! A register, [`ALLOWANCE`], counts down what may run before the fuel is looked at again. Wherever the
//! interpreter charges, at jumps back, calls and returns of subprograms, what ran since is taken
//! from it; where that leaves less than nothing, a routine compares all that ran with
//! [`ExecEnv::fuel`], and ends the run or allows more. So a loop has one subtraction and one jump that is
//! hardly ever taken, and waits for no memory. The routine is also where the run sees that another
//! thread stopped it, and [`MAX_ALLOWANCE`] bounds how late that is. Only the end of the run takes
//! what it used from the fuel, so a store of 0 by another thread is never overwritten.
//!
//! Between charges, what ran is known when the program is compiled: at each place so many instructions
//! are *pending*, whichever way led there. Who jumps ahead leaves at the target what is pending, if nobody
//! did so before, and otherwise makes up for the difference; so does the way that falls into the target. At
//! the start of a loop nothing is pending.
//!
//! What calls out leaves the allowance in the environment, as the register is the callee's too.
//!
//! [`ExecEnv::fuel`]: ebpf_isa::abi::ExecEnv::fuel
//! [`MAX_ALLOWANCE`]: ebpf_isa::abi::MAX_ALLOWANCE

use ebpf_image::CodeOffset;
use ebpf_isa::abi::MAX_ALLOWANCE;
use ebpf_isa::{Extend, Pc, Size, Width};

use super::Lowering;
use super::checked::Traps;
use super::cold::Cold;
use super::env::{self, ALLOWED, DEPTH, FUEL, STOP_CELL};
use crate::emitter::{Arith, Cond, Emitter, FarSkip};
use crate::encode::Mem;
use crate::regs::{ALLOWANCE, Gpr, SCRATCH};

/// What is known of the count where code is emitted.
#[derive(Debug)]
pub(super) struct Meter {
    /// How many instructions were run and not taken from the allowance; `None` where nobody comes
    /// from above.
    pending: Option<i32>,
    /// By slot, what is pending at the target of a jump ahead that was emitted, or `UNKNOWN`.
    at: Vec<i32>,
    /// The routine that makes a new allowance.
    allow: CodeOffset,
}

/// Nobody jumped here so far.
const UNKNOWN: i32 = -1;

impl Meter {
    pub(super) fn new(slots: usize, allow: CodeOffset) -> Self {
        Self { pending: Some(0), at: vec![UNKNOWN; slots], allow }
    }
}

/// Emits nothing but for programs with fuel.
impl Lowering<'_> {
    /// Counts the instruction at `pc`, whose code comes next, if it begins one of the program as
    /// given.
    #[inline]
    pub(super) fn count(&mut self, pc: Pc) {
        if let Some(meter) = &mut self.meter
            && self.source.begins(pc)
            && let Some(pending) = &mut meter.pending
        {
            *pending += 1;
        }
    }

    /// How many instructions that were run are still to be taken from the allowance.
    pub(super) fn pending(&self) -> i32 {
        self.meter.as_ref().and_then(|meter| meter.pending).unwrap_or(0)
    }

    /// Sets how many are pending in the code that comes next; `None` if nobody gets there from
    /// above.
    pub(super) fn set_pending(&mut self, pending: Option<i32>) {
        if let Some(meter) = &mut self.meter {
            meter.pending = pending;
        }
    }

    /// Comes to `pc`, where jumps may lead: what is pending there is as they left it.
    #[inline]
    pub(super) fn arrive(&mut self, pc: Pc) {
        let Some(meter) = &mut self.meter else { return };
        if self.leaders.contains(pc) {
            let there = meter.at[pc.index()].max(0);
            match meter.pending {
                Some(_) => self.leave_pending(there),
                None => meter.pending = Some(there),
            }
        }
    }

    /// Gets ready to jump ahead to `target`.
    pub(super) fn depart(&mut self, target: Pc) {
        let Some(Meter { pending, at, .. }) = &mut self.meter else { return };
        let (there, here) = (&mut at[target.index()], pending.unwrap_or(0));
        if *there == UNKNOWN {
            *there = if self.leaders.begins_loop(target) { 0 } else { here };
        }
        let there = *there;
        self.leave_pending(there);
    }

    /// Takes what is pending from the allowance.
    #[inline]
    pub(super) fn flush(&mut self) {
        self.leave_pending(0);
    }

    /// Takes what is pending from the allowance, but for so many.
    fn leave_pending(&mut self, left: i32) {
        let Some(Meter { pending: Some(pending), .. }) = &mut self.meter else { return };
        let difference = core::mem::replace(pending, left) - left;
        if difference != 0 {
            self.emitter.arith_imm(Arith::Sub, Width::W64, ALLOWANCE, difference);
        }
    }

    /// Takes what is pending from the allowance, and sets the flags as it is then.
    fn flush_and_compare(&mut self) {
        if self.pending() > 0 {
            self.flush();
        } else {
            self.emitter.test(Width::W64, ALLOWANCE, ALLOWANCE);
        }
    }

    /// Ends the run at `pc` if more was run than there is fuel for.
    pub(super) fn charge(&mut self, pc: Pc) {
        if self.meter.is_some() {
            self.flush_and_compare();
            let from = self.emitter.far_skip(Some(Cond::Less));
            let back = self.emitter.here();
            self.cold.push(Cold::UsedUp { from, pc, back });
        }
    }

    /// Makes a new allowance at `pc`, or ends the run.
    pub(super) fn allow_more(&mut self, pc: Pc) {
        if let Some(meter) = &self.meter {
            self.emitter.mov_imm(SCRATCH[0], self.source.origin(pc).0.into());
            self.emitter.call_back(meter.allow);
        }
    }

    /// Asks whether the fuel would last if a conditional jump back were taken: what is never taken
    /// leaves no trace in the history from which the processor predicts jumps. Gives where the jump
    /// for the other case is, which asks whether the conditional one is taken at all.
    pub(super) fn charge_ahead(&mut self) -> Option<FarSkip> {
        self.meter.as_ref()?;
        self.flush_and_compare();
        Some(self.emitter.far_skip(Some(Cond::Less)))
    }

    /// Charges at a jump back from `pc`, and jumps.
    pub(super) fn charge_and_jump(&mut self, pc: Pc, target: Pc) {
        self.flush_and_compare();
        self.emitter.jump_if(Cond::GreaterEqual, pc, target);
        let from = self.emitter.far_skip(None);
        let back = self.emitter.positions.insn(target);
        self.cold.push(Cold::UsedUp { from, pc, back });
    }

    /// Charges at a return. What ends the run is no return, and the last charge never turns a
    /// finished run into a trap: whether that is so, a main program may have to find out, as it may
    /// have been called, or be in the place of a subprogram.
    pub(super) fn before_return(&mut self, pc: Pc) {
        if self.meter.is_none() {
            return;
        }
        if !self.is_main {
            return self.charge(pc);
        }
        self.flush();
        // Without checks, only tail calls of subprograms count frames.
        let depth_of_run = i32::from(self.frame.counts());
        self.emitter.arith_mem_imm(Arith::Cmp, Width::W32, DEPTH, depth_of_run);
        let ends = self.emitter.skip(Some(Cond::Equal));
        self.charge(pc);
        self.emitter.land(ends);
    }

    /// Leaves the allowance where whoever is called next may find it.
    pub(super) fn save_allowance(&mut self) {
        if self.meter.is_some() {
            save_allowance(self.emitter);
        }
    }

    /// Takes it back.
    pub(super) fn load_allowance(&mut self) {
        if self.meter.is_some() {
            load_allowance(self.emitter);
        }
    }
}

pub(super) fn save_allowance(e: &mut Emitter) {
    e.store(Size::Dw, env::ALLOWANCE, ALLOWANCE);
}

pub(super) fn load_allowance(e: &mut Emitter) {
    e.load(Extend::Zero, Size::Dw, ALLOWANCE, env::ALLOWANCE);
}

/// Takes what was run from the fuel, at the end of a run. What comes after it in the same
/// environment counts from 0.
pub(super) fn settle(e: &mut Emitter) {
    let [used, ..] = SCRATCH;
    e.load(Extend::Zero, Size::Dw, used, ALLOWED);
    e.arith(Arith::Sub, Width::W64, used, ALLOWANCE);
    e.lock_arith(Arith::Sub, Width::W64, FUEL, used);
    e.store_imm(Size::Dw, ALLOWED, 0);
    e.store_imm(Size::Dw, env::ALLOWANCE, 0);
}

/// Emits the routine that is called where the allowance is used up, with the position in the first
/// scratch register: it makes a new one, or ends the run. To the program it is invisible.
pub(super) fn allow(e: &mut Emitter, traps: Traps) -> CodeOffset {
    const USED: Gpr = Gpr::Rax;
    const LEFT: Gpr = Gpr::Rcx;
    const SAVED: [Gpr; 2] = [USED, LEFT];
    let restore = |e: &mut Emitter| SAVED.into_iter().rev().for_each(|reg| e.pop(reg));
    let start = e.here();
    for reg in SAVED {
        e.push(reg);
    }
    e.load(Extend::Zero, Size::Dw, LEFT, STOP_CELL);
    e.test(Width::W64, LEFT, LEFT);
    let not_watched = e.skip(Some(Cond::Equal));
    // What a stopper holds while it stops runs is the one number from which 1 cannot be taken.
    e.arith_mem_imm(Arith::Cmp, Width::W64, Mem { base: LEFT, disp: 0 }, 1);
    let stopped = e.skip(Some(Cond::Overflow));
    e.land(not_watched);
    e.load(Extend::Zero, Size::Dw, USED, ALLOWED);
    e.arith(Arith::Sub, Width::W64, USED, ALLOWANCE);
    // Once only: another thread may take it away.
    e.load(Extend::Zero, Size::Dw, LEFT, FUEL);
    e.arith(Arith::Cmp, Width::W64, USED, LEFT);
    let used_up = e.skip(Some(Cond::Greater));
    e.arith(Arith::Sub, Width::W64, LEFT, USED);
    e.mov_imm(ALLOWANCE, MAX_ALLOWANCE.cast_unsigned());
    e.arith(Arith::Cmp, Width::W64, LEFT, ALLOWANCE);
    let much = e.skip(Some(Cond::Greater));
    e.mov(Width::W64, ALLOWANCE, LEFT);
    e.land(much);
    e.arith(Arith::Add, Width::W64, USED, ALLOWANCE);
    e.store(Size::Dw, ALLOWED, USED);
    restore(e);
    e.ret();
    e.land(stopped);
    e.land(used_up);
    restore(e);
    // From there the stack is unwound.
    e.jump_back(None, traps.out_of_fuel);
    start
}

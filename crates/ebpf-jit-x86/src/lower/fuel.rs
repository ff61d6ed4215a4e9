//! Fuel: how many instructions a run may take.
//!
//! They are counted in a register, [`COUNT`], over the whole run: the count is brought up to date
//! where ways part or meet, and compared with the fuel wherever the interpreter charges: at jumps
//! back, calls and returns of subprograms. Only the end of the run takes the count from the fuel, so
//! no such place waits for memory that the last one wrote, and a store of 0 by another thread is
//! never overwritten. What calls out leaves the count in [`ExecEnv::uncharged`], as the register is
//! the callee's too.
//!
//! [`ExecEnv::uncharged`]: ebpf_isa::abi::ExecEnv::uncharged

use ebpf_isa::{Extend, Pc, Size, Width};

use super::Lowering;
use super::cold::Cold;
use super::env::{DEPTH, FUEL, UNCHARGED};
use crate::emitter::{Arith, Cond, Emitter, FarSkip};
use crate::regs::COUNT;

/// How many instructions were run since the count was brought up to date.
#[derive(Debug, Default)]
pub(super) struct Meter {
    pub(super) pending: i32,
    /// Where the last conditional jump back leads.
    loop_start: Option<Pc>,
}

/// Emits nothing but for programs with fuel.
impl Lowering<'_> {
    /// Counts the instruction at `pc`, whose code comes next, if it begins one of the program as
    /// given.
    #[inline]
    pub(super) fn count(&mut self, pc: Pc) {
        if let Some(meter) = &mut self.meter
            && self.source.begins(pc)
        {
            meter.pending += 1;
        }
    }

    /// Brings the count up to date.
    #[inline]
    pub(super) fn flush(&mut self) {
        if let Some(meter) = &mut self.meter
            && meter.pending > 0
        {
            let pending = core::mem::take(&mut meter.pending);
            self.emitter.arith_imm(Arith::Add, Width::W64, COUNT, pending);
        }
    }

    /// Ends the run at `pc` if more was run than there is fuel for.
    pub(super) fn charge(&mut self, pc: Pc) {
        self.flush();
        if self.meter.is_some() {
            self.emitter.arith_load(Arith::Cmp, Width::W64, COUNT, FUEL);
            let from = self.emitter.far_skip(Some(Cond::Greater));
            self.cold.push(Cold::OutOfFuel { from, pc });
        }
    }

    /// Asks whether the fuel would last if a conditional jump back to `target` were taken: what is
    /// never taken leaves no trace in the history from which the processor predicts jumps. Gives
    /// where the jump for the other case is, which asks whether the conditional one is taken at all.
    ///
    /// Does so for the first jump back to a place only. Where there are more, most are not taken,
    /// and it is better to charge behind them.
    pub(super) fn charge_ahead(&mut self, target: Pc) -> Option<FarSkip> {
        let meter = self.meter.as_mut()?;
        if meter.loop_start.replace(target) == Some(target) {
            return None;
        }
        self.emitter.arith_load(Arith::Cmp, Width::W64, COUNT, FUEL);
        Some(self.emitter.far_skip(Some(Cond::Greater)))
    }

    /// Charges at a jump back from `pc`, and jumps.
    pub(super) fn charge_and_jump(&mut self, pc: Pc, target: Pc) {
        self.emitter.arith_load(Arith::Cmp, Width::W64, COUNT, FUEL);
        self.emitter.jump_if(Cond::LessEqual, pc, target);
        let from = self.emitter.far_skip(None);
        self.cold.push(Cold::OutOfFuel { from, pc });
    }

    /// Charges at a return. What ends the run is no return, and the last charge never turns a
    /// finished run into a trap: whether that is so, a main program may have to find out, as it may
    /// have been called, or be in the place of a subprogram.
    pub(super) fn before_return(&mut self, pc: Pc) {
        self.flush();
        if self.meter.is_none() {
            return;
        }
        if !self.is_main {
            return self.charge(pc);
        }
        // Without checks, only tail calls of subprograms count frames.
        let depth_of_run = i32::from(self.frame.counts());
        self.emitter.arith_mem_imm(Arith::Cmp, Width::W32, DEPTH, depth_of_run);
        let ends = self.emitter.skip(Some(Cond::Equal));
        self.charge(pc);
        self.emitter.land(ends);
    }

    /// Leaves the count where whoever is called next may find it.
    pub(super) fn save_count(&mut self) {
        if self.meter.is_some() {
            save_count(self.emitter);
        }
    }

    /// Takes it back.
    pub(super) fn load_count(&mut self) {
        if self.meter.is_some() {
            load_count(self.emitter);
        }
    }
}

pub(super) fn save_count(e: &mut Emitter) {
    e.store(Size::Dw, UNCHARGED, COUNT);
}

pub(super) fn load_count(e: &mut Emitter) {
    e.load(Extend::Zero, Size::Dw, COUNT, UNCHARGED);
}

/// Takes what was run from the fuel, at the end of a run.
pub(super) fn settle(e: &mut Emitter) {
    e.lock_arith(Arith::Sub, Width::W64, FUEL, COUNT);
    e.store_imm(Size::Dw, UNCHARGED, 0);
}

//! Subprograms that native code calls: what their address is the address of.
//!
//! Native code has its own values in the registers that BPF lives in, and the environment in none
//! that it promises to keep. So it gets the address of a small function of the type of a helper
//! ([`HelperFn`](ebpf_isa::abi::HelperFn)), which takes the environment as its sixth argument.
//!
//! Where the run can end early, this function is also where an early end inside of the callback
//! goes: no frame of native code is ever skipped. It returns to the native code with
//! [`ended`](ebpf_isa::abi::ExecEnv::ended) set, and when that returns, so does the program.
//!
//! With checked memory the callback is one more frame, and finds its arguments in registers and nothing
//! else of the native code. These functions are entry points of the image, as an unverified program
//! may hand over any number: native code has to see that it got one of them.

use ebpf_image::CodeOffset;
use ebpf_isa::{Extend, Reg, Size, SubprogIdx, Width};

use super::Lowering;
use super::env::{ENDED, UNWIND};
use super::{entry, fuel};
use crate::emitter::{Emitter, FarSkip};
use crate::regs::{CALLEE_SAVED, ENV, ENV_FOR_HELPERS, Gpr, SCRATCH};

/// An address that was taken of a subprogram.
#[derive(Debug)]
pub(super) struct Taken {
    subprog: SubprogIdx,
    from: FarSkip,
}

impl Lowering<'_> {
    /// Emits `dst = address that native code may call the subprogram at`.
    pub(super) fn take_address(&mut self, dst: Gpr, subprog: SubprogIdx) {
        let from = self.emitter.lea_ahead(dst);
        self.taken.push(Taken { subprog, from });
    }

    /// Emits what the addresses that were taken are of. Gives where they are.
    pub(super) fn emit_callbacks(&mut self) -> Vec<Callback> {
        let mut taken = core::mem::take(&mut self.taken);
        taken.sort_by_key(|taken| taken.subprog);
        let mut emitted: Vec<Callback> = Vec::new();
        for Taken { subprog, from } in taken {
            let start = match emitted.last() {
                Some(last) if last.subprog == subprog => last.start,
                _ => {
                    let start = self.emit_callback(subprog);
                    emitted.push(Callback { subprog, start });
                    start
                }
            };
            self.emitter.land_at(from, start);
        }
        emitted
    }

    fn emit_callback(&mut self, subprog: SubprogIdx) -> CodeOffset {
        let start = self.emitter.here();
        let pc = self.program.subprogs()[subprog.index()].start;
        self.emitter.positions.append(self.source.origin(pc), start);
        if self.exits.is_none() {
            direct(self.emitter, subprog);
            return start;
        }
        let at_early_end = enter(self.emitter);
        self.load_allowance();
        self.check_depth(pc);
        if self.checks.is_some() {
            for reg in Reg::ALL.into_iter().filter(|reg| !Reg::ARGS.contains(reg)) {
                self.emitter.mov_imm(reg.into(), 0);
            }
        }
        self.emitter.call_subprog(subprog);
        leave(self.emitter, at_early_end, self.meter.is_some());
        start
    }
}

/// What native code calls a subprogram by.
#[derive(Debug, Clone, Copy)]
pub(super) struct Callback {
    pub(super) subprog: SubprogIdx,
    pub(super) start: CodeOffset,
}

fn direct(e: &mut Emitter, subprog: SubprogIdx) {
    e.push(ENV);
    e.mov(Width::W64, ENV, ENV_FOR_HELPERS);
    e.call_subprog(subprog);
    e.pop(ENV);
    e.ret();
}

/// Saves what native code expects to keep; an early end comes to what this gives.
fn enter(e: &mut Emitter) -> FarSkip {
    let [resume, ..] = SCRATCH;
    for reg in CALLEE_SAVED {
        e.push(reg);
    }
    e.mov(Width::W64, ENV, ENV_FOR_HELPERS);
    e.push_mem(UNWIND);
    let at_early_end = e.lea_ahead(resume);
    // Once for the alignment of the call.
    e.push(resume);
    e.push(resume);
    e.store(Size::Dw, UNWIND, Gpr::Rsp);
    at_early_end
}

fn leave(e: &mut Emitter, at_early_end: FarSkip, fuel: bool) {
    let [resume, ..] = SCRATCH;
    let done = e.skip(None);
    e.land_far(at_early_end);
    e.store_imm(Size::Dw, ENDED, 1);
    e.land(done);
    if fuel {
        fuel::save_allowance(e);
    }
    e.load(Extend::Zero, Size::Dw, Gpr::Rsp, UNWIND);
    e.pop(resume);
    e.pop(resume);
    entry::restore(e, &[UNWIND]);
    e.ret();
}

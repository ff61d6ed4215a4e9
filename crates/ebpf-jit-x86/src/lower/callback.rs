//! Subprograms that native code calls: what their address is the address of.
//!
//! Native code has its own values in the registers that BPF lives in, and the environment in none
//! that it promises to keep. So it gets the address of a small function of the type of a helper
//! ([`HelperFn`](ebpf_isa::abi::HelperFn)), which takes the environment as its sixth argument.
//!
//! Where the run can end early, this function is also where an early end inside of the callback
//! goes: no frame of native code is ever skipped. It returns to the native code with
//! [`ended`](ebpf_isa::abi::ExecEnv::ended) set, and when that returns, so does the program.

use ebpf_isa::{Size, SubprogIdx, Width};

use super::Lowering;
use super::entry;
use super::env::{ENDED, UNWIND};
use super::fuel;
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

    /// Emits what the addresses that were taken are of.
    pub(super) fn emit_callbacks(&mut self) {
        let mut taken = core::mem::take(&mut self.taken);
        taken.sort_by_key(|taken| taken.subprog);
        let mut emitted = None;
        for Taken { subprog, from } in taken {
            let start = match emitted {
                Some((last, start)) if last == subprog => start,
                _ => self.emit_callback(subprog),
            };
            emitted = Some((subprog, start));
            self.emitter.land_at(from, start);
        }
    }

    fn emit_callback(&mut self, subprog: SubprogIdx) -> ebpf_image::CodeOffset {
        let start = self.emitter.here();
        let pc = self.program.subprogs()[subprog.index()].start;
        self.emitter.positions.append(self.source.origin(pc), start);
        if self.exits.is_some() {
            unwindable(self.emitter, subprog, self.meter.is_some());
        } else {
            direct(self.emitter, subprog);
        }
        start
    }
}

fn direct(e: &mut Emitter, subprog: SubprogIdx) {
    e.push(ENV);
    e.mov(Width::W64, ENV, ENV_FOR_HELPERS);
    e.call_subprog(subprog);
    e.pop(ENV);
    e.ret();
}

fn unwindable(e: &mut Emitter, subprog: SubprogIdx, fuel: bool) {
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
    if fuel {
        fuel::load_allowance(e);
    }
    e.call_subprog(subprog);
    let done = e.skip(None);
    e.land_far(at_early_end);
    e.store_imm(Size::Dw, ENDED, 1);
    e.land(done);
    if fuel {
        fuel::save_allowance(e);
    }
    e.load(ebpf_isa::Extend::Zero, Size::Dw, Gpr::Rsp, UNWIND);
    e.pop(resume);
    e.pop(resume);
    entry::restore(e, &[UNWIND]);
    e.ret();
}

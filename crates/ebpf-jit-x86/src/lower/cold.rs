//! Code that hardly ever runs: it lies behind all subprograms, and jumps back.

use ebpf_image::{CodeOffset, Image, ImageError};
use ebpf_isa::{Pc, Width};

use super::Lowering;
use super::branch::Comparison;
use super::checked::Access;
use super::env::{STACK_LOW, STACK_ROOM};
use crate::emitter::{Arith, Cond, FarSkip};
use crate::regs::SCRATCH;

/// What is to be emitted later.
#[derive(Debug)]
pub(super) enum Cold {
    /// The fuel does not last at `pc`.
    OutOfFuel { from: FarSkip, pc: Pc },
    /// The fuel does not last if the conditional jump at `pc` is taken; else the code goes on at
    /// `back`.
    OutOfFuelIf { from: FarSkip, pc: Pc, comparison: Comparison, back: CodeOffset },
    /// One frame too many at `pc`.
    TooDeep { from: FarSkip, pc: Pc },
    /// An access outside of the region that was hit last; the code goes on at `back`.
    Miss { from: FarSkip, back: CodeOffset, access: Access },
}

impl Cold {
    const fn pc(&self) -> Pc {
        match self {
            Self::OutOfFuel { pc, .. }
            | Self::OutOfFuelIf { pc, .. }
            | Self::TooDeep { pc, .. } => *pc,
            Self::Miss { access, .. } => access.pc,
        }
    }
}

impl Lowering<'_> {
    /// Emits all that was put off.
    ///
    /// # Errors
    /// The code is too long to go on.
    pub(super) fn emit_cold(&mut self) -> Result<(), ImageError> {
        let cold = core::mem::take(&mut self.cold);
        let Some(traps) = self.traps else { return Ok(()) };
        for cold in cold {
            let here = self.emitter.here();
            if here.index() > Image::MAX_CODE_LEN {
                return Err(ImageError::CodeTooLong { len: here.index() });
            }
            self.emitter.positions.append(self.source.origin(cold.pc()), here);
            match cold {
                Cold::OutOfFuel { from, pc } => {
                    self.trap_at(from, pc, traps.out_of_fuel);
                }
                Cold::OutOfFuelIf { from, pc, comparison, back } => {
                    self.emitter.land_far(from);
                    comparison.emit(self.emitter);
                    let taken = self.emitter.far_skip(Some(comparison.condition()));
                    self.emitter.jump_back(None, back);
                    self.trap_at(taken, pc, traps.out_of_fuel);
                }
                Cold::TooDeep { from, pc } => {
                    self.trap_at(from, pc, traps.too_deep);
                }
                Cold::Miss { from, back, access } => self.miss(from, back, access),
            }
        }
        Ok(())
    }

    fn trap_at(&mut self, from: FarSkip, pc: Pc, trap: CodeOffset) {
        self.emitter.land_far(from);
        self.emitter.mov_imm(SCRATCH[0], self.source.origin(pc).0.into());
        self.emitter.jump_back(None, trap);
    }

    /// Looks at the stack first. Where the access straddles the top of the stack, or is one of its
    /// last bytes, that is left to the routine.
    fn miss(&mut self, from: FarSkip, back: CodeOffset, access: Access) {
        let [address, ..] = SCRATCH;
        let e = &mut *self.emitter;
        e.land_far(from);
        e.lea(Width::W64, address, access.mem);
        e.arith_load(Arith::Sub, Width::W64, address, STACK_LOW);
        e.arith_load(Arith::Cmp, Width::W64, address, STACK_ROOM);
        e.jump_back(Some(Cond::Below), back);
        self.ask(access);
        self.emitter.jump_back(None, back);
    }
}

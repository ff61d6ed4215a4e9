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
    /// The allowance is used up at `pc`; if there is more, the code goes on at `back`.
    UsedUp { from: FarSkip, pc: Pc, back: CodeOffset },
    /// It is used up if the conditional jump at `pc` is taken, and if there is more, that leads to
    /// `target`; else the code goes on at `back`.
    UsedUpIf { from: FarSkip, pc: Pc, comparison: Comparison, target: CodeOffset, back: CodeOffset },
    /// One frame too many at `pc`.
    TooDeep { from: FarSkip, pc: Pc },
    /// An access outside of the region that was hit last; the code goes on at `back`.
    Miss { from: FarSkip, back: CodeOffset, access: Access },
}

impl Cold {
    const fn pc(&self) -> Pc {
        match self {
            Self::UsedUp { pc, .. } | Self::UsedUpIf { pc, .. } | Self::TooDeep { pc, .. } => *pc,
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
                Cold::UsedUp { from, pc, back } => {
                    self.emitter.land_far(from);
                    self.allow_more(pc);
                    self.emitter.jump_back(None, back);
                }
                Cold::UsedUpIf { from, pc, comparison, target, back } => {
                    self.emitter.land_far(from);
                    comparison.emit(self.emitter);
                    self.emitter.jump_back(Some(comparison.condition().negated()), back);
                    self.allow_more(pc);
                    self.emitter.jump_back(None, target);
                }
                Cold::TooDeep { from, pc } => {
                    self.emitter.land_far(from);
                    self.emitter.mov_imm(SCRATCH[0], self.source.origin(pc).0.into());
                    self.emitter.jump_back(None, traps.too_deep);
                }
                Cold::Miss { from, back, access } => self.miss(from, back, access),
            }
        }
        Ok(())
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

//! Jumps, conditional or not.

use ebpf_isa::{CmpOp, Extend, Operand, Pc, Size, Width};

use super::Lowering;
use super::cold::Cold;
use super::env::MAY_GOTO;
use crate::emitter::{Arith, Cond, Emitter};
use crate::regs::{Gpr, SCRATCH};

impl Lowering<'_> {
    pub(super) fn jump(&mut self, pc: Pc, target: Pc) {
        if target <= pc && self.meter.is_some() {
            self.charge_and_jump(pc, target);
        } else if pc.checked_add(1) != Some(target) {
            self.depart(target);
            self.emitter.jump(pc, target);
        } else {
            return;
        }
        self.set_pending(None);
    }

    pub(super) fn branch(
        &mut self,
        pc: Pc,
        op: CmpOp,
        width: Width,
        (lhs, rhs): (Gpr, Operand),
        target: Pc,
    ) {
        let comparison = Comparison { op, width, lhs, rhs };
        let ahead = if target > pc {
            self.depart(target);
            None
        } else {
            self.charge_ahead()
        };
        comparison.emit(self.emitter);
        self.emitter.jump_if(comparison.condition(), pc, target);
        if let Some(from) = ahead {
            let (target, back) = (self.emitter.positions.insn(target), self.emitter.here());
            self.cold.push(Cold::UsedUpIf { from, pc, comparison, target, back });
        }
    }

    /// Takes one from the budget and falls through; where nothing is left, jumps.
    pub(super) fn may_goto(&mut self, pc: Pc, target: Pc) {
        let [budget, ..] = SCRATCH;
        if target > pc {
            self.depart(target);
        }
        let e = &mut *self.emitter;
        e.load(Extend::Zero, Size::Dw, budget, MAY_GOTO);
        e.arith_imm(Arith::Sub, Width::W64, budget, 1);
        // 0 - 1 borrows: adding that back gives 0 again, and carries in turn.
        e.arith_imm(Arith::Adc, Width::W64, budget, 0);
        e.store(Size::Dw, MAY_GOTO, budget);
        if target > pc || self.meter.is_none() {
            return e.jump_if(Cond::Below, pc, target);
        }
        let not_taken = e.skip(Some(Cond::AboveEqual));
        let pending = self.pending();
        self.charge_and_jump(pc, target);
        self.set_pending(Some(pending));
        self.emitter.land(not_taken);
    }
}

/// What a conditional jump compares.
#[derive(Debug, Clone, Copy)]
pub(super) struct Comparison {
    op: CmpOp,
    width: Width,
    lhs: Gpr,
    rhs: Operand,
}

impl Comparison {
    /// Sets the flags that [`Self::condition`] names.
    pub(super) fn emit(self, e: &mut Emitter) {
        let Self { op, width, lhs, rhs } = self;
        match (op, rhs) {
            (CmpOp::Set, Operand::Reg(rhs)) => e.test(width, lhs, rhs.into()),
            (CmpOp::Set, Operand::Imm(imm)) => e.test_imm(width, lhs, imm),
            (_, Operand::Reg(rhs)) => e.arith(Arith::Cmp, width, lhs, rhs.into()),
            // The same flags as comparing with 0: no carry, no overflow.
            (_, Operand::Imm(0)) => e.test(width, lhs, lhs),
            (_, Operand::Imm(imm)) => e.arith_imm(Arith::Cmp, width, lhs, imm),
        }
    }

    /// What holds of the flags where the jump is taken.
    pub(super) const fn condition(self) -> Cond {
        match self.op {
            CmpOp::Eq => Cond::Equal,
            CmpOp::Ne | CmpOp::Set => Cond::NotEqual,
            CmpOp::Gt => Cond::Above,
            CmpOp::Ge => Cond::AboveEqual,
            CmpOp::Lt => Cond::Below,
            CmpOp::Le => Cond::BelowEqual,
            CmpOp::Sgt => Cond::Greater,
            CmpOp::Sge => Cond::GreaterEqual,
            CmpOp::Slt => Cond::Less,
            CmpOp::Sle => Cond::LessEqual,
        }
    }
}

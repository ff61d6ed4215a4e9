//! Trials: a few instructions on known registers, and what every register holds afterwards.

use ebpf_isa::{
    AluOp, CmpOp, Extend, Imm64, Insn, LineTable, Operand, Pc, Program, Reg, Size, WideSource,
    Width,
};

/// Eight bytes of the stack that trials with memory work on, as an offset from the frame pointer.
pub(crate) const CELL: i16 = -8;

/// The registers that programs may write.
pub(crate) const WRITABLE: [Reg; 10] =
    [Reg::R0, Reg::R1, Reg::R2, Reg::R3, Reg::R4, Reg::R5, Reg::R6, Reg::R7, Reg::R8, Reg::R9];

/// Registers before, instructions, registers after. What is not named keeps what it held.
#[derive(Debug, Clone, Default)]
pub(crate) struct Trial {
    pub(crate) set: Vec<(Reg, u64)>,
    /// Positions of jumps count from the first of these.
    pub(crate) body: Vec<Insn>,
    pub(crate) expect: Vec<(Reg, u64)>,
    /// What [`CELL`] holds before and after.
    pub(crate) memory: Option<(u64, u64)>,
}

/// What a register holds that a trial does not set: no half of it is zero, and no two are equal.
fn marker(reg: Reg) -> i32 {
    -0x0111_1111 * (i32::from(reg.number()) + 1)
}

/// The first register that none of `taken` is.
pub(crate) fn other_than(taken: &[Reg]) -> Reg {
    WRITABLE.into_iter().find(|reg| !taken.contains(reg)).expect("some register is free")
}

pub(crate) fn mov(dst: Reg, src: Operand) -> Insn {
    Insn::Mov { width: Width::W64, dst, src }
}

fn wide(dst: Reg, value: u64) -> Insn {
    Insn::LoadWide { dst, source: WideSource::Imm(Imm64::new(value)) }
}

/// A program that gives 0 where all trials end as expected, otherwise which does not.
pub(crate) fn program(trials: &[Trial]) -> Program {
    let mut writer = Writer::default();
    for (number, trial) in trials.iter().enumerate() {
        writer.trial(trial, number as i32 + 1);
    }
    writer.finish()
}

#[derive(Default)]
struct Writer {
    slots: Vec<Option<Insn>>,
}

impl Writer {
    fn push(&mut self, insn: Insn) {
        self.slots.push(Some(insn));
        self.slots.resize(self.slots.len() - 1 + insn.slots() as usize, None);
    }

    fn here(&self) -> Pc {
        Pc(self.slots.len() as u32)
    }

    fn trial(&mut self, trial: &Trial, number: i32) {
        for reg in WRITABLE {
            self.push(mov(reg, Operand::Imm(marker(reg))));
        }
        if let Some((before, _)) = trial.memory {
            self.push(wide(Reg::R0, before));
            let (base, src) = (Reg::FP, Operand::Reg(Reg::R0));
            self.push(Insn::Store { size: Size::Dw, base, off: CELL, src });
            self.push(mov(Reg::R0, Operand::Imm(marker(Reg::R0))));
        }
        for &(reg, value) in &trial.set {
            self.push(wide(reg, value));
        }
        let start = self.here();
        for &insn in &trial.body {
            self.push(match insn {
                Insn::Branch { op, width, lhs, rhs, target } => {
                    Insn::Branch { op, width, lhs, rhs, target: Pc(start.0 + target.0) }
                }
                other => other,
            });
        }
        self.check(trial, number);
    }

    /// First the registers that hold their markers; then one of these helps with the values that
    /// are no immediates.
    fn check(&mut self, trial: &Trial, number: i32) {
        let named =
            |reg: &Reg| trial.set.iter().chain(&trial.expect).any(|(other, _)| other == reg);
        for reg in WRITABLE.into_iter().filter(|reg| !named(reg)) {
            self.fail_unless_equal(reg, Operand::Imm(marker(reg)), number);
        }
        let named: Vec<Reg> = WRITABLE.into_iter().filter(named).collect();
        let scratch = other_than(&named);
        for &reg in &named {
            let after = trial.expect.iter().chain(&trial.set).find(|(other, _)| *other == reg);
            let (_, value) = after.expect("the register is named");
            self.push(wide(scratch, *value));
            self.fail_unless_equal(reg, Operand::Reg(scratch), number);
        }
        if let Some((_, after)) = trial.memory {
            let (size, extend, base) = (Size::Dw, Extend::Zero, Reg::FP);
            self.push(Insn::Load { size, extend, dst: Reg::R1, base, off: CELL });
            self.push(wide(Reg::R2, after));
            self.fail_unless_equal(Reg::R1, Operand::Reg(Reg::R2), number);
        }
    }

    fn fail_unless_equal(&mut self, lhs: Reg, rhs: Operand, number: i32) {
        let target = Pc(self.here().0 + 3);
        self.push(Insn::Branch { op: CmpOp::Eq, width: Width::W64, lhs, rhs, target });
        self.push(mov(Reg::R0, Operand::Imm(number)));
        self.push(Insn::Exit);
    }

    fn finish(mut self) -> Program {
        self.push(mov(Reg::R0, Operand::Imm(0)));
        self.push(Insn::Exit);
        Program::new(self.slots, Default::default(), LineTable::new()).expect("jumps go forward")
    }
}

/// A trial of an access through `base` and an offset, with `access` given both. Afterwards `base`
/// holds what it held, unless the access wrote it.
pub(crate) fn through(base: Reg, written: bool, access: impl Fn(i16) -> Insn) -> Trial {
    if base == Reg::FP {
        return Trial { body: vec![access(CELL)], ..Trial::default() };
    }
    let below = |op, src| Insn::Alu { op, width: Width::W64, dst: base, src };
    let mut body = vec![
        mov(base, Operand::Reg(Reg::FP)),
        below(AluOp::Add, Operand::Imm(-16)),
        access(16 + CELL),
    ];
    if written {
        return Trial { body, ..Trial::default() };
    }
    body.push(below(AluOp::Sub, Operand::Reg(Reg::FP)));
    Trial { body, expect: vec![(base, -16_i64 as u64)], ..Trial::default() }
}

//! Single instructions, as [`semantics`] has them: what an operation falls back to, what observed
//! runs do, and what operations are tested against.

mod access;
mod control;

use ebpf_isa::abi::TrapKind;
use ebpf_isa::{Insn, Operand, Pc, semantics};

use crate::link::Linked;
use crate::state::{Fault, State};

/// Where control goes after an instruction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    /// To the next one.
    Insn,
    /// To this one, in this program.
    At(Pc),
    /// To the position of the caller that was restored, or to the start of the program that a tail
    /// call led to: it is in [`State::pc`].
    Moved,
    /// To the end of the run.
    Done,
}

impl State<'_> {
    /// Runs the instruction at `pc`.
    pub(crate) fn step(&mut self, pc: Pc) -> Result<Next, Fault> {
        match self.vm.program.insn(pc) {
            Insn::Exit => self.exit(pc),
            Insn::Jump { target, .. } => self.jump(pc, target),
            Insn::Branch { op, width, lhs, rhs, target } => {
                if semantics::compare(op, width, self.get(lhs), self.operand(rhs)) {
                    self.jump(pc, target)
                } else {
                    Ok(Next::Insn)
                }
            }
            Insn::MayGoto { target } => self.may_goto(pc, target),
            Insn::LoadPacket { size, index, imm } => self.load_packet(pc, size, index, imm),
            Insn::Call(_) | Insn::LoadWide { .. } => self.linked(pc),
            insn => {
                self.straight(insn)?;
                Ok(Next::Insn)
            }
        }
    }

    /// Runs the call or wide load at `pc`.
    fn linked(&mut self, pc: Pc) -> Result<Next, Fault> {
        match self.vm.program.linked(pc) {
            Linked::LoadWide { dst, value } => {
                self.set(dst, value);
                Ok(Next::Insn)
            }
            Linked::CallNative(index) => {
                self.call_native(index);
                Ok(Next::Insn)
            }
            Linked::CallEnding(index) => Ok(self.call_ending(index)),
            Linked::CallSubprog { callee, .. } => self.call_subprog(pc, callee),
            Linked::CallReg(reg) => {
                let address = self.get(reg);
                match self.vm.program.callee(address) {
                    Some(callee) => self.call_subprog(pc, callee),
                    None => Err((TrapKind::BadCallee, address)),
                }
            }
            Linked::TailCall => Ok(self.tail_call(pc)),
            Linked::Insn => unreachable!("calls and wide loads come to something"),
        }
    }

    pub(crate) fn operand(&self, operand: Operand) -> u64 {
        match operand {
            Operand::Reg(reg) => self.get(reg),
            Operand::Imm(imm) => semantics::immediate(imm),
        }
    }

    /// Instructions that only go on to the next one.
    fn straight(&mut self, insn: Insn) -> Result<(), Fault> {
        match insn {
            Insn::Alu { op, width, dst, src } => {
                let value = semantics::alu(op, width, self.get(dst), self.operand(src));
                self.set(dst, value);
            }
            Insn::Mov { width, dst, src } => {
                let value = semantics::truncate(width, self.operand(src));
                self.set(dst, value);
            }
            Insn::MovSx { width, dst, src, from } => {
                self.set(dst, semantics::movsx(width, from, self.get(src)));
            }
            Insn::Neg { width, dst } => self.set(dst, semantics::neg(width, self.get(dst))),
            Insn::Swap { order, size, dst } => {
                self.set(dst, semantics::swap(order, size, self.get(dst)));
            }
            // The host has one address space.
            Insn::AddrSpaceCast { dst, src, .. } => self.set(dst, self.get(src)),
            memory => self.access(memory)?,
        }
        Ok(())
    }

    /// Ends the run if what it did until the instruction at `pc` is more than the fuel.
    fn charge(&self, pc: Pc) -> Result<(), Fault> {
        self.charge_total(self.total(pc))
    }

    /// Ends the run if `total` instructions are more than the fuel.
    pub(crate) fn charge_total(&self, total: i64) -> Result<(), Fault> {
        if self.vm.is_metered && total > self.fuel() {
            return Err((TrapKind::OutOfFuel, 0));
        }
        Ok(())
    }
}

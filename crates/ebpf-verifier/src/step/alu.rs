//! Arithmetic on registers. Pointers have rules of their own: `pointer`.

use ebpf_isa::{AluOp, ByteOrder, Operand, Reg, Size, Width, semantics};

use super::{Machine, Next, linked};
use crate::domain;
use crate::error::{ArithmeticRule, Checked, Payload};
use crate::state::{ScalarValue, State, Value};

impl Machine<'_> {
    pub(super) fn alu(&mut self, op: AluOp, width: Width, dst: Reg, src: Operand) -> Checked<Next> {
        if let Some(next) = self.scalar_alu(op, width, dst, src)? {
            return Ok(next);
        }
        let right = self.operand(src)?;
        let left = self.read(dst)?;
        if let Operand::Imm(imm) = src {
            check_immediate(op, width, imm)?;
        }
        self.check_writable(dst)?;
        let result = match (left, right) {
            (Value::Pointer(_), Value::Pointer(_)) if op == AluOp::Sub => Value::UNKNOWN,
            (Value::Pointer(pointer), Value::Pointer(_)) => {
                let (kind, rule) = (pointer.kind.name(), ArithmeticRule::TwoPointers);
                return Err(Payload::PointerArithmetic { register: dst, op, kind, rule }.into());
            }
            (Value::Pointer(pointer), Value::Scalar(by)) => {
                if let Operand::Reg(src) = src {
                    self.rely_on(src);
                }
                self.pointer_alu(op, width, dst, pointer, &by, false)?
            }
            (Value::Scalar(by), Value::Pointer(pointer)) => {
                self.rely_on(dst);
                self.pointer_alu(op, width, dst, pointer, &by, true)?
            }
            (Value::Scalar(_), Value::Scalar(_)) => unreachable!("handled above"),
            (Value::Uninit, _) | (_, Value::Uninit) => unreachable!("operands were read"),
        };
        self.set(dst, result);
        Ok(Next::Goto(self.fall_through))
    }

    /// Two numbers; `None` if they are not.
    fn scalar_alu(
        &mut self,
        op: AluOp,
        width: Width,
        dst: Reg,
        src: Operand,
    ) -> Checked<Option<Next>> {
        let regs = &self.state.frame().regs;
        let is_number = |reg: Reg| matches!(regs[reg.index()], Value::Scalar(_));
        if !is_number(dst) || !src.reg().is_none_or(is_number) {
            return Ok(None);
        }
        if let Operand::Imm(imm) = src {
            check_immediate(op, width, imm)?;
        }
        self.check_writable(dst)?;
        let other_value = self.fork(op, dst, src);
        let regs = &mut self.state.frame_mut().regs;
        match src {
            Operand::Reg(src) if src != dst => {
                let both = regs.get_disjoint_mut([dst.index(), src.index()]);
                if let Ok([Value::Scalar(left), Value::Scalar(right)]) = both {
                    compute(op, width, left, &right.bounds);
                }
            }
            _ => {
                if let Value::Scalar(left) = &mut regs[dst.index()] {
                    let right = match src {
                        Operand::Reg(_) => {
                            // Even where it is a constant: the group ends.
                            left.link = None;
                            left.bounds
                        }
                        Operand::Imm(imm) => immediate(imm),
                    };
                    compute(op, width, left, &right);
                }
            }
        }
        Ok(Some(match other_value {
            None => Next::Goto(self.fall_through),
            // The other value goes through the same instruction.
            Some(state) => {
                self.taken_state = Some(state);
                Next::Fork { fall_through: self.fall_through, taken: self.pc }
            }
        }))
    }

    /// Makes a mask of signs one of its two values; gives the state with the other one.
    fn fork(&mut self, op: AluOp, dst: Reg, src: Operand) -> Option<State> {
        if !matches!(op, AluOp::And | AluOp::Or) {
            return None;
        }
        let left = self.value(dst).as_scalar()?;
        let (minus_one, zero) = domain::fork(op, &left.bounds, &self.number(src)?)?;
        let link = left.link;
        // A whole register that becomes a constant leaves its group; a low half does not.
        let is_whole = minus_one.as_const() == Some(u64::MAX);
        let other_link = if is_whole { None } else { link };
        let other = ScalarValue { bounds: zero, link: other_link };
        let other = self.state_with(dst, Value::Scalar(other));
        self.set(dst, Value::Scalar(ScalarValue { bounds: minus_one, link }));
        Some(other)
    }

    /// A second operand, if it is a number.
    fn number(&self, src: Operand) -> Option<domain::Scalar> {
        match src {
            Operand::Reg(src) => Some(self.value(src).as_scalar()?.bounds),
            Operand::Imm(imm) => Some(immediate(imm)),
        }
    }

    /// The present state with another value in a register.
    fn state_with(&self, reg: Reg, value: Value) -> State {
        let mut state = self.state.clone();
        state.frame_mut().regs[reg.index()] = value;
        state
    }

    pub(super) fn mov(&mut self, width: Width, dst: Reg, src: Operand) -> Checked {
        let value = self.operand(src)?;
        self.check_writable(dst)?;
        let moved = match (value, src) {
            (Value::Scalar(scalar), Operand::Reg(src)) => {
                let same = width == Width::W64 || scalar.fits(width.bits());
                let copied = if same { self.linked(src, scalar) } else { scalar.unlinked() };
                Value::Scalar(ScalarValue { bounds: domain::mov(width, &copied.bounds), ..copied })
            }
            (Value::Scalar(scalar), Operand::Imm(_)) => {
                Value::scalar(domain::mov(width, &scalar.bounds))
            }
            (value, _) if width == Width::W64 => value,
            _ => Value::scalar(domain::mov(Width::W32, &domain::Scalar::UNKNOWN)),
        };
        self.set(dst, moved);
        Ok(())
    }

    pub(super) fn movsx(&mut self, width: Width, dst: Reg, src: Reg, from: Size) -> Checked {
        let value = self.read(src)?;
        self.check_writable(dst)?;
        let moved = match value {
            Value::Scalar(scalar) => {
                let same = scalar.fits(u32::from(from.bits()) - 1);
                let copied = if same { self.linked(src, scalar) } else { scalar.unlinked() };
                let bounds = domain::movsx(width, from, &copied.bounds);
                Value::Scalar(ScalarValue { bounds, ..copied })
            }
            // The low bits of a pointer are any number; it is not narrowed further.
            _ => Value::scalar(domain::mov(width, &domain::Scalar::UNKNOWN)),
        };
        self.set(dst, moved);
        Ok(())
    }

    pub(super) fn neg(&mut self, width: Width, dst: Reg) -> Checked {
        self.unary(dst, |scalar| Value::scalar(domain::neg(width, &scalar.bounds)))
    }

    pub(super) fn swap(&mut self, order: ByteOrder, size: Size, dst: Reg) -> Checked {
        if (order, size) == (ByteOrder::Le, Size::Dw) {
            // The number stays as it is, with all that is linked to it.
            return self.unary(dst, |&scalar| Value::Scalar(scalar));
        }
        self.unary(dst, |scalar| Value::scalar(domain::swap(order, size, &scalar.bounds)))
    }

    fn unary(&mut self, dst: Reg, rule: impl FnOnce(&ScalarValue) -> Value) -> Checked {
        let value = self.read(dst)?;
        self.check_writable(dst)?;
        let result = match value {
            Value::Scalar(scalar) => rule(&scalar),
            _ => Value::UNKNOWN,
        };
        self.set(dst, result);
        Ok(())
    }
}

fn immediate(imm: i32) -> domain::Scalar {
    domain::Scalar::constant(semantics::immediate(imm))
}

/// `left op= right`.
fn compute(op: AluOp, width: Width, left: &mut ScalarValue, right: &domain::Scalar) {
    linked::before_alu(op, width, left, right);
    domain::alu(op, width, &mut left.bounds, right);
}

fn check_immediate(op: AluOp, width: Width, imm: i32) -> Checked {
    match op {
        AluOp::Div | AluOp::SDiv | AluOp::Mod | AluOp::SMod if imm == 0 => {
            Err(Payload::AluDivByZero.into())
        }
        AluOp::Lsh | AluOp::Rsh | AluOp::Arsh
            if !u32::try_from(imm).is_ok_and(|count| count < width.bits()) =>
        {
            Err(Payload::AluShift { count: imm, width }.into())
        }
        _ => Ok(()),
    }
}

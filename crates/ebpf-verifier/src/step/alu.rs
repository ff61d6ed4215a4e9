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

    /// Two numbers; `None` if they are not. The destination may be written: it is not the frame
    /// pointer, which is no number.
    fn scalar_alu(
        &mut self,
        op: AluOp,
        width: Width,
        dst: Reg,
        src: Operand,
    ) -> Checked<Option<Next>> {
        let regs = &mut self.state.frame_mut().regs;
        let own_right;
        let (left, right) = match src {
            Operand::Reg(src) if src != dst => {
                match regs.get_disjoint_mut([dst.index(), src.index()]) {
                    Ok([Value::Scalar(left), Value::Scalar(right)]) => (left, &right.bounds),
                    _ => return Ok(None),
                }
            }
            _ => {
                let Value::Scalar(left) = &mut regs[dst.index()] else { return Ok(None) };
                own_right = match src {
                    Operand::Reg(_) => {
                        // Even where it is a constant: the group ends.
                        left.link = None;
                        left.bounds
                    }
                    Operand::Imm(imm) => {
                        check_immediate(op, width, imm)?;
                        immediate(imm)
                    }
                };
                (left, &own_right)
            }
        };
        let other = fork(op, left, right);
        compute(op, width, left, right);
        Ok(Some(match other {
            None => Next::Goto(self.fall_through),
            // The other value goes through the same instruction.
            Some(other) => {
                self.taken_state = Some(self.state_with(dst, Value::Scalar(other)));
                Next::Fork { fall_through: self.fall_through, taken: self.pc }
            }
        }))
    }

    /// The present state with another value in a register.
    fn state_with(&self, reg: Reg, value: Value) -> State {
        let mut state = self.state.clone();
        state.frame_mut().regs[reg.index()] = value;
        state
    }

    pub(super) fn mov(&mut self, width: Width, dst: Reg, src: Operand) -> Checked {
        self.check_operand(src)?;
        self.check_writable(dst)?;
        let moved = match src {
            Operand::Reg(src) => {
                let stays = |scalar: &ScalarValue| width == Width::W64 || scalar.fits(width.bits());
                match self.copied(src, stays) {
                    Some(scalar) => {
                        let bounds = domain::mov(width, &scalar.bounds);
                        Value::Scalar(ScalarValue { bounds, ..scalar })
                    }
                    None if width == Width::W64 => *self.value(src),
                    None => Value::scalar(domain::mov(width, &domain::Scalar::UNKNOWN)),
                }
            }
            Operand::Imm(imm) => Value::scalar(domain::mov(width, &immediate(imm))),
        };
        self.set(dst, moved);
        Ok(())
    }

    pub(super) fn movsx(&mut self, width: Width, dst: Reg, src: Reg, from: Size) -> Checked {
        self.check_readable(src)?;
        self.check_writable(dst)?;
        let stays = |scalar: &ScalarValue| scalar.fits(u32::from(from.bits()) - 1);
        let moved = match self.copied(src, stays) {
            Some(scalar) => {
                let bounds = domain::movsx(width, from, &scalar.bounds);
                Value::Scalar(ScalarValue { bounds, ..scalar })
            }
            // The low bits of a pointer are any number; it is not narrowed further.
            None => Value::scalar(domain::mov(width, &domain::Scalar::UNKNOWN)),
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
        self.unary(dst, |scalar| {
            let bounds = domain::swap(order, size, &scalar.bounds);
            Value::Scalar(ScalarValue { bounds, ..scalar.unlinked() })
        })
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

/// Makes a mask of signs one of its two values; gives the other one.
#[inline]
fn fork(op: AluOp, left: &mut ScalarValue, right: &domain::Scalar) -> Option<ScalarValue> {
    let (minus_one, zero) = domain::fork(op, &left.bounds, right)?;
    let link = left.link;
    left.bounds = minus_one;
    // A whole register that becomes a constant leaves its group; a low half does not.
    let is_whole = minus_one.as_const() == Some(u64::MAX);
    Some(ScalarValue { bounds: zero, link: if is_whole { None } else { link }, ..*left })
}

fn immediate(imm: i32) -> domain::Scalar {
    domain::Scalar::constant(semantics::immediate(imm))
}

/// `left op= right`.
fn compute(op: AluOp, width: Width, left: &mut ScalarValue, right: &domain::Scalar) {
    linked::before_alu(op, width, left, right);
    if left.null_of.is_some() && is_made_anew(op, width, &left.bounds, right) {
        left.null_of = None;
    }
    domain::alu(op, width, &mut left.bounds, right);
}

/// Whether the kernel makes a new number of the result, rather than to change the left one.
fn is_made_anew(op: AluOp, width: Width, left: &domain::Scalar, right: &domain::Scalar) -> bool {
    let is_bitwise = matches!(op, AluOp::And | AluOp::Or | AluOp::Xor);
    let both_known = left.as_const().is_some() && right.as_const().is_some();
    !domain::is_followed(op, width, right) || (is_bitwise && both_known)
}

#[inline]
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

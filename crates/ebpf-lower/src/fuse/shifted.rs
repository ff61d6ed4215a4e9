//! Rotations written as two shifts, and operations whose second operand is shifted or rotated.
//!
//! The instructions of a window are followed with values of the form "`root` shifted by a constant",
//! all of one register, the root, which is what they start from. Two shifts in opposite directions
//! whose counts add up to the width share no bits, so their `or`, sum and `xor` are the rotation.
//!
//! Legality: only moves, shifts and combinations of such values are in the window, so there is no
//! access and nothing that could fail. The result depends on the root as it was at the window's
//! start, and on at most one other register, which nothing in the window has written. All registers
//! that the window writes, but for the result, must be dead behind it. A value of 32 bits is
//! zero-extended by each of its instructions, so widths do not mix; only copies of the root may have
//! any width before a 32-bit shift, which looks at the low half alone.

use ebpf_isa::{AluOp, Insn, Operand, Reg, RegSet, Width};

use super::{Merge, Window};
use crate::{Fused, Shift};

/// At most this many copies are in front of the first shift.
const COPIES: usize = 2;

/// More instructions are never one operation: two copies, two shifts, two combinations.
const MAX_LEN: usize = 6;

/// What a register holds.
#[derive(Clone, Copy, PartialEq)]
enum Value {
    /// The root itself.
    Copy,
    /// Its low half.
    Low,
    Shifted {
        width: Width,
        shift: Shift,
        by: u8,
    },
}

/// The values of registers that the window wrote.
struct Values {
    root: Reg,
    of: [Option<Value>; Reg::COUNT],
    written: RegSet,
}

pub(super) fn merge(window: Window<'_>) -> Option<Merge> {
    let root = match *window.get(0)? {
        Insn::Mov { src: Operand::Reg(src), .. } => src,
        Insn::Alu { op: AluOp::Lsh | AluOp::Rsh, dst, src: Operand::Imm(_), .. } => dst,
        _ => return None,
    };
    // Most moves are of something else.
    let is_shift = |index| {
        let insn = window.get(index);
        matches!(insn, Some(Insn::Alu { op: AluOp::Lsh | AluOp::Rsh, src: Operand::Imm(_), .. }))
    };
    if !(0..=COPIES).any(is_shift) {
        return None;
    }
    let mut values = Values { root, of: [None; Reg::COUNT], written: RegSet::EMPTY };
    let mut found = None;
    for index in 0..MAX_LEN {
        let Some(&insn) = window.get(index) else { break };
        let Some(step) = values.step(insn) else { break };
        let others = match step {
            Step::Value(dst) => values.written.without(dst),
            Step::Combined(_, dst) => values.written.without(dst),
        };
        let dead = others.difference(window.live_after(index)) == others;
        match step {
            Step::Value(dst) => {
                if let Some(Value::Shifted { width, shift: Shift::Rotate, by }) = values.get(dst)
                    && dead
                {
                    let op = Fused::Rotate { width, dst, src: root, by };
                    found = Some(Merge::new(op, index + 1));
                }
            }
            Step::Combined(op, _) => {
                return if dead { Some(Merge::new(op, index + 1)) } else { found };
            }
        }
    }
    found
}

/// What an instruction does to the values.
enum Step {
    /// The register got another one.
    Value(Reg),
    /// One of them was combined with another register, which ends the window.
    Combined(Fused, Reg),
}

impl Values {
    /// What `reg` holds, in terms of the root.
    fn get(&self, reg: Reg) -> Option<Value> {
        let untouched = reg == self.root && !self.written.contains(reg);
        self.of[reg.index()].or(untouched.then_some(Value::Copy))
    }

    fn set(&mut self, reg: Reg, value: Value) -> Step {
        self.of[reg.index()] = Some(value);
        self.written = self.written.with(reg);
        Step::Value(reg)
    }

    fn step(&mut self, insn: Insn) -> Option<Step> {
        match insn {
            Insn::Mov { width, dst, src: Operand::Reg(src) } => {
                let value = self.get(src)?;
                let moved = match (width, value) {
                    (Width::W64, value) => value,
                    (Width::W32, Value::Copy | Value::Low) => Value::Low,
                    (Width::W32, Value::Shifted { width: Width::W32, .. }) => value,
                    (Width::W32, Value::Shifted { width: Width::W64, .. }) => return None,
                };
                Some(self.set(dst, moved))
            }
            Insn::Alu { op, width, dst, src: Operand::Imm(by) } => {
                let shift = match op {
                    AluOp::Lsh => Shift::Left,
                    AluOp::Rsh => Shift::Right,
                    _ => return None,
                };
                let by = u8::try_from(by).ok().filter(|by| (1..bits(width)).contains(by))?;
                match (width, self.get(dst)?) {
                    (_, Value::Copy) | (Width::W32, Value::Low) => {
                        Some(self.set(dst, Value::Shifted { width, shift, by }))
                    }
                    _ => None,
                }
            }
            Insn::Alu { op, width, dst, src: Operand::Reg(src) } if is_combination(op) => {
                let (left, right) = (self.get(dst), self.get(src));
                if let (Some(left), Some(right)) = (left, right)
                    && let Some(rotated) = rotation(width, left, right)
                {
                    return Some(self.set(dst, rotated));
                }
                let combined = self.combine(op, width, dst, dst, right);
                combined.or_else(|| self.combine(op, width, dst, src, left))
            }
            _ => None,
        }
    }

    /// `dst = other op value`
    fn combine(
        &mut self,
        op: AluOp,
        width: Width,
        dst: Reg,
        other: Reg,
        value: Option<Value>,
    ) -> Option<Step> {
        let Value::Shifted { width: of, shift, by } = value? else { return None };
        if of != width || self.written.contains(other) {
            return None;
        }
        self.written = self.written.with(dst);
        let op = Fused::Shifted { op, width, dst, lhs: other, src: self.root, shift, by };
        Some(Step::Combined(op, dst))
    }
}

const fn is_combination(op: AluOp) -> bool {
    matches!(op, AluOp::Add | AluOp::Or | AluOp::Xor)
}

const fn bits(width: Width) -> u8 {
    match width {
        Width::W32 => 32,
        Width::W64 => 64,
    }
}

/// What two shifts of the root in opposite directions come to.
fn rotation(width: Width, left: Value, right: Value) -> Option<Value> {
    let ((Value::Shifted { shift: Shift::Left, by, .. }, _)
    | (_, Value::Shifted { shift: Shift::Left, by, .. })) = (left, right)
    else {
        return None;
    };
    let shifted = |shift, by| Value::Shifted { width, shift, by };
    let halves = (shifted(Shift::Left, by), shifted(Shift::Right, bits(width).checked_sub(by)?));
    let is_rotation = halves == (left, right) || halves == (right, left);
    is_rotation.then_some(shifted(Shift::Rotate, by))
}

#[cfg(test)]
mod tests {
    use super::super::test_support::{first, is_plain, ops};
    use super::*;

    fn rotate(width: Width, dst: Reg, src: Reg, by: u8) -> Fused {
        Fused::Rotate { width, dst, src, by }
    }

    fn is_rotation(asm: &str) -> bool {
        ops(asm).iter().any(|op| matches!(op, Fused::Rotate { .. }))
    }

    #[test]
    fn two_shifts_and_an_or_are_a_rotation() {
        let op = rotate(Width::W64, Reg::R0, Reg::R1, 13);
        assert_eq!(first("r0 = r1\nr0 <<= 13\nr1 >>= 51\nr0 |= r1\nexit"), (op, 1));
        assert_eq!(first("r0 = r1\nr0 >>= 51\nr1 <<= 13\nr0 |= r1\nexit"), (op, 1));
        assert_eq!(first("r2 = r1\nr2 <<= 13\nr0 = r1\nr0 >>= 51\nr0 |= r2\nr0 -= r1\nexit").0, op);
        let op = rotate(Width::W32, Reg::R0, Reg::R1, 7);
        assert_eq!(first("w0 = w1\nw0 <<= 7\nw1 >>= 25\nw0 |= w1\nexit"), (op, 1));
        assert_eq!(first("r0 = r1\nw0 <<= 7\nw1 >>= 25\nw0 |= w1\nexit"), (op, 1));
    }

    #[test]
    fn sums_of_shifts_are_rotations_too() {
        assert!(is_rotation("r0 = r1\nr0 <<= 13\nr1 >>= 51\nr0 += r1\nexit"));
        assert!(is_rotation("r0 = r1\nr0 <<= 13\nr1 >>= 51\nr0 ^= r1\nexit"));
        assert!(!is_rotation("r0 = r1\nr0 <<= 13\nr1 >>= 51\nr0 &= r1\nexit"));
    }

    #[test]
    fn counts_that_do_not_add_up_are_no_rotation() {
        assert!(!is_rotation("r0 = r1\nr0 <<= 13\nr1 >>= 50\nr0 |= r1\nexit"));
        assert!(!is_rotation("r0 = r1\nr0 <<= 13\nr1 >>= 19\nr0 |= r1\nexit"));
        assert!(!is_rotation("r0 = r1\nr0 <<= 13\nw1 >>= 19\nr0 |= r1\nexit"));
        assert!(!is_rotation("r0 = r1\nr0 <<= 13\nr1 <<= 51\nr0 |= r1\nexit"));
        assert!(!is_rotation("r0 = r2\nr0 <<= 13\nr1 >>= 51\nr0 |= r1\nexit"));
    }

    #[test]
    fn a_half_that_is_read_again_stays() {
        assert!(!is_rotation("r0 = r1\nr0 <<= 13\nr1 >>= 51\nr0 |= r1\nr0 += r1\nexit"));
    }

    #[test]
    fn a_shifted_operand() {
        let op = |dst, lhs, shift| Fused::Shifted {
            op: AluOp::Xor,
            width: Width::W64,
            dst,
            lhs,
            src: Reg::R1,
            shift,
            by: 33,
        };
        let right = op(Reg::R0, Reg::R0, Shift::Right);
        assert_eq!(first("r1 >>= 33\nr0 ^= r1\nexit"), (right, 1));
        assert_eq!(first("r2 = r1\nr2 >>= 33\nr0 ^= r2\nr0 += r1\nexit"), (right, 2));
        let itself = op(Reg::R1, Reg::R1, Shift::Right);
        assert_eq!(first("r2 = r1\nr2 >>= 33\nr1 ^= r2\nr0 = r1\nexit"), (itself, 2));
        let left = op(Reg::R1, Reg::R2, Shift::Left);
        assert_eq!(first("r1 <<= 33\nr1 ^= r2\nr0 = r1\nexit"), (left, 2));
        let rotated = op(Reg::R0, Reg::R0, Shift::Rotate);
        assert_eq!(first("r2 = r1\nr2 <<= 33\nr1 >>= 31\nr2 |= r1\nr0 ^= r2\nexit"), (rotated, 1));
    }

    #[test]
    fn a_shifted_value_that_is_read_again_stays() {
        assert!(is_plain("r1 >>= 33\nr0 ^= r1\nr0 += r1\nexit"));
        assert!(is_plain("r1 >>= 33\nr0 ^= r1\ncall 1\nexit"));
    }

    #[test]
    fn other_operations_and_widths_stay() {
        assert!(is_plain("r1 >>= 33\nr0 -= r1\nexit"));
        assert!(is_plain("r1 >>= 33\nw0 ^= w1\nexit"));
        assert!(is_plain("w1 >>= 3\nr0 ^= r1\nexit"));
        assert!(is_plain("r1 s>>= 33\nr0 ^= r1\nexit"));
        assert!(is_plain("r1 >>= r2\nr0 ^= r1\nexit"));
        assert!(is_plain("r1 >>= 33\nr1 ^= r1\nr0 = r1\nexit"));
    }

    #[test]
    fn a_copy_of_the_root_is_combined_with_no_shift_of_it() {
        // What the other operand holds is known, but it is not the root's register any more.
        assert!(is_plain("r2 = r1\nr1 >>= 33\nr2 ^= r1\nr0 = r2\nexit"));
    }
}

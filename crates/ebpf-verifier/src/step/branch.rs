//! Conditional jumps: which ways are possible, and what each of them teaches.

use ebpf_isa::{CmpOp, Operand, Pc, Reg, Width};

use super::packet::PacketComparison;
use super::{FAR, Machine, Next};
use crate::domain;
use crate::error::Checked;
use crate::state::{MapValueRef, NullId, Pointer, PointerKind, ScalarValue, State, Value};

/// How many members of a group of equal numbers learn from a comparison; the others leave it.
const LINKED_MAX: usize = 6;

/// The operands of a comparison.
struct Comparison {
    op: CmpOp,
    width: Width,
    lhs: Reg,
    rhs: Operand,
    left: Value,
    right: Value,
}

impl Machine<'_> {
    pub(super) fn branch(
        &mut self,
        op: CmpOp,
        width: Width,
        lhs: Reg,
        rhs: Operand,
        target: Pc,
    ) -> Checked<Next> {
        let left = self.read(lhs)?;
        let right = self.operand(rhs)?;
        let fall_through = self.after();
        let comparison = Comparison { op, width, lhs, rhs, left, right };
        match comparison.outcome() {
            Some(true) => return Ok(Next::Goto(target)),
            Some(false) => return Ok(Next::Goto(fall_through)),
            None => {}
        }
        comparison.limit_groups(&mut self.state);
        let mut taken_state = self.state.clone();
        comparison.learn(&mut taken_state, true);
        comparison.learn(&mut self.state, false);
        Ok(Next::Fork { fall_through, taken: target, taken_state })
    }
}

impl Comparison {
    /// Which way it goes, if that is known.
    fn outcome(&self) -> Option<bool> {
        let Self { op, width, .. } = *self;
        match (&self.left, &self.right) {
            (Value::Scalar(left), Value::Scalar(right)) => {
                domain::branch(op, width, &left.bounds, &right.bounds)
            }
            _ if width == Width::W32 => None,
            (Value::Pointer(left), Value::Pointer(right)) => {
                PacketComparison::new(op, left, right)?.outcome()
            }
            (Value::Pointer(pointer), Value::Scalar(scalar))
            | (Value::Scalar(scalar), Value::Pointer(pointer)) => {
                if scalar.bounds.as_const() != Some(0) || !is_not_null(pointer) {
                    return None;
                }
                match op {
                    CmpOp::Eq => Some(false),
                    CmpOp::Ne => Some(true),
                    _ => None,
                }
            }
            (Value::Uninit, _) | (_, Value::Uninit) => None,
        }
    }

    /// Takes what one outcome says into `state`, whose registers are still those compared.
    fn learn(&self, state: &mut State, taken: bool) {
        let Self { op, width, .. } = *self;
        match (&self.left, &self.right) {
            (Value::Scalar(scalar), Value::Scalar(_)) if self.rhs == Operand::Reg(self.lhs) => {
                if let Some(bounds) = domain::refine_same(op, width, taken, &scalar.bounds) {
                    self.set_scalars(state, bounds, bounds);
                }
            }
            (Value::Scalar(left), Value::Scalar(right)) => {
                let learnt = domain::refine(op, width, taken, &left.bounds, &right.bounds);
                if let Some((left_bounds, right_bounds)) = learnt {
                    self.set_scalars(state, left_bounds, right_bounds);
                }
            }
            _ if width == Width::W32 => {}
            (Value::Pointer(left), Value::Pointer(right)) => {
                if let Some(comparison) = PacketComparison::new(op, left, right) {
                    comparison.learn(state, self.lhs, self.rhs, taken);
                }
            }
            (Value::Pointer(pointer), Value::Scalar(_)) if self.rhs == Operand::Imm(0) => {
                if let PointerKind::MapValue(MapValueRef { null: Some(id), .. }) = pointer.kind {
                    match op {
                        CmpOp::Eq => settle_null(state, id, taken),
                        CmpOp::Ne => settle_null(state, id, !taken),
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }

    /// Lets members leave the groups of the compared numbers until [`LINKED_MAX`] are left: the
    /// group of the right operand, then that of the left one, share the room.
    fn limit_groups(&self, state: &mut State) {
        let group = |value: &Value| value.as_scalar()?.link.map(|link| link.id);
        let right = group(&self.right);
        let left = group(&self.left).filter(|&id| Some(id) != right);
        let mut room = LINKED_MAX;
        for id in right.into_iter().chain(left) {
            let is_member = |value: &Value| group(value) == Some(id);
            let members = state.values().filter(|value| is_member(value)).count();
            let mut kept = members.min(room);
            room -= kept;
            if kept == members {
                continue;
            }
            state.update(is_member, |value| match (kept.checked_sub(1), value) {
                (None, Value::Scalar(scalar)) => *scalar = scalar.unlinked(),
                (left, _) => kept = left.unwrap_or(0),
            });
        }
    }

    /// Puts narrowed bounds into the compared registers, then into those equal to them: first
    /// what is known of the right operand, then of the left one.
    fn set_scalars(&self, state: &mut State, left: domain::Scalar, right: domain::Scalar) {
        let frame = state.frame_mut();
        let mut put = |reg: Reg, bounds| {
            if let Value::Scalar(scalar) = &mut frame.regs[reg.index()] {
                scalar.bounds = bounds;
            }
        };
        if let Operand::Reg(reg) = self.rhs {
            put(reg, right);
        }
        put(self.lhs, left);
        for reg in self.rhs.reg().into_iter().chain([self.lhs]) {
            if let Value::Scalar(scalar) = state.frame().regs[reg.index()] {
                spread(state, &scalar);
            }
        }
    }
}

/// Whether the pointer cannot be null. The kernel says so only of some kinds.
fn is_not_null(pointer: &Pointer) -> bool {
    let near = pointer.var.smin() > -FAR && pointer.var.smax() < FAR;
    let kind_is_never_null = match pointer.kind {
        PointerKind::Map(_) => true,
        PointerKind::MapValue(value) => value.null.is_none(),
        PointerKind::Context
        | PointerKind::Packet { .. }
        | PointerKind::PacketEnd
        | PointerKind::Stack { .. } => false,
    };
    near && kind_is_never_null
}

/// All copies of a pointer that may be null turn into the number 0, or into a valid pointer.
fn settle_null(state: &mut State, id: NullId, is_null: bool) {
    let is_copy = |value: &Value| value.null_id() == Some(id);
    state.update(is_copy, |value| {
        if is_null {
            *value = Value::constant(0);
        } else if let Value::Pointer(Pointer { kind: PointerKind::MapValue(element), .. }) = value {
            element.null = None;
        }
    });
}

/// Gives everything equal to `known` its bounds.
fn spread(state: &mut State, known: &ScalarValue) {
    let Some(link) = known.link.filter(|link| !link.shifted) else {
        return;
    };
    let is_equal = |value: &Value| value.as_scalar().is_some_and(|s| s.link == Some(link));
    state.update(is_equal, |value| {
        if let Value::Scalar(scalar) = value {
            scalar.bounds = known.bounds;
        }
    });
}

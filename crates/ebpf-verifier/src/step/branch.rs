//! Conditional jumps: which ways are possible, and what each of them teaches.

use ebpf_isa::{CmpOp, Operand, Pc, Reg, Width};

use super::packet::PacketComparison;
use super::{FAR, Machine, Next, linked};
use crate::domain;
use crate::error::{Checked, Unsupported};
use crate::kernel_types::Trust;
use crate::rules::Object;
use crate::state::{NullId, Pointer, PointerKind, RefId, ScalarValue, State, Value};

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
        check_known(&left, &right)?;
        let fall_through = self.fall_through;
        let comparison = Comparison { op, width, lhs, rhs, left, right };
        let is_stack = |value: &Value| {
            matches!(value.as_pointer(), Some(Pointer { kind: PointerKind::Stack { .. }, .. }))
        };
        self.effects.stack_operands = [is_stack(&comparison.left), is_stack(&comparison.right)];
        if let Some(taken) = comparison.outcome(self.shares_mistakes) {
            for reg in [lhs].into_iter().chain(rhs.reg()) {
                self.rely_on_number(reg);
            }
            return Ok(Next::Goto(if taken { target } else { fall_through }));
        }
        let linked = self.linked_cells(lhs, rhs);
        self.effects.linked = linked;
        let mut taken_state = self.state.clone();
        for (state, taken) in [(&mut taken_state, true), (&mut self.state, false)] {
            comparison.learn(state, taken);
            // First what is known of the right operand, then of the left one.
            for reg in rhs.reg().into_iter().chain([lhs]) {
                linked::spread(state, &linked, reg)?;
            }
        }
        self.taken_state = Some(taken_state);
        Ok(Next::Fork { fall_through, taken: target })
    }
}

impl Comparison {
    /// Which way it goes, if that is known. Linux takes the low half of a pointer that is not null
    /// not to be 0 either, which is a mistake.
    fn outcome(&self, shares_mistakes: bool) -> Option<bool> {
        let Self { op, width, .. } = *self;
        match (&self.left, &self.right) {
            (Value::Scalar(left), Value::Scalar(right)) => {
                domain::branch(op, width, &left.bounds, &right.bounds)
            }
            _ if width == Width::W32 && !shares_mistakes => None,
            (Value::Pointer(_), Value::Pointer(_)) if width == Width::W32 => None,
            (Value::Pointer(left), Value::Pointer(right)) => {
                PacketComparison::new(op, left, right)?.outcome()
            }
            (Value::Pointer(pointer), Value::Scalar(scalar))
            | (Value::Scalar(scalar), Value::Pointer(pointer)) => {
                let is_zero = match width {
                    Width::W64 => scalar.bounds.as_const() == Some(0),
                    Width::W32 => scalar.bounds.low_as_const() == Some(0),
                };
                if !is_zero || !is_not_null(pointer) {
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
                let equal = (op == CmpOp::Eq && taken) || (op == CmpOp::Ne && !taken);
                let is_opaque = |pointer: &Pointer| {
                    matches!(
                        pointer.kind,
                        PointerKind::Opaque { .. } | PointerKind::Structure { .. }
                    )
                };
                let may_differ = left.kind.may_be_null() != right.kind.may_be_null();
                if equal && may_differ && !is_opaque(left) && !is_opaque(right) {
                    self.settle_equal(state);
                }
            }
            (Value::Pointer(pointer), Value::Scalar(_)) if self.rhs == Operand::Imm(0) => {
                let is_null = match op {
                    CmpOp::Eq => taken,
                    CmpOp::Ne => !taken,
                    _ => return,
                };
                if let Some(id) = pointer.kind.null_id() {
                    settle_null(state, id, is_null);
                }
            }
            _ => {}
        }
    }

    /// A pointer that equals one which cannot be null is not null; its copies learn nothing.
    fn settle_equal(&self, state: &mut State) {
        let regs = &mut state.frame_mut().regs;
        for reg in self.rhs.reg().into_iter().chain([self.lhs]) {
            if let Value::Pointer(pointer) = &mut regs[reg.index()] {
                pointer.kind.settle_not_null();
            }
        }
    }

    /// Puts narrowed bounds into the compared registers.
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
    }
}

/// Refuses to compare what was looked up in a map that holds objects with another pointer: what the
/// kernel makes of it where they are equal is an object that is tied to copies which may be null.
#[inline]
fn check_known(left: &Value, right: &Value) -> Checked {
    match (left.as_pointer(), right.as_pointer()) {
        (Some(left), Some(right))
            if [left, right].iter().any(|it| matches!(it.kind, PointerKind::Element { .. })) =>
        {
            Err(Unsupported::ElementComparison.into())
        }
        _ => Ok(()),
    }
}

/// Whether the pointer cannot be null. The kernel says so only of some kinds.
fn is_not_null(pointer: &Pointer) -> bool {
    let near = pointer.var.smin() > -FAR && pointer.var.smax() < FAR;
    let kind_is_never_null = match pointer.kind {
        PointerKind::Map(_) | PointerKind::MapKey(_) => true,
        PointerKind::MapValue(value) => value.null.is_none(),
        PointerKind::Object { object, null, .. } => {
            null.is_none() && !matches!(object, Object::FlowKeys | Object::XdpSock)
        }
        PointerKind::Ringbuf { null, .. }
        | PointerKind::Argument { null, .. }
        | PointerKind::Slice { null, .. } => null.is_none(),
        PointerKind::Item { .. } => true,
        PointerKind::Opaque { null, reference, .. } => null.is_none() && reference.is_some(),
        PointerKind::Structure { trust, null, reference, .. } => {
            null.is_none() && (reference.is_some() || trust == Trust::Trusted)
        }
        PointerKind::Context
        | PointerKind::Element { .. }
        | PointerKind::Guarded
        | PointerKind::Buffer { .. }
        | PointerKind::Packet { .. }
        | PointerKind::PacketEnd
        | PointerKind::Function(_)
        | PointerKind::Dynptr(_)
        | PointerKind::Stack { .. } => false,
    };
    near && kind_is_never_null
}

/// All copies of a pointer that may be null turn into the number 0, or into a valid pointer. If there is
/// null where something was to be acquired, nothing was.
fn settle_null(state: &mut State, id: NullId, is_null: bool) {
    if is_null {
        state.refs.release(RefId(id.0));
    }
    let is_copy = |value: &Value| value.null_id() == Some(id);
    state.update(is_copy, |value| {
        let Value::Pointer(pointer) = value else { return };
        if is_null {
            let (bounds, null_of) = (domain::Scalar::constant(0), pointer.kind.null_of());
            *value = Value::Scalar(ScalarValue { bounds, link: None, null_of });
        } else {
            pointer.kind.settle_not_null();
        }
    });
}

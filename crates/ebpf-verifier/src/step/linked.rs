//! Groups of registers whose values are tied: what a comparison teaches of one holds for all.
//!
//! The members of a group hold the same number, or that number and a constant. They are tied by
//! being copied, and stay tied until something else is computed in their place.

use alloc::vec::Vec;

use ebpf_isa::{AluOp, Operand, Reg, Width};

use super::Machine;
use crate::domain::{self, Scalar};
use crate::error::{Checked, Unsupported};
use crate::state::{Cell, Distance, Link, LinkedCells, ScalarId, ScalarValue, State, Value};

impl Machine<'_> {
    /// The live members of the groups of the compared numbers, as far as there is room; the others
    /// leave. The group of the right operand comes first. If both are one group, its members take
    /// room twice, unless the left operand had to leave.
    pub(super) fn linked_cells(&mut self, lhs: Reg, rhs: Operand) -> LinkedCells {
        let mut linked = LinkedCells::default();
        for reg in rhs.reg().into_iter().chain([lhs]) {
            let Some(id) = group(&self.state.frame().regs[reg.index()]) else { continue };
            let live_cells = self.state.live_cells(self.pc, |pc| self.live.before(pc));
            let members = live_cells.filter(|(_, value)| group(value) == Some(id));
            let mut leaving = Vec::new();
            for (cell, _) in members {
                if !linked.push(cell) {
                    leaving.push(cell);
                }
            }
            for cell in leaving {
                if let Some(Value::Scalar(scalar)) = self.state.cell_mut(cell) {
                    *scalar = scalar.unlinked();
                }
            }
        }
        linked
    }
}

fn group(value: &Value) -> Option<ScalarId> {
    Some(value.as_scalar()?.link?.id)
}

/// Computes the bounds of the linked members of a group from those of the number in `reg`, even
/// where more was known of a member.
pub(super) fn spread(state: &mut State, linked: &LinkedCells, reg: Reg) -> Checked {
    let from = Cell::reg(state.current(), reg);
    let Value::Scalar(known @ ScalarValue { link: Some(link), .. }) = *state.cell(from) else {
        return Ok(());
    };
    for cell in linked.iter().filter(|&cell| cell != from) {
        let Value::Scalar(member @ ScalarValue { link: Some(tie), .. }) = *state.cell(cell) else {
            continue;
        };
        if tie.id != link.id {
            continue;
        }
        if tie.signed != link.signed {
            return Err(Unsupported::OtherSign.into());
        }
        if let Some(Value::Scalar(scalar)) = state.cell_mut(cell) {
            *scalar = derived(&known, link, &member);
        }
    }
    Ok(())
}

/// What `known`, linked by `link`, says of another member of the group.
fn derived(known: &ScalarValue, link: Link, member: &ScalarValue) -> ScalarValue {
    let distance = |link: Option<Link>| link.and_then(|link| link.distance);
    let (from, to) = (distance(Some(link)), distance(member.link));
    let width = match (from, to) {
        // A distance that wraps at 32 bits says nothing about one that wraps at 64.
        (Some(from), Some(to)) if from.width != to.width => return *member,
        (Some(Distance { width, .. }), _) | (None, Some(Distance { width, .. })) => width,
        (None, None) => Width::W64,
    };
    let by = |distance: Option<Distance>| i64::from(distance.map_or(0, |distance| distance.by));
    match by(to) - by(from) {
        0 => *known,
        delta => {
            let bounds = domain::at_distance(width, &known.bounds, delta.cast_unsigned());
            ScalarValue { bounds, null_of: known.null_of, ..*member }
        }
    }
}

/// Before `left op= right`: it stays in its group if a constant is added or subtracted for the first
/// time, and leaves it otherwise.
pub(super) fn before_alu(op: AluOp, width: Width, left: &mut ScalarValue, right: &Scalar) {
    let distance = distance_after(op, width, left, right);
    match (&mut left.link, distance) {
        (Some(link), Some(_)) => link.distance = distance,
        _ => left.link = None,
    }
}

/// How far from its group `left op right` is, if it is in one still.
fn distance_after(op: AluOp, width: Width, left: &ScalarValue, right: &Scalar) -> Option<Distance> {
    left.link.filter(|link| link.distance.is_none())?;
    let by = match width {
        Width::W64 => i32::try_from(right.as_const()?.cast_signed()).ok()?,
        Width::W32 if left.fits(32) => right.low_as_const()?.cast_signed(),
        Width::W32 => return None,
    };
    match op {
        AluOp::Add => Some(Distance { by, width }),
        AluOp::Sub => Some(Distance { by: by.checked_neg()?, width }),
        _ => None,
    }
}

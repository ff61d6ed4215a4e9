//! Groups of registers whose values are tied: what a comparison teaches of one holds for all.
//!
//! The members of a group hold the same number, or that number and a constant. They are tied by
//! being copied, and stay tied until something else is computed in their place.

use ebpf_isa::{AluOp, Pc, Reg, Width};

use super::Machine;
use crate::domain::{self, Scalar};
use crate::error::{Checked, Fault};
use crate::state::{Distance, Link, ScalarId, ScalarValue, State, Value};

/// How many members of the groups of two compared numbers learn; the others leave them.
const LINKED_MAX: usize = 6;

impl Machine<'_> {
    /// Forgets what is in registers of the current frame that nothing reads any more, so that they
    /// are in no group.
    pub(super) fn forget_dead(&mut self, pc: Pc) {
        let live = self.live.before(pc);
        let frame = self.state.frame_mut();
        for reg in Reg::ALL {
            if reg != Reg::FP && !live.contains(reg) {
                frame.regs[reg.index()] = Value::Uninit;
            }
        }
    }
}

fn group(value: &Value) -> Option<ScalarId> {
    Some(value.as_scalar()?.link?.id)
}

/// Lets members leave the groups of the compared numbers until [`LINKED_MAX`] are left. The groups
/// share the room, that of the right operand coming first. If both are one group, its members
/// count twice.
pub(super) fn limit_groups(state: &mut State, left: &Value, right: &Value) {
    let mut room = LINKED_MAX;
    for id in [right, left].into_iter().filter_map(group) {
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

/// Computes the bounds of all members of a group from those of the number in `reg`, even where
/// more was known of a member.
pub(super) fn spread(state: &mut State, reg: Reg) -> Checked {
    let Value::Scalar(known @ ScalarValue { link: Some(link), .. }) =
        state.frame().regs[reg.index()]
    else {
        return Ok(());
    };
    let is_member = |value: &Value| group(value) == Some(link.id);
    let mismatch = |value: &Value| {
        let member = value.as_scalar().and_then(|scalar| scalar.link);
        member.is_some_and(|member| member.id == link.id && member.signed != link.signed)
    };
    if state.values().any(mismatch) {
        return Err(Fault::unsupported(
            "a comparison of a number that was spilled and then loaded with another sign",
        ));
    }
    state.update(is_member, |value| {
        if let Value::Scalar(scalar) = value {
            *scalar = derived(&known, link, scalar);
        }
    });
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
            let delta = Scalar::constant(delta.cast_unsigned());
            ScalarValue { bounds: domain::alu(AluOp::Add, width, &known.bounds, &delta), ..*member }
        }
    }
}

/// The group of `left op right`: that of `left` if a constant is added or subtracted for the first
/// time, otherwise none.
pub(super) fn after_alu(
    op: AluOp,
    width: Width,
    left: &ScalarValue,
    right: &Scalar,
) -> Option<Link> {
    let link = left.link.filter(|link| link.distance.is_none())?;
    let by = match width {
        Width::W64 => i32::try_from(right.as_const()?.cast_signed()).ok()?,
        Width::W32 if left.fits(32) => right.low_as_const()?.cast_signed(),
        Width::W32 => return None,
    };
    let by = match op {
        AluOp::Add => by,
        AluOp::Sub => by.checked_neg()?,
        _ => return None,
    };
    Some(Link { distance: Some(Distance { by, width }), ..link })
}

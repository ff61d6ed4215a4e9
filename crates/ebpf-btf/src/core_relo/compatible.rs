//! Whether types of two sets of types stand for the same.

use alloc::vec;

use super::CoreError;
use crate::index::{is_same, without_flavour};
use crate::{Btf, Int, Kind, MAX_RESOLVE_DEPTH, Type, TypeId};

/// Whether a member may have become one of the other type: another width of integer, other members,
/// but no other kind.
pub(super) fn are_fields_compatible(
    local: &Btf,
    local_ty: TypeId,
    target: &Btf,
    target_ty: TypeId,
) -> Result<bool, CoreError> {
    let (mut local_ty, mut target_ty) = (local_ty, target_ty);
    for _ in 0..=MAX_RESOLVE_DEPTH {
        let (a, b) = (resolved(local, local_ty)?, resolved(target, target_ty)?);
        let is_composite = |ty: &Type| matches!(ty.kind(), Kind::Struct | Kind::Union);
        if is_composite(a) && is_composite(b) {
            return Ok(true);
        }
        if !is_same(a.kind(), b.kind()) {
            return Ok(false);
        }
        match (a, b) {
            (Type::Array(a), Type::Array(b)) => (local_ty, target_ty) = (a.element, b.element),
            (Type::Int(a), Type::Int(b)) => return Ok(is_plain(a) && is_plain(b)),
            (Type::Ptr(_) | Type::Float { .. }, _) => return Ok(true),
            (Type::Fwd { .. } | Type::Enum(_) | Type::Enum64(_), _) => {
                let (a, b) = (local.name(a.name()), target.name(b.name()));
                let is_same_name = without_flavour(a) == without_flavour(b);
                return Ok(a.is_empty() || b.is_empty() || is_same_name);
            }
            _ => return Ok(false),
        }
    }
    Err(CoreError::TooDeep { root: local_ty })
}

/// Whether types are of the same kind, and so is what they point to, consist of, take and return.
/// What structs, unions and enums consist of does not matter.
pub(super) fn are_types_compatible(
    local: &Btf,
    local_root: TypeId,
    target: &Btf,
    target_root: TypeId,
) -> Result<bool, CoreError> {
    let mut pending = vec![(local_root, target_root)];
    // A chain of pointers and arrays has an end, unless it is a cycle; prototypes branch out.
    for _ in 0..MAX_PAIRS {
        let Some((a, b)) = pending.pop() else { return Ok(true) };
        let (a, b) = (resolved(local, a)?, resolved(target, b)?);
        if !is_same(a.kind(), b.kind()) {
            return Ok(false);
        }
        match (a, b) {
            (Type::Void | Type::Struct(_) | Type::Union(_), _) => {}
            (Type::Enum(_) | Type::Enum64(_) | Type::Fwd { .. }, _) => {}
            (Type::Int(a), Type::Int(b)) if is_plain(a) && is_plain(b) => {}
            (Type::Ptr(a), Type::Ptr(b)) => pending.push((*a, *b)),
            (Type::Array(a), Type::Array(b)) => pending.push((a.element, b.element)),
            (Type::FuncProto(a), Type::FuncProto(b)) if a.params.len() == b.params.len() => {
                pending.push((a.ret, b.ret));
                pending.extend(a.params.iter().zip(&b.params).map(|(a, b)| (a.ty, b.ty)));
            }
            _ => return Ok(false),
        }
    }
    Err(CoreError::TooDeep { root: local_root })
}

/// How many pairs of types are compared for one pair.
pub(super) const MAX_PAIRS: usize = 4096;

pub(super) fn resolved(btf: &Btf, id: TypeId) -> Result<&Type, CoreError> {
    Ok(btf.type_by_id(btf.resolve(id)?)?)
}

/// Whether it is not a bit field in the old encoding.
fn is_plain(int: &Int) -> bool {
    int.bit_offset == 0
}

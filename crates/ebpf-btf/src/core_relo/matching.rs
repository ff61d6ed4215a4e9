//! Whether a type has all that another one has.

use super::CoreError;
use super::compatible::{MAX_PAIRS, resolved};
use crate::index::{is_same, without_flavour};
use crate::{Btf, Composite, Enum, MAX_RESOLVE_DEPTH, Member, NameOff, Type, TypeId};

/// A comparison of types of two sets of types.
pub(super) struct Matching<'a> {
    local: &'a Btf,
    target: &'a Btf,
    root: TypeId,
    /// How many more pairs of types may be compared.
    pairs: usize,
}

impl<'a> Matching<'a> {
    pub(super) fn new(local: &'a Btf, root: TypeId, target: &'a Btf) -> Self {
        Self { local, target, root, pairs: MAX_PAIRS }
    }

    /// Whether `target` has all that the root type has: every member and enumerator by name, and the
    /// same width and sign of integers and length of arrays. Of what is behind a pointer, the name is enough.
    pub(super) fn matches(&mut self, target: TypeId) -> Result<bool, CoreError> {
        self.pair(self.root, target, false, 0)
    }

    /// The depth of the calls is limited, since types may refer to themselves.
    fn pair(
        &mut self,
        local: TypeId,
        target: TypeId,
        behind_pointer: bool,
        depth: usize,
    ) -> Result<bool, CoreError> {
        if depth > MAX_RESOLVE_DEPTH || self.pairs == 0 {
            return Err(CoreError::TooDeep { root: self.root });
        }
        self.pairs -= 1;
        let depth = depth + 1;
        let (a, b) = (resolved(self.local, local)?, resolved(self.target, target)?);
        if !self.are_names_same(a.name(), b.name()) {
            return Ok(false);
        }
        Ok(match (a, b) {
            (Type::Void, Type::Void) | (Type::Float { .. }, Type::Float { .. }) => true,
            (Type::Int(a), Type::Int(b)) => (a.size, a.signed) == (b.size, b.signed),
            (Type::Ptr(a), Type::Ptr(b)) => return self.pair(*a, *b, true, depth),
            (Type::Array(a), Type::Array(b)) if a.len == b.len => {
                return self.pair(a.element, b.element, behind_pointer, depth);
            }
            (Type::Enum(a) | Type::Enum64(a), Type::Enum(b) | Type::Enum64(b)) => {
                a.size == b.size && self.has_enumerators(a, b)
            }
            _ if behind_pointer && is_tagged(a) && is_tagged(b) => {
                is_same(a.kind(), b.kind()) || is_union(a) == is_union(b)
            }
            (Type::Struct(a), Type::Struct(b)) | (Type::Union(a), Type::Union(b)) => {
                return self.has_members(a, b, behind_pointer, depth);
            }
            (Type::FuncProto(a), Type::FuncProto(b)) if a.params.len() == b.params.len() => {
                for (a, b) in a.params.iter().zip(&b.params) {
                    if !self.pair(a.ty, b.ty, behind_pointer, depth)? {
                        return Ok(false);
                    }
                }
                return self.pair(a.ret, b.ret, behind_pointer, depth);
            }
            _ => false,
        })
    }

    fn has_members(
        &mut self,
        local: &Composite,
        target: &Composite,
        behind_pointer: bool,
        depth: usize,
    ) -> Result<bool, CoreError> {
        for wanted in &local.members {
            if !self.has_member(wanted, target, behind_pointer, depth)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn has_member(
        &mut self,
        wanted: &Member,
        target: &Composite,
        behind_pointer: bool,
        depth: usize,
    ) -> Result<bool, CoreError> {
        for member in &target.members {
            if self.are_names_same(wanted.name, member.name)
                && self.pair(wanted.ty, member.ty, behind_pointer, depth)?
            {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn has_enumerators(&self, local: &Enum, target: &Enum) -> bool {
        local.values.iter().all(|wanted| {
            target.values.iter().any(|value| self.are_names_same(wanted.name, value.name))
        })
    }

    fn are_names_same(&self, local: NameOff, target: NameOff) -> bool {
        without_flavour(self.local.name(local)) == without_flavour(self.target.name(target))
    }
}

/// Whether it is a struct or a union, or a declaration of one.
fn is_tagged(ty: &Type) -> bool {
    matches!(ty, Type::Struct(_) | Type::Union(_) | Type::Fwd { .. })
}

fn is_union(ty: &Type) -> bool {
    matches!(ty, Type::Union(_) | Type::Fwd { is_union: true, .. })
}

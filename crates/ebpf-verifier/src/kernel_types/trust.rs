//! How far pointers to structures of the kernel can be relied on.

use alloc::format;

use ebpf_btf::{Type, TypeId, TypeIndex};

use super::walk::{Pointed, Tag};

/// How far a pointer to a structure of the kernel can be relied on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trust {
    /// As old programs have it: not null when the program got it, if anybody knows. Helpers take it.
    Plain,
    /// It is there as long as the program runs.
    Trusted,
    /// It is there as long as what it was loaded in the protection of.
    Rcu,
    /// It may be anything.
    Untrusted,
}

impl Trust {
    /// What messages call such a pointer, before the name of the structure.
    pub(crate) const fn name(self, may_be_null: bool) -> &'static str {
        match (self, may_be_null) {
            (Self::Plain, false) => "ptr_",
            (Self::Plain, true) => "ptr_or_null_",
            (Self::Trusted, false) => "trusted_ptr_",
            (Self::Trusted, true) => "trusted_ptr_or_null_",
            (Self::Rcu, false) => "rcu_ptr_",
            (Self::Rcu, true) => "rcu_ptr_or_null_",
            (Self::Untrusted, false) => "untrusted_ptr_",
            (Self::Untrusted, true) => "untrusted_ptr_or_null_",
        }
    }

    /// Whether helpers take it for a structure.
    pub(crate) const fn is_for_helpers(self) -> bool {
        matches!(self, Self::Plain | Self::Trusted | Self::Rcu)
    }
}

/// The pointer that a structure is reached through.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Parent {
    pub(crate) ty: TypeId,
    pub(crate) trust: Trust,
    pub(crate) is_acquired: bool,
    /// Whether what RCU protects stays there.
    pub(crate) in_rcu: bool,
}

/// How far a pointer can be relied on that was loaded from a structure, and whether it may be null; `None`
/// if that is not known.
pub(crate) fn behind(
    types: &TypeIndex,
    parent: Parent,
    found: &Pointed<'_>,
) -> Option<(Trust, bool)> {
    let is_listed = |list| is_listed(types, parent.ty, found, list);
    let relies = parent.is_acquired || matches!(parent.trust, Trust::Trusted | Trust::Rcu);
    let in_union = found.in_union;
    let only = |trust, may_be_null| (!in_union).then_some((trust, may_be_null));
    match parent.trust {
        Trust::Untrusted => return Some((Trust::Untrusted, false)),
        _ if !relies => {}
        _ if is_listed("__safe_trusted") => {
            return only(Trust::Trusted, false).filter(|_| found.tag.is_none());
        }
        _ if is_listed("__safe_trusted_or_null") => {
            return only(Trust::Trusted, true).filter(|_| found.tag.is_none());
        }
        _ if !parent.in_rcu => return Some((Trust::Untrusted, false)),
        _ if is_listed("__safe_rcu") => {
            return only(Trust::Rcu, false).filter(|_| matches!(found.tag, None | Some(Tag::Rcu)));
        }
        _ if is_listed("__safe_rcu_or_null") => {
            return Some((Trust::Rcu, true)).filter(|_| matches!(found.tag, None | Some(Tag::Rcu)));
        }
        _ if found.tag == Some(Tag::Rcu) => return only(Trust::Rcu, true),
        _ => {}
    }
    match found.tag {
        // Addresses of a process, and of what each processor has one of.
        Some(Tag::User | Tag::PerCpu) => None,
        Some(Tag::Rcu) | None if in_union => Some((Trust::Untrusted, false)),
        Some(Tag::Rcu) | None => Some((Trust::Plain, false)),
    }
}

/// The longest name of a list, with the zero at its end.
const LIST_NAME_BYTES: usize = 64;

/// Whether the kernel lists a member, with its type, among those of a structure that can be relied on: its
/// types have structures `NAME__safe_trusted` and the like for that.
fn is_listed(types: &TypeIndex, structure: TypeId, found: &Pointed<'_>, list: &str) -> bool {
    let btf = types.btf();
    let Ok(walked) = btf.type_by_id(structure) else { return false };
    let name = format!("{}{list}", btf.name(walked.name()));
    if name.len() >= LIST_NAME_BYTES {
        return false;
    }
    let listed = types.find(walked.kind(), &name);
    let Some(members) = listed.and_then(|id| btf.members(id).ok()) else {
        return false;
    };
    members.iter().any(|member| {
        let Ok(Type::Ptr(to)) = btf.type_by_id(member.ty) else { return false };
        btf.resolve(*to) == Ok(found.to) && btf.name(member.name) == found.member
    })
}

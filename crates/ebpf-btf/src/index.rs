//! Types by name.

use alloc::vec::Vec;

use crate::{Btf, Kind, TypeId};

/// The types of a kernel, to be found by name.
///
/// Names are compared without their *flavour*, what follows `___`: programs have definitions of one
/// type of several kernels as `task_struct___old` and `task_struct___new`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TypeIndex {
    btf: Btf,
    /// The types that have names, by these, and by id where names are the same.
    by_name: Vec<TypeId>,
}

impl TypeIndex {
    /// Sorts the types by name.
    #[must_use]
    pub fn new(btf: Btf) -> Self {
        let name = |&id: &TypeId| without_flavour(btf.type_name(id));
        let mut by_name: Vec<TypeId> =
            btf.types().map(|(id, _)| id).filter(|id| !name(id).is_empty()).collect();
        by_name.sort_by(|a, b| name(a).cmp(name(b)).then(a.cmp(b)));
        Self { btf, by_name }
    }

    /// The types.
    #[must_use]
    pub fn btf(&self) -> &Btf {
        &self.btf
    }

    /// The first type of exactly this kind and name.
    #[must_use]
    pub fn find(&self, kind: Kind, name: &str) -> Option<TypeId> {
        let is_it = |&id: &TypeId| {
            self.btf.type_name(id) == name
                && self.btf.type_by_id(id).is_ok_and(|ty| ty.kind() == kind)
        };
        self.named(kind, name).find(is_it)
    }

    /// The types of this kind and name, whatever their flavours. The two kinds of enums count as one.
    pub(crate) fn named(&self, kind: Kind, name: &str) -> impl Iterator<Item = TypeId> {
        let wanted = without_flavour(name);
        let name = |id: TypeId| without_flavour(self.btf.type_name(id));
        let start = self.by_name.partition_point(|&id| name(id) < wanted);
        let candidates = self.by_name[start..].iter().copied();
        candidates
            .take_while(move |&id| name(id) == wanted)
            .filter(move |&id| self.btf.type_by_id(id).is_ok_and(|ty| is_same(ty.kind(), kind)))
    }
}

/// Whether kinds are the same, but for the size of enums.
pub(crate) fn is_same(a: Kind, b: Kind) -> bool {
    let is_enum = |kind| matches!(kind, Kind::Enum | Kind::Enum64);
    a == b || (is_enum(a) && is_enum(b))
}

/// A name up to its last `___` that stands between other characters.
pub(crate) fn without_flavour(name: &str) -> &str {
    let bytes = name.as_bytes();
    let separates = |at: &usize| {
        let around = &bytes[*at..*at + 5];
        around[0] != b'_' && &around[1..4] == b"___" && around[4] != b'_'
    };
    match (0..bytes.len().saturating_sub(4)).rev().find(separates) {
        Some(at) => name.get(..at + 1).unwrap_or(name),
        None => name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Blob, NO_FLAG};

    #[test]
    fn flavours_are_what_follows_three_underscores() {
        let names = [
            ("task_struct", "task_struct"),
            ("task_struct___old", "task_struct"),
            ("a___b___c", "a___b"),
            ("a____b", "a____b"),
            ("___b", "___b"),
            ("a___", "a___"),
            ("é___b", "é"),
        ];
        for (name, essential) in names {
            assert_eq!(without_flavour(name), essential, "{name}");
        }
    }

    #[test]
    fn types_are_found_by_name_and_kind() {
        let mut blob = Blob::new();
        blob.int(); // 1
        blob.ty("s", 4, NO_FLAG, 0, 4, &[]); // 2
        blob.ty("s___x", 4, NO_FLAG, 0, 8, &[]); // 3
        blob.ty("s", 5, NO_FLAG, 0, 8, &[]); // 4
        blob.ty("e", 6, NO_FLAG, 0, 4, &[]); // 5
        blob.ty("", 4, NO_FLAG, 0, 4, &[]); // 6
        let index = TypeIndex::new(Btf::parse(&blob.finish()).unwrap());
        let named = |kind, name| index.named(kind, name).map(|id| id.0).collect::<Vec<_>>();
        assert_eq!(named(Kind::Struct, "s"), [2, 3]);
        assert_eq!(named(Kind::Struct, "s___y"), [2, 3]);
        assert_eq!(named(Kind::Union, "s"), [4]);
        assert_eq!(named(Kind::Enum64, "e"), [5]);
        assert_eq!(named(Kind::Struct, "t"), []);
        assert_eq!(named(Kind::Int, "int"), [1]);
        let find = |kind, name| index.find(kind, name).map(|id| id.0);
        assert_eq!(find(Kind::Struct, "s"), Some(2));
        assert_eq!(find(Kind::Struct, "s___x"), Some(3));
        assert_eq!(find(Kind::Struct, "s___y"), None);
        assert_eq!(find(Kind::Enum64, "e"), None);
    }
}

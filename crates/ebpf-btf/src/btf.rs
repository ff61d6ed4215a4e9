//! Looking types up.

use alloc::boxed::Box;
use alloc::vec::Vec;

use crate::reader::Strings;
use crate::{Array, BtfError, FuncProto, Kind, Linkage, Member, NameOff, Type, TypeId};

/// How many references [`Btf::resolve`] and [`Btf::size_of`] follow. The kernel's limit; a cycle
/// ends there too.
pub const MAX_RESOLVE_DEPTH: usize = 32;
/// Bytes of a pointer in BPF's memory layout.
pub const POINTER_SIZE: u32 = 8;

/// The types of one object or kernel.
///
/// Made by [`Btf::parse`]; every type id and name in it refers to something in it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Btf {
    /// Indexed by type id; the first is [`Type::Void`].
    types: Vec<Type>,
    /// The string section; it starts and ends with a zero byte.
    strings: Box<str>,
}

impl Btf {
    pub(crate) fn new(types: Vec<Type>, strings: Box<str>) -> Self {
        Self { types, strings }
    }

    /// Gives a function the linkage of one that no other object sees. What is no function stays as it
    /// is.
    pub fn make_static(&mut self, id: TypeId) {
        if let Some(Type::Func(func)) = self.types.get_mut(id.0 as usize) {
            func.linkage = Linkage::Static;
        }
    }

    pub(crate) fn strings(&self) -> Strings<'_> {
        Strings(&self.strings)
    }

    /// Every type with its id, in order, from `void` on.
    pub fn types(&self) -> impl ExactSizeIterator<Item = (TypeId, &Type)> {
        self.types.iter().enumerate().map(|(index, ty)| (TypeId(index as u32), ty))
    }

    /// The type with this id.
    ///
    /// # Errors
    /// [`BtfError::NoSuchType`].
    pub fn type_by_id(&self, id: TypeId) -> Result<&Type, BtfError> {
        self.types.get(id.0 as usize).ok_or(BtfError::NoSuchType { id })
    }

    /// The text of a name, cut at [`MAX_STRING_LEN`](crate::MAX_STRING_LEN) bytes. A name of
    /// another `Btf` gives some other text, or none.
    pub fn name(&self, name: NameOff) -> &str {
        self.strings().get(name).unwrap_or_default()
    }

    /// The name of a type; empty where it has none or there is no such type.
    pub fn type_name(&self, id: TypeId) -> &str {
        self.types.get(id.0 as usize).map_or("", |ty| self.name(ty.name()))
    }

    /// The first type of this kind and name. Takes time linear in the number of types.
    pub fn find_by_name(&self, kind: Kind, name: &str) -> Option<TypeId> {
        self.types()
            .find(|(_, ty)| ty.kind() == kind && self.name(ty.name()) == name)
            .map(|(id, _)| id)
    }

    /// The type behind typedefs, qualifiers and type tags.
    ///
    /// # Errors
    /// [`BtfError::NoSuchType`]; [`BtfError::TooDeep`] beyond [`MAX_RESOLVE_DEPTH`].
    pub fn resolve(&self, id: TypeId) -> Result<TypeId, BtfError> {
        let mut at = id;
        for _ in 0..=MAX_RESOLVE_DEPTH {
            match self.type_by_id(at)?.modified() {
                Some(target) => at = target,
                None => return Ok(at),
            }
        }
        Err(BtfError::TooDeep { id, limit: MAX_RESOLVE_DEPTH })
    }

    /// Bytes that a value of the type takes in memory.
    ///
    /// # Errors
    /// [`BtfError::WrongKind`] for what has no size (`void`, functions, forward declarations, tags on declarations);
    /// [`BtfError::SizeOverflow`], [`BtfError::TooDeep`], [`BtfError::NoSuchType`].
    pub fn size_of(&self, id: TypeId) -> Result<u32, BtfError> {
        let mut at = id;
        let mut elements = 1u32;
        for _ in 0..=MAX_RESOLVE_DEPTH {
            let ty = self.type_by_id(at)?;
            let size = match ty {
                Type::Ptr(_) => POINTER_SIZE,
                Type::Int(int) => int.size,
                Type::Struct(composite) | Type::Union(composite) => composite.size,
                Type::Enum(of) | Type::Enum64(of) if of.size != 0 => of.size,
                Type::Float { size, .. } | Type::Datasec { size, .. } => *size,
                Type::Array(Array { element, len, .. }) => {
                    elements = elements.checked_mul(*len).ok_or(BtfError::SizeOverflow { id })?;
                    at = *element;
                    continue;
                }
                Type::Var(var) => {
                    at = var.ty;
                    continue;
                }
                _ => {
                    at = ty.modified().ok_or(wrong_kind(at, "a type with a size", ty))?;
                    continue;
                }
            };
            return size.checked_mul(elements).ok_or(BtfError::SizeOverflow { id });
        }
        Err(BtfError::TooDeep { id, limit: MAX_RESOLVE_DEPTH })
    }

    /// The members of a struct or union, seen through typedefs and qualifiers.
    ///
    /// # Errors
    /// [`BtfError::WrongKind`] for any other type, and those of [`Btf::resolve`].
    pub fn members(&self, id: TypeId) -> Result<&[Member], BtfError> {
        let id = self.resolve(id)?;
        match self.type_by_id(id)? {
            Type::Struct(composite) | Type::Union(composite) => Ok(&composite.members),
            ty => Err(wrong_kind(id, "a struct or union", ty)),
        }
    }

    /// The prototype of a function, or the prototype with this id.
    ///
    /// # Errors
    /// [`BtfError::WrongKind`] for any other type, also for a function whose prototype is none;
    /// [`BtfError::NoSuchType`].
    pub fn func_proto(&self, id: TypeId) -> Result<&FuncProto, BtfError> {
        let (id, ty) = match self.type_by_id(id)? {
            Type::Func(func) => (func.proto, self.type_by_id(func.proto)?),
            ty => (id, ty),
        };
        match ty {
            Type::FuncProto(proto) => Ok(proto),
            ty => Err(wrong_kind(id, "a function or its prototype", ty)),
        }
    }
}

pub(crate) fn wrong_kind(id: TypeId, expected: &'static str, found: &Type) -> BtfError {
    BtfError::WrongKind { id, expected, found: found.kind() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Blob, NO_FLAG};

    fn parse(blob: &Blob) -> Btf {
        Btf::parse(&blob.finish()).unwrap()
    }

    /// `count` typedefs in a chain, each of the next, the last one of `last`; ids from 2 on, after
    /// an `int`.
    fn chain(count: u32, last: u32) -> Btf {
        let mut blob = Blob::new();
        blob.int();
        for id in 2..2 + count {
            let target = if id == 1 + count { last } else { id + 1 };
            blob.ty("t", 8, NO_FLAG, 0, target, &[]);
        }
        parse(&blob)
    }

    #[test]
    fn names_are_found_by_kind() {
        let mut blob = Blob::new();
        blob.int();
        blob.ty("list", 8, NO_FLAG, 0, 3, &[]);
        blob.ty("list", 4, NO_FLAG, 0, 16, &[]);
        blob.ty("list", 4, NO_FLAG, 0, 24, &[]);
        let btf = parse(&blob);
        assert_eq!(btf.find_by_name(Kind::Struct, "list"), Some(TypeId(3)));
        assert_eq!(btf.find_by_name(Kind::Typedef, "list"), Some(TypeId(2)));
        assert_eq!(btf.find_by_name(Kind::Union, "list"), None);
        assert_eq!(btf.find_by_name(Kind::Struct, "lis"), None);
        assert_eq!(
            (btf.type_name(TypeId(1)), btf.type_name(TypeId::VOID), btf.type_name(TypeId(9))),
            ("int", "", "")
        );
    }

    #[test]
    fn modifiers_are_skipped_up_to_the_limit() {
        let limit = MAX_RESOLVE_DEPTH as u32;
        assert_eq!(chain(limit, 1).resolve(TypeId(2)), Ok(TypeId(1)));
        let id = TypeId(2);
        let too_deep = BtfError::TooDeep { id, limit: MAX_RESOLVE_DEPTH };
        assert_eq!(chain(limit + 1, 1).resolve(id), Err(too_deep.clone()));
        // A cycle of two typedefs.
        let cycle = chain(2, 2);
        assert_eq!(cycle.resolve(id), Err(too_deep.clone()));
        assert_eq!(cycle.size_of(id), Err(too_deep.clone()));
        assert_eq!(cycle.members(id), Err(too_deep));
        assert_eq!(cycle.resolve(TypeId(4)), Err(BtfError::NoSuchType { id: TypeId(4) }));
    }

    #[test]
    fn sizes_follow_arrays_and_variables() {
        let mut blob = Blob::new();
        blob.int(); // 1
        blob.ty("s", 4, NO_FLAG, 0, 12, &[]); // 2
        blob.ty("", 3, NO_FLAG, 0, 0, &[2, 1, 5]); // 3: struct s[5]
        blob.ty("", 10, NO_FLAG, 0, 3, &[]); // 4
        blob.ty("", 3, NO_FLAG, 0, 0, &[4, 1, 3]); // 5: const struct s[3][5]
        blob.ty("v", 14, NO_FLAG, 0, 5, &[0]); // 6
        blob.ty("", 2, NO_FLAG, 0, 5, &[]); // 7
        blob.ty("", 3, NO_FLAG, 0, 0, &[7, 1, 1 << 29]); // 8: 2^29 pointers
        blob.ty("", 3, NO_FLAG, 0, 0, &[8, 1, 8]); // 9: the count alone reaches 2^32
        blob.ty("", 3, NO_FLAG, 0, 0, &[10, 1, 1]); // 10: an array of itself
        blob.ty("", 13, NO_FLAG, 0, 0, &[]); // 11
        blob.ty("", 9, NO_FLAG, 0, 11, &[]); // 12
        blob.ty("", 3, NO_FLAG, 0, 0, &[2, 1, 0]); // 13: struct s[]
        blob.ty("later", 6, NO_FLAG, 0, 0, &[]); // 14: enum later;
        let btf = parse(&blob);
        let size = |id| btf.size_of(TypeId(id));
        assert_eq!([1, 2, 3, 4, 5, 6, 7, 13].map(size), [4, 12, 60, 60, 180, 180, 8, 0].map(Ok));
        assert_eq!(size(8), Err(BtfError::SizeOverflow { id: TypeId(8) }));
        assert_eq!(size(9), Err(BtfError::SizeOverflow { id: TypeId(9) }));
        assert_eq!(size(10), Err(BtfError::TooDeep { id: TypeId(10), limit: MAX_RESOLVE_DEPTH }));
        let no_size = |id, found| {
            Err(BtfError::WrongKind { id: TypeId(id), expected: "a type with a size", found })
        };
        assert_eq!(size(14), no_size(14, Kind::Enum));
        assert_eq!(size(0), no_size(0, Kind::Void));
        assert_eq!(size(12), no_size(11, Kind::FuncProto));
    }

    #[test]
    fn members_and_prototypes_ask_for_the_right_kind() {
        let mut blob = Blob::new();
        blob.int(); // 1
        let a = blob.name("a");
        blob.ty("u", 5, NO_FLAG, 1, 4, &[a, 1, 0]); // 2
        blob.ty("u_t", 8, NO_FLAG, 0, 2, &[]); // 3
        blob.ty("", 13, NO_FLAG, 1, 1, &[a, 1]); // 4
        blob.ty("f", 12, NO_FLAG, 0, 4, &[]); // 5
        blob.ty("g", 12, NO_FLAG, 0, 1, &[]); // 6: a function whose prototype is an integer
        let btf = parse(&blob);
        assert_eq!(btf.members(TypeId(3)).unwrap().len(), 1);
        assert_eq!(btf.name(btf.members(TypeId(2)).unwrap()[0].name), "a");
        let wrong = |id, expected, found| BtfError::WrongKind { id: TypeId(id), expected, found };
        assert_eq!(btf.members(TypeId(4)), Err(wrong(4, "a struct or union", Kind::FuncProto)));
        assert_eq!(btf.func_proto(TypeId(5)), btf.func_proto(TypeId(4)));
        assert_eq!(btf.func_proto(TypeId(5)).unwrap().params.len(), 1);
        assert_eq!(
            btf.func_proto(TypeId(6)),
            Err(wrong(1, "a function or its prototype", Kind::Int))
        );
    }
}

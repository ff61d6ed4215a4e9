//! Accesses: from a type through members and elements to a place in it.
//!
//! `0:1:2` means: of the first of an array of the root type, member 1; of that, member 2 or element
//! 2, by its type.

use alloc::collections::BTreeSet;
use alloc::vec;
use alloc::vec::Vec;

use super::CoreError;
use super::compatible::are_fields_compatible;
use crate::{Array, Btf, Composite, Member, Type, TypeId};

/// The most parts of an access.
const MAX_PARTS: usize = 64;

/// The numbers of an access.
pub(super) fn parse(text: &str) -> Option<Vec<u32>> {
    let parts: Option<Vec<u32>> =
        text.split(':').take(MAX_PARTS + 1).map(|part| part.parse().ok()).collect();
    parts.filter(|parts| parts.len() <= MAX_PARTS)
}

/// What an access leads to.
#[derive(Debug, Clone, Copy)]
pub(super) enum Leaf {
    /// The whole, or an element of an array.
    Whole(TypeId),
    /// A member, and whether it is the last one.
    Member(Member, bool),
}

/// A place in a type.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    /// Bits from the start.
    pub(super) bits: u64,
    pub(super) leaf: Leaf,
}

impl Place {
    /// The start of a type.
    fn start(root: TypeId) -> Self {
        Self { bits: 0, leaf: Leaf::Whole(root) }
    }

    pub(super) fn ty(&self) -> TypeId {
        match self.leaf {
            Leaf::Whole(ty) => ty,
            Leaf::Member(member, _) => member.ty,
        }
    }

    fn member(&self, of: &Composite, index: usize) -> Option<Self> {
        let member = *of.members.get(index)?;
        let bits = self.bits.checked_add(member.bit_offset.into())?;
        let is_last = index + 1 == of.members.len();
        Some(Self { bits, leaf: Leaf::Member(member, is_last) })
    }

    /// Whether an array at this place has such an element. One of no length at the end of a struct has
    /// as many as there is room for.
    fn has_element(&self, array: &Array, index: u32) -> bool {
        index < array.len || (array.len == 0 && matches!(self.leaf, Leaf::Member(_, true)))
    }

    /// So many times the size of `ty` further on.
    fn element(&self, btf: &Btf, ty: TypeId, index: u32) -> Result<Option<Self>, CoreError> {
        let bytes = u64::from(btf.size_of(ty)?) * u64::from(index);
        let bits = bytes.checked_mul(8).and_then(|bits| self.bits.checked_add(bits));
        Ok(bits.map(|bits| Self { bits, leaf: Leaf::Whole(ty) }))
    }
}

/// A part of an access, as it is looked for elsewhere. Members without name are not looked for: those
/// in them are.
#[derive(Debug, Clone, Copy)]
pub(super) enum Part {
    /// An element; the first part is one of an array of the root type.
    Element(u32),
    Member(Member),
}

/// Follows an access in the types that it was compiled with.
pub(super) fn follow(
    btf: &Btf,
    root: TypeId,
    indices: &[u32],
) -> Result<Option<(Vec<Part>, Place)>, CoreError> {
    let Some((&first, rest)) = indices.split_first() else { return Ok(None) };
    let mut parts = vec![Part::Element(first)];
    let Some(mut place) = Place::start(root).element(btf, root, first)? else { return Ok(None) };
    for &index in rest {
        let next = match btf.type_by_id(btf.resolve(place.ty())?)? {
            Type::Struct(composite) | Type::Union(composite) => {
                let Some(member) = composite.members.get(index as usize) else { return Ok(None) };
                if !btf.name(member.name).is_empty() {
                    parts.push(Part::Member(*member));
                }
                place.member(composite, index as usize)
            }
            Type::Array(array) => {
                if !place.has_element(array, index) {
                    return Ok(None);
                }
                parts.push(Part::Element(index));
                place.element(btf, array.element, index)?
            }
            _ => return Ok(None),
        };
        let Some(next) = next else { return Ok(None) };
        place = next;
    }
    Ok(Some((parts, place)))
}

/// Follows the parts of an access in another type; `None` if it has no such place.
pub(super) fn find(
    local: &Btf,
    parts: &[Part],
    target: &Btf,
    root: TypeId,
) -> Result<Option<Place>, CoreError> {
    let mut place = Place::start(root);
    for (at, part) in parts.iter().enumerate() {
        let ty = target.resolve(place.ty())?;
        let next = match (part, target.type_by_id(ty)?) {
            (&Part::Element(index), _) if at == 0 => place.element(target, root, index)?,
            (&Part::Element(index), Type::Array(array)) if place.has_element(array, index) => {
                place.element(target, array.element, index)?
            }
            (Part::Member(wanted), Type::Struct(composite) | Type::Union(composite)) => {
                match member(target, composite, place, local.name(wanted.name))? {
                    Some(found) if are_fields_compatible(local, wanted.ty, target, found.ty())? => {
                        Some(found)
                    }
                    _ => None,
                }
            }
            _ => None,
        };
        let Some(next) = next else { return Ok(None) };
        place = next;
    }
    Ok(Some(place))
}

/// The member of this name, also inside of members without name.
fn member(
    btf: &Btf,
    composite: &Composite,
    start: Place,
    name: &str,
) -> Result<Option<Place>, CoreError> {
    // Types that do not have it need not be searched again.
    let mut searched = BTreeSet::new();
    let mut pending = vec![(start, composite, 0)];
    while let Some((place, composite, next)) = pending.last_mut() {
        let Some(member) = composite.members.get(*next) else {
            pending.pop();
            continue;
        };
        let inner = place.member(composite, *next);
        *next += 1;
        let Some(inner) = inner else { continue };
        let member_name = btf.name(member.name);
        if member_name == name {
            return Ok(Some(inner));
        }
        if !member_name.is_empty() {
            continue;
        }
        let ty = btf.resolve(member.ty)?;
        if let Type::Struct(composite) | Type::Union(composite) = btf.type_by_id(ty)?
            && searched.insert(ty)
        {
            pending.push((inner, composite, 0));
        }
    }
    Ok(None)
}

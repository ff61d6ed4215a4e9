//! What is at an offset in a structure of the kernel.

use ebpf_btf::{Btf, MAX_RESOLVE_DEPTH, Member, Type, TypeId};

use crate::error::WalkFault;

/// What a load from a structure finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Found<'a> {
    /// A number, or some bytes.
    Bytes,
    /// A pointer to a structure.
    Structure(Pointed<'a>),
    /// A pointer to something else.
    Pointer,
}

/// A member that points to a structure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pointed<'a> {
    /// The member's name.
    pub(crate) member: &'a str,
    /// The structure.
    pub(crate) to: TypeId,
    pub(crate) tag: Option<Tag>,
    /// Whether the way to the member leads through a union of several members.
    pub(crate) in_union: bool,
}

/// What the kernel's source says of a pointer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tag {
    /// `__rcu`
    Rcu,
    /// `__user`
    User,
    /// `__percpu`
    PerCpu,
}

impl Tag {
    /// The tag of what a pointer points to, if it has one that means something.
    pub(crate) fn of(btf: &Btf, pointee: TypeId) -> Option<Self> {
        let Ok(Type::TypeTag { name, .. }) = btf.type_by_id(pointee) else { return None };
        match btf.name(*name) {
            "rcu" => Some(Self::Rcu),
            "user" => Some(Self::User),
            "percpu" => Some(Self::PerCpu),
            _ => None,
        }
    }
}

/// Why there is no answer.
#[derive(Debug)]
pub(crate) enum Stuck {
    /// The kernel refuses the access.
    Fault(WalkFault),
    /// The types are not sensible.
    Unknown,
}

/// What a walk comes to.
enum Step<'a> {
    Found(Found<'a>),
    /// A structure that starts where the access does.
    Starts(TypeId),
    /// The inside of a structure, at this offset.
    Inside(TypeId, u32),
}

/// A walk down to what is accessed.
struct Walk<'a> {
    btf: &'a Btf,
    size: u32,
    /// Whether what is behind a structure may be elements of its flexible array.
    goes_on: bool,
    in_union: bool,
}

/// What `size` bytes at an offset in a structure are.
pub(crate) fn walk(btf: &Btf, structure: TypeId, off: u32, size: u32) -> Result<Found<'_>, Stuck> {
    let mut walk = Walk { btf, size, goes_on: true, in_union: false };
    let (mut at, mut off) = (structure, off);
    for _ in 0..MAX_RESOLVE_DEPTH {
        (at, off) = match walk.step(at, off)? {
            Step::Found(found) => return Ok(found),
            Step::Starts(inner) => (inner, 0),
            Step::Inside(inner, within) => (inner, within),
        };
    }
    Err(Stuck::Unknown)
}

/// Whether what is at an offset in a structure is one of the type `wanted`: itself, or a part of it.
pub(crate) fn is_at(btf: &Btf, structure: TypeId, off: u32, wanted: TypeId) -> bool {
    if off == 0 && structure == wanted {
        return true;
    }
    let mut walk = Walk { btf, size: 1, goes_on: false, in_union: false };
    let (mut at, mut off) = (structure, off);
    for _ in 0..MAX_RESOLVE_DEPTH {
        (at, off) = match walk.step(at, off) {
            Ok(Step::Starts(inner)) if inner == wanted => return true,
            Ok(Step::Starts(inner)) => (inner, 0),
            Ok(Step::Inside(inner, within)) => (inner, within),
            Ok(Step::Found(_)) | Err(_) => return false,
        };
    }
    false
}

/// A member without its modifiers: where it is, and if it is an array its elements.
struct Place<'a> {
    name: &'a str,
    ty: &'a Type,
    /// The type as the member or the array names it.
    id: TypeId,
    start: u32,
    /// Size of an element, or of the member.
    size: u32,
    end: u32,
}

impl<'a> Walk<'a> {
    /// One structure further.
    fn step(&mut self, structure: TypeId, off: u32) -> Result<Step<'a>, Stuck> {
        let (btf, size) = (self.btf, self.size);
        let composite = match type_of(btf, structure)? {
            Type::Struct(composite) => composite,
            Type::Union(composite) => {
                self.in_union |= composite.members.len() != 1;
                composite
            }
            _ => return Err(Stuck::Unknown),
        };
        let name = btf.name(composite.name);
        let end = off.checked_add(size).ok_or(Stuck::Unknown)?;
        if end > composite.size {
            let beyond = WalkFault::Beyond { structure: name.into(), off, size };
            let element = self.flexible(&composite.members, off)?.filter(|_| self.goes_on);
            return element.ok_or(Stuck::Fault(beyond));
        }
        for member in &composite.members {
            let start = member.bit_offset / 8;
            if end <= start {
                break;
            }
            if let Some(bits) = member.bitfield_bits {
                let last = (member.bit_offset + u32::from(bits)).div_ceil(8);
                if off <= start && last <= end {
                    return Ok(Step::Found(Found::Bytes));
                }
                continue;
            }
            if off < start {
                break;
            }
            let place = self.place(member, off)?;
            if off < place.end {
                return self.enter(name, &place, off);
            }
        }
        Err(Stuck::Fault(WalkFault::NoMember { structure: name.into(), off }))
    }

    /// What an access behind a structure finds in the flexible array at its end, if it has one of
    /// integers or structures.
    fn flexible(&self, members: &[Member], off: u32) -> Result<Option<Step<'a>>, Stuck> {
        let Some(last) = members.last() else { return Ok(None) };
        let (Type::Array(array), start) = (type_of(self.btf, last.ty)?, last.bit_offset / 8) else {
            return Ok(None);
        };
        if array.len != 0 || off < start {
            return Ok(None);
        }
        Ok(match type_of(self.btf, array.element)? {
            Type::Int(_) => Some(Step::Found(Found::Bytes)),
            Type::Struct(element) | Type::Union(element) if element.size != 0 => {
                Some(Step::Inside(array.element, (off - start) % element.size))
            }
            _ => None,
        })
    }

    /// Where a member is, and the element of it that an offset is in.
    fn place(&self, member: &Member, off: u32) -> Result<Place<'a>, Stuck> {
        let btf = self.btf;
        let (mut id, mut elements, mut is_array) = (member.ty, 1_u32, false);
        for _ in 0..MAX_RESOLVE_DEPTH {
            let ty = btf.type_by_id(id).map_err(|_| Stuck::Unknown)?;
            if let Type::Array(array) = ty {
                elements = elements.checked_mul(array.len).ok_or(Stuck::Unknown)?;
                (id, is_array) = (array.element, true);
                continue;
            }
            if let (Some(target), false) = (ty.modified(), is_array) {
                id = target;
                continue;
            }
            let size = btf.size_of(id).map_err(|_| Stuck::Unknown)?;
            let ty = type_of(btf, id)?;
            if let Type::Array(_) = ty {
                id = btf.resolve(id).map_err(|_| Stuck::Unknown)?;
                continue;
            }
            let whole = size.checked_mul(elements).ok_or(Stuck::Unknown)?;
            let start = member.bit_offset / 8;
            let end = start.checked_add(whole).ok_or(Stuck::Unknown)?;
            let before = (off - start).checked_div(size).unwrap_or(0) * size;
            let start = if is_array { start + before } else { start };
            return Ok(Place { name: btf.name(member.name), ty, id, start, size, end });
        }
        Err(Stuck::Unknown)
    }

    /// What a member is to an access that begins in it.
    fn enter(&self, structure: &'a str, place: &Place<'a>, off: u32) -> Result<Step<'a>, Stuck> {
        let (btf, size) = (self.btf, self.size);
        let &Place { name: member, id, start, end, .. } = place;
        match place.ty {
            Type::Struct(_) | Type::Union(_) if off == start => Ok(Step::Starts(id)),
            Type::Struct(_) | Type::Union(_) => Ok(Step::Inside(id, off - start)),
            Type::Ptr(_) if place.size != size || off != start => {
                let (structure, member) = (structure.into(), member.into());
                Err(Stuck::Fault(WalkFault::Pointer { structure, member, start, off, size }))
            }
            Type::Ptr(to) => Ok(Step::Found(match type_of(btf, *to)? {
                Type::Struct(_) | Type::Union(_) => Found::Structure(Pointed {
                    member,
                    to: btf.resolve(*to).map_err(|_| Stuck::Unknown)?,
                    tag: Tag::of(btf, *to),
                    in_union: self.in_union,
                }),
                _ => Found::Pointer,
            })),
            _ if off + size > end && !self.in_union => {
                let (structure, member) = (structure.into(), member.into());
                Err(Stuck::Fault(WalkFault::Member { structure, member, end, off, size }))
            }
            _ => Ok(Step::Found(Found::Bytes)),
        }
    }
}

/// The type without its modifiers.
fn type_of(btf: &Btf, id: TypeId) -> Result<&Type, Stuck> {
    btf.resolve(id).and_then(|id| btf.type_by_id(id)).map_err(|_| Stuck::Unknown)
}

//! Fields of map values that the kernel guards: locks, timers, pointers to objects of the kernel.

use alloc::vec::Vec;
use core::ops::Range;

use ebpf_btf::{Array, Btf, Composite, Type, TypeId};
use ebpf_isa::uapi::{MapDesc, MapType, map_flags};

use crate::digest::DigestWriter;

/// Structures that the kernel treats as objects of their own inside of a map's value.
const GUARDED: [&str; 10] = [
    "bpf_spin_lock",
    "bpf_res_spin_lock",
    "bpf_timer",
    "bpf_wq",
    "bpf_task_work",
    "bpf_list_head",
    "bpf_list_node",
    "bpf_rb_root",
    "bpf_rb_node",
    "bpf_refcount",
];

/// Tags of pointers that the kernel keeps in maps.
const POINTER_TAGS: [&str; 4] = ["kptr", "kptr_untrusted", "percpu_kptr", "uptr"];

/// More fields than this are not looked at. The kernel's limit is about the same.
const FIELDS_MAX: usize = 10;

/// Structures within structures and arrays of arrays, beyond which nothing is looked at. The kernel
/// goes about as deep.
const DEPTH_MAX: usize = 30;

/// Members that are looked at, of all structures together.
const MEMBERS_MAX: usize = 1 << 14;

/// What kind of field it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum SpecialField {
    /// `struct bpf_spin_lock`.
    SpinLock,
    /// `struct bpf_timer`.
    Timer,
    /// `struct bpf_wq`.
    Workqueue,
    /// A pointer to an object of the kernel (`__kptr` and the like). Whether the kernel takes it for
    /// one depends on its own types.
    Pointer,
}

impl SpecialField {
    /// Those that are structures with a name.
    const STRUCTURES: [Self; 3] = [Self::SpinLock, Self::Timer, Self::Workqueue];

    /// The name of its type, which messages have.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::SpinLock => "bpf_spin_lock",
            Self::Timer => "bpf_timer",
            Self::Workqueue => "bpf_wq",
            Self::Pointer => "kptr",
        }
    }

    /// Its size in bytes.
    #[must_use]
    pub const fn size(self) -> u32 {
        match self {
            Self::SpinLock => 4,
            Self::Timer | Self::Workqueue => 16,
            Self::Pointer => 8,
        }
    }

    const fn alignment(self) -> u32 {
        match self {
            Self::SpinLock => 4,
            Self::Timer | Self::Workqueue | Self::Pointer => 8,
        }
    }

    /// Whether values of such maps may have it.
    const fn may_be_in(self, map_type: MapType) -> bool {
        use MapType::{
            Array, CgroupStorage, Hash, LruHash, LruPercpuHash, PercpuArray, PercpuHash,
        };
        match self {
            Self::SpinLock => matches!(map_type, Hash | Array | CgroupStorage),
            Self::Timer | Self::Workqueue => matches!(map_type, Hash | LruHash | Array),
            Self::Pointer => matches!(
                map_type,
                Hash | Array | LruHash | PercpuHash | PercpuArray | LruPercpuHash
            ),
        }
    }
}

/// A field of a map's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ValueField {
    /// Where it starts, in bytes from the start of the value.
    pub off: u32,
    /// What it is.
    pub kind: SpecialField,
}

impl ValueField {
    pub(crate) const fn bytes(self) -> Range<u32> {
        self.off..self.off.saturating_add(self.kind.size())
    }
}

/// What is known of the guarded fields of a map's values.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum ValueFields {
    /// The map has no types.
    #[default]
    Untyped,
    /// These are there, in order of their places, and no others.
    Known(Vec<ValueField>),
    /// There may be some. Programs with the map are not judged.
    Unknown,
}

impl ValueFields {
    /// The fields of a value of this type and size, as the kernel finds them: structures by their name,
    /// in structures and arrays, not behind qualifiers and typedefs, and not in unions. What it may
    /// refuse, or find broken, is [`ValueFields::Unknown`].
    #[must_use]
    pub fn of(btf: &Btf, value: TypeId, value_size: u32) -> Self {
        let Ok(value) = btf.resolve(value) else {
            return Self::Unknown;
        };
        let mut search =
            Search { btf, found: Vec::new(), is_unclear: false, is_odd: false, members: 0 };
        match btf.type_by_id(value) {
            Ok(Type::Void) => return Self::Untyped,
            Ok(Type::Struct(composite)) => search.structure(composite, 0, 0),
            Ok(Type::Datasec { vars, .. }) => {
                for placed in vars {
                    let Ok(Type::Var(var)) = btf.type_by_id(placed.var) else {
                        return Self::Unknown;
                    };
                    let before = search.found.len();
                    search.field(var.ty, placed.offset, 0);
                    let is_placed = btf.size_of(var.ty) == Ok(placed.size);
                    search.is_unclear |= search.found.len() > before && !is_placed;
                }
            }
            _ => {}
        }
        search.is_unclear |= btf.size_of(value) != Ok(value_size) && !search.found.is_empty();
        search.finish()
    }

    /// All that are known, in order.
    #[must_use]
    pub fn known(&self) -> &[ValueField] {
        match self {
            Self::Known(fields) => fields,
            Self::Untyped | Self::Unknown => &[],
        }
    }

    /// Whether there is no such field for sure.
    #[must_use]
    pub fn are_none(&self) -> bool {
        *self != Self::Unknown && self.known().is_empty()
    }

    /// Where the field of this kind is. The kernel has room for one, but for pointers.
    pub(crate) fn place_of(&self, kind: SpecialField) -> Option<u32> {
        self.known().iter().find(|field| field.kind == kind).map(|field| field.off)
    }

    /// Whether values have a lock, so that each lookup gives an element of its own.
    pub(crate) fn has_lock(&self) -> bool {
        self.place_of(SpecialField::SpinLock).is_some()
    }

    /// Whether there can be a map like this with these fields.
    pub(crate) fn may_be_in(&self, desc: &MapDesc) -> bool {
        let is_open = desc.flags & (map_flags::RDONLY_PROG | map_flags::WRONLY_PROG) == 0;
        self.known().iter().all(|field| {
            let is_inside = field.bytes().end <= desc.value_size;
            is_open && is_inside && field.kind.may_be_in(desc.map_type)
        })
    }

    pub(crate) fn digest(&self, digest: &mut DigestWriter) {
        digest.u32(match self {
            Self::Untyped => 0,
            Self::Known(_) => 1,
            Self::Unknown => 2,
        });
        digest.u64(self.known().len() as u64);
        for field in self.known() {
            digest.u32(field.off);
            digest.u32(field.kind as u32);
        }
    }
}

/// A search for fields in progress.
struct Search<'a> {
    btf: &'a Btf,
    /// In the order in which they were found.
    found: Vec<ValueField>,
    /// Whether there is something that may be a field, or of which it is not known what the kernel
    /// makes of it.
    is_unclear: bool,
    /// Whether there is a member on which the kernel gives up, so that it finds no fields.
    is_odd: bool,
    members: usize,
}

impl Search<'_> {
    fn structure(&mut self, composite: &Composite, off: u32, depth: usize) {
        self.members += composite.members.len();
        if depth > DEPTH_MAX || self.members > MEMBERS_MAX {
            self.is_unclear = true;
            return;
        }
        for member in &composite.members {
            // The kernel gives up at a bit field between bytes.
            self.is_odd |= !member.bit_offset.is_multiple_of(8);
            match off.checked_add(member.bit_offset / 8) {
                Some(at) => self.field(member.ty, at, depth + 1),
                None => self.is_unclear = true,
            }
        }
    }

    /// A variable or member of this type.
    fn field(&mut self, mut ty: TypeId, off: u32, depth: usize) {
        let mut elements = Some(1_u32);
        for _ in 0..DEPTH_MAX {
            let Ok(Type::Array(Array { element, len, .. })) = self.btf.type_by_id(ty) else {
                break;
            };
            elements = elements.and_then(|elements| elements.checked_mul(*len));
            ty = *element;
        }
        if elements == Some(0) {
            return;
        }
        let before = self.found.len();
        match self.btf.type_by_id(ty) {
            Ok(Type::Struct(composite)) if !GUARDED.contains(&self.btf.type_name(ty)) => {
                self.structure(composite, off, depth);
            }
            _ => self.single(ty, off),
        }
        // The kernel takes several elements only of some fields.
        self.is_unclear |= self.found.len() > before && elements != Some(1);
    }

    /// What is not looked into.
    fn single(&mut self, ty: TypeId, off: u32) {
        let name = self.btf.type_name(ty);
        let kind = match self.btf.type_by_id(ty) {
            Ok(Type::Struct(composite)) => {
                let mut known = SpecialField::STRUCTURES.into_iter();
                known.find(|kind| kind.name() == name && kind.size() == composite.size)
            }
            _ if GUARDED.contains(&name) => None,
            Ok(Type::Array(_)) | Err(_) => None,
            // Whatever the pointer itself is qualified by.
            Ok(_) => match self.pointer_tag(ty) {
                Some(tag) if POINTER_TAGS.contains(&tag) => Some(SpecialField::Pointer),
                Some(_) => None,
                None => return,
            },
        };
        match kind.filter(|kind| off.is_multiple_of(kind.alignment())) {
            Some(kind) => self.found.push(ValueField { off, kind }),
            None => self.is_unclear = true,
        }
    }

    /// The tag of what a pointer points to.
    fn pointer_tag(&self, ty: TypeId) -> Option<&str> {
        let Type::Ptr(target) = self.btf.type_by_id(self.btf.resolve(ty).ok()?).ok()? else {
            return None;
        };
        match self.btf.type_by_id(*target).ok()? {
            Type::TypeTag { name, .. } => Some(self.btf.name(*name)),
            _ => None,
        }
    }

    fn finish(self) -> ValueFields {
        let Self { found, is_unclear, is_odd, .. } = self;
        // The kernel takes no fields that overlap, or are in another order.
        let are_apart = found.is_sorted_by(|a, b| a.bytes().end <= b.off);
        let has = |kind| found.iter().filter(|field| field.kind == kind).count();
        let are_single = SpecialField::STRUCTURES.into_iter().all(|kind| has(kind) <= 1);
        // Where the kernel finds that a pointer is none, it finds no fields at all; which matters most of
        // locks.
        let is_settled = has(SpecialField::Pointer) == 0 || has(SpecialField::SpinLock) == 0;
        let fits = found.len() <= FIELDS_MAX && are_apart && are_single && is_settled;
        let is_unclear = is_unclear || (is_odd && !found.is_empty());
        match fits && !is_unclear {
            true => ValueFields::Known(found),
            false => ValueFields::Unknown,
        }
    }
}

#[cfg(test)]
mod tests;

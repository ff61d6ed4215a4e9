//! What a register or a stack slot holds.

use ebpf_btf::TypeId;
use ebpf_isa::{MapIdx, SubprogIdx, Width};

use super::object::{DynptrId, DynptrKind};
use super::refs::RefId;
use crate::domain::Scalar;
use crate::kernel_types::Trust;
use crate::rules::Object;

/// Ties together registers that hold the same number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ScalarId(pub(crate) u32);

/// Ties together the copies of a pointer that may be null.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NullId(pub(crate) u32);

/// Ties together the pointers to an element that one lookup gave, of a map whose elements have locks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ElementId(pub(crate) u32);

/// Ties together the packet pointers that share a variable offset; 0 is the packet's start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PacketId(pub(crate) u32);

impl PacketId {
    pub(crate) const START: Self = Self(0);
}

/// A type of objects that programs cannot look into, by its place among those of the environment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct OpaqueId(pub(crate) u32);

/// The content of a register.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Value {
    /// Never written, or destroyed by a call.
    Uninit,
    /// A number.
    Scalar(ScalarValue),
    /// A pointer.
    Pointer(Pointer),
}

/// A number, and which other registers are known to hold the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ScalarValue {
    pub(crate) bounds: Scalar,
    pub(crate) link: Option<Link>,
    /// The pointer that turned out to be null and became this number, if it was one.
    pub(crate) null_of: Option<NullOf>,
}

/// What is left of a pointer that turned out to be null. It says nothing about the number, but for
/// the kernel a loop repeats a state only if this is the same, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NullOf {
    /// A value of this map.
    MapValue(MapIdx),
    /// So many bytes of a ring buffer.
    Ringbuf(u32),
    /// So many bytes that a function is given, or that a dynptr stands for.
    Memory(u32),
    /// An object of this type.
    Opaque(OpaqueId),
    /// A structure of this type.
    Structure(TypeId),
}

/// Membership in a group of registers with the same value, apart from a constant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) id: ScalarId,
    /// What was added to the group's value since; `None` if nothing was.
    pub(crate) distance: Option<Distance>,
    /// Whether it was loaded with its sign extended, so that it is *not* the group's value if that
    /// is negative. The kernel takes it to be.
    pub(crate) signed: bool,
}

/// A constant added to a number, modulo 2^32 or 2^64.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Distance {
    pub(crate) by: i32,
    pub(crate) width: Width,
}

/// A pointer: what it points to, a constant and a variable offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pointer {
    pub(crate) kind: PointerKind,
    pub(crate) off: i32,
    pub(crate) var: Scalar,
}

/// What a pointer points to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PointerKind {
    /// The program's context.
    Context,
    /// A map, to be given to helpers.
    Map(MapIdx),
    /// The key of an element, which is only read.
    MapKey(MapIdx),
    /// The value of an element.
    MapValue(MapValueRef),
    /// What was looked up in a map that holds objects, and may be null: for the kernel the value of an
    /// element, until it is known not to be null, and then the object.
    Element { map: MapIdx, holds: Holds, null: NullId, reference: Option<RefId> },
    /// The packet, or the metadata before it.
    Packet { region: PacketRegion, id: PacketId, range: PacketRange },
    /// The end of the packet.
    PacketEnd,
    /// An object of the kernel; the id is there as long as it may be null, the reference if it was
    /// acquired.
    /// One that was looked up is, for the kernel, another than one of elsewhere: that of this map.
    Object {
        object: Object,
        null: Option<NullId>,
        reference: Option<RefId>,
        stored_in: Option<MapIdx>,
    },
    /// An object that programs cannot look into; likewise.
    Opaque { ty: OpaqueId, null: Option<NullId>, reference: Option<RefId> },
    /// A structure of the kernel, of a type of its own, that programs may look into; likewise.
    Structure { ty: TypeId, trust: Trust, null: Option<NullId>, reference: Option<RefId> },
    /// Memory of the kernel of which nothing is known, not even that it is there: loads from it are
    /// guarded.
    Guarded,
    /// What an iterator has a key or a value in; the id is there as long as there may be none.
    Buffer { writable: bool, null: Option<NullId> },
    /// So many bytes that were reserved in a ring buffer; the id is there as long as there may be none.
    Ringbuf { size: u32, null: Option<NullId>, reference: RefId, origin: Origin },
    /// So many bytes that a global function is given; the id is there as long as there may be none.
    Argument { size: u32, null: Option<NullId> },
    /// So many bytes of what a dynptr stands for; the id is there as long as there may be none, the
    /// reference if they are part of what was acquired.
    Slice {
        size: u32,
        null: Option<NullId>,
        dynptr: DynptrId,
        reference: Option<RefId>,
        of: SliceOf,
    },
    /// So many bytes of what an iterator gave, which go when it ends.
    Item { size: u32, id: NullId, iter: RefId },
    /// A dynptr that is not in the stack, which the function is given to use.
    Dynptr(DynptrId),
    /// A stack frame, by its index in the state.
    Stack { frame: usize },
    /// A function, to be given to helpers that call it back.
    Function(SubprogIdx),
}

/// How a slice of a dynptr came to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SliceOf {
    /// By a helper: it goes with the dynptr.
    Memory,
    /// By a kernel function, of a dynptr of this kind: it goes where what this stands for may move.
    Kind { kind: DynptrKind, writable: bool },
}

/// How a pointer to a record of a ring buffer came to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    /// It is what was acquired.
    Acquired,
    /// The record was added to a number: for the kernel, it has nothing to do with what was acquired.
    Sum,
    /// The same, and the record is no longer there.
    SumOfReleased,
}

/// The value of a map's element.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct MapValueRef {
    pub(crate) map: MapIdx,
    /// `None` once it is known that the element exists.
    pub(crate) null: Option<NullId>,
    /// What the kernel tells locks apart by: the same number as `null`, and it stays. There is none if
    /// elements have no locks, nor where the program did not look the element up.
    pub(crate) element: Option<ElementId>,
}

/// What a map holds whose values are objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Holds {
    /// Maps like this one.
    Map(MapIdx),
    /// Sockets of some kind.
    Socket(Object),
}

/// Where a packet pointer starts from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PacketRegion {
    /// The packet.
    Data,
    /// The metadata, which ends where the packet starts.
    Meta,
}

/// What is known about the bytes behind a packet pointer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PacketRange {
    /// So many bytes, counted from the pointer without its constant offset, exist.
    Bytes(u32),
    /// The pointer lies at the end or beyond.
    AtEnd,
    /// The pointer lies beyond the end.
    BeyondEnd,
}

impl PacketRange {
    pub(crate) const NONE: Self = Self::Bytes(0);

    /// At least `bytes` exist. A negative fact is the smaller one.
    pub(crate) fn at_least(self, bytes: u32) -> Self {
        match self {
            Self::Bytes(known) => Self::Bytes(known.max(bytes)),
            Self::AtEnd | Self::BeyondEnd => Self::Bytes(bytes),
        }
    }
}

impl Value {
    pub(crate) const UNKNOWN: Self = Self::scalar(Scalar::UNKNOWN);

    pub(crate) const fn scalar(bounds: Scalar) -> Self {
        Self::Scalar(ScalarValue { bounds, link: None, null_of: None })
    }

    pub(crate) fn constant(value: u64) -> Self {
        Self::scalar(Scalar::constant(value))
    }

    pub(crate) fn pointer(kind: PointerKind) -> Self {
        Self::Pointer(Pointer { kind, off: 0, var: Scalar::constant(0) })
    }

    pub(crate) fn as_scalar(&self) -> Option<&ScalarValue> {
        match self {
            Self::Scalar(scalar) => Some(scalar),
            Self::Uninit | Self::Pointer(_) => None,
        }
    }

    pub(crate) fn as_pointer(&self) -> Option<&Pointer> {
        match self {
            Self::Pointer(pointer) => Some(pointer),
            Self::Uninit | Self::Scalar(_) => None,
        }
    }

    /// What ties it to other copies of a pointer that may be null.
    pub(crate) fn null_id(&self) -> Option<NullId> {
        self.as_pointer()?.kind.null_id()
    }

    /// What it was acquired as, or made from, and is to be released as.
    pub(crate) fn reference(&self) -> Option<RefId> {
        self.as_pointer()?.kind.reference()
    }

    /// What it refers to is no longer there: it is any number, or what the kernel takes for a pointer
    /// still, but nothing is left to access.
    pub(crate) fn release(&mut self) {
        match self {
            Self::Pointer(Pointer { kind: PointerKind::Ringbuf { origin, .. }, .. })
                if *origin != Origin::Acquired =>
            {
                *origin = Origin::SumOfReleased;
            }
            _ => *self = Self::UNKNOWN,
        }
    }

    /// What the kernel knows that it was acquired as, or made from.
    pub(crate) fn acquired(&self) -> Option<RefId> {
        self.as_pointer()?.kind.acquired()
    }

    /// Whether it is the number 0.
    pub(crate) fn is_zero(&self) -> bool {
        self.as_scalar().is_some_and(|scalar| scalar.bounds.as_const() == Some(0))
    }

    /// What messages call it.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Uninit => "?",
            Self::Scalar(_) => "scalar",
            Self::Pointer(pointer) => pointer.kind.name(),
        }
    }
}

impl PointerKind {
    /// What messages call it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Context => "ctx",
            Self::Map(_) => "map_ptr",
            Self::MapKey(_) => "map_key",
            Self::MapValue(MapValueRef { null: None, .. }) => "map_value",
            Self::MapValue(MapValueRef { null: Some(_), .. }) | Self::Element { .. } => {
                "map_value_or_null"
            }
            Self::Packet { region: PacketRegion::Data, .. } => "pkt",
            Self::Packet { region: PacketRegion::Meta, .. } => "pkt_meta",
            Self::PacketEnd => "pkt_end",
            Self::Object { object, null: None, .. } => object.name(),
            Self::Object { object, null: Some(_), .. } => object.name_or_null(),
            Self::Opaque { null: None, .. } => "ptr_",
            Self::Opaque { null: Some(_), .. } => "ptr_or_null_",
            Self::Structure { trust, null, .. } => trust.name(null.is_some()),
            Self::Guarded => "rdonly_untrusted_mem",
            Self::Buffer { writable: true, null: None } => "buf",
            Self::Buffer { writable: true, null: Some(_) } => "buf_or_null",
            Self::Buffer { writable: false, null: None } => "rdonly_buf",
            Self::Buffer { writable: false, null: Some(_) } => "rdonly_buf_or_null",
            Self::Ringbuf { null: None, .. } => "ringbuf_mem",
            Self::Ringbuf { null: Some(_), .. } => "ringbuf_mem_or_null",
            Self::Slice { null: None, of: SliceOf::Kind { writable: false, .. }, .. } => {
                "rdonly_mem"
            }
            Self::Slice { of: SliceOf::Kind { writable: false, .. }, .. } => "rdonly_mem_or_null",
            Self::Argument { null: None, .. } | Self::Slice { null: None, .. } => "mem",
            Self::Argument { null: Some(_), .. } | Self::Slice { null: Some(_), .. } => {
                "mem_or_null"
            }
            Self::Item { .. } => "rdonly_mem",
            Self::Dynptr(_) => "dynptr_ptr",
            Self::Stack { .. } => "fp",
            Self::Function(_) => "func",
        }
    }

    /// Whether null is possible.
    pub(crate) const fn may_be_null(self) -> bool {
        self.null_id().is_some()
    }

    /// What ties it to other copies of a pointer that may be null.
    pub(crate) const fn null_id(self) -> Option<NullId> {
        match self {
            Self::MapValue(MapValueRef { null, .. })
            | Self::Object { null, .. }
            | Self::Opaque { null, .. }
            | Self::Structure { null, .. }
            | Self::Buffer { null, .. }
            | Self::Ringbuf { null, .. }
            | Self::Slice { null, .. }
            | Self::Argument { null, .. } => null,
            Self::Element { null, .. } => Some(null),
            Self::Context
            | Self::Guarded
            | Self::Map(_)
            | Self::MapKey(_)
            | Self::Packet { .. }
            | Self::PacketEnd
            | Self::Stack { .. }
            | Self::Item { .. }
            | Self::Dynptr(_)
            | Self::Function(_) => None,
        }
    }

    /// What the kernel knows that it was acquired as, or made from: of the sum of a number and a
    /// pointer it knows nothing.
    pub(crate) const fn acquired(self) -> Option<RefId> {
        match self {
            Self::Ringbuf { origin: Origin::Sum, .. } => None,
            _ => self.reference(),
        }
    }

    /// What it was acquired as, or made from.
    pub(crate) const fn reference(self) -> Option<RefId> {
        match self {
            Self::Object { reference, .. }
            | Self::Element { reference, .. }
            | Self::Slice { reference, .. }
            | Self::Opaque { reference, .. }
            | Self::Structure { reference, .. } => reference,
            Self::Ringbuf { origin: Origin::SumOfReleased, .. } => None,
            Self::Ringbuf { reference, .. } | Self::Item { iter: reference, .. } => Some(reference),
            Self::Context
            | Self::Guarded
            | Self::Buffer { .. }
            | Self::Map(_)
            | Self::MapKey(_)
            | Self::MapValue(_)
            | Self::Argument { .. }
            | Self::Packet { .. }
            | Self::PacketEnd
            | Self::Stack { .. }
            | Self::Dynptr(_)
            | Self::Function(_) => None,
        }
    }

    /// What is left if it is null.
    pub(crate) const fn null_of(self) -> Option<NullOf> {
        match self {
            Self::MapValue(MapValueRef { map, .. }) | Self::Element { map, .. } => {
                Some(NullOf::MapValue(map))
            }
            Self::Ringbuf { size, .. } => Some(NullOf::Ringbuf(size)),
            Self::Argument { size, .. } | Self::Slice { size, .. } => Some(NullOf::Memory(size)),
            Self::Opaque { ty, .. } => Some(NullOf::Opaque(ty)),
            Self::Structure { ty, .. } => Some(NullOf::Structure(ty)),
            Self::Object { .. }
            | Self::Guarded
            | Self::Buffer { .. }
            | Self::Context
            | Self::Map(_)
            | Self::MapKey(_)
            | Self::Packet { .. }
            | Self::PacketEnd
            | Self::Stack { .. }
            | Self::Item { .. }
            | Self::Dynptr(_)
            | Self::Function(_) => None,
        }
    }

    /// An object of the kernel that was not looked up in a map.
    pub(crate) const fn object(
        object: Object,
        null: Option<NullId>,
        reference: Option<RefId>,
    ) -> Self {
        Self::Object { object, null, reference, stored_in: None }
    }

    const fn socket_in(map: MapIdx, object: Object, reference: Option<RefId>) -> Self {
        Self::Object { object, null: None, reference, stored_in: Some(map) }
    }

    /// It is known not to be null.
    pub(crate) const fn settle_not_null(&mut self) {
        match self {
            Self::MapValue(MapValueRef { null, .. })
            | Self::Object { null, .. }
            | Self::Opaque { null, .. }
            | Self::Structure { null, .. }
            | Self::Buffer { null, .. }
            | Self::Ringbuf { null, .. }
            | Self::Slice { null, .. }
            | Self::Argument { null, .. } => *null = None,
            Self::Element { holds: Holds::Map(inner), .. } => *self = Self::Map(*inner),
            Self::Element { map, holds: Holds::Socket(object), reference, .. } => {
                *self = Self::socket_in(*map, *object, *reference);
            }
            Self::Context
            | Self::Guarded
            | Self::Map(_)
            | Self::MapKey(_)
            | Self::Packet { .. }
            | Self::PacketEnd
            | Self::Stack { .. }
            | Self::Item { .. }
            | Self::Dynptr(_)
            | Self::Function(_) => {}
        }
    }

    /// Whether it points to what may move with the packet.
    pub(crate) const fn moves_with_packet(self) -> bool {
        match self {
            Self::Slice { of: SliceOf::Kind { kind, .. }, .. } => kind.is_packet(),
            _ => self.is_packet(),
        }
    }

    /// Whether it is one of the three kinds of packet pointers.
    pub(crate) const fn is_packet(self) -> bool {
        matches!(self, Self::Packet { .. } | Self::PacketEnd)
    }
}

impl Pointer {
    /// The whole offset, if it is constant. It may be far out of any bounds.
    pub(crate) fn const_off(&self) -> Option<i64> {
        let var = self.var.as_const()?.cast_signed();
        Some(var.saturating_add(i64::from(self.off)))
    }
}

impl ScalarValue {
    /// Whether all values fit this many bits.
    pub(crate) fn fits(&self, bits: u32) -> bool {
        u64::BITS - self.bounds.umax().leading_zeros() <= bits
    }

    /// The same number with no ties to other registers.
    pub(crate) const fn unlinked(self) -> Self {
        Self { link: None, ..self }
    }
}

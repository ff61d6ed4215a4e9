//! Loads, stores and atomic operations: which memory a pointer may access.

use ebpf_isa::{AtomicOp, Extend, MapIdx, Operand, Reg, Size};

use super::packet::check_packet;
use super::structure::check_buffer;
use super::{FAR, Machine};
use crate::domain::{self, Tnum};
use crate::error::{Checked, Extreme, Payload, Region, Unsupported};
use crate::rules::{ContextAccess, ContextQuery, FieldKind, Object, PacketAccess};
use crate::state::{
    MapValueRef, Origin, PacketId, PacketRange, PacketRegion, Pointer, PointerKind, SliceOf, Value,
};

/// Where packets start, from an aligned address: so that what comes behind the Ethernet header is
/// aligned.
const NET_IP_ALIGN: u8 = 2;

/// Whether the memory instruction at some place accesses the context, or fields of an object of the
/// kernel. One that does is rewritten, so it must do so on every path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ContextUse {
    /// No path has come here.
    Unknown,
    /// It accesses the context.
    Context,
    /// It accesses fields of an object of the kernel.
    Object(Object),
    /// It loads from a structure of the kernel: such loads are guarded, if the structure may not be there.
    Structure,
    /// It loads from memory of the kernel that may not be there.
    Guarded,
    /// It accesses memory that a function is given, or reserved.
    Memory,
    /// It accesses other memory.
    Other,
}

impl ContextUse {
    /// What an access through a register does.
    fn through(base: &Value) -> Self {
        match base.as_pointer().map(|pointer| pointer.kind) {
            Some(PointerKind::Context) => Self::Context,
            Some(PointerKind::Object { object, .. }) if !object.is_memory() => Self::Object(object),
            Some(PointerKind::Structure { .. }) => Self::Structure,
            Some(PointerKind::Guarded) => Self::Guarded,
            Some(PointerKind::Argument { .. } | PointerKind::Ringbuf { .. }) => Self::Memory,
            _ => Self::Other,
        }
    }
}

impl ContextUse {
    /// What an instruction does that does one thing on some paths, and another one on this path.
    #[inline]
    fn and(self, now: Self) -> Checked<Self> {
        match (self, now) {
            (Self::Unknown, _) => Ok(now),
            _ if self == now => Ok(self),
            (Self::Other, Self::Memory) | (Self::Memory, Self::Other) => Ok(self),
            (Self::Structure, Self::Guarded) | (Self::Guarded, Self::Structure) => {
                Ok(Self::Guarded)
            }
            (Self::Guarded, Self::Other | Self::Memory)
            | (Self::Other | Self::Memory, Self::Guarded)
            | (Self::Structure, Self::Memory)
            | (Self::Memory, Self::Structure) => Err(Unsupported::PartlyGuarded.into()),
            _ => Err(Payload::PointerMixed.into()),
        }
    }
}

/// What an access does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    /// A load into a register.
    Load(Extend),
    /// The reading half of an atomic operation that keeps nothing.
    Peek,
    /// A store of a register or an immediate.
    Store(Operand),
    /// A store of something: the writing half of an atomic operation, or a helper.
    Clobber,
}

impl Access {
    pub(super) const fn is_write(self) -> bool {
        matches!(self, Self::Store(_) | Self::Clobber)
    }

    pub(super) const fn extend(self) -> Extend {
        match self {
            Self::Load(extend) => extend,
            Self::Peek | Self::Store(_) | Self::Clobber => Extend::Zero,
        }
    }
}

/// The place of an access: a register's pointer, an offset and a width.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    pub(super) reg: Reg,
    pub(super) off: i16,
    pub(super) size: Size,
}

impl Machine<'_> {
    pub(super) fn load(&mut self, dst: Reg, place: Place, extend: Extend, strict: bool) -> Checked {
        self.check_readable(place.reg)?;
        self.check_writable(dst)?;
        let context_use = ContextUse::through(self.value(place.reg));
        let value = self.access(place, Access::Load(extend), strict)?;
        self.note_context_use(context_use)?;
        self.set(dst, value);
        Ok(())
    }

    pub(super) fn store(&mut self, place: Place, src: Operand, strict: bool) -> Checked {
        self.check_operand(src)?;
        self.check_readable(place.reg)?;
        let context_use = ContextUse::through(self.value(place.reg));
        self.access(place, Access::Store(src), strict)?;
        self.note_context_use(context_use)
    }

    pub(super) fn load_acquire(&mut self, dst: Reg, place: Place) -> Checked {
        let pointer = self.read(place.reg)?;
        self.load(dst, place, Extend::Zero, true)?;
        // The kernel looks at what the register has by now, which may be what was loaded.
        check_atomic(place.reg, self.value(place.reg), false)?;
        match pointer.as_pointer().map(|pointer| pointer.kind) {
            // It would be the kernel's own context that is read, where it has something else. What is
            // aligned in the kernel's packets need not be in others.
            Some(
                PointerKind::Context
                | PointerKind::Object { .. }
                | PointerKind::Structure { .. }
                | PointerKind::Guarded
                | PointerKind::Packet { .. },
            ) => Err(Unsupported::LoadAcquireInPlace.into()),
            _ => Ok(()),
        }
    }

    pub(super) fn store_release(&mut self, place: Place, src: Reg) -> Checked {
        self.store(place, Operand::Reg(src), true)?;
        check_atomic(place.reg, self.value(place.reg), true)
    }

    pub(super) fn atomic(
        &mut self,
        op: AtomicOp,
        size: Size,
        fetch: bool,
        base: Reg,
        off: i16,
        src: Reg,
    ) -> Checked {
        self.read(src)?;
        let pointer = self.read(base)?;
        if op == AtomicOp::Cmpxchg {
            self.read(Reg::R0)?;
        }
        check_atomic(base, &pointer, true)?;
        let fetched = fetch.then_some(if op == AtomicOp::Cmpxchg { Reg::R0 } else { src });
        if let Some(reg) = fetched {
            self.check_writable(reg)?;
            if reg == base {
                // The kernel forgets the pointer before it looks at it.
                self.set(reg, Value::UNKNOWN);
            }
        }
        let place = Place { reg: base, off, size };
        self.access(place, Access::Peek, true)?;
        if let Some(reg) = fetched {
            let value = self.access(place, Access::Load(Extend::Zero), true)?;
            self.set(reg, value);
        }
        self.note_context_use(ContextUse::through(&pointer))?;
        self.access(place, Access::Clobber, true)?;
        Ok(())
    }

    /// Notes what kind of memory this instruction accesses on this path.
    fn note_context_use(&mut self, now: ContextUse) -> Checked {
        let before = &mut self.context_use[self.pc.index()];
        *before = before.and(now)?;
        Ok(())
    }

    /// Checks an access through a register that was found readable, and gives what a load reads.
    pub(super) fn access(&mut self, place: Place, access: Access, strict: bool) -> Checked<Value> {
        let Place { reg, off, size } = place;
        self.check_alignment(self.value(reg), place, strict)?;
        let invalid = |kind| Payload::MemoryPointer { register: reg, kind };
        let Value::Pointer(pointer) = *self.value(reg) else {
            return Err(invalid(self.value(reg).name()).into());
        };
        let anything = || Value::scalar(domain::load(size, access.extend()));
        match pointer.kind {
            PointerKind::Context => self.access_context(place, &pointer, access),
            PointerKind::Stack { frame } => self.access_stack(place, &pointer, frame, access),
            PointerKind::MapKey(_) if access.is_write() => {
                Err(Payload::MapKeyWrite { register: reg }.into())
            }
            PointerKind::MapKey(map) => {
                let region = Region::MapKey { key_size: self.map(map).desc.key_size };
                check_region(reg, region, &pointer, off.into(), size.bytes().into(), false)?;
                Ok(anything())
            }
            PointerKind::MapValue(MapValueRef { map, null: None, .. }) => {
                let size_bytes = i64::from(size.bytes());
                self.check_map_flags(map, &pointer, off, size_bytes, access.is_write())?;
                self.check_map_value(reg, map, &pointer, off.into(), size_bytes, false)?;
                Ok(self.constant_of(map, &pointer, place, access)?.unwrap_or_else(anything))
            }
            PointerKind::Packet { id, range, .. } => {
                let allowed = self.env.program_type.packet_access();
                if access.is_write() && matches!(allowed, PacketAccess::None | PacketAccess::Read) {
                    return Err(Payload::PacketReadOnly { register: reg }.into());
                }
                check_packet(reg, &pointer, id, range, off.into(), size.bytes().into(), false)?;
                self.writes_packet |= access.is_write();
                Ok(anything())
            }
            PointerKind::Map(_) => Err(Unsupported::MapDescription.into()),
            PointerKind::Object { object, null: None, .. } => {
                self.access_object(place, &pointer, object, access)
            }
            PointerKind::MapValue(MapValueRef { null: Some(_), .. })
            | PointerKind::Element { .. }
            | PointerKind::Object { null: Some(_), .. }
            | PointerKind::Opaque { null: Some(_), .. }
            | PointerKind::Structure { null: Some(_), .. }
            | PointerKind::Buffer { null: Some(_), .. }
            | PointerKind::Ringbuf { null: Some(_), .. }
            | PointerKind::Function(_)
            | PointerKind::Argument { null: Some(_), .. }
            | PointerKind::Slice { null: Some(_), .. }
            | PointerKind::Dynptr(_)
            | PointerKind::PacketEnd => Err(invalid(pointer.kind.name()).into()),
            PointerKind::Item { .. }
            | PointerKind::Slice {
                null: None, of: SliceOf::Kind { writable: false, .. }, ..
            } if access.is_write() => {
                Err(Payload::MemoryReadOnly { register: reg, kind: pointer.kind.name() }.into())
            }
            PointerKind::Item { size: bytes, .. }
            | PointerKind::Argument { size: bytes, null: None }
            | PointerKind::Slice { size: bytes, null: None, .. } => {
                let region = Region::Argument { size: bytes };
                check_region(reg, region, &pointer, off.into(), size.bytes().into(), false)?;
                Ok(anything())
            }
            PointerKind::Ringbuf { size: bytes, null: None, origin, .. } => {
                let region = Region::Ringbuf { size: bytes };
                let size = size.bytes().into();
                check_region(reg, region, &pointer, off.into(), size, false)?;
                check_there(origin)?;
                Ok(anything())
            }
            PointerKind::Opaque { ty, null: None, .. } => {
                Err(self.look_into(place, &pointer, ty, access))
            }
            PointerKind::Structure { null: None, .. } => {
                self.access_structure(place, &pointer, access)
            }
            PointerKind::Guarded | PointerKind::Buffer { writable: false, .. }
                if access.is_write() =>
            {
                Err(Payload::MemoryReadOnly { register: reg, kind: pointer.kind.name() }.into())
            }
            PointerKind::Guarded => Ok(anything()),
            PointerKind::Buffer { null: None, writable } => {
                let off = i64::from(pointer.off) + i64::from(off);
                check_buffer(reg, writable, &pointer, off, size.bytes().into())?;
                Ok(anything())
            }
        }
    }

    /// Only the stack must be aligned always: spilled registers are tracked by slot. Atomic
    /// operations and some arguments (`strict`) must be aligned everywhere, and that is looked at
    /// before the kind of pointer.
    pub(super) fn check_alignment(&self, value: &Value, place: Place, strict: bool) -> Checked {
        let (kind, var, off) = match value {
            Value::Pointer(pointer) => (Some(&pointer.kind), &pointer.var, pointer.off),
            Value::Scalar(scalar) => {
                // As if a number's distance from its group were a pointer's constant offset.
                let distance = scalar.link.and_then(|link| link.distance);
                (None, &scalar.bounds, distance.map_or(0, |distance| distance.by))
            }
            Value::Uninit => return Ok(()),
        };
        let is_stack = matches!(kind, Some(PointerKind::Stack { .. }));
        if !strict && !self.env.strict_alignment && !is_stack {
            return Ok(());
        }
        let start = if matches!(kind, Some(PointerKind::Packet { .. })) { NET_IP_ALIGN } else { 0 };
        let (var_off, insn_off, size) = (var.tnum(), place.off, place.size.bytes());
        let fixed = i64::from(start) + i64::from(off) + i64::from(insn_off);
        if is_aligned(var_off + Tnum::constant(fixed.cast_unsigned()), size) {
            return Ok(());
        }
        let memory = kind.and_then(aligned_memory);
        Err(Payload::MemoryAlignment { memory, start, var_off, off, insn_off, size }.into())
    }

    fn access_context(
        &mut self,
        place: Place,
        pointer: &Pointer,
        access: Access,
    ) -> Checked<Value> {
        check_unmodified(place.reg, pointer)?;
        let query = ContextQuery {
            off: place.off.into(),
            size: place.size,
            write: access.is_write(),
            sign_extended: access.extend() == Extend::Sign,
            attach_type: self.env.attach_type,
        };
        let packet = |region| {
            let kind =
                PointerKind::Packet { region, id: PacketId::START, range: PacketRange::NONE };
            Ok(Value::pointer(kind))
        };
        let ContextAccess::Allowed(field) = self.env.program_type.context_access(&query) else {
            let (off, size, write) = (place.off, place.size.bytes(), query.write);
            return Err(Payload::ContextAccess { off, size, write }.into());
        };
        match field {
            FieldKind::Scalar => Ok(Value::scalar(domain::load(place.size, access.extend()))),
            FieldKind::PacketData => packet(PacketRegion::Data),
            FieldKind::PacketMeta => packet(PacketRegion::Meta),
            FieldKind::PacketEnd => Ok(Value::pointer(PointerKind::PacketEnd)),
            FieldKind::Object(object) => {
                Ok(Value::pointer(PointerKind::object(object, None, None)))
            }
            FieldKind::ObjectOrNull(object) => {
                let null = Some(self.new_null_id());
                Ok(Value::pointer(PointerKind::object(object, null, None)))
            }
            FieldKind::Argument => self.access_argument(place, access),
            FieldKind::Unsupported => Err(Unsupported::ContextField(place.off).into()),
        }
    }

    /// Checks that the map's flags allow the access.
    pub(super) fn check_map_flags(
        &self,
        map: MapIdx,
        pointer: &Pointer,
        off: i16,
        size: i64,
        write: bool,
    ) -> Checked {
        let info = self.map(map);
        let allowed = match write {
            true => info.programs_may_write(),
            false => info.programs_may_read(),
        };
        if allowed {
            return Ok(());
        }
        let (value_size, off) = (info.desc.value_size, i64::from(off) + i64::from(pointer.off));
        Err(Payload::MapForbidden { map, write, value_size, off, size }.into())
    }

    /// Checks that `size` bytes at `off` from a pointer lie within a map's value, and are plain ones.
    pub(super) fn check_map_value(
        &self,
        reg: Reg,
        map: MapIdx,
        pointer: &Pointer,
        off: i64,
        size: i64,
        zero_size_allowed: bool,
    ) -> Checked {
        let region = Region::MapValue { map, value_size: self.map(map).desc.value_size };
        check_region(reg, region, pointer, off, size, zero_size_allowed)?;
        self.check_fields(map, pointer, off + i64::from(pointer.off), size)
    }

    /// What a load gives from a map that can never change.
    fn constant_of(
        &self,
        map: MapIdx,
        pointer: &Pointer,
        place: Place,
        access: Access,
    ) -> Checked<Option<Value>> {
        let info = self.map(map);
        let (Access::Load(extend), Some(contents)) = (access, info.constants()) else {
            return Ok(None);
        };
        let Some(at) = pointer.const_off() else {
            return Ok(None);
        };
        if !crate::structure::has_direct_values(info.desc.map_type) {
            return Ok(None);
        }
        if info.desc.max_entries != 1 {
            return Err(Unsupported::FrozenElements.into());
        }
        let size = usize::from(place.size.bytes());
        let start = usize::try_from(at + i64::from(place.off)).ok();
        let bytes = start.and_then(|start| contents.get(start..)?.get(..size));
        let bytes = bytes.ok_or(Unsupported::FrozenContents)?;
        let mut word = [0; 8];
        word[..size].copy_from_slice(bytes);
        let raw = u64::from_le_bytes(word);
        Ok(Some(Value::constant(ebpf_isa::semantics::extend(extend, place.size, raw))))
    }
}

/// Checks that `size` bytes at `off` from a pointer into memory whose size is known lie within it.
pub(super) fn check_region(
    reg: Reg,
    region: Region,
    pointer: &Pointer,
    off: i64,
    size: i64,
    zero_size_allowed: bool,
) -> Checked {
    let limit = match region {
        Region::MapValue { value_size, .. } => value_size,
        Region::MapKey { key_size } => key_size,
        Region::Ringbuf { size } | Region::Argument { size } => size,
        Region::Packet => unreachable!("the packet's size is not known"),
    };
    let off = off + i64::from(pointer.off);
    let var = &pointer.var;
    let outside = |extreme, off| {
        Err(Payload::MemoryBounds { register: reg, region, extreme, off, size }.into())
    };
    // The kernel computes the smallest offset in 32 bits.
    let lowest = var.smin().checked_add(off).filter(|&low| i32::try_from(low).is_ok());
    if var.smin() < 0 && lowest.is_none_or(|low| low < 0) {
        return outside(Extreme::Negative, var.smin().saturating_add(off));
    }
    let within = |at: Option<i64>| {
        at.is_some_and(|at| check_within(at, size, limit.into(), zero_size_allowed))
    };
    if !within(lowest) {
        let at = var.smin().wrapping_add(off) as i32;
        return outside(Extreme::Least, at.into());
    }
    let max = var.umax();
    if max >= FAR.cast_unsigned() {
        return Err(Payload::MemoryUnbounded { register: reg, max }.into());
    }
    let highest = max.cast_signed() + off;
    if !within(Some(highest)) {
        return outside(Extreme::Greatest, highest);
    }
    Ok(())
}

/// Whether `size` bytes at `off` lie within `limit` bytes.
pub(super) fn check_within(off: i64, size: i64, limit: i64, zero_size_allowed: bool) -> bool {
    let size_is_valid = size > 0 || (size == 0 && zero_size_allowed);
    off >= 0 && size_is_valid && off.checked_add(size).is_some_and(|end| end <= limit)
}

/// Checks that a pointer is as the program got it.
pub(super) fn check_unmodified(reg: Reg, pointer: &Pointer) -> Checked {
    let (off, var_off) = (pointer.off, pointer.var.tnum());
    if off == 0 && var_off.as_const() == Some(0) {
        return Ok(());
    }
    let (register, kind) = (reg, pointer.kind.name());
    Err(Payload::ContextModified { register, kind, off, var_off }.into())
}

/// Checks that the memory in a register allows atomic operations, if it is memory.
fn check_atomic(register: Reg, value: &Value, write: bool) -> Checked {
    let forbidden = value.as_pointer().is_some_and(|pointer| match pointer.kind {
        PointerKind::Context | PointerKind::Packet { .. } => true,
        PointerKind::Object { null, .. } => null.is_none(),
        PointerKind::Map(_)
        | PointerKind::MapKey(_)
        | PointerKind::MapValue(_)
        | PointerKind::Element { .. }
        | PointerKind::Opaque { .. }
        | PointerKind::Structure { .. }
        | PointerKind::Guarded
        | PointerKind::Buffer { .. }
        | PointerKind::PacketEnd
        | PointerKind::Ringbuf { .. }
        | PointerKind::Argument { .. }
        | PointerKind::Slice { .. }
        | PointerKind::Item { .. }
        | PointerKind::Dynptr(_)
        | PointerKind::Stack { .. }
        | PointerKind::Function(_) => false,
    });
    match forbidden {
        true => Err(Payload::MemoryAtomic { register, kind: value.name(), write }.into()),
        false => Ok(()),
    }
}

/// Checks that a record of a ring buffer was not released.
pub(super) fn check_there(origin: Origin) -> Checked {
    match origin {
        Origin::Acquired | Origin::Sum => Ok(()),
        Origin::SumOfReleased => Err(Unsupported::ReleasedRecord.into()),
    }
}

/// What messages about alignment call the memory behind a pointer, where they do.
fn aligned_memory(kind: &PointerKind) -> Option<&'static str> {
    match kind {
        PointerKind::Context => Some("context"),
        PointerKind::Stack { .. } => Some("stack"),
        PointerKind::MapKey(_) => Some("key"),
        PointerKind::MapValue(MapValueRef { null: None, .. }) => Some("value"),
        PointerKind::Packet { .. } => Some("packet"),
        PointerKind::Object { object: Object::FlowKeys, null: None, .. } => Some("flow keys"),
        PointerKind::Object { object, null: None, .. } => Some(object.name()),
        PointerKind::Map(_)
        | PointerKind::MapValue(_)
        | PointerKind::Element { .. }
        | PointerKind::Object { .. }
        | PointerKind::Opaque { .. }
        | PointerKind::Structure { .. }
        | PointerKind::Guarded
        | PointerKind::Buffer { .. }
        | PointerKind::Ringbuf { .. }
        | PointerKind::Function(_)
        | PointerKind::Argument { .. }
        | PointerKind::Slice { .. }
        | PointerKind::Item { .. }
        | PointerKind::Dynptr(_)
        | PointerKind::PacketEnd => None,
    }
}

fn is_aligned(bits: Tnum, size: u8) -> bool {
    (bits.value | bits.mask) & (u64::from(size) - 1) == 0
}

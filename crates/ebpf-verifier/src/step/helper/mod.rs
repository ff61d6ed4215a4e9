//! Calls of helpers, checked against their prototypes.

mod memory;
mod result;
mod string;
mod structure;

use alloc::boxed::Box;

use ebpf_isa::uapi::{HelperId, MapType};
use ebpf_isa::{MapIdx, Reg};

use super::Machine;
use super::memory::check_unmodified;
use super::packet::forget_packet_pointers;
use crate::error::{Checked, Ending, LockFault, Payload, Unsupported};
use crate::kernel_types::Trust;
use crate::map_fields::SpecialField;
use crate::rules::{
    ArgKind, HelperProto, Object, PacketAccess, ProgramTypeRules, helper_takes_map, holds_sockets,
    may_change_sockets,
};
use crate::state::{DynptrKind, MapValueRef, PointerKind, RefId, SliceOf, Value};
pub(super) use memory::{MemoryUse, Piece, check_size_bounds};

/// What messages call the pointers that are accepted as memory.
const MEMORY_KINDS: &[&str] =
    &["fp", "pkt", "pkt_meta", "map_key", "map_value", "mem", "ringbuf_mem", "buf", "trusted_ptr_"];

/// What messages call the pointers that are accepted as sockets.
const SOCKET_KINDS: &[&str] = &["sock_common", "sock", "tcp_sock", "xdp_sock"];

/// What messages call the pointers that are accepted as sockets where the kernel's own structures
/// are, too.
const SOCK_KINDS: &[&str] =
    &["sock_common", "sock", "tcp_sock", "xdp_sock", "ptr_", "trusted_ptr_"];

/// What messages call the pointers that are accepted as structures of the kernel.
const STRUCTURE_KINDS: &[&str] = &["ptr_", "trusted_ptr_", "rcu_ptr_"];

/// What earlier arguments of a call say about later ones and about the result.
#[derive(Debug, Default)]
pub(super) struct CallFacts {
    map: Option<MapIdx>,
    /// The key, where it is a constant in the stack.
    key: Option<u64>,
    /// Bytes that are to be reserved.
    reserved: u32,
    /// What an argument was acquired as.
    reference: Option<RefId>,
    /// The greatest size, of the last piece of memory with one.
    max_size: i64,
    /// Memory that is filled as a whole, once all arguments have been checked: where, and its size.
    fill: Option<(Reg, i64)>,
}

impl Machine<'_> {
    pub(super) fn call_helper(&mut self, id: HelperId) -> Checked {
        if id != HelperId::SPIN_UNLOCK {
            self.check_unlocked(LockFault::Call)?;
        }
        let rules = self.env.program_type.clone();
        let proto = self.prototype(&*rules, id)?;
        if proto.gpl_only && !self.env.license_gpl {
            return Err(Payload::HelperLicense { helper: id }.into());
        }
        if proto.may_sleep && !self.may_sleep() {
            return Err(Payload::HelperSleeps { helper: id }.into());
        }
        let mut facts = CallFacts::default();
        for (index, reg) in Reg::ARGS.into_iter().enumerate() {
            self.check_argument(proto, index, reg, &mut facts)?;
        }
        self.check_map_write(id, facts.map)?;
        if id == HelperId::TAIL_CALL {
            self.check_may_end()?;
            self.check_map_type(proto, facts.map)?;
            self.rely_on_tail_call(facts.map);
        }
        self.fill_output(&facts)?;
        if proto.args.iter().any(|kind| kind.releases()) {
            self.release_argument(proto, facts.reference)?;
        }
        self.release_dynptrs(proto)?;
        if id == HelperId::TAIL_CALL {
            self.check_nothing_held(Ending::TailCall)?;
        }
        self.check_no_flags(proto)?;
        if proto.id == SNPRINTF {
            self.check_format()?;
        }
        self.check_dynptr_memory(proto)?;
        self.call_back(proto, facts.map)?;
        let result = self.helper_result(proto, &facts)?;
        self.check_map_type(proto, facts.map)?;
        let moves_packet = proto.moves_packet || self.writes_skb(proto);
        self.state.frame_mut().clear_caller_saved();
        self.set(Reg::R0, result);
        if moves_packet {
            forget_packet_pointers(&mut self.state);
        }
        Ok(())
    }

    /// The prototype of a helper that this program may call in this kernel.
    fn prototype<'r>(
        &self,
        rules: &'r dyn ProgramTypeRules,
        id: HelperId,
    ) -> Checked<&'r HelperProto> {
        let there = self.env.may_call(id);
        match (rules.helper(id), id.name()) {
            (Some(proto), _) if there => Ok(proto),
            (None, Some(_)) if there => Err(Unsupported::Helper(id).into()),
            (_, Some(_)) => Err(Payload::HelperNotAllowed { helper: id }.into()),
            (_, None) => Err(Payload::HelperUnknown { helper: id }.into()),
        }
    }

    fn check_argument(
        &mut self,
        proto: &HelperProto,
        index: usize,
        reg: Reg,
        facts: &mut CallFacts,
    ) -> Checked {
        let kind = proto.args[index];
        if kind == ArgKind::Unused {
            return Ok(());
        }
        let value = self.read(reg)?;
        if matches!(kind, ArgKind::Anything | ArgKind::NoFlags) {
            return Ok(());
        }
        let may_use_packet = match self.env.program_type.packet_access() {
            PacketAccess::None => false,
            PacketAccess::Read | PacketAccess::ReadWrite => proto.packet_args,
            PacketAccess::Buffer => true,
        };
        if matches!(value, Value::Pointer(p) if matches!(p.kind, PointerKind::Packet { .. }))
            && !may_use_packet
        {
            return Err(Payload::PacketArgument { register: reg, helper: proto.id }.into());
        }
        if kind.may_be_null() && value.is_zero() {
            // Linux 6.18.44 lets another number be taken for it.
            if !self.shares_mistakes {
                self.rely_on(reg);
            }
            return Ok(());
        }
        let is_stored_socket = self.is_stored_socket(kind, facts);
        let taken = if is_stored_socket { ArgKind::Sock } else { kind };
        match taken.structure() {
            Some(structure) => self.check_structure_argument(taken, structure, reg, &value)?,
            None => self.check_memory_of_kernel(proto, kind, reg, &value)?,
        }
        if let Some(id) = value.acquired()
            && let Some(other) = facts.reference.replace(id)
        {
            let (id, other) = (id.0, other.0);
            return Err(Payload::HelperReferences { register: reg, id, other }.into());
        }
        match kind {
            ArgKind::Map => {
                let timer = facts.map;
                facts.map = value.as_pointer().and_then(|pointer| match pointer.kind {
                    PointerKind::Map(map) => Some(map),
                    _ => None,
                });
                self.check_map_of_timer(timer, facts.map)?;
                self.check_known_map(proto, facts.map)
            }
            ArgKind::MapKey => {
                let map = map_of(facts)?;
                let size = self.map(map).desc.key_size.into();
                self.check_piece(Piece::new(reg, size, MemoryUse::Read), facts)?;
                facts.key = self.constant_key(reg, map);
                Ok(())
            }
            ArgKind::MapValue if is_stored_socket => Ok(()),
            ArgKind::MapValue | ArgKind::MapValueOutput => {
                let desc = &self.map(map_of(facts)?).desc;
                // A bloom filter is asked for a value.
                let asks = proto.id == MAP_PEEK_ELEM && desc.map_type == MapType::BloomFilter;
                let is_read = kind == ArgKind::MapValue || asks;
                let usage = if is_read { MemoryUse::Read } else { MemoryUse::Fill };
                self.check_piece(Piece::new(reg, desc.value_size.into(), usage), facts)
            }
            ArgKind::MapValueOrNull => {
                let size = self.map(map_of(facts)?).desc.value_size.into();
                self.check_piece(
                    Piece { null_allowed: true, ..Piece::new(reg, size, MemoryUse::Read) },
                    facts,
                )
            }
            ArgKind::Header20 => self.check_piece(Piece::new(reg, 20, MemoryUse::Read), facts),
            ArgKind::Header40 => self.check_piece(Piece::new(reg, 40, MemoryUse::Read), facts),
            ArgKind::ConstString => self.check_string(reg).map(drop),
            ArgKind::U64Output => self.check_number(reg, 8, MemoryUse::Fill, facts),
            ArgKind::U32Update => self.check_number(reg, 4, MemoryUse::FillPart, facts),
            ArgKind::Size | ArgKind::SizeOrZero => {
                self.check_size(proto, index, reg, &value, facts)
            }
            ArgKind::SpinLock => self.process_lock(proto.id, reg, &value),
            ArgKind::Timer => {
                facts.map = Some(self.check_field(reg, &value, SpecialField::Timer)?.map);
                Ok(())
            }
            ArgKind::ReservedSize => {
                let size = value.as_scalar().and_then(|size| size.bounds.as_const());
                let size = size.ok_or(Payload::HelperConstant { register: reg })?;
                // As the kernel, which keeps 32 bits.
                facts.reserved = size as u32;
                self.rely_on(reg);
                Ok(())
            }
            ArgKind::ReleasedSock | ArgKind::ReleasedRingbuf if value.acquired().is_none() => {
                Err(Payload::HelperNotAcquired { register: reg }.into())
            }
            ArgKind::Dynptr => self.check_dynptr(reg),
            ArgKind::LocalDynptr => self.create_dynptr(reg, DynptrKind::Local, None),
            ArgKind::RingbufDynptr => self.create_dynptr(reg, DynptrKind::Ringbuf, None),
            ArgKind::ReleasedDynptr => self.check_released_dynptr(reg),
            ArgKind::Context
            | ArgKind::ContextOrNull
            | ArgKind::ReleasedSock
            | ArgKind::ReleasedRingbuf
            | ArgKind::SockCommon
            | ArgKind::Sock
            | ArgKind::SockOrNull
            | ArgKind::FullSockOrNull
            | ArgKind::Task
            | ArgKind::SeqFile
            | ArgKind::File
            | ArgKind::Path
            | ArgKind::SkBuff
            | ArgKind::XdpBuff
            | ArgKind::Memory
            | ArgKind::MemoryOrNull
            | ArgKind::Output
            | ArgKind::Update
            | ArgKind::UpdateOrNull
            | ArgKind::Callback
            | ArgKind::StackOrNull
            | ArgKind::Anything
            | ArgKind::NoFlags
            | ArgKind::Unused => Ok(()),
        }
    }

    /// Flags that must be 0 are looked at when all arguments are known to be of the right kind.
    fn check_no_flags(&self, proto: &HelperProto) -> Checked {
        let mut args = proto.args.iter().zip(Reg::ARGS);
        let is_wrong = |(&kind, reg)| kind == ArgKind::NoFlags && !self.value(reg).is_zero();
        match args.any(is_wrong) {
            true => Err(Payload::HelperFlags { helper: proto.id }.into()),
            false => Ok(()),
        }
    }

    /// Releases what an argument was acquired as.
    fn release_argument(&mut self, proto: &HelperProto, reference: Option<RefId>) -> Checked {
        if reference.is_some_and(|reference| self.state.release(reference, self.shares_mistakes)) {
            return Ok(());
        }
        Err(Payload::HelperNotHeld { helper: proto.id }.into())
    }

    /// Whether an argument is what is put into a map of sockets: a socket.
    fn is_stored_socket(&self, kind: ArgKind, facts: &CallFacts) -> bool {
        let holds_sockets = |map| holds_sockets(self.map(map).desc.map_type);
        kind == ArgKind::MapValue && facts.map.is_some_and(holds_sockets)
    }

    /// What other values than sockets are to maps of sockets is not known here.
    fn check_known_map(&self, proto: &HelperProto, map: Option<MapIdx>) -> Checked {
        let Some(map) = map else { return Ok(()) };
        let takes = |wanted: ArgKind| proto.args.contains(&wanted);
        let is_unknown = match self.map(map).desc.map_type {
            MapType::Sockmap | MapType::Sockhash => {
                takes(ArgKind::MapValueOutput) || proto.id == MAP_PUSH_ELEM
            }
            _ => false,
        };
        match is_unknown {
            true => Err(Unsupported::SocketMap(proto.id).into()),
            false => Ok(()),
        }
    }

    /// The kernel relies on which program a tail call goes to, if that is always the same one.
    fn rely_on_tail_call(&mut self, map: Option<MapIdx>) {
        let Some(map) = map else { return };
        let entries = u64::from(self.map(map).desc.max_entries);
        let key = self.value(Reg::R3).as_scalar().and_then(|key| key.bounds.as_const());
        if key.is_some_and(|key| key < entries) {
            self.rely_on(Reg::R3);
        }
    }

    /// Each kind of map is for some helpers.
    fn check_map_type(&self, proto: &HelperProto, map: Option<MapIdx>) -> Checked {
        let Some(map) = map else {
            return Ok(());
        };
        let map_type = self.map(map).desc.map_type;
        let program_type = self.env.program_type.program_type();
        let changes_sockets = holds_sockets(map_type)
            && [HelperId::MAP_UPDATE_ELEM, HelperId::MAP_DELETE_ELEM].contains(&proto.id);
        if !helper_takes_map(proto.id, map_type)
            || (changes_sockets
                && !may_change_sockets(proto.id, program_type, self.env.attach_type))
        {
            return Err(Payload::HelperMap { helper: proto.id, map_type }.into());
        }
        Ok(())
    }

    /// Helpers may not change a map that programs may only read.
    fn check_map_write(&self, helper: HelperId, map: Option<MapIdx>) -> Checked {
        let written = map.filter(|_| WRITES_MAP.contains(&helper));
        match written.filter(|&map| !self.map(map).programs_may_write()) {
            Some(map) => Err(Payload::MapReadOnly { map, helper }.into()),
            None => Ok(()),
        }
    }
}

/// `map_push_elem`.
const MAP_PUSH_ELEM: HelperId = HelperId(87);

/// `snprintf`.
const SNPRINTF: HelperId = HelperId(165);

/// `map_peek_elem`.
const MAP_PEEK_ELEM: HelperId = HelperId(89);

/// Helpers that change a map: update, deletion, push, pop.
const WRITES_MAP: [HelperId; 4] =
    [HelperId::MAP_UPDATE_ELEM, HelperId::MAP_DELETE_ELEM, HelperId(87), HelperId(88)];

fn is_socket(kind: PointerKind) -> bool {
    is_socket_or_null(kind) && !kind.may_be_null()
}

fn is_socket_or_null(kind: PointerKind) -> bool {
    matches!(kind, PointerKind::Object { object, .. } if !object.is_memory())
}

fn is_full_socket_or_null(kind: PointerKind) -> bool {
    matches!(kind, PointerKind::Object { object: Object::Socket, .. })
}

fn is_map_value(kind: PointerKind) -> bool {
    matches!(kind, PointerKind::MapValue(MapValueRef { null: None, .. }))
}

fn is_structure(kind: PointerKind) -> bool {
    matches!(kind, PointerKind::Structure { trust, null: None, .. } if trust.is_for_helpers())
}

fn is_reserved(kind: PointerKind) -> bool {
    matches!(kind, PointerKind::Ringbuf { null: None, .. })
}

/// Memory that may be missing, other than a value of a map.
fn is_missing_memory(kind: PointerKind) -> bool {
    let is_memory = matches!(
        kind,
        PointerKind::Element { .. } | PointerKind::Ringbuf { .. } | PointerKind::Argument { .. }
    );
    is_memory && kind.may_be_null()
}

fn is_dynptr(kind: PointerKind) -> bool {
    matches!(kind, PointerKind::Stack { .. } | PointerKind::Dynptr(_))
}

fn map_of(facts: &CallFacts) -> Checked<MapIdx> {
    facts.map.ok_or_else(|| Unsupported::LateMap.into())
}

fn wrong_kind(reg: Reg, value: &Value, expected: &'static [&'static str]) -> Box<Payload> {
    Payload::HelperArgument { register: reg, kind: value.name(), expected }.into()
}

/// Memory that a helper only reads, which may be memory that can only be read.
const READ_ONLY_ARGS: [ArgKind; 2] = [ArgKind::Memory, ArgKind::MemoryOrNull];

/// Memory that is not a slice made by a kernel function.
const NO_SLICE_ARGS: [ArgKind; 3] = [ArgKind::MapKey, ArgKind::MapValue, ArgKind::MapValueOutput];

/// Checks that a value is of a kind that the argument takes.
fn check_kind(kind: ArgKind, reg: Reg, value: &Value) -> Checked {
    let pointer = value.as_pointer();
    let is = |wanted: fn(PointerKind) -> bool| pointer.is_some_and(|p| wanted(p.kind));
    let is_memory = pointer.is_some_and(|pointer| match pointer.kind {
        PointerKind::Stack { .. } | PointerKind::Packet { .. } | PointerKind::MapKey(_) => true,
        PointerKind::MapValue(value) => value.null.is_none(),
        PointerKind::Ringbuf { null, .. }
        | PointerKind::Argument { null, .. }
        | PointerKind::Slice { null, of: SliceOf::Memory, .. } => null.is_none(),
        PointerKind::Slice { null, of: SliceOf::Kind { writable, .. }, .. } => {
            null.is_none()
                && !NO_SLICE_ARGS.contains(&kind)
                && (writable || READ_ONLY_ARGS.contains(&kind))
        }
        PointerKind::Item { .. } => READ_ONLY_ARGS.contains(&kind),
        PointerKind::Buffer { null, .. } => null.is_none(),
        PointerKind::Structure { trust, null, .. } => null.is_none() && trust == Trust::Trusted,
        PointerKind::Guarded
        | PointerKind::Context
        | PointerKind::Dynptr(_)
        | PointerKind::Map(_)
        | PointerKind::Element { .. }
        | PointerKind::Object { .. }
        | PointerKind::Opaque { .. }
        | PointerKind::Function(_)
        | PointerKind::PacketEnd => false,
    });
    let reads = READ_ONLY_ARGS.contains(&kind);
    let is_read_only = is(|kind| matches!(kind, PointerKind::Buffer { writable: false, .. }));
    let is_memory = is_memory && (reads || !is_read_only);
    let (fits, expected): (_, &[_]) = match kind {
        ArgKind::Unused | ArgKind::Anything | ArgKind::NoFlags => (true, &[]),
        ArgKind::Map => (is(|kind| matches!(kind, PointerKind::Map(_))), &["map_ptr"]),
        ArgKind::Context | ArgKind::ContextOrNull => {
            (is(|kind| kind == PointerKind::Context), &["ctx"])
        }
        ArgKind::Callback => (is(|kind| matches!(kind, PointerKind::Function(_))), &["func"]),
        ArgKind::SpinLock => (is(is_map_value), &["map_value", "ptr_"]),
        ArgKind::Timer => (is(is_map_value), &["map_value"]),
        ArgKind::StackOrNull => (is(|kind| matches!(kind, PointerKind::Stack { .. })), &["fp"]),
        ArgKind::SockCommon => (is(is_socket), SOCKET_KINDS),
        ArgKind::Sock | ArgKind::ReleasedSock => (is(is_socket), SOCK_KINDS),
        ArgKind::SockOrNull => (is(is_socket_or_null), SOCK_KINDS),
        ArgKind::FullSockOrNull => (is(is_full_socket_or_null), &["sock"]),
        ArgKind::MapValueOrNull => {
            // Other memory that may be missing the kernel accepts as well.
            if pointer.is_some_and(|pointer| is_missing_memory(pointer.kind)) {
                return Err(Unsupported::MissingMemory.into());
            }
            let is_value = is(|kind| matches!(kind, PointerKind::MapValue(_)));
            (is_memory || is_value, MEMORY_KINDS)
        }
        ArgKind::ReleasedRingbuf => (is(is_reserved), &["ringbuf_mem"]),
        ArgKind::Task
        | ArgKind::SeqFile
        | ArgKind::File
        | ArgKind::Path
        | ArgKind::SkBuff
        | ArgKind::XdpBuff => (is(is_structure), STRUCTURE_KINDS),
        ArgKind::Size | ArgKind::SizeOrZero | ArgKind::ReservedSize => {
            (value.as_scalar().is_some(), &["scalar"])
        }
        ArgKind::ConstString => {
            let is_value =
                is(|kind| matches!(kind, PointerKind::MapValue(value) if value.null.is_none()));
            (is_value, &["map_value"])
        }
        ArgKind::Dynptr
        | ArgKind::LocalDynptr
        | ArgKind::RingbufDynptr
        | ArgKind::ReleasedDynptr => (is(is_dynptr), &["fp", "dynptr_ptr"]),
        ArgKind::MapKey
        | ArgKind::MapValue
        | ArgKind::MapValueOutput
        | ArgKind::Header20
        | ArgKind::Header40
        | ArgKind::Memory
        | ArgKind::MemoryOrNull
        | ArgKind::Output
        | ArgKind::Update
        | ArgKind::UpdateOrNull
        | ArgKind::U32Update
        | ArgKind::U64Output => (is_memory, MEMORY_KINDS),
    };
    if !fits {
        return Err(wrong_kind(reg, value, expected));
    }
    match pointer {
        Some(pointer) if kind == ArgKind::ReleasedRingbuf && pointer.off != 0 => {
            Err(Payload::HelperReleaseMoved { register: reg, off: pointer.off }.into())
        }
        Some(pointer)
            if !matches!(pointer.kind, PointerKind::MapValue(_))
                && (!is_memory || kind == ArgKind::ReleasedRingbuf) =>
        {
            check_unmodified(reg, pointer)
        }
        _ => Ok(()),
    }
}

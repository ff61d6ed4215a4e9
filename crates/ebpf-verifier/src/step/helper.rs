//! Calls of helpers, checked against their prototypes.

use alloc::format;

use ebpf_isa::uapi::{HelperId, MapType};
use ebpf_isa::{MapIdx, Reg};

use super::memory::check_unmodified;
use super::packet::{check_packet, forget_packet_pointers};
use super::stack::StackVerb;
use super::{FAR, Machine};
use crate::domain::Scalar;
use crate::error::{Checked, ErrorCode, Fault};
use crate::profile::{Feature, Span};
use crate::rules::{ArgKind, HelperProto, PacketAccess, ProgramTypeRules, RetKind};
use crate::state::{Cell, MapValueRef, PointerKind, StackOff, Value};

/// What messages call the pointers that are accepted as memory.
const MEMORY_KINDS: &str =
    "fp, pkt, pkt_meta, map_key, map_value, mem, ringbuf_mem, buf, trusted_ptr_";

/// What earlier arguments of a call say about later ones and about the result.
#[derive(Debug, Default)]
struct CallFacts {
    map: Option<MapIdx>,
    /// The key, where it is a constant in the stack.
    key: Option<u64>,
}

/// What a helper does with memory that it is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum MemoryUse {
    Read,
    /// Fills all of it.
    Fill,
    /// May fill some of it.
    FillPart,
}

/// A piece of memory given to a helper.
#[derive(Debug, Clone, Copy)]
struct Piece {
    reg: Reg,
    size: i64,
    zero_size_allowed: bool,
    usage: MemoryUse,
}

impl Machine<'_> {
    pub(super) fn call_helper(&mut self, id: HelperId) -> Checked {
        let rules = self.env.program_type.clone();
        let proto = self.prototype(&*rules, id)?;
        if proto.gpl_only && !self.env.license_gpl {
            let message = "cannot call GPL-restricted function from non-GPL compatible program";
            return Err(Fault::new(ErrorCode::HelperLicense, message));
        }
        let mut facts = CallFacts::default();
        for (index, reg) in Reg::ARGS.into_iter().enumerate() {
            self.check_argument(proto, index, reg, &mut facts)?;
        }
        self.check_map_write(id, facts.map)?;
        self.fill_output(proto)?;
        let result = self.helper_result(proto, &facts)?;
        self.state.frame_mut().clear_caller_saved();
        self.set(Reg::R0, result);
        if proto.moves_packet {
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
        let (profile, program_type) = (&self.env.profile, rules.program_type());
        let proto = rules.helper(id);
        let span = proto.map_or(Span::ALWAYS, |proto| proto.span);
        let there =
            profile.has_helper(program_type, id, span) && rules.may_call(id, self.env.attach_type);
        match (proto, id.name()) {
            (Some(proto), _) if there => Ok(proto),
            (None, Some(_)) if there => Err(Fault::unsupported(format_args!("the helper {id}"))),
            (_, Some(_)) => {
                let message = format!("program of this type cannot use helper {id}");
                Err(Fault::new(ErrorCode::HelperNotAllowed, message))
            }
            (_, None) => {
                let message = format!("invalid func unknown#{}", id.0.cast_signed());
                Err(Fault::new(ErrorCode::HelperUnknown, message))
            }
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
        if kind == ArgKind::Anything {
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
            let message = "helper access to the packet is not allowed";
            return Err(Fault::new(ErrorCode::PacketForbidden, message));
        }
        if kind == ArgKind::MemoryOrNull && value.is_zero() {
            self.rely_on(reg);
            return Ok(());
        }
        check_kind(kind, reg, &value)?;
        match kind {
            ArgKind::Map => {
                facts.map = value.as_pointer().and_then(|pointer| match pointer.kind {
                    PointerKind::Map(map) => Some(map),
                    _ => None,
                });
                Ok(())
            }
            ArgKind::MapKey => {
                let map = map_of(facts)?;
                let size = self.map(map).desc.key_size.into();
                self.check_piece(Piece::read(reg, size))?;
                facts.key = self.constant_key(reg, map);
                Ok(())
            }
            ArgKind::MapValue => {
                let size = self.map(map_of(facts)?).desc.value_size.into();
                self.check_piece(Piece::read(reg, size))
            }
            ArgKind::Size | ArgKind::SizeOrZero => self.check_size(proto, index, reg, &value),
            ArgKind::Context
            | ArgKind::Memory
            | ArgKind::MemoryOrNull
            | ArgKind::Output
            | ArgKind::Anything
            | ArgKind::Unused => Ok(()),
        }
    }

    /// A size argument, and with it the memory of the argument before.
    fn check_size(
        &mut self,
        proto: &HelperProto,
        index: usize,
        reg: Reg,
        value: &Value,
    ) -> Checked {
        let Some(scalar) = value.as_scalar() else {
            return Err(wrong_kind(reg, value, "scalar"));
        };
        let (number, bounds) = (reg.number(), scalar.bounds);
        let zero_size_allowed = proto.args[index] == ArgKind::SizeOrZero;
        let fault =
            |what: &str| Err(Fault::new(ErrorCode::HelperSize, format!("R{number} {what}")));
        if bounds.smin() < 0 {
            return fault("min value is negative, either use unsigned or 'var &= const'");
        }
        if bounds.umin() == 0 && !zero_size_allowed {
            let (min, max) = (bounds.umin().cast_signed(), bounds.umax().cast_signed());
            return fault(&format!("invalid zero-sized read: u64=[{min},{max}]"));
        }
        if bounds.umax() >= FAR.cast_unsigned() {
            return fault("unbounded memory access, use 'var &= const' or 'if (var < const)'");
        }
        let before = index.checked_sub(1).map(|index| (proto.args[index], Reg::ARGS[index]));
        let Some((kind, memory)) = before else {
            return Err(Fault::unsupported("a size without memory before it"));
        };
        let usage = match (kind, bounds.as_const()) {
            (ArgKind::Output, Some(_)) => MemoryUse::Fill,
            (ArgKind::Output, None) => MemoryUse::FillPart,
            _ => MemoryUse::Read,
        };
        let size = bounds.umax().cast_signed();
        self.check_piece(Piece { reg: memory, size, zero_size_allowed, usage })?;
        self.rely_on(reg);
        Ok(())
    }

    /// Checks memory that a helper reads or writes.
    fn check_piece(&mut self, piece: Piece) -> Checked {
        let Piece { reg, size, zero_size_allowed, usage } = piece;
        let value = self.read(reg)?;
        let pointer = match value {
            Value::Pointer(pointer) => pointer,
            _ if zero_size_allowed && size == 0 && value.is_zero() => return Ok(()),
            _ => return Err(wrong_kind(reg, &value, "fp")),
        };
        match pointer.kind {
            PointerKind::Packet { id, range, .. } => {
                check_packet(reg, &pointer, id, range, 0, size, zero_size_allowed)
            }
            PointerKind::MapValue(MapValueRef { map, null: None }) => {
                self.check_map_flags(map, &pointer, 0, size, usage != MemoryUse::Read)?;
                self.check_map_value(reg, map, &pointer, 0, size, zero_size_allowed)
            }
            PointerKind::Stack { frame } => {
                if size == 0 && !zero_size_allowed {
                    return Err(Fault::new(ErrorCode::HelperSize, "invalid zero-sized read"));
                }
                let verb = match usage {
                    MemoryUse::Read => StackVerb::Read,
                    MemoryUse::Fill | MemoryUse::FillPart => StackVerb::Write,
                };
                let range = self.check_stack_range(reg, &pointer, frame, 0, size, verb)?;
                let is_fixed = pointer.var.as_const().is_some();
                let fills_later = usage == MemoryUse::Fill && is_fixed;
                if !fills_later {
                    self.note_stack_reads(frame, range);
                }
                if usage != MemoryUse::Read && !fills_later {
                    self.state.frame_at_mut(frame).stack.clobber(range.offs());
                }
                Ok(())
            }
            PointerKind::Context
            | PointerKind::Map(_)
            | PointerKind::MapValue(_)
            | PointerKind::Object { .. }
            | PointerKind::PacketEnd => Err(wrong_kind(reg, &value, "fp")),
        }
    }

    /// The stack memory that a helper fills as a whole, once all arguments have been checked.
    fn fill_output(&mut self, proto: &HelperProto) -> Checked {
        for (index, pair) in proto.args.windows(2).enumerate() {
            if pair[0] != ArgKind::Output {
                continue;
            }
            let (reg, size_reg) = (Reg::ARGS[index], Reg::ARGS[index + 1]);
            let size = self.value(size_reg).as_scalar().and_then(|size| size.bounds.as_const());
            let (Value::Pointer(pointer), Some(size)) = (self.read(reg)?, size) else {
                continue;
            };
            if let PointerKind::Stack { frame } = pointer.kind {
                let size = size.cast_signed();
                let range =
                    self.check_stack_range(reg, &pointer, frame, 0, size, StackVerb::Write)?;
                self.state.frame_at_mut(frame).stack.clobber(range.offs());
            }
        }
        Ok(())
    }

    /// Helpers may not change a map that programs may only read.
    fn check_map_write(&self, id: HelperId, map: Option<MapIdx>) -> Checked {
        let writes = matches!(id, HelperId::MAP_UPDATE_ELEM | HelperId::MAP_DELETE_ELEM);
        if writes && map.is_some_and(|map| !self.map(map).programs_may_write()) {
            return Err(Fault::new(ErrorCode::MapForbidden, "write into map forbidden"));
        }
        Ok(())
    }

    fn helper_result(&mut self, proto: &HelperProto, facts: &CallFacts) -> Checked<Value> {
        match proto.ret {
            RetKind::Integer => Ok(Value::UNKNOWN),
            RetKind::Processor => Ok(match self.processors {
                Some(processors) => {
                    let last = u64::from(processors.saturating_sub(1));
                    Value::scalar(Scalar::UNKNOWN.within_unsigned(0, last))
                }
                None => Value::UNKNOWN,
            }),
            RetKind::Void => Ok(Value::Uninit),
            RetKind::MapValueOrNull => {
                let map = map_of(facts)?;
                let entries = u64::from(self.map(map).desc.max_entries);
                let exists = facts.key.is_some_and(|key| key < entries);
                let null = if exists { None } else { Some(self.new_null_id()) };
                Ok(Value::pointer(PointerKind::MapValue(MapValueRef { map, null })))
            }
        }
    }

    /// The key of an array's element, where it is a constant at a constant place in the stack.
    fn constant_key(&mut self, reg: Reg, map: MapIdx) -> Option<u64> {
        let desc = &self.map(map).desc;
        let is_array = matches!(desc.map_type, MapType::Array | MapType::PercpuArray);
        if !is_array || !self.env.profile.features.has(Feature::ConstantKeys) {
            return None;
        }
        let pointer = self.value(reg).as_pointer()?;
        let PointerKind::Stack { frame } = pointer.kind else {
            return None;
        };
        let at = StackOff::new(pointer.const_off()?)?;
        let size = usize::try_from(desc.key_size).ok()?;
        let slot = self.state.frame_at(frame).stack.slot(at);
        if slot.are_zero(at.in_slot(), size) {
            return Some(0);
        }
        // Above the lowest byte, too, the kernel takes the key to be the whole spilled number. A
        // number below 2^32 has zeroes there, so that the key exists if that number does.
        if slot.spill_size() != at.in_slot() + size {
            return None;
        }
        let key = slot.spilled()?.as_scalar()?.bounds.as_const()?;
        self.effects.relied_on.push(Cell::slot(frame, at.slot()));
        Some(key)
    }
}

impl Piece {
    const fn read(reg: Reg, size: i64) -> Self {
        Self { reg, size, zero_size_allowed: false, usage: MemoryUse::Read }
    }
}

fn map_of(facts: &CallFacts) -> Checked<MapIdx> {
    facts.map.ok_or_else(|| Fault::unsupported("a helper whose map is not its first argument"))
}

fn wrong_kind(reg: Reg, value: &Value, expected: &str) -> alloc::boxed::Box<Fault> {
    let message = format!("R{} type={} expected={expected}", reg.number(), value.name());
    Fault::new(ErrorCode::HelperArgument, message)
}

/// Checks that a value is of a kind that the argument takes.
fn check_kind(kind: ArgKind, reg: Reg, value: &Value) -> Checked {
    let pointer = value.as_pointer();
    let is = |wanted: fn(PointerKind) -> bool| pointer.is_some_and(|p| wanted(p.kind));
    let is_memory = is(|kind| match kind {
        PointerKind::Stack { .. } | PointerKind::Packet { .. } => true,
        PointerKind::MapValue(value) => value.null.is_none(),
        PointerKind::Context
        | PointerKind::Map(_)
        | PointerKind::Object { .. }
        | PointerKind::PacketEnd => false,
    });
    let (fits, expected) = match kind {
        ArgKind::Unused | ArgKind::Anything => (true, ""),
        ArgKind::Map => (is(|kind| matches!(kind, PointerKind::Map(_))), "map_ptr"),
        ArgKind::Context => (is(|kind| kind == PointerKind::Context), "ctx"),
        ArgKind::Size | ArgKind::SizeOrZero => (value.as_scalar().is_some(), "scalar"),
        ArgKind::MapKey
        | ArgKind::MapValue
        | ArgKind::Memory
        | ArgKind::MemoryOrNull
        | ArgKind::Output => (is_memory, MEMORY_KINDS),
    };
    if !fits {
        return Err(wrong_kind(reg, value, expected));
    }
    match pointer {
        Some(pointer) if !is_memory => check_unmodified(reg, pointer),
        _ => Ok(()),
    }
}

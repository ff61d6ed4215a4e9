//! States in the spelling of the kernel's verifier log.

use core::fmt::{self, Display, Formatter};

use ebpf_isa::{Reg, Width};

use crate::domain::{Attributes, Scalar, Unsigned};
use crate::environment::Environment;
use crate::state::{
    ByteKind, Cell, CellSet, Distance, Dynptr, DynptrKind, Iter, Link, PacketRange, Pointer,
    PointerKind, ScalarValue, Slot, SlotMask, State, Value,
};

/// What of a frame is printed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shown {
    /// Registers, as bits.
    pub(super) regs: u16,
    pub(super) slots: SlotMask,
}

impl Shown {
    pub(super) const ALL: Self = Self { regs: u16::MAX, slots: SlotMask::MAX };
    pub(super) const NOTHING: Self = Self { regs: 0, slots: 0 };

    pub(super) fn is_nothing(self) -> bool {
        self.regs == 0 && self.slots == 0
    }
}

/// A frame of a state, and what the state holds: ` frame1: R0=1 R10=fp0 fp-8=ctx() refs=2`.
pub(super) struct FrameText<'a> {
    pub(super) env: &'a Environment,
    pub(super) state: &'a State,
    pub(super) index: usize,
    pub(super) shown: Shown,
    /// Numbers that are marked.
    pub(super) precise: &'a CellSet,
}

impl Display for FrameText<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let frame = self.state.frame_at(self.index);
        if self.index > 0 {
            write!(f, " frame{}:", self.index)?;
        }
        for reg in Reg::ALL {
            let value = &frame.regs[reg.index()];
            if *value == Value::Uninit || self.shown.regs & 1 << reg.index() == 0 {
                continue;
            }
            write!(f, " R{}=", reg.number())?;
            self.value(f, value, self.precise.contains(Cell::reg(self.index, reg)))?;
        }
        for (index, slot) in frame.stack.slots().enumerate() {
            let is_touched = slot.bytes().iter().any(|&byte| byte != ByteKind::Invalid);
            if !is_touched || self.shown.slots & 1 << index == 0 {
                continue;
            }
            if let Some(dynptr) = slot.dynptr() {
                if !dynptr.first {
                    write!(f, " fp-{}=", (index + Dynptr::SLOTS) * 8)?;
                    write_dynptr(f, dynptr)?;
                }
                continue;
            }
            if let Some(iter) = slot.iter() {
                write_iter(f, (index + 1) * 8, iter)?;
                continue;
            }
            write!(f, " fp-{}=", (index + 1) * 8)?;
            self.slot(f, slot, self.precise.contains(Cell::slot(self.index, index)))?;
        }
        let lock = self.state.lock.and_then(|lock| lock.element).map(|element| element.0);
        let held = self.state.refs.iter().map(|reference| reference.id.0).chain(lock);
        for (index, id) in held.enumerate() {
            f.write_str(if index == 0 { " refs=" } else { "," })?;
            write!(f, "{id}")?;
        }
        f.write_str(if frame.is_callback { " cb" } else { "" })?;
        f.write_str(if frame.async_entry > 0 { " async_cb" } else { "" })
    }
}

impl FrameText<'_> {
    fn slot(&self, f: &mut Formatter<'_>, slot: &Slot, precise: bool) -> fmt::Result {
        // From the highest byte down; a spilled value stands for its bytes.
        for byte in slot.bytes().iter().rev() {
            f.write_str(match byte {
                ByteKind::Invalid => "?",
                ByteKind::Misc => "m",
                ByteKind::Zero => "0",
                ByteKind::Spill | ByteKind::Dynptr | ByteKind::Iter => break,
            })?;
        }
        slot.spilled().map_or(Ok(()), |value| self.value(f, value, precise))
    }

    fn value(&self, f: &mut Formatter<'_>, value: &Value, precise: bool) -> fmt::Result {
        match value {
            Value::Uninit => Ok(()),
            Value::Scalar(scalar) => number(f, scalar, precise),
            Value::Pointer(pointer) => self.pointer(f, pointer),
        }
    }

    fn pointer(&self, f: &mut Formatter<'_>, pointer: &Pointer) -> fmt::Result {
        f.write_str(pointer.kind.name())?;
        if let PointerKind::Opaque { ty, .. } = pointer.kind {
            f.write_str(self.env.modules.object_types()[ty.0 as usize].name())?;
        }
        if let (PointerKind::Structure { ty, .. }, Some(types)) =
            (pointer.kind, &self.env.kernel_types)
        {
            f.write_str(types.btf().type_name(ty))?;
        }
        if let PointerKind::Stack { frame } = pointer.kind {
            if frame != self.index {
                write!(f, "[{frame}]")?;
            }
            if let Some(off) = pointer.const_off() {
                return write!(f, "{}", signed(off));
            }
        }
        f.write_str("(")?;
        let mut list = List { separator: "" };
        match pointer.kind {
            PointerKind::MapValue(value) => {
                let id = value.null.map(|id| id.0).or(value.element.map(|id| id.0));
                if let Some(id) = id {
                    list.item(f, format_args!("id={id}"))?;
                }
                self.map(f, &mut list, value.map)?;
            }
            PointerKind::Element { map, null, reference, .. } => {
                list.item(f, format_args!("id={}", null.0))?;
                if let Some(id) = reference {
                    list.item(f, format_args!("ref_obj_id={}", id.0))?;
                }
                self.map(f, &mut list, map)?;
            }
            PointerKind::Map(map) | PointerKind::MapKey(map) => self.map(f, &mut list, map)?,
            PointerKind::Object { null, reference, .. }
            | PointerKind::Opaque { null, reference, .. }
            | PointerKind::Slice { null, reference, .. }
            | PointerKind::Structure { null, reference, .. } => {
                if let Some(id) = null {
                    list.item(f, format_args!("id={}", id.0))?;
                }
                if let Some(id) = reference {
                    list.item(f, format_args!("ref_obj_id={}", id.0))?;
                }
            }
            PointerKind::Argument { null: Some(id), .. }
            | PointerKind::Buffer { null: Some(id), .. } => {
                list.item(f, format_args!("id={}", id.0))?;
            }
            PointerKind::Item { id, iter, .. } => {
                list.item(f, format_args!("id={}", id.0))?;
                list.item(f, format_args!("ref_obj_id={}", iter.0))?;
            }
            PointerKind::Dynptr(id) => {
                list.item(f, format_args!("id={}", id.number()))?;
            }
            PointerKind::Packet { id, .. } if id.0 != 0 => {
                list.item(f, format_args!("id={}", id.0))?;
            }
            _ => {}
        }
        if let PointerKind::Ringbuf { null, .. } = pointer.kind {
            if let Some(id) = null {
                list.item(f, format_args!("id={}", id.0))?;
            }
            if let Some(id) = pointer.kind.acquired() {
                list.item(f, format_args!("ref_obj_id={}", id.0))?;
            }
        }
        if pointer.off != 0 {
            list.item(f, format_args!("off={}", signed(pointer.off.into())))?;
        }
        if let PointerKind::Packet { range, .. } = pointer.kind {
            // Behind the end the kernel has a negative number of bytes.
            let bytes: i64 = match range {
                PacketRange::Bytes(bytes) => bytes.into(),
                PacketRange::AtEnd => -1,
                PacketRange::BeyondEnd => -2,
            };
            list.item(f, format_args!("r={}", Unsigned(bytes.cast_unsigned())))?;
        }
        if let PointerKind::Dynptr(_) = pointer.kind {
            list.item(f, format_args!("type={}", DynptrKind::Local.name()))?;
        }
        if let PointerKind::Ringbuf { size, .. }
        | PointerKind::Argument { size, .. }
        | PointerKind::Slice { size, .. }
        | PointerKind::Item { size, .. } = pointer.kind
        {
            list.item(f, format_args!("sz={}", Unsigned(size.into())))?;
        }
        if pointer.kind == PointerKind::Guarded {
            list.item(f, format_args!("sz=0"))?;
        }
        match pointer.var.as_const() {
            Some(0) => {}
            Some(_) => list.item(f, format_args!("imm={}", pointer.var))?,
            None => list.attributes(f, &pointer.var)?,
        }
        f.write_str(")")
    }

    fn map(&self, f: &mut Formatter<'_>, list: &mut List, map: ebpf_isa::MapIdx) -> fmt::Result {
        let Some(info) = self.env.map(map) else {
            return Ok(());
        };
        if !info.name.is_empty() {
            list.item(f, format_args!("map={}", kernel_name(&info.name)))?;
        }
        let (key, value) = (info.desc.key_size, info.desc.value_size);
        list.item(f, format_args!("ks={key},vs={value}"))
    }
}

/// As much of a name as the kernel keeps of a map's: 15 bytes.
fn kernel_name(name: &str) -> &str {
    let end = (0..=15).rev().find(|&at| name.is_char_boundary(at));
    &name[..end.unwrap_or(0)]
}

/// An iterator, of which the slot that it starts in has the reference.
fn write_iter(f: &mut Formatter<'_>, below: usize, iter: &Iter) -> fmt::Result {
    let Some(reference) = iter.reference else { return Ok(()) };
    let (name, id, depth) = (iter.ty.name, reference.0, iter.depth);
    let state = if iter.active { "active" } else { "drained" };
    write!(f, " fp-{below}=iter_{name}(ref_id={id},state={state},depth={depth})")
}

fn write_dynptr(f: &mut Formatter<'_>, dynptr: &Dynptr) -> fmt::Result {
    write!(f, "dynptr_{}(id={}", dynptr.kind.name(), dynptr.id.number())?;
    if let Some(reference) = dynptr.reference {
        write!(f, ",ref_id={}", reference.0)?;
    }
    // What the kernel takes for one more id says that this is the slot in which it starts.
    f.write_str(",dynptr_id=1)")
}

fn number(f: &mut Formatter<'_>, scalar: &ScalarValue, precise: bool) -> fmt::Result {
    if precise {
        f.write_str("P")?;
    }
    if scalar.bounds.as_const().is_some() {
        return write!(f, "{}", scalar.bounds);
    }
    f.write_str("scalar(")?;
    let mut list = List { separator: "" };
    if let Some(Link { id, distance, .. }) = scalar.link {
        list.item(f, format_args!("id={}", id.0))?;
        if let Some(Distance { by, width: Width::W32 | Width::W64 }) = distance {
            write!(f, "{by:+}")?;
        }
    }
    list.attributes(f, &scalar.bounds)?;
    f.write_str(")")
}

/// A number as the kernel prints signed ones.
fn signed(number: i64) -> Scalar {
    Scalar::constant(number.cast_unsigned())
}

/// Items with commas between them.
struct List {
    separator: &'static str,
}

impl List {
    fn item(&mut self, f: &mut Formatter<'_>, item: fmt::Arguments<'_>) -> fmt::Result {
        f.write_str(self.separator)?;
        self.separator = ",";
        f.write_fmt(item)
    }

    fn attributes(&mut self, f: &mut Formatter<'_>, scalar: &Scalar) -> fmt::Result {
        if *scalar == Scalar::UNKNOWN {
            return Ok(());
        }
        self.item(f, format_args!("{}", Attributes(scalar)))
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::{String, ToString};

    use ebpf_isa::uapi::{MapDesc, MapType};
    use ebpf_isa::{MapIdx, Pc, SubprogIdx};

    use super::*;
    use crate::environment::MapInfo;
    use crate::rules::program_types;
    use crate::state::{Frame, MapValueRef, NullId, PacketId, PacketRegion, ScalarId, StackOff};

    /// A state as the log has it, with a map of that name in its environment.
    fn text(state: &State, index: usize, precise: &[Cell]) -> String {
        let mut env = Environment::new(program_types::xdp());
        let (key_size, value_size) = (4, 8);
        let desc =
            MapDesc { map_type: MapType::Hash, key_size, value_size, max_entries: 1, flags: 0 };
        env.maps = vec![MapInfo::new("counts", desc)];
        let precise = precise.iter().copied().collect();
        let shown = Shown::ALL;
        FrameText { env: &env, state, index, shown, precise: &precise }.to_string()
    }

    #[test]
    fn long_names_are_cut() {
        assert_eq!(kernel_name("fifteen_letters"), "fifteen_letters");
        assert_eq!(kernel_name("sixteen__letters"), "sixteen__letter");
        assert_eq!(kernel_name("fourteen______\u{e9}"), "fourteen______");
    }

    /// How `r6` is printed.
    fn value(value: Value) -> String {
        let mut state = State::entry();
        state.frame_mut().regs[1] = Value::Uninit;
        state.frame_mut().regs[6] = value;
        let text = text(&state, 0, &[]);
        text.strip_prefix(" R6=").and_then(|text| text.strip_suffix(" R10=fp0")).unwrap().into()
    }

    fn pointer(kind: PointerKind, off: i32, var: Scalar) -> String {
        value(Value::Pointer(Pointer { kind, off, var }))
    }

    fn linked(distance: Option<i32>) -> String {
        let distance = distance.map(|by| Distance { by, width: Width::W64 });
        let link = Some(Link { id: ScalarId(3), distance, signed: false });
        value(Value::Scalar(ScalarValue { bounds: Scalar::UNKNOWN, link, null_of: None }))
    }

    #[test]
    fn numbers() {
        assert_eq!(value(Value::constant(5)), "5");
        assert_eq!(value(Value::constant(u64::MAX)), "-1");
        assert_eq!(value(Value::UNKNOWN), "scalar()");
        assert_eq!(linked(None), "scalar(id=3)");
        assert_eq!(
            (linked(Some(8)), linked(Some(-8))),
            ("scalar(id=3+8)".into(), "scalar(id=3-8)".into())
        );
        let byte = Scalar::UNKNOWN.within_unsigned(0, 255);
        assert_eq!(
            value(Value::scalar(byte)),
            "scalar(smin=smin32=0,smax=umax=smax32=umax32=255,var_off=(0x0; 0xff))"
        );
    }

    #[test]
    fn pointers() {
        let (zero, byte) = (Scalar::constant(0), Scalar::UNKNOWN.within_unsigned(0, 255));
        assert_eq!(value(Value::pointer(PointerKind::Context)), "ctx()");
        assert_eq!(pointer(PointerKind::Context, -8, zero), "ctx(off=-8)");
        assert_eq!(pointer(PointerKind::Stack { frame: 0 }, -16, zero), "fp-16");
        assert_eq!(
            pointer(PointerKind::Stack { frame: 0 }, -16, byte),
            "fp(off=-16,smin=smin32=0,smax=umax=smax32=umax32=255,var_off=(0x0; 0xff))"
        );
        assert_eq!(
            value(Value::pointer(PointerKind::Map(MapIdx(0)))),
            "map_ptr(map=counts,ks=4,vs=8)"
        );
        let element =
            |null| PointerKind::MapValue(MapValueRef { map: MapIdx(0), null, element: None });
        assert_eq!(pointer(element(None), 4, zero), "map_value(map=counts,ks=4,vs=8,off=4)");
        assert_eq!(
            pointer(element(Some(NullId(2))), 0, zero),
            "map_value_or_null(id=2,map=counts,ks=4,vs=8)"
        );
        let packet =
            |id, range| PointerKind::Packet { region: PacketRegion::Data, id: PacketId(id), range };
        assert_eq!(pointer(packet(0, PacketRange::Bytes(14)), 0, zero), "pkt(r=14)");
        assert_eq!(pointer(packet(2, PacketRange::Bytes(0)), 14, zero), "pkt(id=2,off=14,r=0)");
        assert_eq!(pointer(packet(0, PacketRange::AtEnd), 0, zero), "pkt(r=0xffffffffffffffff)");
    }

    #[test]
    fn slots_show_their_bytes_or_what_is_spilled() {
        let mut state = State::entry();
        let stack = &mut state.frame_mut().stack;
        let at = |off| StackOff::new(off).unwrap();
        stack.slot_mut(at(-8)).set_bytes(0, 2, true);
        stack.slot_mut(at(-8)).set_bytes(4, 4, false);
        stack.slot_mut(at(-24)).set_spill(Value::constant(7), 8);
        stack.slot_mut(at(-32)).set_bytes(0, 8, false);
        stack.slot_mut(at(-32)).set_spill(Value::constant(7), 4);
        // Nothing is known of the slot at -16.
        assert_eq!(
            text(&state, 0, &[Cell::slot(0, 2), Cell::reg(0, Reg::R1)]),
            " R1=ctx() R10=fp0 fp-8=mmmm??00 fp-24=P7 fp-32=mmmm7"
        );
    }

    #[test]
    fn frames_are_named_but_for_the_first() {
        let mut state = State::entry();
        state.push_frame(Frame::new(SubprogIdx(1), 1, Some(Pc(1))));
        let caller = Value::pointer(PointerKind::Stack { frame: 0 });
        state.frame_mut().regs[2] = caller;
        assert_eq!(text(&state, 0, &[]), " R1=ctx() R10=fp0");
        assert_eq!(text(&state, 1, &[]), " frame1: R2=fp[0]0 R10=fp0");
    }

    #[test]
    fn what_is_not_asked_for_is_left_out() {
        let mut state = State::entry();
        state.frame_mut().stack.slot_mut(StackOff::new(-8).unwrap()).set_bytes(0, 8, true);
        let env = Environment::new(program_types::xdp());
        let precise = &CellSet::EMPTY;
        let text =
            |shown| FrameText { env: &env, state: &state, index: 0, shown, precise }.to_string();
        assert_eq!(text(Shown { regs: 0b10, slots: 0 }), " R1=ctx()");
        assert_eq!(text(Shown { regs: 0, slots: 1 }), " fp-8=00000000");
        assert_eq!(text(Shown::NOTHING), "");
    }
}

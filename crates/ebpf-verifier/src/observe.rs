//! What an explored state says of a machine that runs the program.
//!
//! Whatever a program does, each moment of a run must be what one of the states says that were
//! explored for the instruction. [`Observer`] sees these states, [`ExploredState::admits`] holds
//! one of them against a moment.

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;

use ebpf_isa::abi::STACK_SIZE;
use ebpf_isa::{Extend, MapIdx, Pc, Reg, Size, SubprogIdx};

use crate::domain::{self, Scalar};
use crate::kernel_types::Trust;
use crate::state::{
    Frame, MapValueRef, PacketRange, PacketRegion, Pointer, PointerKind, Slot, StackOff, State,
    Value,
};

/// Sees every state that is explored: [`verify_observed`](crate::verify_observed).
pub trait Observer {
    /// The instruction at `pc` is explored next, in this state.
    fn before(&mut self, pc: Pc, state: ExploredState);
}

/// A state at some instruction. Copying one is cheap.
#[derive(Debug, Clone)]
pub struct ExploredState(State);

/// A moment of a run: what a state is held against.
///
/// Frames are numbered from that of the main program, 0.
pub trait Concrete {
    /// How many frames there are.
    fn depth(&self) -> usize;
    /// What a register of a frame holds; `None` where nobody can tell, as of a caller's argument
    /// registers.
    fn register(&self, frame: usize, reg: Reg) -> Option<u64>;
    /// The byte of a frame's stack at this negative distance from the frame pointer; `None` if the
    /// frame is smaller.
    fn stack_byte(&self, frame: usize, off: i16) -> Option<u8>;
    /// Where the context starts.
    fn context(&self) -> u64;
    /// Where the packet is.
    fn packet(&self) -> PacketBounds;
    /// What stands for a map.
    fn map(&self, map: MapIdx) -> u64;
    /// Where the map's values start.
    fn map_values(&self, map: MapIdx) -> Vec<u64>;
}

/// Where a packet is in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PacketBounds {
    /// Start of the metadata.
    pub meta: u64,
    /// Start of the packet, and end of the metadata.
    pub start: u64,
    /// End of the packet.
    pub end: u64,
}

/// What of a moment is not as a state says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Excluded {
    /// The frame.
    pub frame: usize,
    /// Where in it.
    pub place: Place,
    /// What is there; `None` if there is nothing.
    pub value: Option<u64>,
    /// What the state says.
    pub expected: String,
}

/// A place in a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// A register.
    Reg(Reg),
    /// Bytes of the stack, from this distance from the frame pointer on.
    Stack(i16),
    /// The frame itself.
    Frame,
}

impl fmt::Display for Excluded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.place {
            Place::Reg(reg) => write!(f, "r{}", reg.number())?,
            Place::Stack(off) => write!(f, "fp{off}")?,
            Place::Frame => f.write_str("the frame")?,
        }
        match self.value {
            Some(value) => write!(f, " of frame {} is {value:#x}", self.frame)?,
            None => write!(f, " of frame {} is not there", self.frame)?,
        }
        write!(f, ", expected is {}", self.expected)
    }
}

impl core::error::Error for Excluded {}

impl ExploredState {
    pub(crate) fn of(state: &State) -> Self {
        Self(state.clone())
    }

    /// Whether the state allows the moment: every register and every byte of stack.
    ///
    /// # Errors
    /// The first place that is not as the state says.
    pub fn admits(&self, moment: &dyn Concrete) -> Result<(), Excluded> {
        let depth = self.0.depth();
        // A global function is explored without its callers.
        let is_whole = self.0.frame_at(0).subprog == SubprogIdx::MAIN;
        let below = moment.depth().checked_sub(depth).filter(|&below| (below == 0) == is_whole);
        let Some(below) = below else {
            let expected = "one of so many frames".to_string();
            let value = Some(moment.depth() as u64);
            return Err(Excluded { frame: depth, place: Place::Frame, value, expected });
        };
        (0..depth).try_for_each(|index| {
            let frame = Checker { moment, below, frame: below + index };
            frame.registers(self.0.frame_at(index))?;
            frame.stack(self.0.frame_at(index))
        })
    }
}

/// Holds a frame of a state against a moment.
struct Checker<'m> {
    moment: &'m dyn Concrete,
    /// Frames of the moment below the first one of the state.
    below: usize,
    frame: usize,
}

impl Checker<'_> {
    fn excluded(&self, place: Place, value: Option<u64>, expected: String) -> Excluded {
        Excluded { frame: self.frame, place, value, expected }
    }

    fn registers(&self, frame: &Frame) -> Result<(), Excluded> {
        for reg in Reg::ALL {
            let value = &frame.regs[reg.index()];
            let Some(found) = self.moment.register(self.frame, reg) else { continue };
            if !self.allows(value, found) {
                return Err(self.excluded(Place::Reg(reg), Some(found), describe(value)));
            }
        }
        Ok(())
    }

    fn stack(&self, frame: &Frame) -> Result<(), Excluded> {
        let lowest = -(STACK_SIZE as i64);
        for low in (lowest..0).step_by(8).filter_map(StackOff::new) {
            let slot = frame.stack.slot(low);
            let off = -(low.depth() as i16);
            self.slot(slot, off)?;
        }
        Ok(())
    }

    /// A slot whose lowest byte is at this distance from the frame pointer.
    fn slot(&self, slot: &Slot, off: i16) -> Result<(), Excluded> {
        let byte = |at: usize| self.moment.stack_byte(self.frame, off + at as i16);
        for at in (0..8).filter(|&at| slot.are_zero(at, 1)) {
            if byte(at) != Some(0) {
                let place = Place::Stack(off + at as i16);
                return Err(self.excluded(place, byte(at).map(u64::from), "0".to_string()));
            }
        }
        let (Some(value), size) = (slot.spilled(), slot.spill_size()) else {
            return Ok(());
        };
        let found = (0..size)
            .rev()
            .map(byte)
            .try_fold(0, |high, low| low.map(|low| high << 8 | u64::from(low)));
        let stored = cut(value, size);
        match found {
            Some(found) if self.allows(&stored, found) => Ok(()),
            _ => Err(self.excluded(Place::Stack(off), found, describe(&stored))),
        }
    }

    fn allows(&self, value: &Value, found: u64) -> bool {
        match value {
            Value::Uninit => true,
            Value::Scalar(scalar) => scalar.bounds.contains(found),
            Value::Pointer(pointer) => self.allows_pointer(pointer, found),
        }
    }

    fn allows_pointer(&self, pointer: &Pointer, found: u64) -> bool {
        let Pointer { kind, off, var } = pointer;
        let fixed = found.wrapping_sub(i64::from(*off).cast_unsigned());
        let is_from = |base: u64| var.contains(fixed.wrapping_sub(base));
        let packet = self.moment.packet();
        match *kind {
            PointerKind::Context => is_from(self.moment.context()),
            PointerKind::Map(map) => is_from(self.moment.map(map)),
            // Where the host keeps its keys is not known here, nor which functions are where.
            PointerKind::MapKey(_)
            | PointerKind::Function(_)
            | PointerKind::Item { .. }
            | PointerKind::Dynptr(_) => found != 0,
            PointerKind::MapValue(MapValueRef { map, null, .. }) => {
                null.is_some() && found == 0 || self.moment.map_values(map).into_iter().any(is_from)
            }
            PointerKind::PacketEnd => is_from(packet.end),
            PointerKind::Packet { region, range, .. } => {
                let (base, end) = match region {
                    PacketRegion::Data => (packet.start, packet.end),
                    PacketRegion::Meta => (packet.meta, packet.start),
                };
                let in_range = match range {
                    PacketRange::Bytes(0) => true,
                    PacketRange::Bytes(bytes) => fixed.wrapping_add(bytes.into()) <= end,
                    PacketRange::AtEnd => found >= end,
                    PacketRange::BeyondEnd => found > end,
                };
                is_from(base) && in_range
            }
            // Where the host keeps its objects is not known here, but that they exist.
            PointerKind::Element { .. } | PointerKind::Guarded => true,
            // Those that are not trusted need not.
            PointerKind::Structure { trust, null, .. } => {
                null.is_some() || trust != Trust::Trusted || found != 0
            }
            PointerKind::Object { null, .. }
            | PointerKind::Opaque { null, .. }
            | PointerKind::Buffer { null, .. }
            | PointerKind::Ringbuf { null, .. }
            | PointerKind::Slice { null, .. }
            | PointerKind::Argument { null, .. } => null.is_some() || found != 0,
            PointerKind::Stack { frame } => {
                self.moment.register(self.below + frame, Reg::FP).is_some_and(is_from)
            }
        }
    }
}

/// What is stored of a value in so many bytes.
fn cut(value: &Value, bytes: usize) -> Value {
    let size = Size::ALL.iter().find(|size| usize::from(size.bytes()) == bytes);
    match (value, size) {
        (Value::Scalar(scalar), Some(&size)) => {
            Value::scalar(domain::narrow(size, Extend::Zero, &scalar.bounds))
        }
        _ => *value,
    }
}

fn describe(value: &Value) -> String {
    match value {
        Value::Scalar(scalar) => scalar.bounds.to_string(),
        Value::Pointer(Pointer { kind, off, var }) if *var == Scalar::constant(0) => {
            alloc::format!("{}{off:+}", kind.name())
        }
        Value::Pointer(Pointer { kind, off, var }) => {
            alloc::format!("{}{off:+} and {var}", kind.name())
        }
        Value::Uninit => value.name().to_string(),
    }
}

//! The frames of a run, put together from what is seen of it.

#![allow(unsafe_code, reason = "the stack of the interpreter is looked at")]

use ebpf_runtime::interp::Moment;
use ebpf_runtime::isa::{MapIdx, Reg};
use ebpf_runtime::verifier::{Concrete, PacketBounds, Rewritten};

use super::world::Places;

/// The frames that there are, the main program's first.
#[derive(Debug, Default)]
pub(crate) struct Frames(Vec<Frame>);

/// What was last seen of a frame while its function ran.
#[derive(Debug)]
struct Frame {
    regs: [u64; 11],
    /// Bytes of stack.
    size: u16,
}

impl Frames {
    /// Takes in another moment.
    pub(crate) fn update(&mut self, rewritten: &Rewritten, moment: &Moment<'_>) {
        let subprog = rewritten.program.subprog_of(moment.pc());
        let size = rewritten.facts.subprogs[subprog.index()].stack_depth;
        let regs = Reg::ALL.map(|reg| moment.reg(reg));
        // Code that passes inserted uses registers for itself, and gives them back.
        let is_inserted = rewritten.map.old(moment.pc()).is_none();
        if is_inserted && self.0.len() > moment.depth() {
            return self.0.truncate(moment.depth() + 1);
        }
        self.0.truncate(moment.depth());
        self.0.push(Frame { regs, size });
    }

    /// The frames in their places.
    pub(crate) fn concrete<'m>(&'m self, places: &'m Places) -> impl Concrete + 'm {
        Now { frames: &self.0, places }
    }
}

/// A moment of a run.
struct Now<'m> {
    frames: &'m [Frame],
    places: &'m Places,
}

impl Concrete for Now<'_> {
    fn depth(&self) -> usize {
        self.frames.len()
    }

    fn register(&self, frame: usize, reg: Reg) -> Option<u64> {
        let is_caller = frame + 1 < self.frames.len();
        // A call may have destroyed the others.
        let is_kept = reg >= Reg::R6;
        (is_kept || !is_caller).then(|| self.frames[frame].regs[reg.index()])
    }

    fn stack_byte(&self, frame: usize, off: i16) -> Option<u8> {
        let Frame { regs, size } = &self.frames[frame];
        if !(-i32::from(*size)..0).contains(&off.into()) {
            return None;
        }
        let at = regs[Reg::FP.index()].wrapping_add_signed(off.into());
        // SAFETY: the byte is inside of a frame of the run that is being watched, which is checked
        // memory: it was cleared at entry. Nobody writes it while the run is watched.
        Some(unsafe { std::ptr::with_exposed_provenance::<u8>(at as usize).read() })
    }

    fn context(&self) -> u64 {
        self.places.context
    }

    fn packet(&self) -> PacketBounds {
        self.places.packet
    }

    fn map(&self, map: MapIdx) -> u64 {
        self.places.maps[map.index()].handle
    }

    fn map_values(&self, map: MapIdx) -> Vec<u64> {
        self.places.maps[map.index()].values().collect()
    }
}

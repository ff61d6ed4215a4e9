//! What is known at one point of one path: the frames, their registers and stacks.

mod cell;
mod frame;
mod object;
mod refs;
mod stack;
mod value;

use alloc::rc::Rc;

use ebpf_isa::{Pc, Reg, RegSet};

use refs::Refs;

pub(crate) use cell::{At, Cell, CellSet, FRAMES_MAX, LinkedCells, SlotMask, SlotSets};
pub(crate) use frame::Frame;
pub(crate) use object::{Dynptr, DynptrId, DynptrKind, Iter};
pub(crate) use refs::{HeldLock, RefId, Reference};
pub(crate) use stack::{ByteKind, Slot, StackOff};
pub(crate) use value::{
    Distance, ElementId, Holds, Link, MapValueRef, NullId, OpaqueId, Origin, PacketId, PacketRange,
    PacketRegion, Pointer, PointerKind, ScalarId, ScalarValue, SliceOf, Value,
};

/// Why an index is that of a frame.
const THERE: &str = "frames are asked for by pointers into them, which do not outlive them";

/// Frames from the main program, or a global function, to the function being explored. Copying a state shares the frames
/// until one of them is written.
#[derive(Debug, Clone)]
pub(crate) struct State {
    /// The frames there are, then `None`.
    frames: [Option<Rc<Frame>>; FRAMES_MAX],
    depth: u8,
    /// What was acquired, in whatever frame.
    pub(crate) refs: Refs,
    /// The lock that is held. There is nothing acquired while it is.
    pub(crate) lock: Option<HeldLock>,
    /// How many callbacks the path has gone through.
    pub(crate) rounds: u32,
    /// How many times it went on in a loop that `may_goto` might have ended.
    pub(crate) may_gotos: u32,
}

impl State {
    /// The state at the start of a program.
    pub(crate) fn entry() -> Self {
        Self::of(Frame::main())
    }

    /// The state with this frame alone: that of the main program, or of a function that is explored
    /// for itself.
    pub(crate) fn of(first: Frame) -> Self {
        let frames = [const { None }; FRAMES_MAX];
        let refs = Refs::default();
        let mut state = Self { frames, depth: 0, refs, lock: None, rounds: 0, may_gotos: 0 };
        state.push_frame(first);
        state
    }

    /// Its share of the memory that it and its copies take.
    pub(crate) fn bytes(&self) -> usize {
        let of_frame = |frame: &Rc<Frame>| frame.bytes() / Rc::strong_count(frame);
        self.refs.bytes() + self.frames.iter().flatten().map(of_frame).sum::<usize>()
    }

    /// At most so many bytes are not shared with an earlier state.
    pub(crate) fn bytes_beside(&self, earlier: &Self) -> usize {
        let frames = self.frames.iter().zip(&earlier.frames).filter_map(|pair| match pair {
            (Some(frame), Some(earlier)) if Rc::ptr_eq(frame, earlier) => None,
            (frame, _) => frame.as_ref(),
        });
        let frames: usize = frames.map(|frame| frame.bytes_max()).sum();
        frames + self.refs.bytes_beside(&earlier.refs)
    }

    /// Number of frames, at least 1.
    pub(crate) fn depth(&self) -> usize {
        self.depth.into()
    }

    /// Index of the function being explored.
    pub(crate) fn current(&self) -> usize {
        self.depth() - 1
    }

    #[inline]
    pub(crate) fn frame(&self) -> &Frame {
        self.frame_at(self.current())
    }

    #[inline]
    pub(crate) fn frame_mut(&mut self) -> &mut Frame {
        self.frame_at_mut(self.current())
    }

    #[inline]
    pub(crate) fn frame_at(&self, index: usize) -> &Frame {
        self.frames[index].as_ref().expect(THERE)
    }

    #[inline]
    pub(crate) fn frame_at_mut(&mut self, index: usize) -> &mut Frame {
        owned(self.frames[index].as_mut().expect(THERE))
    }

    pub(crate) fn push_frame(&mut self, frame: Frame) {
        self.push_shared(Rc::new(frame));
    }

    pub(crate) fn push_shared(&mut self, frame: Rc<Frame>) {
        self.frames[self.depth()] = Some(frame);
        self.depth += 1;
    }

    /// Drops the frame being explored; `None` if it is the first one, which stays.
    pub(crate) fn pop_frame(&mut self) -> Option<Rc<Frame>> {
        if self.depth == 1 {
            return None;
        }
        self.depth -= 1;
        self.frames[self.depth()].take()
    }

    /// Gives back what was acquired: pointers to it are released, or those `that_the_kernel_knows`.
    /// Says whether it was there.
    pub(crate) fn release(&mut self, id: RefId, that_the_kernel_knows: bool) -> bool {
        let refers = |value: &Value| match that_the_kernel_knows {
            true => value.acquired() == Some(id),
            false => value.reference() == Some(id),
        };
        let released = self.refs.release(id);
        if released {
            self.update(refers, Value::release);
        }
        released
    }

    /// What is in a register or spilled into a slot; [`Value::Uninit`] where nothing is spilled.
    pub(crate) fn cell(&self, cell: Cell) -> &Value {
        let frame = self.frame_at(cell.frame.into());
        match cell.at {
            At::Reg(reg) => &frame.regs[reg.index()],
            At::Slot(slot) => frame.stack.spilled(slot.into()).unwrap_or(&Value::Uninit),
        }
    }

    /// As [`State::cell`], for writing; `None` where nothing is spilled.
    pub(crate) fn cell_mut(&mut self, cell: Cell) -> Option<&mut Value> {
        let frame = self.frame_at_mut(cell.frame.into());
        match cell.at {
            At::Reg(reg) => Some(&mut frame.regs[reg.index()]),
            At::Slot(slot) => frame.stack.spilled_mut(slot.into()),
        }
    }

    /// Where the function of the frame at `index` is: the call in all frames but the last one, for
    /// which `pc` is given.
    pub(crate) fn place_in(&self, index: usize, pc: Pc) -> Pc {
        match self.frames.get(index + 1) {
            Some(Some(callee)) => callee.callsite().expect("only the first frame has no caller"),
            _ => pc,
        }
    }

    /// The registers and spilled values that may still be read, those of the function being
    /// explored first. Within a frame, registers come before the stack.
    pub(crate) fn live_cells(
        &self,
        pc: Pc,
        live: impl Fn(Pc) -> RegSet,
    ) -> impl Iterator<Item = (Cell, &Value)> {
        (0..self.depth()).rev().flat_map(move |index| {
            self.cells_of(index, live(self.place_in(index, pc)).without(Reg::FP))
        })
    }

    /// All registers but the frame pointers, and all spilled values, those of the main program
    /// first.
    pub(crate) fn cells(&self) -> impl Iterator<Item = (Cell, &Value)> {
        (0..self.depth()).flat_map(|index| self.cells_in(index))
    }

    /// Those of one frame.
    pub(crate) fn cells_in(&self, index: usize) -> impl Iterator<Item = (Cell, &Value)> {
        let regs = Reg::ALL.into_iter().collect::<RegSet>().without(Reg::FP);
        self.cells_of(index, regs)
    }

    /// These registers of a frame, and its spilled values.
    fn cells_of(&self, index: usize, regs: RegSet) -> impl Iterator<Item = (Cell, &Value)> {
        let frame = self.frame_at(index);
        let regs = regs.iter().map(move |reg| (Cell::reg(index, reg), &frame.regs[reg.index()]));
        let slots = frame.stack.slots().enumerate();
        let spilled = slots
            .filter_map(move |(slot, content)| Some((Cell::slot(index, slot), content.spilled()?)));
        regs.chain(spilled)
    }

    /// Changes those registers and spilled values that are `wanted`, those of the function being
    /// explored first. Frames without any stay shared.
    pub(crate) fn update(
        &mut self,
        wanted: impl Fn(&Value) -> bool,
        mut change: impl FnMut(&mut Value),
    ) {
        for frame in self.frames.iter_mut().flatten().rev() {
            if frame.values().any(&wanted) {
                Rc::make_mut(frame).values_where(&wanted).for_each(&mut change);
            }
        }
    }
}

/// [`Rc::make_mut`], with the copy kept out of the way: mostly nothing is shared.
#[inline]
fn owned<T: Clone>(shared: &mut Rc<T>) -> &mut T {
    if Rc::strong_count(shared) > 1 {
        copy(shared);
    }
    Rc::get_mut(shared).expect("invariant: there are no weak references, and no others now")
}

#[inline(never)]
fn copy<T: Clone>(shared: &mut Rc<T>) {
    *shared = Rc::new(T::clone(shared));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slot(off: i64) -> StackOff {
        StackOff::new(off).expect("it is in the frame")
    }

    /// The bytes of all of them together.
    fn bytes(states: &[State]) -> usize {
        states.iter().map(State::bytes).sum()
    }

    #[test]
    fn copies_take_no_memory_until_they_are_written() {
        let mut state = State::entry();
        state.frame_mut().stack.slot_mut(slot(-512)).set_spill(Value::constant(1), 8);
        let alone = state.bytes();
        assert!(alone >= size_of::<Frame>() + 64 * size_of::<Slot>() + size_of::<Value>());
        let mut both = [state.clone(), state];
        assert_eq!((bytes(&both), both[1].bytes_beside(&both[0])), (alone / 2 * 2, 0));
        // The frame is copied, its stack is not.
        both[1].frame_mut().regs[0] = Value::constant(0);
        assert!(bytes(&both) < alone + 2 * size_of::<Frame>());
        // Now the stack is, too, but not what was spilled before.
        both[1].frame_mut().stack.slot_mut(slot(-8)).set_bytes(0, 8, true);
        assert!(bytes(&both) > 2 * alone - 2 * size_of::<Value>());
        assert!(bytes(&both) < 2 * alone);
        assert!(both[1].bytes_beside(&both[0]) >= both[1].bytes());
    }

    #[test]
    fn what_is_not_wanted_stays_shared() {
        let mut state = State::entry();
        for (off, number) in [(-8, 1), (-16, 2)] {
            state.frame_mut().stack.slot_mut(slot(off)).set_spill(Value::constant(number), 8);
        }
        let mut changed = state.clone();
        changed.update(|value| *value == Value::constant(2), |value| *value = Value::UNKNOWN);
        let is_shared = |cell| core::ptr::eq(state.cell(cell), changed.cell(cell));
        assert!(is_shared(Cell::slot(0, 0)) && !is_shared(Cell::slot(0, 1)));
        assert_eq!(changed.cell(Cell::slot(0, 1)), &Value::UNKNOWN);
        assert_eq!(state.cell(Cell::slot(0, 1)), &Value::constant(2));
    }
}

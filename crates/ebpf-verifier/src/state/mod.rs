//! What is known at one point of one path: the frames, their registers and stacks.

mod frame;
mod stack;
mod value;

use alloc::rc::Rc;
use alloc::vec::Vec;

pub(crate) use frame::Frame;
pub(crate) use stack::{Slot, StackOff};
pub(crate) use value::{
    Distance, Link, MapValueRef, NullId, PacketId, PacketRange, PacketRegion, Pointer, PointerKind,
    ScalarId, ScalarValue, Value,
};

/// Frames from the main program to the function being explored. Copying a state shares the frames
/// until one of them is written.
#[derive(Debug, Clone)]
pub(crate) struct State {
    frames: Vec<Rc<Frame>>,
}

impl State {
    /// The state at the start of a program.
    pub(crate) fn entry() -> Self {
        Self { frames: [Rc::new(Frame::main())].into() }
    }

    /// Number of frames, at least 1.
    pub(crate) fn depth(&self) -> usize {
        self.frames.len()
    }

    /// Index of the function being explored.
    pub(crate) fn current(&self) -> usize {
        self.frames.len() - 1
    }

    pub(crate) fn frame(&self) -> &Frame {
        self.frame_at(self.current())
    }

    pub(crate) fn frame_mut(&mut self) -> &mut Frame {
        self.frame_at_mut(self.current())
    }

    pub(crate) fn frame_at(&self, index: usize) -> &Frame {
        &self.frames[index]
    }

    pub(crate) fn frame_at_mut(&mut self, index: usize) -> &mut Frame {
        Rc::make_mut(&mut self.frames[index])
    }

    pub(crate) fn push_frame(&mut self, frame: Frame) {
        self.frames.push(Rc::new(frame));
    }

    /// Drops the frame being explored; `None` if it is the main program's, which stays.
    pub(crate) fn pop_frame(&mut self) -> Option<Rc<Frame>> {
        if self.frames.len() == 1 {
            return None;
        }
        self.frames.pop()
    }

    /// All registers and spilled registers, those of the function being explored first. Within a
    /// frame, registers come before the stack.
    pub(crate) fn values(&self) -> impl Iterator<Item = &Value> {
        self.frames.iter().rev().flat_map(|frame| frame.values())
    }

    /// Changes those [values](State::values) that are `wanted`, in order. Frames without any stay
    /// shared.
    pub(crate) fn update(
        &mut self,
        wanted: impl Fn(&Value) -> bool,
        mut change: impl FnMut(&mut Value),
    ) {
        for frame in self.frames.iter_mut().rev() {
            if frame.values().any(&wanted) {
                let values = Rc::make_mut(frame).values_mut();
                values.filter(|value| wanted(value)).for_each(&mut change);
            }
        }
    }
}

//! What an instruction did besides changing the state: what exploration remembers of it.

use alloc::boxed::Box;
use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec::Vec;

use ebpf_isa::Pc;

use crate::error::Payload;
use crate::state::{Cell, Frame, LinkedCells, SlotMask, SlotSets};

/// The effects of one instruction.
#[derive(Debug, Default)]
pub(crate) struct Effects {
    /// Numbers that decided something: no state in which they differ may be taken for the same.
    pub(crate) relied_on: Vec<Cell>,
    /// The slot that a value was spilled to or filled from.
    pub(crate) slot: Option<Cell>,
    /// What learnt from a comparison.
    pub(crate) linked: LinkedCells,
    /// Whether the operands of a comparison are stack pointers: first the left one.
    pub(crate) stack_operands: [bool; 2],
    /// Slots that may have been read.
    pub(crate) read: SlotSets,
    /// Slots that were written as a whole.
    pub(crate) written: SlotSets,
    /// Slots of whatever frame that a helper filled.
    pub(crate) filled: SlotMask,
    /// What a call or a return did besides; changed by [`Effects::of_call`].
    pub(crate) call: CallEffects,
    /// Whether there is something in `call`.
    crosses: bool,
    /// Whether there is something in `read`, `written` or `filled`.
    pub(crate) touches_stack: bool,
}

/// What calls and returns did, of helpers that call back, too.
#[derive(Debug, Default)]
pub(crate) struct CallEffects {
    /// The callback that another path goes on in.
    pub(crate) called_back: Option<Pc>,
    /// Whether it runs later, and has nothing to do with this path.
    pub(crate) runs_later: bool,
    /// Whether the path came back from a callback.
    pub(crate) left_callback: bool,
    /// Whether another path goes on with the next thing of an iterator.
    pub(crate) got_next: bool,
    /// Whether `bpf_loop` goes through no further round.
    pub(crate) was_last_round: bool,
    /// What the kernel remarks on the call of a static function.
    pub(crate) remark: Option<Box<Payload>>,
    /// What the kernel says of the argument that was loaded from the context.
    pub(crate) note: Option<String>,
    /// The frame of the function that returned.
    pub(crate) left: Option<Rc<Frame>>,
}

impl Effects {
    /// Ready for the next instruction.
    #[inline]
    pub(crate) fn clear(&mut self) {
        self.relied_on.clear();
        self.slot = None;
        self.linked.clear();
        self.stack_operands = [false; 2];
        if core::mem::take(&mut self.crosses) {
            self.clear_call();
        }
        if core::mem::take(&mut self.touches_stack) {
            self.read.clear();
            self.written.clear();
            self.filled = 0;
        }
    }

    #[cold]
    fn clear_call(&mut self) {
        self.call = CallEffects::default();
    }

    pub(crate) fn of_call(&mut self) -> &mut CallEffects {
        self.crosses = true;
        &mut self.call
    }

    pub(crate) fn read_slot(&mut self, frame: usize, slot: usize) {
        self.touches_stack = true;
        self.read.insert(frame, slot);
    }

    pub(crate) fn fill_slot(&mut self, slot: usize) {
        self.touches_stack = true;
        self.filled |= 1 << slot;
    }

    pub(crate) fn write_slot(&mut self, frame: usize, slot: usize) {
        self.touches_stack = true;
        self.written.insert(frame, slot);
    }
}

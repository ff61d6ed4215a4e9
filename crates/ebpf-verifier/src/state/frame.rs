//! A frame: the registers and the stack of one function.

use ebpf_isa::{Pc, Reg, SubprogIdx};

use super::stack::{Slot, Stack};
use super::value::{PointerKind, Value};

/// Registers and stack of one function.
#[derive(Debug, Clone)]
pub(crate) struct Frame {
    pub(crate) regs: [Value; 11],
    pub(crate) stack: Stack,
    pub(crate) subprog: SubprogIdx,
    /// The instruction behind the call; `None` in the first frame.
    pub(crate) return_to: Option<Pc>,
    /// Whether a helper called it, which may call it again.
    pub(crate) is_callback: bool,
    /// In a function that runs later than what has it run: how many such functions led to it, one from
    /// within the other. Else 0.
    pub(crate) async_entry: u32,
    /// How often the call that the function is at has called back on this path.
    pub(crate) rounds: u32,
}

impl Frame {
    /// The main program's frame when it starts.
    pub(crate) fn main() -> Self {
        let mut frame = Self::new(SubprogIdx::MAIN, 0, None);
        frame.regs[Reg::R1.index()] = Value::pointer(PointerKind::Context);
        frame
    }

    /// A frame with nothing but a frame pointer, to be the one at `index`.
    pub(crate) fn new(subprog: SubprogIdx, index: usize, return_to: Option<Pc>) -> Self {
        let mut regs = [Value::Uninit; 11];
        regs[Reg::FP.index()] = Value::pointer(PointerKind::Stack { frame: index });
        let stack = Stack::default();
        Self { regs, stack, subprog, return_to, is_callback: false, async_entry: 0, rounds: 0 }
    }

    /// The call that it was entered by; `None` in the first frame.
    pub(crate) fn callsite(&self) -> Option<Pc> {
        // Calls take one slot.
        self.return_to.map(|pc| Pc(pc.0 - 1))
    }

    /// Where the path goes on when the function returns: behind the call, or where the helper calls
    /// it again.
    pub(crate) fn leads_to(&self) -> Option<Pc> {
        if self.is_callback { self.callsite() } else { self.return_to }
    }

    /// Forgets what a call destroys.
    pub(crate) fn clear_caller_saved(&mut self) {
        for reg in [Reg::R0].into_iter().chain(Reg::ARGS) {
            self.regs[reg.index()] = Value::Uninit;
        }
    }

    /// Registers, then spilled registers from the top of the stack down.
    pub(super) fn values(&self) -> impl Iterator<Item = &Value> {
        self.regs.iter().chain(self.stack.slots().filter_map(Slot::spilled))
    }

    /// Those of [`Frame::values`] that are `wanted`, for writing.
    pub(super) fn values_where(
        &mut self,
        wanted: impl Fn(&Value) -> bool + Copy,
    ) -> impl Iterator<Item = &mut Value> {
        let regs = self.regs.iter_mut().filter(move |value| wanted(value));
        regs.chain(self.stack.spilled_where(wanted))
    }

    /// Its share of the memory that it takes together with copies of its stack.
    pub(super) fn bytes(&self) -> usize {
        size_of::<Self>() + self.stack.bytes()
    }

    /// At most so many bytes it takes.
    pub(super) fn bytes_max(&self) -> usize {
        size_of::<Self>() + self.stack.bytes_max()
    }
}

//! Programs as sequences of cells: what the dispatchers run.
//!
//! A cell has 16 bytes. An operation is a cell that begins with the address of its handler, followed
//! by small operands; one that needs more has a second cell of constants behind it. Targets of jumps
//! are distances, so code can be anywhere.

#![allow(unsafe_code, reason = "cells are untagged: which form one has follows from its handler")]

mod constants;
mod emit;
mod select;

use alloc::vec::Vec;

use ebpf_isa::{Pc, Program, Reg};

pub(crate) use self::emit::emit;
pub(crate) use self::select::Selector;
use crate::dispatch::Handler;

/// Registers of the virtual machine that are registers of the real one under the threaded
/// dispatcher.
pub(crate) const HOT: usize = 4;

/// More cells than the operations of a window have.
const LONGEST_WINDOW: usize = 64;

/// An operation. What the operands mean is its handler's business; registers are [`Slots`].
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct Op {
    pub(crate) handler: Handler,
    pub(crate) a: u8,
    pub(crate) b: u8,
    /// An offset, or a third register.
    pub(crate) off: i16,
    pub(crate) imm: i32,
}

/// The second cell of a jump.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct Jump {
    /// Where it leads, in bytes from the operation.
    pub(crate) target: i32,
    /// Place of the jump among the program's instructions, counted from 1.
    pub(crate) here: i32,
    /// `here` less the place of the target counted from 0: how many instructions further the run
    /// would be if places told.
    pub(crate) gain: i32,
    /// Second operand of the comparison, where the operation needs its own `imm` for another one;
    /// the slots that a call saves.
    pub(crate) imm: i32,
}

// No distance is longer than this: no instruction has more cells than a call and what follows it.
const _: () =
    assert!(Program::MAX_SLOTS * (CALL_CELLS + 1) * size_of::<Cell>() <= i32::MAX as usize);

/// Cells of a call of a subprogram. One more follows, the operation that restores what it saved.
pub(crate) const CALL_CELLS: usize = 2;

/// How many registers a call saves at most: `r6` to `r9`.
pub(crate) const SAVED: usize = 4;

/// The registers that a call saves, besides `r10`: those that its callee, or what that calls,
/// writes.
#[derive(Clone, Copy)]
pub(crate) struct Saved {
    slots: u32,
    count: u8,
}

impl Saved {
    /// Those of the operation at `call`.
    ///
    /// # Safety
    /// It is one that calls a subprogram.
    #[inline(always)]
    pub(crate) unsafe fn of(call: *const Cell) -> Self {
        // SAFETY: the caller's promise.
        let (op, jump) = unsafe { (&(*call).op, &(*call.add(1)).jump) };
        Self { slots: jump.imm as u32, count: op.a }
    }

    /// Numbers below [`SAVED`], and slots.
    #[inline(always)]
    pub(crate) fn slots(self) -> impl Iterator<Item = (usize, u8)> {
        (0..usize::from(self.count)).map(move |index| (index, self.slot(index)))
    }

    /// The first `COUNT` of them, where it is known that there are so many.
    #[inline(always)]
    pub(crate) fn first<const COUNT: usize>(self) -> impl Iterator<Item = (usize, u8)> {
        debug_assert!(COUNT == usize::from(self.count));
        (0..COUNT).map(move |index| (index, self.slot(index)))
    }

    fn slot(self, index: usize) -> u8 {
        (self.slots >> (8 * index)) as u8
    }
}

/// One element of code.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) union Cell {
    pub(crate) op: Op,
    pub(crate) jump: Jump,
    pub(crate) value: u64,
}

// The layout is what makes code small; handlers do not rely on it.
const _: () = assert!(size_of::<usize>() != 8 || size_of::<Cell>() == 16);

/// Where a cell comes from: the window of instructions that its operation stands for, as its start
/// and, in the lowest bits, its length.
#[derive(Clone, Copy)]
pub(crate) struct Origin(u32);

impl Origin {
    /// Windows are short.
    const LENGTH_BITS: u32 = 7;

    fn new(start: Pc, slots: u32) -> Self {
        debug_assert!(slots < 1 << Self::LENGTH_BITS);
        Self(start.0 << Self::LENGTH_BITS | slots)
    }

    pub(crate) fn start(self) -> Pc {
        Pc(self.0 >> Self::LENGTH_BITS)
    }

    /// One past the last slot.
    pub(crate) fn end(self) -> Pc {
        Pc(self.start().0 + self.0 % (1 << Self::LENGTH_BITS))
    }
}

const _: () = assert!(Program::MAX_SLOTS <= 1 << (u32::BITS - Origin::LENGTH_BITS));

/// A program in cells, for checked and for unchecked runs, or for one kind of them: then there are
/// no cells for the other one. Both have the same operations at the same places.
#[derive(Clone)]
pub(crate) struct Codes {
    checked: Vec<Cell>,
    unchecked: Vec<Cell>,
    /// By cell.
    origins: Vec<Origin>,
}

impl Codes {
    pub(crate) fn checked(&self) -> Code<'_> {
        Code { cells: &self.checked, origins: &self.origins }
    }

    pub(crate) fn unchecked(&self) -> Code<'_> {
        Code { cells: &self.unchecked, origins: &self.origins }
    }

    /// One of them that there are cells for.
    pub(crate) fn any(&self) -> Code<'_> {
        let code = self.checked();
        if code.is_there() { code } else { self.unchecked() }
    }
}

impl core::fmt::Debug for Codes {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Codes").field("cells", &self.origins.len()).finish()
    }
}

/// The cells of one kind of runs.
#[derive(Clone, Copy)]
pub(crate) struct Code<'c> {
    cells: &'c [Cell],
    origins: &'c [Origin],
}

impl Code<'_> {
    /// Whether there are cells for such runs.
    pub(crate) fn is_there(&self) -> bool {
        !self.cells.is_empty()
    }

    /// Where the operation at `at` comes from.
    pub(crate) fn origin(&self, at: *const Cell) -> Origin {
        self.origins[self.index(at)]
    }

    fn index(&self, at: *const Cell) -> usize {
        (at.addr() - self.cells.as_ptr().addr()) / size_of::<Cell>()
    }

    /// The operation that control comes to at the instruction at `pc`: the first that does not
    /// start before it.
    pub(crate) fn at(&self, pc: Pc) -> *const Cell {
        let index = self.origins.partition_point(|origin| origin.start() < pc);
        &raw const self.cells[index]
    }

    /// The operation that starts at the instruction at `pc`, or `None` where that is inside of what
    /// is one operation, or was dropped, or where there are no cells.
    #[inline]
    pub(crate) fn boundary(&self, pc: Pc) -> Option<*const Cell> {
        let entry = self.cells.first()?;
        if pc == Pc::ENTRY { Some(entry) } else { self.boundary_behind_entry(pc) }
    }

    fn boundary_behind_entry(&self, pc: Pc) -> Option<*const Cell> {
        let index = self.origins.partition_point(|origin| origin.start() < pc);
        let starts_here = self.origins[index].start() == pc;
        // Windows are short.
        let mut before = self.origins[index.saturating_sub(LONGEST_WINDOW)..index].iter();
        (starts_here && before.all(|origin| origin.end() <= pc))
            .then(|| &raw const self.cells[index])
    }

    /// The operation behind the window of the one at `at`.
    pub(crate) fn behind(&self, at: *const Cell) -> *const Cell {
        let index = self.index(at);
        let end = self.origins[index].end();
        let skipped = self.origins[index..].iter().take_while(|origin| origin.start() < end);
        &raw const self.cells[index + skipped.count()]
    }
}

/// Where registers are in the register file. The first [`HOT`] places are the fast ones, and the
/// registers that a program uses most are there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Slots([u8; Reg::COUNT]);

impl Slots {
    /// The registers in this order.
    pub(crate) fn new(order: [Reg; Reg::COUNT]) -> Self {
        let mut slots = [0; Reg::COUNT];
        for (slot, reg) in (0..).zip(order) {
            slots[reg.index()] = slot;
        }
        Self(slots)
    }

    pub(crate) fn of(&self, reg: Reg) -> u8 {
        self.0[reg.index()]
    }
}

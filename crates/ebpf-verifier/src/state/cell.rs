//! Names for places that hold a value: a register or a stack slot, of one of the frames.

use core::fmt;

use ebpf_isa::Reg;
use ebpf_isa::abi::{MAX_CALL_DEPTH, STACK_SIZE};

/// Most frames of a state, whatever a kernel's limit is.
pub(crate) const FRAMES_MAX: usize = MAX_CALL_DEPTH;
/// Slots of a frame.
pub(crate) const SLOTS_MAX: usize = STACK_SIZE / 8;

/// A register or a stack slot of one frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cell {
    pub(crate) frame: u8,
    pub(crate) at: At,
}

/// Where in its frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum At {
    Reg(Reg),
    /// Counted from the top of the stack down.
    Slot(u8),
}

impl Cell {
    pub(crate) fn reg(frame: usize, reg: Reg) -> Self {
        Self { frame: frame as u8, at: At::Reg(reg) }
    }

    pub(crate) fn slot(frame: usize, slot: usize) -> Self {
        Self { frame: frame as u8, at: At::Slot(slot as u8) }
    }
}

/// Some slots of one frame, as bits from the top of the stack down.
pub(crate) type SlotMask = u64;

/// Slots of each frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct SlotSets([SlotMask; FRAMES_MAX]);

impl SlotSets {
    pub(crate) fn insert(&mut self, frame: usize, slot: usize) {
        self.0[frame] |= 1 << slot;
    }

    pub(crate) fn insert_all(&mut self, frame: usize, slots: SlotMask) {
        self.0[frame] |= slots;
    }

    pub(crate) fn of(&self, frame: usize) -> SlotMask {
        self.0[frame]
    }

    pub(crate) fn clear(&mut self) {
        self.0 = [0; FRAMES_MAX];
    }
}

/// A set of cells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct CellSet {
    regs: [u16; FRAMES_MAX],
    slots: [SlotMask; FRAMES_MAX],
}

impl CellSet {
    pub(crate) const EMPTY: Self = Self { regs: [0; FRAMES_MAX], slots: [0; FRAMES_MAX] };

    pub(crate) fn is_empty(&self) -> bool {
        *self == Self::EMPTY
    }

    pub(crate) fn contains(&self, cell: Cell) -> bool {
        let frame = usize::from(cell.frame);
        match cell.at {
            At::Reg(reg) => self.regs[frame] & 1 << reg.index() != 0,
            At::Slot(slot) => self.slots[frame] & 1 << slot != 0,
        }
    }

    pub(crate) fn insert(&mut self, cell: Cell) {
        let frame = usize::from(cell.frame);
        match cell.at {
            At::Reg(reg) => self.regs[frame] |= 1 << reg.index(),
            At::Slot(slot) => self.slots[frame] |= 1 << slot,
        }
    }

    pub(crate) fn remove(&mut self, cell: Cell) {
        let frame = usize::from(cell.frame);
        match cell.at {
            At::Reg(reg) => self.regs[frame] &= !(1 << reg.index()),
            At::Slot(slot) => self.slots[frame] &= !(1 << slot),
        }
    }

    /// Whether there is nothing in the frames up to `frame`.
    #[inline]
    pub(crate) fn is_empty_up_to(&self, frame: usize) -> bool {
        let is_empty = |frame: usize| self.regs[frame] == 0 && self.slots[frame] == 0;
        (0..=frame).rev().all(is_empty)
    }

    /// Takes out what is in `other` in the frames up to `frame`.
    pub(crate) fn remove_all(&mut self, other: &Self, frame: usize) {
        for frame in 0..=frame {
            self.regs[frame] &= !other.regs[frame];
            self.slots[frame] &= !other.slots[frame];
        }
    }

    /// Takes a cell out; says whether it was there.
    pub(crate) fn take(&mut self, cell: Cell) -> bool {
        let there = self.contains(cell);
        self.remove(cell);
        there
    }

    /// The slots of a frame.
    pub(crate) fn slots(&self, frame: usize) -> SlotMask {
        self.slots[frame]
    }

    /// Keeps of a frame only these registers and slots.
    pub(crate) fn retain(&mut self, frame: usize, regs: u16, slots: SlotMask) {
        self.regs[frame] &= regs;
        self.slots[frame] &= slots;
    }

    /// The cells of a frame: registers, then slots from the top down.
    pub(crate) fn cells(&self, frame: usize) -> impl Iterator<Item = Cell> + use<> {
        let (regs, slots) = (self.regs[frame], self.slots[frame]);
        let regs = Reg::ALL.into_iter().filter(move |reg| regs & 1 << reg.index() != 0);
        let slots = (0..SLOTS_MAX).filter(move |slot| slots & 1 << slot != 0);
        regs.map(move |reg| Cell::reg(frame, reg)).chain(slots.map(move |s| Cell::slot(frame, s)))
    }
}

impl FromIterator<Cell> for CellSet {
    fn from_iter<I: IntoIterator<Item = Cell>>(cells: I) -> Self {
        let mut set = Self::EMPTY;
        cells.into_iter().for_each(|cell| set.insert(cell));
        set
    }
}

/// The kernel's spelling: `r1`, `fp-8`.
impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reg(reg) => write!(f, "r{}", reg.number()),
            Self::Slot(slot) => write!(f, "fp-{}", (u32::from(*slot) + 1) * 8),
        }
    }
}

/// At most so many cells learn from one comparison.
pub(crate) const LINKED_MAX: usize = 6;

/// Cells whose numbers are tied, in the order in which they were found.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LinkedCells {
    /// The first `count` of these.
    cells: [Cell; LINKED_MAX],
    count: u8,
}

impl Default for LinkedCells {
    fn default() -> Self {
        Self { cells: [Cell { frame: 0, at: At::Slot(0) }; LINKED_MAX], count: 0 }
    }
}

impl LinkedCells {
    /// Takes one more; says whether there was room.
    pub(crate) fn push(&mut self, cell: Cell) -> bool {
        match self.cells.get_mut(usize::from(self.count)) {
            Some(free) => {
                *free = cell;
                self.count += 1;
                true
            }
            None => false,
        }
    }

    pub(crate) fn clear(&mut self) {
        self.count = 0;
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = Cell> + use<> {
        self.cells.into_iter().take(self.count.into())
    }

    /// Whether something is tied: it takes two.
    pub(crate) fn is_group(&self) -> bool {
        self.count > 1
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::*;

    #[test]
    fn cells_come_out_in_order() {
        let mut set = CellSet::EMPTY;
        let (slot, reg) = (Cell::slot(1, 63), Cell::reg(1, Reg::R3));
        set.insert(slot);
        set.insert(reg);
        assert_eq!(set.cells(1).collect::<Vec<_>>(), [reg, slot]);
        assert_eq!(set.cells(0).count(), 0);
        assert!(set.take(reg) && !set.take(reg));
        assert_eq!(set.slots(1), 1 << 63);
        set.retain(1, !0, 0);
        assert!(set.is_empty());
    }

    #[test]
    fn six_cells_are_linked_at_most() {
        let mut linked = LinkedCells::default();
        assert!(linked.push(Cell::reg(0, Reg::R0)) && !linked.is_group());
        for slot in 0..5 {
            assert!(linked.push(Cell::slot(0, slot)));
        }
        assert!(linked.is_group());
        assert!(!linked.push(Cell::slot(0, 5)));
        assert_eq!(linked.iter().count(), LINKED_MAX);
    }
}

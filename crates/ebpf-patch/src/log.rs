//! The log of edits: what code goes where.

use alloc::vec;
use alloc::vec::Vec;
use core::ops::Range;

use ebpf_isa::{Insn, Pc, Program};

/// Where a sequence goes, in the order of the layout at one instruction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Place {
    /// In front, where jumps go past it.
    AboveLanding,
    /// In front, where jumps run it.
    BelowLanding,
    /// In place of the instruction.
    Instead,
    /// Behind.
    Behind,
}

impl Place {
    const ALL: [Self; 4] = [Self::AboveLanding, Self::BelowLanding, Self::Instead, Self::Behind];
}

/// All inserted code in one pool, and for each piece of it where it goes. Eight bytes an edit: the
/// log of a million edits is read and written several times.
#[derive(Debug, Clone)]
pub(crate) struct Log {
    edits: Vec<Packed>,
    /// One element a slot as in [`Program::slots`], with links for targets.
    pub(crate) pool: Vec<Option<Insn>>,
    /// Whether the edits are in the order of the layout already.
    ordered: bool,
}

/// Where, and where in the pool: up to where the next edit's code begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Packed {
    /// Old position, [`Place`] and, in the lowest bit, whether anything in the code has a target:
    /// by it, edits are in the order of the layout.
    key: u32,
    first: u32,
}

const _: () = assert!(Program::MAX_SLOTS < 1 << 29, "three bits are free");

/// One edit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Edit {
    at: Packed,
    /// One past its code in the pool. The code is never empty.
    end: u32,
}

impl Edit {
    /// The instruction that the code is inserted at.
    pub(crate) const fn pc(self) -> Pc {
        self.at.pc()
    }

    pub(crate) const fn place(self) -> Place {
        self.at.place()
    }

    /// Whether any of the code has a target: if not, it is copied as it is.
    pub(crate) const fn linked(self) -> bool {
        self.at.key & 1 != 0
    }

    /// Where its code is in the pool.
    pub(crate) const fn code(self) -> Range<usize> {
        self.at.first as usize..self.end as usize
    }

    pub(crate) const fn slots(self) -> u32 {
        self.end - self.at.first
    }

    /// The first original slot whose own instruction does not come before this code.
    pub(crate) const fn next_slot(self) -> usize {
        match self.place() {
            Place::AboveLanding | Place::BelowLanding | Place::Instead => self.pc().index(),
            Place::Behind => self.pc().index() + 1,
        }
    }
}

impl Packed {
    const fn new(pc: Pc, place: Place, linked: bool, first: usize) -> Self {
        Self { key: pc.0 << 3 | (place as u32) << 1 | linked as u32, first: first as u32 }
    }

    const fn pc(self) -> Pc {
        Pc(self.key >> 3)
    }

    const fn place(self) -> Place {
        Place::ALL[(self.key >> 1 & 3) as usize]
    }

    const fn order(self) -> u32 {
        self.key >> 1
    }
}

impl Log {
    pub(crate) const fn new() -> Self {
        Self { edits: Vec::new(), pool: Vec::new(), ordered: true }
    }

    /// Notes that the code in the pool from `first` to its end goes to `place` at `pc`.
    pub(crate) fn note(&mut self, pc: Pc, place: Place, linked: bool, first: usize) {
        debug_assert!(first < self.pool.len(), "code is not empty");
        let edit = Packed::new(pc, place, linked, first);
        self.ordered &= self.edits.last().is_none_or(|last| last.order() <= edit.order());
        self.edits.push(edit);
    }

    /// The edits in the order in which they were noted.
    pub(crate) fn edits(&self) -> impl DoubleEndedIterator<Item = Edit> {
        (0..self.edits.len()).map(|index| unpack(&self.edits, index, self.pool.len()))
    }

    /// The pool, and the edits with what is in it.
    pub(crate) fn into_parts(self) -> (Vec<Option<Insn>>, impl DoubleEndedIterator<Item = Edit>) {
        let (edits, pool_len) = (self.edits, self.pool.len());
        let edits = (0..edits.len()).map(move |index| unpack(&edits, index, pool_len));
        (self.pool, edits)
    }

    /// Brings edits and code into the order of the layout: by position, place and age. Positions
    /// are counted, so the time is linear.
    pub(crate) fn into_layout_order(self, slots: usize) -> Self {
        if self.ordered {
            return self;
        }
        let mut next = vec![0_u32; slots + 1];
        for edit in &self.edits {
            next[edit.pc().index() + 1] += 1;
        }
        for slot in 1..next.len() {
            next[slot] += next[slot - 1];
        }
        let mut order = vec![0_u32; self.edits.len()];
        for place in Place::ALL {
            for (index, edit) in self.edits.iter().enumerate() {
                if edit.place() == place {
                    let at = &mut next[edit.pc().index()];
                    order[*at as usize] = index as u32;
                    *at += 1;
                }
            }
        }
        let mut ordered = Self::new();
        ordered.edits.reserve_exact(self.edits.len());
        ordered.pool.reserve_exact(self.pool.len());
        for index in order {
            let edit = unpack(&self.edits, index as usize, self.pool.len());
            let first = ordered.pool.len();
            ordered.pool.extend_from_slice(&self.pool[edit.code()]);
            ordered.note(edit.pc(), edit.place(), edit.linked(), first);
        }
        ordered
    }
}

#[inline]
fn unpack(edits: &[Packed], index: usize, pool_len: usize) -> Edit {
    let end = edits.get(index + 1).map_or(pool_len as u32, |next| next.first);
    Edit { at: edits[index], end }
}

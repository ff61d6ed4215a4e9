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
    /// Where in the pool something has a target, ascending: most code has none, and the pool is
    /// too large to search it.
    references: Vec<Reference>,
    /// Whether the edits are in the order of the layout already.
    ordered: bool,
}

/// Where, and where in the pool: up to where the next edit's code begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Packed {
    /// Old position and [`Place`]: by it, edits are in the order of the layout.
    order: u32,
    first: u32,
}

const _: () = assert!(Program::MAX_SLOTS < 1 << 30, "two bits are free");

/// Inserted code that refers to other code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Reference {
    /// Its slot in the pool.
    pub(crate) slot: u32,
    pub(crate) kind: ReferenceKind,
}

/// How an instruction refers to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ReferenceKind {
    /// A jump with a 16-bit offset field, by its target field.
    ShortJump(Pc),
    /// A jump with a 32-bit offset field, by its target field.
    LongJump(Pc),
    /// A call, or the address of a function: the start of an original subprogram.
    Subprog(Pc),
}

impl ReferenceKind {
    /// Whether and how `insn` refers to another instruction.
    #[inline]
    pub(crate) const fn of(insn: Insn) -> Option<Self> {
        match (insn, insn.jump_target(), insn.subprog_ref()) {
            (Insn::Jump { target, long: true }, _, _) => Some(Self::LongJump(target)),
            (_, Some(target), _) => Some(Self::ShortJump(target)),
            (_, _, Some(target)) => Some(Self::Subprog(target)),
            _ => None,
        }
    }
}

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
    const fn new(pc: Pc, place: Place, first: usize) -> Self {
        Self { order: pc.0 << 2 | place as u32, first: first as u32 }
    }

    const fn pc(self) -> Pc {
        Pc(self.order >> 2)
    }

    const fn place(self) -> Place {
        Place::ALL[(self.order & 3) as usize]
    }
}

impl Log {
    pub(crate) const fn new() -> Self {
        Self { edits: Vec::new(), pool: Vec::new(), references: Vec::new(), ordered: true }
    }

    /// Notes that the code in the pool from `first` to its end goes to `place` at `pc`.
    pub(crate) fn note(&mut self, pc: Pc, place: Place, first: usize) {
        for (slot, insn) in (first as u32..).zip(&self.pool[first..]) {
            if let Some(kind) = insn.and_then(ReferenceKind::of) {
                self.references.push(Reference { slot, kind });
            }
        }
        self.note_plain(pc, place, first);
    }

    /// As [`Log::note`], for code without references.
    #[inline]
    pub(crate) fn note_plain(&mut self, pc: Pc, place: Place, first: usize) {
        debug_assert!(first < self.pool.len(), "code is not empty");
        let edit = Packed::new(pc, place, first);
        self.ordered &= self.edits.last().is_none_or(|last| last.order <= edit.order);
        self.edits.push(edit);
    }

    /// All references of inserted code, in the order of the pool.
    pub(crate) fn references(&self) -> &[Reference] {
        &self.references
    }

    /// The edits in the order in which they were noted.
    pub(crate) fn edits(&self) -> impl DoubleEndedIterator<Item = Edit> {
        (0..self.edits.len()).map(|index| unpack(&self.edits, index, self.pool.len()))
    }

    /// The pool, what is known about it, and the edits.
    pub(crate) fn into_parts(
        self,
    ) -> (Vec<Option<Insn>>, Vec<Reference>, impl DoubleEndedIterator<Item = Edit>) {
        let (edits, pool_len) = (self.edits, self.pool.len());
        let edits = (0..edits.len()).map(move |index| unpack(&edits, index, pool_len));
        (self.pool, self.references, edits)
    }

    /// Brings edits and code into the order of the layout: by position, place and age. Positions
    /// are counted, so the time is linear.
    pub(crate) fn into_layout_order(self, slots: usize) -> Self {
        if self.ordered {
            return self;
        }
        // By position, one past the last of its edits; once they are taken, the first.
        let mut ends = vec![0_u32; slots];
        for edit in &self.edits {
            ends[edit.pc().index()] += 1;
        }
        let mut sum = 0;
        for end in &mut ends {
            sum += *end;
            *end = sum;
        }
        let mut order = vec![0_u32; self.edits.len()];
        for (index, edit) in self.edits.iter().enumerate().rev() {
            let at = &mut ends[edit.pc().index()];
            *at -= 1;
            order[*at as usize] = index as u32;
        }
        let order_of = |index: &u32| self.edits[*index as usize].order;
        for of_one_pc in order.chunk_by_mut(|a, b| order_of(a) >> 2 == order_of(b) >> 2) {
            of_one_pc.sort_by_key(order_of);
        }
        self.gather(&order)
    }

    /// The edits with these numbers, in this order, with their code.
    fn gather(&self, order: &[u32]) -> Self {
        let mut log = Self::new();
        log.edits.reserve_exact(self.edits.len());
        log.pool.reserve_exact(self.pool.len());
        log.references.reserve_exact(self.references.len());
        for &index in order {
            let edit = unpack(&self.edits, index as usize, self.pool.len());
            let first = log.pool.len();
            log.pool.extend_from_slice(&self.pool[edit.code()]);
            log.note(edit.pc(), edit.place(), first);
        }
        log
    }
}

#[inline]
fn unpack(edits: &[Packed], index: usize, pool_len: usize) -> Edit {
    let end = edits.get(index + 1).map_or(pool_len as u32, |next| next.first);
    Edit { at: edits[index], end }
}

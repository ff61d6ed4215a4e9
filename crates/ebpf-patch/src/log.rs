//! The log of edits: what code goes where.

use alloc::vec;
use alloc::vec::Vec;
use core::ops::Range;

use ebpf_isa::{Code, Insn, Pc, Program};

use crate::map::PcMap;

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
    /// With links for targets.
    pub(crate) pool: Code,
    /// Where in the pool something has a target, ascending: most code has none, and the pool is
    /// too large to search it.
    references: Vec<Reference>,
    /// How many edits come before the one that was noted last before them in the order of the layout.
    descents: u32,
}

/// Where, and where in the pool: up to where the next edit's code begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Packed {
    key: Key,
    first: u32,
}

/// Where an edit is, and which pass made it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Key(u32);

/// Bits that the number of a pass takes.
const PASS_BITS: u32 = 4;
/// Bits that a [`Place`] takes.
const PLACE_BITS: u32 = 2;
const _: () = assert!(Program::MAX_SLOTS < 1 << (32 - PLACE_BITS - PASS_BITS), "there is room");

impl Key {
    /// The highest number of a pass.
    pub(crate) const MAX_PASS: u8 = (1 << PASS_BITS) - 1;

    /// The number of the pass is at most [`Self::MAX_PASS`].
    pub(crate) const fn new(pc: Pc, place: Place, pass: u8) -> Self {
        Self((pc.0 << PLACE_BITS | place as u32) << PASS_BITS | pass as u32)
    }

    const fn pc(self) -> Pc {
        Pc(self.order() >> PLACE_BITS)
    }

    const fn place(self) -> Place {
        Place::ALL[(self.order() & ((1 << PLACE_BITS) - 1)) as usize]
    }

    const fn pass(self) -> u8 {
        (self.0 & Self::MAX_PASS as u32) as u8
    }

    /// Position and place: by it, edits are in the order of the layout.
    const fn order(self) -> u32 {
        self.0 >> PASS_BITS
    }
}

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
    pub(crate) const fn key(self) -> Key {
        self.at.key
    }

    /// The instruction that the code is inserted at.
    pub(crate) const fn pc(self) -> Pc {
        self.at.key.pc()
    }

    pub(crate) const fn place(self) -> Place {
        self.at.key.place()
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

impl Log {
    pub(crate) const fn new() -> Self {
        Self { edits: Vec::new(), pool: Code::new(), references: Vec::new(), descents: 0 }
    }

    /// Notes that the code in the pool from `first` to its end goes to `key`.
    pub(crate) fn note(&mut self, key: Key, first: usize) {
        for Pc(slot) in self.pool.marked(first..self.pool.len()) {
            if let Some(kind) = self.pool[slot as usize].and_then(ReferenceKind::of) {
                self.references.push(Reference { slot, kind });
            }
        }
        self.note_plain(key, first);
    }

    /// As [`Log::note`], for code without references.
    #[inline]
    pub(crate) fn note_plain(&mut self, key: Key, first: usize) {
        debug_assert!(first < self.pool.len(), "code is not empty");
        let descends = self.edits.last().is_some_and(|last| last.key.order() > key.order());
        self.descents += u32::from(descends);
        self.edits.push(Packed { key, first: first as u32 });
    }

    /// All references of inserted code, in the order of the pool.
    pub(crate) fn references(&self) -> &[Reference] {
        &self.references
    }

    /// The edits in the order in which they were noted.
    pub(crate) fn edits(&self) -> impl DoubleEndedIterator<Item = Edit> {
        (0..self.edits.len()).map(|index| unpack(&self.edits, index, self.pool.len()))
    }

    /// The pool, and the edits, which are to be placed from the first on.
    pub(crate) fn into_parts(self) -> (Code, Placing) {
        let end = self.pool.len() as u32;
        (self.pool, Placing { edits: self.edits, placed: 0, end })
    }

    /// Brings edits and code into the order of the layout: by position, place and age. The program had
    /// `slots` slots.
    pub(crate) fn into_layout_order(self, slots: usize) -> Self {
        match self.descents {
            0 => self,
            1..FEW => merge(&self),
            _ => sort(self, slots),
        }
    }
}

#[inline]
fn unpack(edits: &[Packed], index: usize, pool_len: usize) -> Edit {
    let end = edits.get(index + 1).map_or(pool_len as u32, |next| next.first);
    Edit { at: edits[index], end }
}

/// Edits on their way to where they are in the new program, from the first to the last. What the log
/// had in the pool's positions becomes what is known of the program's, in the same memory.
#[derive(Debug)]
pub(crate) struct Placing {
    edits: Vec<Packed>,
    /// How many are placed.
    placed: usize,
    /// Where the pool ends.
    end: u32,
}

impl Placing {
    /// The next edit that is not placed.
    pub(crate) fn next(&self) -> Option<Edit> {
        let at = *self.edits.get(self.placed)?;
        let end = self.edits.get(self.placed + 1).map_or(self.end, |next| next.first);
        Some(Edit { at, end })
    }

    /// Notes that [`Self::next`] is at `start` in the new program.
    pub(crate) fn place(&mut self, start: u32) {
        self.edits[self.placed].first = start;
        self.placed += 1;
    }

    /// When all are placed.
    pub(crate) fn finish(self) -> Inserted {
        debug_assert!(self.placed == self.edits.len(), "everything is placed");
        Inserted(self.edits)
    }
}

/// Which code of an edited program was inserted, and by which pass.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Inserted(Vec<Packed>);

/// Code that a pass inserted at one place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InsertedCode {
    /// Where it is in the new program.
    pub slots: Range<Pc>,
    /// The number of the pass: [`Patch::begin_pass`](crate::Patch::begin_pass).
    pub pass: u8,
}

impl Inserted {
    /// All inserted code, in the order of the new program; `map` is that of the same patch.
    pub fn code(&self, map: &PcMap) -> impl Iterator<Item = InsertedCode> {
        (0..self.0.len()).filter_map(|index| {
            let Packed { key, first: start } = self.0[index];
            // Behind it comes the instruction itself, other inserted code, or the next instruction.
            let mut end = *map.starts.get(key.pc().index() + 1)?;
            if key.place() < Place::Instead
                && let Some(insn) = map.insn(key.pc())
            {
                end = insn.0;
            }
            if let Some(next) = self.0.get(index + 1).filter(|next| next.key.pc() == key.pc()) {
                end = end.min(next.first);
            }
            Some(InsertedCode { slots: Pc(start)..Pc(end), pass: key.pass() })
        })
    }
}

/// How many descents are few: passes that each go through the program once make no more.
const FEW: u32 = 1 << PASS_BITS;

/// Brings edits and code that are in order but for a few descents into that of the layout.
fn merge(log: &Log) -> Log {
    let mut edits: Vec<Edit> = log.edits().collect();
    // This finds what is in order, and merges it.
    edits.sort_by_key(|edit| edit.key().order());
    let mut merged = Log::with_capacity(edits.len(), log.pool.len());
    for edit in edits {
        merged.copy(edit.key(), &log.pool[edit.code()]);
    }
    merged
}

/// How many parts [`sort`] cuts a program into, at most: so many streams of code can be written at
/// once without being slow, and a part of a large program still fits a cache.
const PARTS: usize = 256;

/// Brings edits and code into the order of the layout in linear time: first each to its part of the
/// program, then within the part. Going straight to the right place would miss the cache for each
/// edit, twice.
fn sort(mut log: Log, slots: usize) -> Log {
    let per_part = slots.div_ceil(PARTS).next_power_of_two();
    let part_of = |edit: Packed| edit.key.pc().index() / per_part;
    let mut sizes = vec![(0, 0); PARTS];
    for (packed, edit) in log.edits.iter().zip(log.edits()) {
        let (edits, code) = &mut sizes[part_of(*packed)];
        *edits += 1;
        *code += edit.code().len();
    }
    let mut parts: Vec<Part> =
        sizes.iter().map(|&(edits, code)| Part::with_capacity(edits, code)).collect();
    for (packed, edit) in log.edits.iter().zip(log.edits()) {
        let part = &mut parts[part_of(*packed)];
        part.edits.push(Packed { key: packed.key, first: part.pool.len() as u32 });
        part.pool.extend_from_slice(&log.pool[edit.code()]);
    }
    log.clear();
    let mut next = vec![0_u32; per_part << PLACE_BITS];
    let mut order = Vec::new();
    for (part, number) in parts.into_iter().zip(0..) {
        part.order(number * per_part as u32, &mut next, &mut order);
        for &index in &order {
            let edit = unpack(&part.edits, index as usize, part.pool.len());
            log.copy(edit.key(), &part.pool[edit.code()]);
        }
    }
    log
}

impl Log {
    fn with_capacity(edits: usize, code: usize) -> Self {
        let (edits, pool) = (Vec::with_capacity(edits), Code::with_capacity(code));
        Self { edits, pool, ..Self::new() }
    }

    /// Notes that this code of another log goes to `key`.
    fn copy(&mut self, key: Key, code: &[Option<Insn>]) {
        let first = self.pool.len();
        match self.pool.extend_from_slice(code) {
            true => self.note_plain(key, first),
            false => self.note(key, first),
        }
    }

    /// Forgets everything but keeps the memory.
    fn clear(&mut self) {
        self.edits.clear();
        self.pool.truncate(0);
        self.references.clear();
        self.descents = 0;
    }
}

/// Edits of a part of the program, and their code.
struct Part {
    edits: Vec<Packed>,
    pool: Vec<Option<Insn>>,
}

impl Part {
    fn with_capacity(edits: usize, code: usize) -> Self {
        Self { edits: Vec::with_capacity(edits), pool: Vec::with_capacity(code) }
    }

    /// Puts the numbers of the edits, all of which are at `base` or a little behind, into `order`
    /// by position, place and age: by counting, for which `next` has room.
    fn order(&self, base: u32, next: &mut [u32], order: &mut Vec<u32>) {
        let key = |edit: &Packed| (edit.key.order() - (base << PLACE_BITS)) as usize;
        next.fill(0);
        for edit in &self.edits {
            next[key(edit)] += 1;
        }
        let mut sum = 0;
        for next in next.iter_mut() {
            sum += core::mem::replace(next, sum);
        }
        order.clear();
        order.resize(self.edits.len(), 0);
        for (edit, index) in self.edits.iter().zip(0..) {
            let at = &mut next[key(edit)];
            order[*at as usize] = index;
            *at += 1;
        }
    }
}

//! Where everything goes.

use alloc::vec::Vec;

use ebpf_isa::{Insn, Pc};

use crate::detours::{Detour, Detours, DetoursFromEnd};
use crate::log::{Edit, Place};
use crate::map::PcMap;
use crate::patch::{Fate, Patch};

/// Adds up lengths: all of the map except for subprograms, which depend on what is called. The log
/// is in the order of the layout.
pub(crate) fn layout(patch: &Patch<'_>) -> PcMap {
    // Lengths first, each one place further on, so that their sums are starts.
    let mut starts = Vec::with_capacity(patch.fates.len() + 1);
    starts.push(0);
    starts.extend(patch.fates.iter().map(|fate| fate.slots()));
    let mut in_front = false;
    for edit in patch.log.edits() {
        starts[edit.pc().index() + 1] += edit.slots();
        in_front |= edit.place() < Place::Instead;
    }
    let mut sum = 0;
    for start in &mut starts {
        sum += *start;
        *start = sum;
    }
    let any_deleted = patch.fates.contains(&Fate::Deleted);
    let detours = match in_front || any_deleted {
        true => detours(patch, &starts, any_deleted),
        false => Detours::default(),
    };
    PcMap { starts, detours, subprogs: Vec::new() }
}

/// Goes from the end to the start: jumps to where nothing is left lead on to what comes next.
fn detours(patch: &Patch<'_>, starts: &[u32], any_deleted: bool) -> Detours {
    let slots = if any_deleted { 0..patch.fates.len() } else { 0..0 };
    let mut deleted = slots.rev().filter(|&slot| patch.fates[slot] == Fate::Deleted).peekable();
    let in_front = |edit: &Edit| edit.place() < Place::Instead;
    let mut edits = patch.log.edits().rev().filter(in_front).peekable();
    let mut detours = DetoursFromEnd::new(patch.fates.len());
    while let Some(slot) = deleted.peek().copied().max(edits.peek().map(|edit| edit.pc().index())) {
        let start = starts[slot];
        let mut detour = Detour { landing: start, insn: start };
        while let Some(edit) = edits.next_if(|edit| edit.pc().index() == slot) {
            detour.insn += edit.slots();
            if edit.place() == Place::AboveLanding {
                detour.landing += edit.slots();
            }
        }
        if deleted.next_if_eq(&slot).is_some() {
            detour.insn = PcMap::NOWHERE;
        }
        if detour.landing == starts[slot + 1] {
            detour.landing = match next_in_subprog(patch, slot) {
                Some(next) => detours.landing(next).unwrap_or(starts[next]),
                None => PcMap::NOWHERE,
            };
        }
        detours.push(slot, detour);
    }
    detours.finish()
}

/// The slot of the next instruction of the subprogram, be it left or not.
fn next_in_subprog(patch: &Patch<'_>, slot: usize) -> Option<usize> {
    let subprog = patch.program.subprog_of(Pc(slot as u32));
    let end = patch.program.subprogs()[subprog.index()].end.index();
    (slot + 1..end).find(|&next| !patch.fates[next].is_second())
}

/// A piece of the new program.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Piece {
    /// An original instruction that may refer to another.
    Kept(Pc, Insn),
    /// Inserted code.
    Inserted(Edit),
}

/// The pieces of the new program in their order, each with its new position, but for original
/// instructions that refer to nothing. The log is in the order of the layout.
pub(crate) fn pieces(patch: &Patch<'_>) -> impl Iterator<Item = (u32, Piece)> {
    let slots = patch.program.slots();
    let mut edits = patch.log.edits();
    let mut edit = edits.next();
    let (mut at, mut next) = (0, 0);
    core::iter::from_fn(move || {
        let stop = edit.map_or(slots.len(), Edit::next_slot);
        while next < stop {
            let index = next;
            next += 1;
            let (fate, here) = (patch.fates[index], at);
            at += fate.slots();
            if fate.may_refer()
                && let Some(insn) = slots[index]
            {
                return Some((here, Piece::Kept(Pc(index as u32), insn)));
            }
        }
        let inserted = edit?;
        edit = edits.next();
        at += inserted.slots();
        Some((at - inserted.slots(), Piece::Inserted(inserted)))
    })
}

/// The instructions of a pool's code, each with its position if the code is at `at`.
pub(crate) fn placed(code: &[Option<Insn>], at: u32) -> impl Iterator<Item = (u32, Insn)> {
    (at..).zip(code).filter_map(|(at, slot)| Some((at, (*slot)?)))
}

//! Where everything goes.

use alloc::vec::Vec;

use ebpf_isa::{Insn, Pc, Subprog};

use crate::log::{Edit, Place};
use crate::map::{Detours, PcMap};
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
    // Whether every instruction is there, and jumps to it land at the start of its code.
    let straight = !in_front && !patch.fates.contains(&Fate::Deleted);
    let detours = if straight { None } else { Some(detours(patch, &starts)) };
    PcMap { starts, detours, subprogs: Vec::new() }
}

fn detours(patch: &Patch<'_>, starts: &[u32]) -> Detours {
    let mut landings = starts[..patch.fates.len()].to_vec();
    let mut insns = landings.clone();
    for edit in patch.log.edits() {
        let at = edit.pc().index();
        if edit.place() < Place::Instead {
            insns[at] += edit.slots();
        }
        if edit.place() == Place::AboveLanding {
            landings[at] += edit.slots();
        }
    }
    for (insn, fate) in insns.iter_mut().zip(&patch.fates) {
        if fate.is_second() || *fate == Fate::Deleted {
            *insn = PcMap::NOWHERE;
        }
    }
    for subprog in patch.program.subprogs() {
        forward_landings(&mut landings, starts, subprog, &patch.fates);
    }
    Detours { landings, insns }
}

/// Leads jumps to where nothing is left on to the next landing of the subprogram.
fn forward_landings(landings: &mut [u32], starts: &[u32], subprog: &Subprog, fates: &[Fate]) {
    let mut next = PcMap::NOWHERE;
    for index in (subprog.start.index()..subprog.end.index()).rev() {
        if fates[index].is_second() {
            landings[index] = PcMap::NOWHERE;
            continue;
        }
        if landings[index] == starts[index + 1] {
            landings[index] = next;
        }
        next = landings[index];
    }
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

//! Longer forms for jumps that do not reach their target within a 16-bit offset.
//!
//! A longer form makes code longer, by which other jumps may come to need one. Instead of going
//! over the program until nothing changes, which can take as many rounds as there are jumps, a
//! jump keeps its form only if it would reach its target even if every other jump took the longer
//! one: a jump that misses the limit by no more than that is relaxed without need.

use alloc::vec::Vec;

use ebpf_isa::{Insn, Pc};

use crate::PatchError;
use crate::layout::{Piece, pieces, placed};
use crate::linearize::jump_target;
use crate::log::{Key, Log, Place};
use crate::map::PcMap;
use crate::patch::{Fate, Patch};
use crate::rewriter::Rewriter;

/// Gives the jumps of a patch that need it the longer form, as edits. `map` is the layout with none
/// of them, of a patch without other errors.
pub(crate) fn relax(patch: &mut Patch<'_>, map: &PcMap) -> Result<(), PatchError> {
    let too_far = too_far(patch, map)?;
    let most_slots = patch.most_slots();
    let mut first_pc = None;
    let mut too_far = too_far.into_iter().peekable();
    let mut is_too_far = |at: u32| too_far.next_if_eq(&at).is_some();
    let mut log = Log::new();
    let mut replaced = Vec::new();
    for (at, piece) in pieces(patch) {
        let first = log.pool.len();
        let mut rewriter = Rewriter::new(&mut log.pool);
        match piece {
            Piece::Kept(pc, insn) if is_too_far(at) => {
                write_long(&mut rewriter, insn);
                first_pc.get_or_insert(pc);
                replaced.push(pc);
                rewriter.finish(pc)?;
                log.note(Key::new(pc, Place::Instead, Patch::NO_PASS), first);
            }
            Piece::Kept(..) => {}
            Piece::Inserted(edit) => {
                for (here, insn) in placed(&patch.log.pool[edit.code()], at) {
                    rewriter.begin(insn);
                    if is_too_far(here) {
                        first_pc.get_or_insert(edit.pc());
                        write_long(&mut rewriter, insn);
                    } else {
                        rewriter.push(insn);
                    }
                }
                rewriter.finish(edit.pc())?;
                log.note(edit.key(), first);
            }
        }
    }
    patch.slots = patch.slots - patch.log.pool.len() - replaced.len() + log.pool.len();
    patch.log = log;
    for pc in replaced {
        patch.fates[pc.index()] = Fate::Replaced;
    }
    match first_pc {
        Some(pc) if patch.slots > most_slots => Err(patch.too_long(pc)),
        _ => Ok(()),
    }
}

/// The longer form of a jump.
fn write_long(rewriter: &mut Rewriter<'_>, jump: Insn) {
    let target = jump.jump_target().expect("invariant: only jumps are too far from something");
    match jump {
        Insn::Jump { .. } => {}
        Insn::Branch { op, width, lhs, rhs, .. } if op.inverse().is_some() => {
            let op = op.inverse().unwrap_or(op);
            rewriter.push_over(Insn::Branch { op, width, lhs, rhs, target }, 1);
        }
        _ => {
            rewriter.push_over(jump, 1);
            rewriter.push_over(Insn::Jump { target, long: false }, 1);
        }
    }
    rewriter.push(Insn::Jump { target, long: true });
}

/// Slots by which the longer form of an instruction is longer.
const fn growth(insn: Insn) -> u32 {
    match insn {
        Insn::Branch { op, .. } if op.inverse().is_some() => 1,
        Insn::Branch { .. } | Insn::MayGoto { .. } => 2,
        _ => 0,
    }
}

/// A jump in its short form.
struct Short {
    at: u32,
    target: Pc,
    /// Growth of all jumps before this one.
    growth_before: u32,
}

/// The positions of all jumps that need the longer form, ascending.
fn too_far(patch: &Patch<'_>, map: &PcMap) -> Result<Vec<u32>, PatchError> {
    let mut jumps: Vec<Short> = Vec::new();
    let mut total = 0;
    let mut note = |pc: Pc, insn: Insn, at: u32, seq_start: u32| {
        let (Some(target), false) = (insn.jump_target(), is_long(insn)) else { return Ok(()) };
        let target = jump_target(patch.program, map, pc, target, seq_start)?;
        jumps.push(Short { at, target, growth_before: total });
        total += growth(insn);
        Ok(())
    };
    for (at, piece) in pieces(patch) {
        match piece {
            Piece::Kept(pc, insn) => note(pc, insn, at, at)?,
            Piece::Inserted(edit) => {
                for (here, insn) in placed(&patch.log.pool[edit.code()], at) {
                    note(edit.pc(), insn, here, at)?;
                }
            }
        }
    }
    // Growth of all jumps before a position.
    let growth_before = |at: u32| {
        let next = jumps.partition_point(|jump| jump.at < at);
        jumps.get(next).map_or(total, |jump| jump.growth_before)
    };
    let at_most = |jump: &Short| {
        let offset = Pc(jump.at).offset_to(jump.target);
        let between = growth_before(jump.target.0).abs_diff(jump.growth_before);
        offset + offset.signum() * i64::from(between)
    };
    let too_far = |jump: &&Short| !patch.reach.contains(&at_most(jump));
    Ok(jumps.iter().filter(too_far).map(|jump| jump.at).collect())
}

const fn is_long(insn: Insn) -> bool {
    matches!(insn, Insn::Jump { long: true, .. })
}

#[cfg(test)]
mod tests;

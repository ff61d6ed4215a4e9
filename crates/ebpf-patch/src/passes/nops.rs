//! Removal of jumps that lead to where control goes anyway.

use alloc::vec;
use alloc::vec::Vec;

use ebpf_isa::{Insn, Pc};

use crate::log::Place;
use crate::patch::{Fate, Patch};

/// Deletes jumps of the program, conditional or not, to the instruction that comes next: `goto pc+0`, and
/// jumps that other passes left nothing to jump over. It goes from the end to the start, so a jump over
/// jumps that it deletes is deleted too.
///
/// Jumps stay where code was inserted that only one of the two ways runs.
pub fn remove_nops(patch: &mut Patch<'_>) {
    if !has_candidates(patch) {
        return;
    }
    let insertions = Insertions::of(patch);
    let program = patch.program();
    let (slots, subprogs) = (program.slots(), program.subprogs());
    // By slot, the first one from there on with code, as far as is known.
    let mut next: Vec<u32> = (0..=program.len()).collect();
    for subprog in subprogs.iter().rev() {
        // Nothing in a subprogram leads to the code behind it.
        let end = subprog.end.0;
        for at in (subprog.start.0..end).rev() {
            let after = if at + 1 == end { end } else { next[at as usize + 1] };
            if let Some(insn) = patch.get(Pc(at)) {
                let Some(target) = insn.jump_target().filter(|target| target.0 > at) else {
                    continue;
                };
                let lands = next[target.index()];
                if lands != after || lands == end || insertions.part(at, lands) {
                    continue;
                }
                patch.delete(Pc(at)).expect("invariant: it is neither replaced nor deleted");
            }
            let gone = slots[at as usize].is_none() || patch.fates[at as usize] == Fate::Deleted;
            if gone && !insertions.any[at as usize] {
                next[at as usize] = after;
            }
        }
    }
}

/// Whether any jump leads to the next instruction, or over one that is deleted: without one, nothing goes,
/// and most programs have none.
fn has_candidates(patch: &Patch<'_>) -> bool {
    let is_candidate = |(pc, insn): (Pc, Insn)| {
        let Some(target) = insn.jump_target().filter(|&target| target > pc) else { return false };
        let next = pc.index() + 1;
        target.index() == next || patch.fates[next] == Fate::Deleted
    };
    patch.control_flow().any(is_candidate)
}

/// Where code was inserted, by slot.
struct Insertions {
    any: Vec<bool>,
    /// In front, where jumps go past it.
    above_landing: Vec<bool>,
    behind: Vec<bool>,
}

impl Insertions {
    fn of(patch: &Patch<'_>) -> Self {
        let none = || vec![false; patch.program().slots().len()];
        let mut all = Self { any: none(), above_landing: none(), behind: none() };
        for edit in patch.log.edits() {
            let at = edit.pc().index();
            all.any[at] = true;
            match edit.place() {
                Place::AboveLanding => all.above_landing[at] = true,
                Place::Behind => all.behind[at] = true,
                Place::BelowLanding | Place::Instead => {}
            }
        }
        all
    }

    /// Whether the way through code inserted behind `from`, or in front of where its jump lands, differs
    /// from the jump.
    fn part(&self, from: u32, lands: u32) -> bool {
        self.behind[from as usize] || self.above_landing[lands as usize]
    }
}

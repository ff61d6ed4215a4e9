//! Removal of instructions that no execution reaches.

use ebpf_isa::Pc;

use crate::Patch;

/// Deletes the instructions that are not `reached`, which has one element a slot; slots beyond its
/// end count as reached. Replacements and code inserted in front or behind stay, so this pass goes
/// first.
///
/// A conditional jump of which only one way is reached must have been replaced by `goto` or
/// nothing: otherwise [`Patch::linearize`] may find that control falls through or jumps to nowhere.
pub fn remove_unreached(patch: &mut Patch<'_>, reached: &[bool]) {
    // The instructions themselves are not looked at.
    for (pc, _) in (0..).map(Pc).zip(reached).filter(|&(_, &reached)| !reached) {
        if patch.is_kept(pc) {
            patch.delete(pc).expect("invariant: it is neither replaced nor deleted");
        }
    }
}

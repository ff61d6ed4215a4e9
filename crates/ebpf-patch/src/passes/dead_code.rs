//! Removal of instructions that no execution reaches.

use crate::{Cursor, Patch};

/// Deletes the instructions that are not `reached`, which has one element a slot; slots beyond its
/// end count as reached. Replacements and code inserted in front or behind stay, so this pass goes
/// first.
///
/// A conditional jump of which only one way is reached must have been replaced by `goto` or
/// nothing: otherwise [`Patch::linearize`] may find that control falls through or jumps to nowhere.
pub fn remove_unreached(patch: &mut Patch<'_>, reached: &[bool]) {
    let mut cursor = Cursor::new();
    while let Some((pc, _)) = cursor.next(patch) {
        if reached.get(pc.index()) == Some(&false) {
            patch.delete(pc).expect("invariant: a cursor gives what can be deleted");
        }
    }
}

//! Passes that need no more than a [`crate::Patch`], each in a file of its own.
//!
//! A pass sees what is left of the program, and what earlier passes inserted. Where several share a
//! patch, the order is: what makes code go, what makes code come, zero extensions, blinding.

use ebpf_isa::{Insn, Pc};

use crate::{Cursor, Patch, PatchError, PatchInsn};

mod blinding;
mod context;
mod dead_code;
mod division;
mod nops;
mod zero_extension;

pub use blinding::blind_constants;
pub use context::{ContextError, HostField, convert_context_access};
pub use dead_code::remove_unreached;
pub use division::guard_divisions;
pub use nops::remove_nops;
pub use zero_extension::insert_zero_extensions;

/// Puts what `rewrite` gives in the place of each instruction, of the program (then with its position)
/// or inserted. A jump that is given leads to where the old instruction led, unless it says otherwise.
fn rewrite_all<I>(
    patch: &mut Patch<'_>,
    mut rewrite: impl FnMut(Option<Pc>, Insn) -> Option<I>,
) -> Result<(), PatchError>
where
    I: IntoIterator<Item: Into<PatchInsn>>,
{
    patch.replace_inserted(|_, old| {
        let new = rewrite(None, old.insn())?.into_iter();
        Some(new.map(move |insn| {
            let insn: PatchInsn = insn.into();
            match (insn.target(), insn.insn().jump_target()) {
                (None, Some(_)) => old.with_insn(insn.insn()),
                _ => insn,
            }
        }))
    })?;
    let mut cursor = Cursor::new();
    while let Some((pc, insn)) = cursor.next(patch) {
        if let Some(new) = rewrite(Some(pc), insn) {
            patch.replace(pc, new)?;
        }
    }
    Ok(())
}

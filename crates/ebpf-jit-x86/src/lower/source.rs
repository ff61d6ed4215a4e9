//! The program that is compiled, and where its instructions come from.

use std::borrow::Cow;

use ebpf_isa::{Facts, Pc, Program};
use ebpf_patch::{Patch, PatchError, Patched, blind_constants};

/// A program with its facts, as given or with its constants blinded.
pub(super) struct Source<'a> {
    pub(super) program: Cow<'a, Program>,
    pub(super) facts: Option<Cow<'a, Facts>>,
    /// By slot, the instruction of the program as given, where that is another.
    origins: Option<Vec<Pc>>,
}

impl<'a> Source<'a> {
    pub(super) fn new(
        program: &'a Program,
        facts: Option<&'a Facts>,
        blinding: Option<[u64; 2]>,
    ) -> Result<Self, PatchError> {
        let Some(seed) = blinding else {
            let facts = facts.map(Cow::Borrowed);
            return Ok(Self { program: Cow::Borrowed(program), facts, origins: None });
        };
        let mut patch = Patch::new(program);
        blind_constants(&mut patch, seed)?;
        let Patched { program, map, .. } = patch.linearize()?;
        let facts = facts.and_then(|facts| map.facts(facts)).map(Cow::Owned);
        let origin = |pc| map.origin(Pc(pc)).expect("invariant: the slot is in the program");
        let origins = Some((0..program.len()).map(origin).collect());
        Ok(Self { program: Cow::Owned(program), facts, origins })
    }

    /// Whether it is the program as given.
    pub(super) fn is_given(&self) -> bool {
        self.origins.is_none()
    }

    /// The position in the program as given.
    #[inline]
    pub(super) fn origin(&self, pc: Pc) -> Pc {
        self.origins.as_ref().map_or(pc, |origins| origins[pc.index()])
    }

    /// Whether the code at `pc` begins what one instruction of the program as given became.
    pub(super) fn begins(&self, pc: Pc) -> bool {
        let Some(origins) = &self.origins else { return true };
        pc.0.checked_sub(1).is_none_or(|last| origins[last as usize] != origins[pc.index()])
    }
}

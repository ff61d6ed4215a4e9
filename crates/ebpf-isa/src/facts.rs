//! What an analysis proved about a program.

use alloc::vec::Vec;

use crate::SubprogIdx;

/// What is known about one subprogram.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SubprogFacts {
    /// Bytes of stack below the frame pointer that the subprogram uses, 0 to 512; more where a
    /// rewriter uses some for itself ([`crate::abi::FRAME_SIZE`]).
    pub stack_depth: u16,
}

/// Facts about a program as plain data: filled by a verifier, remapped by a rewriter, taken by the
/// engines as `Option<&Facts>`.
///
/// A fact changes speed or frame size only; without facts an engine assumes the worst. Leaving out
/// a memory check is never a fact.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Facts {
    /// By [`SubprogIdx`], in the order of [`crate::Program::subprogs`].
    pub subprogs: Vec<SubprogFacts>,
}

impl Facts {
    /// What is known about a subprogram.
    #[must_use]
    pub fn subprog(&self, index: SubprogIdx) -> Option<SubprogFacts> {
        self.subprogs.get(index.index()).copied()
    }
}

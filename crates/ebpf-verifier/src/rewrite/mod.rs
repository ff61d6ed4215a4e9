//! From an accepted program to one that can run.
//!
//! All passes edit one [`Patch`], which is linearised once; [`Pass::ORDER`] is the order. What they need
//! comes from three sides: what the verifier found out ([`Verified`]), how the program type's host lays
//! things out and what it adds ([`RewriteHooks`]), and what the machine needs that runs the result
//! ([`Target`]).
//!
//! Some of what Linux rewrites needs nothing here. Calls of helpers, tail calls, `may_goto` and casts
//! between address spaces are instructions of our engines: their symbols are bound where the program is
//! linked, their counters are in the environment of the run (`docs/abi.md`). Programs with pointers to kernel
//! types and arenas are not accepted, so there is nothing to guard for them.

mod callbacks;
mod code;
mod context;
mod dead_branches;
mod epilogue;
mod error;
mod hooks;
mod lookups;
mod prologue;
mod scan;
mod target;

use alloc::vec::Vec;
use core::ops::Range;

use ebpf_isa::text::Mark;
use ebpf_isa::{Facts, Pc, Program};
use ebpf_patch::{
    Inserted, Patch, Patched, PcMap, guard_divisions, insert_zero_extensions, remove_nops,
    remove_unreached,
};

pub use code::{Forward, HookCode};
pub use error::{Hook, HookFault, RewriteError};
pub use hooks::{ContextAccessInsn, RewriteHooks};
pub use target::{ArrayLayout, Target};

use crate::kfunc::ModuleTable;
use crate::verify::Verified;

/// A pass over an accepted program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Pass {
    /// Conditional jumps that every path takes, or none, lose their condition.
    DeadBranches,
    /// What no path reaches goes.
    DeadCode,
    /// Jumps to the next instruction go.
    Nops,
    /// Helpers that call back become loops.
    Callbacks,
    /// Accesses to the context, and to fields of the kernel's objects, become those of the host's.
    Context,
    /// What [`RewriteHooks::gen_prologue`] gives goes in front.
    Prologue,
    /// What [`RewriteHooks::gen_epilogue`] gives takes the place of the main program's exits.
    Epilogue,
    /// Lookups in arrays become arithmetic, where the host offers it.
    Lookups,
    /// Divisions that the machine may trap on are guarded.
    Divisions,
    /// Upper halves of registers are cleared, where the machine does not do so by itself.
    ZeroExtension,
}

impl Pass {
    /// All passes, in the order in which they run: what makes code go, what makes code come, what goes over
    /// all code.
    pub const ORDER: [Self; 10] = [
        Self::DeadBranches,
        Self::DeadCode,
        Self::Nops,
        Self::Callbacks,
        Self::Context,
        Self::Prologue,
        Self::Epilogue,
        Self::Lookups,
        Self::Divisions,
        Self::ZeroExtension,
    ];

    /// What listings call the code that it inserted.
    #[must_use]
    pub const fn mark(self) -> &'static str {
        match self {
            Self::DeadBranches | Self::DeadCode | Self::Nops => "dead",
            Self::Callbacks => "loop",
            Self::Context => "ctx",
            Self::Prologue => "prologue",
            Self::Epilogue => "epilogue",
            Self::Lookups => "lookup",
            Self::Divisions => "div",
            Self::ZeroExtension => "zext",
        }
    }

    fn run(self, rewriter: &mut Rewriter<'_>) -> Result<(), RewriteError> {
        let Rewriter { verified, target, patch, .. } = rewriter;
        match self {
            Self::DeadBranches => dead_branches::run(rewriter)?,
            Self::DeadCode => remove_unreached(patch, &verified.reached),
            Self::Nops => remove_nops(patch),
            Self::Callbacks => callbacks::run(rewriter)?,
            Self::Context => context::run(rewriter)?,
            Self::Prologue => prologue::run(rewriter)?,
            Self::Epilogue => epilogue::run(rewriter)?,
            Self::Lookups => lookups::run(rewriter)?,
            Self::Divisions if target.division_traps => guard_divisions(patch)?,
            Self::ZeroExtension if target.keeps_upper_halves => insert_zero_extensions(patch, &[])?,
            Self::Divisions | Self::ZeroExtension => {}
        }
        Ok(())
    }

    /// As a patch numbers it.
    const fn number(self) -> u8 {
        self as u8 + 1
    }

    fn from_number(number: u8) -> Option<Self> {
        Self::ORDER.into_iter().find(|pass| pass.number() == number)
    }
}

/// A program being rewritten.
struct Rewriter<'a> {
    verified: &'a Verified,
    hooks: &'a dyn RewriteHooks,
    target: &'a Target,
    patch: Patch<'a>,
    /// About the program as it was verified, but for the stack that passes add.
    facts: Facts,
    /// Those of the program, and what hooks add.
    modules: ModuleTable,
}

/// A program that can run, and what is known about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rewritten {
    /// The program.
    pub program: Program,
    /// What was proved, about this program.
    pub facts: Facts,
    /// Where the instructions of the verified program are in it, and the other way.
    pub map: PcMap,
    /// Which of its code passes inserted.
    pub inserted: Inserted,
    /// The modules whose functions it calls, by the indices that it has for them.
    pub modules: ModuleTable,
}

impl Rewritten {
    /// The code that passes inserted, or put in the place of other code, in the order of the program.
    pub fn inserted_code(&self) -> impl Iterator<Item = (Range<Pc>, Pass)> {
        let code = self.inserted.code(&self.map);
        code.filter_map(|code| Some((code.slots, Pass::from_number(code.pass)?)))
    }

    /// What a listing of the program says of the code that passes inserted: [`Pass::mark`].
    #[must_use]
    pub fn marks(&self) -> Vec<Mark> {
        let mark = |(slots, pass): (_, Pass)| Mark { slots, text: pass.mark() };
        self.inserted_code().map(mark).collect()
    }
}

impl Verified {
    /// Makes the program runnable on our engines: [`Self::rewrite_for`] the default [`Target`].
    ///
    /// # Errors
    /// As for [`Self::rewrite_for`].
    pub fn rewrite(&self, hooks: &dyn RewriteHooks) -> Result<Rewritten, RewriteError> {
        self.rewrite_for(hooks, &Target::default())
    }

    /// Makes the program runnable: runs all passes of [`Pass::ORDER`].
    ///
    /// Takes time linear in the length of program and result. What was verified stays as it is,
    /// whatever comes of it.
    ///
    /// # Errors
    /// A hook refuses or misbehaves, or the program grows beyond what a program may be.
    pub fn rewrite_for(
        &self,
        hooks: &dyn RewriteHooks,
        target: &Target,
    ) -> Result<Rewritten, RewriteError> {
        // What a kernel accepts may grow by what it is rewritten to.
        let patch = Patch::with_limit(&self.program, Program::MAX_SLOTS as u32);
        let facts = self.facts.clone();
        let modules = self.modules.clone();
        let mut rewriter = Rewriter { verified: self, hooks, target, patch, facts, modules };
        for pass in Pass::ORDER {
            rewriter.patch.begin_pass(pass.number());
            pass.run(&mut rewriter)?;
        }
        let Rewriter { patch, facts, modules, .. } = rewriter;
        let Patched { program, map, inserted } = patch.linearize()?;
        let facts = map.facts(&facts).expect("invariant: there are facts about every subprogram");
        Ok(Rewritten { program, facts, map, inserted, modules })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passes_are_numbered_in_their_order() {
        assert!(Pass::ORDER.is_sorted());
        assert!(Pass::ORDER.into_iter().all(|pass| pass.number() <= Patch::MAX_PASS));
        let found = Pass::ORDER.map(|pass| Pass::from_number(pass.number()));
        assert_eq!(found, Pass::ORDER.map(Some));
        assert_eq!(Pass::from_number(Patch::NO_PASS), None);
    }
}

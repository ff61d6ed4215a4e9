//! From an accepted program to one that can run: dead code goes, context accesses are converted.

use ebpf_isa::{Facts, Insn, Pc, Program, Size};
use ebpf_patch::{
    ContextError, HostField, Patch, PatchError, Patched, PcMap, convert_context_access,
    remove_unreached,
};

use crate::kfunc::ModuleTable;
use crate::step::ContextUse;
use crate::verify::Verified;

/// How the host lays out a program type's context.
pub trait RewriteHooks {
    /// Where the host keeps the field that is accessed.
    ///
    /// # Errors
    /// The host does not provide the field: [`ContextAccessInsn::unsupported`].
    fn context_field(&self, access: &ContextAccessInsn) -> Result<HostField, RewriteError>;
}

/// An instruction that accesses the context, with an access that the verifier allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ContextAccessInsn {
    /// Where it is in the program as it was verified.
    pub pc: Pc,
    /// Offset into the context as programs see it, in bytes.
    pub offset: u16,
    /// Width of the access.
    pub size: Size,
    /// Whether it is a store.
    pub write: bool,
}

impl ContextAccessInsn {
    /// The error of a hook that does not provide the field.
    #[must_use]
    pub const fn unsupported(&self) -> RewriteError {
        RewriteError::UnsupportedField { pc: self.pc, offset: self.offset, size: self.size }
    }

    fn new(pc: Pc, insn: Insn) -> Option<Self> {
        let (offset, size, write) = match insn {
            Insn::Load { size, off, .. } => (off, size, false),
            Insn::Store { size, off, .. } => (off, size, true),
            _ => return None,
        };
        Some(Self { pc, offset: u16::try_from(offset).ok()?, size, write })
    }
}

/// Why an accepted program cannot be made runnable.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RewriteError {
    /// The host's context does not have the field.
    #[error("insn {pc}: the host provides no context field at offset {offset} of {} bytes", size.bytes())]
    UnsupportedField {
        /// The access.
        pc: Pc,
        /// Offset into the context.
        offset: u16,
        /// Width of the access.
        size: Size,
    },
    /// The field that a hook names is not what is accessed, or cannot be accessed so.
    #[error(transparent)]
    Context(#[from] ContextError),
    /// The rewritten instructions do not make a program.
    #[error(transparent)]
    Patch(#[from] PatchError),
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
    /// The modules whose functions it calls, by the indices that it has for them.
    pub modules: ModuleTable,
}

impl Verified {
    /// Makes the program runnable: removes what no path reaches, and converts every access to the
    /// context by the host's hooks.
    ///
    /// # Errors
    /// A hook refuses or misbehaves, or the program grows beyond what a program may be.
    pub fn rewrite<H: RewriteHooks + ?Sized>(&self, hooks: &H) -> Result<Rewritten, RewriteError> {
        let mut patch = Patch::new(&self.program);
        self.hard_wire_branches(&mut patch)?;
        remove_unreached(&mut patch, &self.reached);
        self.convert_context(&mut patch, hooks)?;
        let Patched { program, map } = patch.linearize()?;
        let facts = map.facts(&self.facts).expect("there are facts about every subprogram");
        Ok(Rewritten { program, facts, map, modules: self.modules.clone() })
    }

    pub(crate) fn is_reached(&self, pc: Pc) -> bool {
        self.reached.get(pc.index()).copied().unwrap_or(false)
    }

    /// Conditional jumps that every path takes, or none, need no condition.
    fn hard_wire_branches(&self, patch: &mut Patch<'_>) -> Result<(), PatchError> {
        for (pc, insn) in self.program.insns() {
            let Insn::Branch { target, .. } = insn else { continue };
            let falls_through = pc.checked_add(1).is_some_and(|next| self.is_reached(next));
            match (self.is_reached(pc), self.is_reached(target), falls_through) {
                (true, true, false) => patch.replace(pc, [Insn::Jump { target, long: false }])?,
                (true, false, true) => patch.delete(pc)?,
                _ => {}
            }
        }
        Ok(())
    }

    fn convert_context<H: RewriteHooks + ?Sized>(
        &self,
        patch: &mut Patch<'_>,
        hooks: &H,
    ) -> Result<(), RewriteError> {
        for (pc, insn) in self.program.insns() {
            if self.context_use[pc.index()] != ContextUse::Context {
                continue;
            }
            let access = ContextAccessInsn::new(pc, insn)
                .expect("only loads and stores at positive offsets access the context");
            convert_context_access(patch, pc, &hooks.context_field(&access)?)?;
        }
        Ok(())
    }
}

//! From an accepted program to one that can run: dead code goes, context accesses are converted.

use alloc::vec::Vec;

use ebpf_isa::{Extend, Facts, Insn, Operand, Pc, Program, Reg, Size, Width};
use ebpf_patch::{Patch, PatchError, Patched, PcMap, remove_unreached};

use crate::step::ContextUse;
use crate::verify::Verified;

/// How the host lays out a program type's context.
pub trait RewriteHooks {
    /// Instructions to take the place of an access to the context as programs see it: an access to
    /// the context as the host lays it out.
    ///
    /// For a load, they leave the field in its destination, zero-extended; a sign extension that
    /// the program asked for is added behind them. They may use no other registers than those of
    /// the access, and neither jump nor call.
    ///
    /// # Errors
    /// The host does not provide the field: [`ContextAccessInsn::unsupported`].
    fn convert_context(&self, access: &ContextAccessInsn) -> Result<Vec<Insn>, RewriteError>;
}

/// An instruction that accesses the context, with an access that the verifier allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ContextAccessInsn {
    /// Where it is in the program as it was verified.
    pub pc: Pc,
    /// Offset into the context as programs see it, in bytes.
    pub offset: u32,
    /// Width of the access.
    pub size: Size,
    /// The register that points to the context.
    pub base: Reg,
    /// What it does.
    pub kind: ContextAccessKind,
}

/// What an access to the context does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ContextAccessKind {
    /// A load.
    Load(ContextLoad),
    /// A store of this.
    Store(Operand),
}

/// A load from the context.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ContextLoad {
    /// Where the value goes.
    pub dst: Reg,
    /// How it is extended.
    pub extend: Extend,
}

impl ContextAccessInsn {
    /// The load, if it is one.
    #[must_use]
    pub const fn load(&self) -> Option<ContextLoad> {
        match self.kind {
            ContextAccessKind::Load(load) => Some(load),
            ContextAccessKind::Store(_) => None,
        }
    }

    /// What is stored, if it is a store.
    #[must_use]
    pub const fn store(&self) -> Option<Operand> {
        match self.kind {
            ContextAccessKind::Load(_) => None,
            ContextAccessKind::Store(src) => Some(src),
        }
    }

    /// The error of a hook that does not provide the field.
    #[must_use]
    pub const fn unsupported(&self) -> RewriteError {
        RewriteError::UnsupportedField { pc: self.pc, offset: self.offset, size: self.size }
    }

    fn new(pc: Pc, insn: Insn) -> Option<Self> {
        let (offset, size, base, kind) = match insn {
            Insn::Load { size, extend, dst, base, off } => {
                (off, size, base, ContextAccessKind::Load(ContextLoad { dst, extend }))
            }
            Insn::Store { size, base, off, src } => {
                (off, size, base, ContextAccessKind::Store(src))
            }
            _ => return None,
        };
        Some(Self { pc, offset: u32::try_from(offset).ok()?, size, base, kind })
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
        offset: u32,
        /// Width of the access.
        size: Size,
    },
    /// A hook returned a jump, a call or an exit.
    #[error("insn {pc}: the hook that converts the context access returned a jump, call or exit")]
    HookBranches {
        /// The access.
        pc: Pc,
    },
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
        Ok(Rewritten { program, facts, map })
    }

    fn is_reached(&self, pc: Pc) -> bool {
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
            let mut converted = hooks.convert_context(&access)?;
            if converted.iter().any(|insn| leaves(*insn)) {
                return Err(RewriteError::HookBranches { pc });
            }
            converted.extend(sign_extension(&access));
            patch.replace(pc, converted)?;
        }
        Ok(())
    }
}

/// Whether control may go on elsewhere than behind the instruction.
const fn leaves(insn: Insn) -> bool {
    insn.jump_target().is_some() || matches!(insn, Insn::Call(_) | Insn::Exit)
}

fn sign_extension(access: &ContextAccessInsn) -> Option<Insn> {
    let ContextLoad { dst, extend } = access.load()?;
    let narrow = extend == Extend::Sign && access.size != Size::Dw;
    narrow.then_some(Insn::MovSx { width: Width::W64, dst, src: dst, from: access.size })
}

//! Code to be inserted, and how its jumps are kept until positions are known.

use ebpf_isa::{CallTarget, Insn, Pc, Program, WideSource};

/// Where a jump of inserted code leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Target {
    /// To this instruction of the original program, as any other jump to it.
    Pc(Pc),
    /// To an instruction of the same sequence, in slots from its start; a wide load takes two.
    Local(u32),
    /// To what comes right after the sequence.
    Next,
}

/// An instruction to be inserted.
///
/// An [`Insn`] alone will do: a jump or call then leads to the original program's instruction that
/// it names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PatchInsn {
    insn: Insn,
    target: Option<Target>,
}

impl PatchInsn {
    /// A jump, conditional or not, that leads to `target`; the target inside of `insn` is ignored.
    #[must_use]
    pub const fn jump(insn: Insn, target: Target) -> Self {
        Self { insn, target: Some(target) }
    }

    /// Number of slots: 2 for a wide load, otherwise 1.
    #[must_use]
    pub const fn slots(self) -> u32 {
        self.insn.slots()
    }

    /// The instruction alone, if it refers to no other.
    #[inline]
    pub(crate) fn plain(self) -> Option<Insn> {
        let refers = self.insn.jump_target().is_some() || self.insn.subprog_ref().is_some();
        (self.target.is_none() && !refers).then_some(self.insn)
    }

    /// The instruction, led to its [`Target`] if that is an original position; and what its target
    /// field must hold instead if it is a local one. `None` if it has a target but is no jump.
    pub(crate) fn resolve(self) -> Option<(Insn, Option<Link>)> {
        let Some(target) = self.target else { return Some((self.insn, None)) };
        self.insn.jump_target()?;
        Some(match target {
            Target::Pc(pc) => (retarget(self.insn, pc), None),
            Target::Local(offset) => (self.insn, Some(Link::Local(offset.min(Link::NEXT - 1)))),
            Target::Next => (self.insn, Some(Link::Local(Link::NEXT))),
        })
    }
}

impl From<Insn> for PatchInsn {
    #[inline]
    fn from(insn: Insn) -> Self {
        Self { insn, target: None }
    }
}

/// What the target field of an instruction means until linearisation. It is kept in the field
/// itself, so that inserted code takes no more room than any other: positions of a program leave
/// the highest bit free.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Link {
    /// An instruction of the original program.
    Original(Pc),
    /// Slots from the start of the sequence; its length for what comes after it.
    Local(u32),
}

impl Link {
    const LOCAL: u32 = 1 << 31;
    /// The offset that stands for the sequence's length while that is not known.
    pub(crate) const NEXT: u32 = Self::LOCAL - 1;

    /// As a target field; offsets are at most [`Self::NEXT`].
    pub(crate) const fn to_pc(self) -> Pc {
        match self {
            Self::Original(pc) => pc,
            Self::Local(offset) => Pc(Self::LOCAL | offset),
        }
    }

    /// From a target field.
    pub(crate) const fn from_pc(pc: Pc) -> Self {
        match pc.0 & Self::LOCAL {
            0 => Self::Original(pc),
            _ => Self::Local(pc.0 & !Self::LOCAL),
        }
    }
}

// Positions of a program, and offsets into a sequence, never look like a local link.
const _: () = assert!(Program::MAX_SLOTS < (Link::NEXT - 1) as usize);

/// The jump, call or function address `insn` with another target; any other instruction as it is.
pub(crate) const fn retarget(insn: Insn, target: Pc) -> Insn {
    match insn {
        Insn::Jump { long, .. } => Insn::Jump { target, long },
        Insn::Branch { op, width, lhs, rhs, .. } => Insn::Branch { op, width, lhs, rhs, target },
        Insn::MayGoto { .. } => Insn::MayGoto { target },
        Insn::Call(CallTarget::Subprog(_)) => Insn::Call(CallTarget::Subprog(target)),
        Insn::LoadWide { dst, source: WideSource::Func(_) } => {
            Insn::LoadWide { dst, source: WideSource::Func(target) }
        }
        other => other,
    }
}

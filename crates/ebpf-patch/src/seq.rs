//! Code to be inserted, and how its jumps are kept until positions are known.

use ebpf_isa::{CallTarget, Insn, Pc, Program, WideSource};

use crate::PatchError;

/// Where a jump of inserted code leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Target {
    /// To this instruction of the original program, as any other jump to it.
    Pc(Pc),
    /// To an instruction of the same sequence, in slots from its start; a wide load takes two.
    Local(u32),
    /// To what comes right after the sequence.
    Next,
    /// Past so many slots that follow the jump in the sequence that it is given in.
    Over(u32),
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

    /// The instruction. If it has a [`PatchInsn::target`], its own target says nothing.
    #[must_use]
    pub const fn insn(self) -> Insn {
        self.insn
    }

    /// Where it leads, if it is a jump within its sequence or was made by [`PatchInsn::jump`].
    #[must_use]
    pub const fn target(self) -> Option<Target> {
        self.target
    }

    /// Another jump to where this one leads: an instruction that takes its place in a pass.
    #[must_use]
    pub const fn with_insn(self, insn: Insn) -> Self {
        Self { insn, target: self.target }
    }

    /// Number of slots: 2 for a wide load, otherwise 1.
    #[must_use]
    pub const fn slots(self) -> u32 {
        self.insn.slots()
    }

    /// Whether it can stand anywhere: see [`Insn::is_plain`].
    #[inline]
    pub(crate) const fn is_plain(&self) -> bool {
        self.target.is_none() && self.insn.is_plain()
    }

    /// From the pool: an instruction of a sequence of `slots` slots.
    pub(crate) fn from_pool(insn: Insn, slots: u32) -> Self {
        let target = match insn.jump_target().map(Link::from_pc) {
            Some(Link::Local(offset)) if offset == slots => Some(Target::Next),
            Some(Link::Local(offset)) => Some(Target::Local(offset)),
            Some(Link::Original(_)) | None => None,
        };
        Self { insn, target }
    }

    /// The instruction as the pool keeps it at slot `here` of its sequence, with its [`Target`] as a
    /// link.
    #[inline]
    pub(crate) fn to_pool(self, here: u32) -> Result<Insn, Misled> {
        let link = match (self.target, self.insn.jump_target()) {
            (None, None) => return Ok(self.insn),
            (Some(_), None) => return Err(Misled::NotAJump),
            (Some(Target::Pc(pc)), _) | (None, Some(pc)) => {
                if Link::from_pc(pc) != Link::Original(pc) {
                    return Err(Misled::OutOfRange(pc));
                }
                Link::Original(pc)
            }
            (Some(Target::Local(offset)), _) => Link::Local(offset.min(Link::SETTLED - 1)),
            (Some(Target::Over(slots)), _) => Link::over(here, slots),
            (Some(Target::Next), _) => Link::Local(Link::NEXT),
        };
        Ok(retarget(self.insn, link.to_pc()))
    }
}

/// Why an instruction cannot lead where it should.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Misled {
    NotAJump,
    OutOfRange(Pc),
}

impl Misled {
    /// As an error of slot `slot` in a sequence at `pc`.
    pub(crate) const fn error(self, pc: Pc, slot: u32) -> PatchError {
        match self {
            Self::NotAJump => PatchError::NotAJump { pc, slot },
            Self::OutOfRange(pc) => PatchError::OutOfRange { pc },
        }
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

    /// Marks local links that name a slot of the sequence as it will be, or its end, where others name
    /// one of it as it was given.
    const SETTLED: u32 = 1 << 30;

    /// Past `slots` slots that follow the one at `here`.
    pub(crate) fn over(here: u32, slots: u32) -> Self {
        let target = slots.saturating_add(here + 1);
        Self::Local(Self::SETTLED | target.min(Self::SETTLED - 2))
    }

    /// The slot that a local link names as it will be, if it does.
    pub(crate) const fn settled(offset: u32) -> Option<u32> {
        match offset {
            Self::NEXT => None,
            _ if offset & Self::SETTLED != 0 => Some(offset & !Self::SETTLED),
            _ => None,
        }
    }

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
const _: () = assert!(Program::MAX_SLOTS < (Link::SETTLED - 2) as usize);

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

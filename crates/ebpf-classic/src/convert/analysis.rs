//! What later instructions need, computed backward. Jumps lead forward only, so one pass over the
//! instructions in reverse order is enough.

use alloc::vec;
use alloc::vec::Vec;

use ebpf_isa::{CmpOp, Size};

use super::ranges::{Ranges, Regions};
use super::target::Target;
use crate::ancillary::{Ancillary, Place};
use crate::filter::{ClassicPc, Filter, Insn, Operand};
use crate::op::Var;

/// How far apart the ends of loads at `X + k` may be to share a check: the offset of an eBPF load
/// has 16 bits with a sign.
pub(super) const SHARED_SPAN: u32 = 0x7fff;
/// The largest end of loads at `X + k` that share a check, counted from `X`.
const SHARED_REACH: u32 = 0xffff;

/// How the value in `A` is used from somewhere on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Use {
    /// Not at all.
    Dead,
    /// Only in comparisons with constants that do not depend on the order of its bytes.
    AnyOrder,
    /// As a number.
    Number,
}

/// A range of offsets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) lo: u32,
    pub(super) hi: u32,
}

impl Span {
    pub(super) const fn covers(self, other: Self) -> bool {
        self.lo <= other.lo && other.hi <= self.hi
    }

    fn union(self, other: Self) -> Self {
        Self { lo: self.lo.min(other.lo), hi: self.hi.max(other.hi) }
    }

    fn intersection(self, other: Self) -> Option<Self> {
        let (lo, hi) = (self.lo.max(other.lo), self.hi.min(other.hi));
        (lo < hi).then_some(Self { lo, hi })
    }
}

/// What holds before an instruction, whatever comes later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Before {
    /// The packet must reach to here; a shorter one ends with 0 on every way.
    /// [`Before::NOTHING_HELPS`]: so does every packet.
    pub(super) need: u32,
    /// Offsets from `X` that are loaded on every way that does not end with 0. If `X` plus the lower
    /// end, as a number of 32 bits, plus the length of the span lies outside of the packet, every way
    /// ends with 0.
    pub(super) need_x: Option<Span>,
    pub(super) a: Use,
    pub(super) x_is_used: bool,
}

impl Before {
    /// Every way ends with 0.
    pub(super) const NOTHING_HELPS: u32 = u32::MAX;

    const ZERO: Self =
        Self { need: Self::NOTHING_HELPS, need_x: None, a: Use::Dead, x_is_used: false };

    pub(super) const fn ends_with_zero(&self) -> bool {
        self.need == Self::NOTHING_HELPS
    }

    /// What holds before a choice between two ways.
    fn or(self, other: Self) -> Self {
        if self.ends_with_zero() {
            return other;
        }
        if other.ends_with_zero() {
            return self;
        }
        let need_x = match (self.need_x, other.need_x) {
            (Some(left), Some(right)) => left.intersection(right),
            _ => None,
        };
        Self {
            need: self.need.min(other.need),
            need_x,
            a: self.a.max(other.a),
            x_is_used: self.x_is_used || other.x_is_used,
        }
    }

    fn defines(mut self, var: Var) -> Self {
        match var {
            Var::A => self.a = Use::Dead,
            Var::X => (self.x_is_used, self.need_x) = (false, None),
        }
        self
    }

    fn uses(mut self, var: Var) -> Self {
        match var {
            Var::A => self.a = Use::Number,
            Var::X => self.x_is_used = true,
        }
        self
    }

    fn uses_operand(self, operand: Operand) -> Self {
        match operand {
            Operand::X => self.uses(Var::X),
            Operand::Imm(_) => self,
        }
    }
}

/// How bytes at `X` plus a constant are got at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    /// Through a pointer into the packet, which begins with its link-layer header. Where the network
    /// header cannot be found, whatever counts from it is outside.
    Direct,
    /// By a helper, as they count from the network header.
    Helper,
    /// In one way or the other, as `X` says.
    Either,
}

/// How a target makes loads at `X` plus a constant.
#[derive(Clone, Copy)]
pub(super) struct Indirect<'f> {
    pub(super) ranges: &'f Ranges,
    pub(super) target: Target,
}

impl Indirect<'_> {
    pub(super) fn access(self, pc: ClassicPc, off: u32) -> Access {
        if self.target != Target::SchedCls {
            return Access::Direct;
        }
        match self.ranges.regions(pc, off) {
            Regions { network: false, .. } => Access::Direct,
            Regions { data: false, link: false, .. } => Access::Helper,
            _ => Access::Either,
        }
    }
}

/// What holds before each instruction.
pub(super) struct Analysis {
    pub(super) before: Vec<Before>,
    /// How many instructions lead to each one, counting only up to 2.
    pub(super) entries: Vec<u8>,
}

impl Analysis {
    pub(super) fn new(filter: &Filter, indirect: Indirect<'_>) -> Self {
        let len = filter.insns().len();
        let mut before = vec![Before::ZERO; len];
        let mut entries = vec![0_u8; len];
        for (pc, insn) in filter.iter().rev() {
            let after = match insn {
                Insn::RetImm(_) | Insn::RetA => Before { need: 0, ..Before::ZERO },
                Insn::Jump(to) => before[to.index()],
                Insn::Branch { yes, no, .. } => before[yes.index()].or(before[no.index()]),
                _ => before[pc.index() + 1],
            };
            let mut enter = |pc: usize| entries[pc] = (entries[pc] + 1).min(2);
            match insn {
                Insn::RetImm(_) | Insn::RetA => {}
                Insn::Jump(to) => enter(to.index()),
                Insn::Branch { yes, no, .. } => [yes, no].iter().for_each(|to| enter(to.index())),
                _ => enter(pc.index() + 1),
            }
            before[pc.index()] =
                if after.ends_with_zero() { Before::ZERO } else { step(pc, insn, after, indirect) };
        }
        Self { before, entries }
    }
}

/// What holds before an instruction, from what holds after it.
fn step(pc: ClassicPc, insn: Insn, after: Before, indirect: Indirect<'_>) -> Before {
    let target = indirect.target;
    match insn {
        Insn::LoadAbs { size, place } => load(place, size, after.defines(Var::A), target),
        Insn::LoadMsh { place } => load(place, Size::B, after.defines(Var::X), target),
        Insn::LoadInd { size, off } => {
            let before = after.defines(Var::A).uses(Var::X);
            match indirect.access(pc, off) {
                Access::Direct if target.has_direct_access() => load_at_x(off, size, before),
                _ => before,
            }
        }
        Insn::LoadAncillary(ancillary) => load_ancillary(ancillary, after),
        Insn::LoadImm(var, _) | Insn::LoadLen(var) | Insn::LoadMem(var, _) => after.defines(var),
        Insn::Store(var, _) => after.uses(var),
        Insn::Alu(_, operand) => after.uses(Var::A).uses_operand(operand),
        Insn::Neg => after.uses(Var::A),
        Insn::Jump(_) => after,
        Insn::Branch { yes, no, .. } if yes == no => after,
        Insn::Branch { op: CmpOp::Eq | CmpOp::Set, rhs: Operand::Imm(_), .. } => {
            Before { a: after.a.max(Use::AnyOrder), ..after }
        }
        Insn::Branch { rhs, .. } => after.uses(Var::A).uses_operand(rhs),
        Insn::RetImm(0) => Before::ZERO,
        Insn::RetImm(_) => after,
        Insn::RetA => after.uses(Var::A),
        Insn::Tax => after.defines(Var::X).uses(Var::A),
        Insn::Txa => after.defines(Var::A).uses(Var::X),
    }
}

fn load(place: Place, size: Size, after: Before, target: Target) -> Before {
    let off = match target.place(place) {
        Place::Nowhere => return Before::ZERO,
        Place::Data(off) if target.has_direct_access() => off,
        _ => return after,
    };
    match Place::end(off, size) {
        Some(end) if end <= target.reach() => Before { need: after.need.max(end), ..after },
        _ => Before::ZERO,
    }
}

fn load_at_x(off: u32, size: Size, before: Before) -> Before {
    let Some(span) = indirect_span(off, size) else {
        return before;
    };
    let shared = match before.need_x.map(|later| later.union(span)) {
        Some(both) if both.hi - both.lo <= SHARED_SPAN => both,
        _ => span,
    };
    Before { need_x: Some(shared), ..before }
}

/// The offsets from `X` that a load touches; `None` if it cannot share a check.
pub(super) fn indirect_span(off: u32, size: Size) -> Option<Span> {
    let hi = Place::end(off, size)?;
    (hi <= SHARED_REACH).then_some(Span { lo: off, hi })
}

fn load_ancillary(ancillary: Ancillary, after: Before) -> Before {
    let mut before = after.defines(Var::A);
    if ancillary.reads_a() {
        before = before.uses(Var::A);
    }
    if ancillary.reads_x() {
        before = before.uses(Var::X);
    }
    before
}

//! Values as terms over what a filter reads.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::fmt;

use ebpf_isa::{AluOp, Size};

use super::Subject;
use crate::ancillary::{Ancillary, Place};
use crate::filter::ClassicPc;
use crate::interp;
use crate::seccomp;

/// A term, by its number in [`Terms`]. Equal terms have equal numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct TermId(u32);

/// What a value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Term {
    Const(u32),
    Load(Size, Place),
    LoadAt(Size, TermId, u32),
    Msh(Place),
    Len,
    Ancillary(Ancillary),
    Binary(AluOp, TermId, TermId),
    Neg(TermId),
    /// A value that would be too long to write down: what an instruction left in its register.
    Opaque(ClassicPc),
}

/// Operations that a term may contain. Terms share their parts, text does not.
const SIZE_MAX: u32 = 24;

/// All terms of one walk.
#[derive(Default)]
pub(super) struct Terms {
    terms: Vec<(Term, u32)>,
    ids: BTreeMap<Key, TermId>,
}

/// A term as numbers, for ordering.
type Key = (u8, u32, u32, u32);

impl Terms {
    pub(super) fn get(&self, id: TermId) -> Term {
        self.terms[id.0 as usize].0
    }

    pub(super) fn constant(&mut self, value: u32) -> TermId {
        self.add(Term::Const(value), ClassicPc(0))
    }

    /// The value of a constant term.
    pub(super) fn value(&self, id: TermId) -> Option<u32> {
        match self.get(id) {
            Term::Const(value) => Some(value),
            _ => None,
        }
    }

    /// Takes a term that the instruction at `pc` makes.
    pub(super) fn add(&mut self, term: Term, pc: ClassicPc) -> TermId {
        let term = self.simplified(term);
        let size = self.size(term);
        let (term, size) = if size > SIZE_MAX { (Term::Opaque(pc), 1) } else { (term, size) };
        let next = TermId(self.terms.len() as u32);
        let id = *self.ids.entry(key(term)).or_insert(next);
        if id == next {
            self.terms.push((term, size));
        }
        id
    }

    fn simplified(&self, term: Term) -> Term {
        match term {
            Term::Binary(op, a, b) => match (self.value(a), self.value(b)) {
                (Some(a), Some(b)) => interp::alu(op, a, b).map_or(term, Term::Const),
                _ => term,
            },
            Term::Neg(a) => self.value(a).map_or(term, |a| Term::Const(a.wrapping_neg())),
            Term::LoadAt(size, at, off) => match self.value(at) {
                Some(at) => Term::Load(size, Place::of(at.wrapping_add(off))),
                None => term,
            },
            _ => term,
        }
    }

    fn size(&self, term: Term) -> u32 {
        let of = |id: TermId| self.terms[id.0 as usize].1;
        match term {
            Term::Binary(_, a, b) => 1 + of(a) + of(b),
            Term::Neg(a) | Term::LoadAt(_, a, _) => 1 + of(a),
            _ => 1,
        }
    }

    /// The greatest value that a term can have.
    pub(super) fn max(&self, id: TermId) -> u32 {
        match self.get(id) {
            Term::Const(value) => value,
            Term::Load(size, _) | Term::LoadAt(size, ..) => u32::MAX >> (32 - size.bits()),
            Term::Msh(_) => 60,
            Term::Binary(AluOp::And, a, b) => {
                let bounds = [a, b].map(|id| self.value(id).unwrap_or(u32::MAX));
                bounds[0].min(bounds[1])
            }
            _ => u32::MAX,
        }
    }

    pub(super) const fn text(&self, id: TermId, subject: Subject) -> TermText<'_> {
        TermText { terms: self, id, subject }
    }
}

fn key(term: Term) -> Key {
    let place = |place| match place {
        Place::Data(off) => (0, off),
        Place::Network(off) => (1, off),
        Place::Link(off) => (2, off),
        Place::Nowhere => (3, 0),
    };
    match term {
        Term::Const(value) => (0, value, 0, 0),
        Term::Load(size, at) => (1, size.bytes().into(), place(at).0, place(at).1),
        Term::LoadAt(size, at, off) => (2, size.bytes().into(), at.0, off),
        Term::Msh(at) => (3, place(at).0, place(at).1, 0),
        Term::Len => (4, 0, 0, 0),
        Term::Ancillary(which) => (5, which.number(), 0, 0),
        Term::Binary(op, a, b) => (6, op.code().0.into(), a.0, b.0),
        Term::Neg(a) => (7, a.0, 0, 0),
        Term::Opaque(pc) => (8, pc.0.into(), 0, 0),
    }
}

/// A number, in the base that people expect.
pub(super) struct Number(pub(super) u32);

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 < 256 { write!(f, "{}", self.0) } else { write!(f, "{:#x}", self.0) }
    }
}

pub(super) struct TermText<'a> {
    terms: &'a Terms,
    id: TermId,
    subject: Subject,
}

impl TermText<'_> {
    fn part(&self, id: TermId) -> Self {
        Self { terms: self.terms, id, subject: self.subject }
    }
}

impl fmt::Display for TermText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.terms.get(self.id) {
            Term::Const(value) => Number(value).fmt(f),
            Term::Load(_, Place::Data(off)) if self.subject == Subject::SystemCall => field(f, off),
            Term::Load(size, place) => {
                write_place(f, place)?;
                write_size(f, size)
            }
            Term::LoadAt(size, at, off) => {
                write!(f, "pkt[{}", self.part(at))?;
                match off.cast_signed() {
                    0 => {}
                    off @ ..0 => write!(f, "{off}")?,
                    off => write!(f, "+{off}")?,
                }
                write_size(f, size)
            }
            Term::Msh(place) => {
                write!(f, "4*(")?;
                write_place(f, place)?;
                write!(f, "]&0xf)")
            }
            Term::Len => write!(f, "len"),
            Term::Ancillary(which) => write!(f, "{}", which.name()),
            Term::Binary(op, a, b) => {
                let operator = op.mnemonic().trim_end_matches('=');
                write!(f, "({} {operator} {})", self.part(a), self.part(b))
            }
            Term::Neg(a) => write!(f, "-{}", self.part(a)),
            Term::Opaque(pc) => write!(f, "value@{pc}"),
        }
    }
}

fn write_place(f: &mut fmt::Formatter<'_>, place: Place) -> fmt::Result {
    match place {
        Place::Data(off) => write!(f, "pkt[{off}"),
        Place::Network(off) => write!(f, "net[{off}"),
        Place::Link(off) => write!(f, "link[{off}"),
        Place::Nowhere => write!(f, "nowhere["),
    }
}

fn write_size(f: &mut fmt::Formatter<'_>, size: Size) -> fmt::Result {
    match size {
        Size::B => write!(f, "]"),
        _ => write!(f, ":{}]", size.bytes()),
    }
}

/// A word of `struct seccomp_data`.
fn field(f: &mut fmt::Formatter<'_>, off: u32) -> fmt::Result {
    let is_low = off.is_multiple_of(8) == cfg!(target_endian = "little");
    let half = if is_low { "lo" } else { "hi" };
    match off {
        0 => write!(f, "nr"),
        4 => write!(f, "arch"),
        8..16 => write!(f, "ip.{half}"),
        16..seccomp::DATA_LEN => write!(f, "args[{}].{half}", (off - 16) / 8),
        _ => write!(f, "data[{off}]"),
    }
}

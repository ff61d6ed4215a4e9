//! What a filter accepts, way by way, as conditions that people can read.
//!
//! ```
//! use ebpf_classic::explain::{Subject, explain};
//! use ebpf_classic::{Filter, text};
//!
//! let filter = Filter::new(text::parse(
//!     "        ldh [12]
//!              jne #0x800, drop
//!              ldb [23]
//!              jeq #6, keep
//!              jne #17, drop
//!      keep:   ret #-1
//!      drop:   ret #0",
//! )?)?;
//! let explanation = explain(&filter, Subject::Packet, 100);
//! assert!(explanation.complete);
//! assert_eq!(
//!     explanation.to_string(),
//!     "0xffffffff if len >= 24 and pkt[12:2] == 0x800 and pkt[23] == 6\n\
//!      0xffffffff if len >= 24 and pkt[12:2] == 0x800 and pkt[23] == 17\n",
//! );
//! # Ok::<(), Box<dyn core::error::Error>>(())
//! ```

mod expr;

use alloc::collections::BTreeSet;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;
use core::fmt;

use ebpf_isa::{AluOp, CmpOp, Size};

use crate::ancillary::{Ancillary, Place};
use crate::filter::{Cell, ClassicPc, Filter, Insn, Operand};
use crate::interp::compare;
use crate::op::Var;
use crate::seccomp::Action;
use expr::{Number, Term, TermId, Terms};

/// What a filter judges.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject {
    /// Packets: `pkt[12:2]` is the number in the two bytes from offset 12 on. Ways that end with 0
    /// are left out.
    Packet,
    /// System calls: the words of `struct seccomp_data` have their names, and all ways are shown,
    /// with their actions.
    SystemCall,
}

/// One way through a filter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Path {
    /// What must hold, in the order in which it is tested.
    pub conditions: Vec<String>,
    /// What the filter ends with, as text.
    pub result: String,
    /// The same as a number, if it does not depend on the packet.
    pub value: Option<u32>,
    /// Loads at constant offsets reach to here; a packet that is shorter gets 0.
    pub min_len: u32,
    /// The instruction that ends it.
    pub end: ClassicPc,
}

/// The ways through a filter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    /// The ways.
    pub paths: Vec<Path>,
    /// Whether these are all.
    pub complete: bool,
}

impl fmt::Display for Explanation {
    /// One line a way, and a line that says so if there are more.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for path in &self.paths {
            write!(f, "{}", path.result)?;
            let len = (path.min_len > 0).then(|| alloc::format!("len >= {}", path.min_len));
            let conditions: Vec<&str> =
                len.as_deref().into_iter().chain(path.conditions.iter().map(|c| &**c)).collect();
            match conditions.is_empty() {
                true => writeln!(f, " always")?,
                false => writeln!(f, " if {}", conditions.join(" and "))?,
            }
        }
        if self.complete { Ok(()) } else { writeln!(f, "there are more ways") }
    }
}

/// How many branches are looked at for each way that may be shown: many ways can be contradictory.
const FORKS_PER_PATH: usize = 16;

/// How many of the last conditions a comparison is judged by, so that long ways take linear time.
const RECENT: usize = 64;

/// Walks through a filter, at most `limit` ways.
#[must_use]
pub fn explain(filter: &Filter, subject: Subject, limit: usize) -> Explanation {
    let (terms, trail, paths) = (Terms::default(), Vec::new(), Vec::new());
    let mut walk = Walk { filter, subject, terms, trail, paths };
    let zero = walk.terms.constant(0);
    let start = Way {
        pc: ClassicPc(0),
        a: zero,
        x: zero,
        cells: [zero; Cell::COUNT],
        last: None,
        min_len: 0,
    };
    let mut pending = vec![start];
    let mut forks = limit.saturating_mul(FORKS_PER_PATH);
    while let Some(way) = pending.pop() {
        if walk.paths.len() >= limit || forks == 0 {
            return Explanation { paths: walk.paths, complete: false };
        }
        forks -= 1;
        pending.extend(walk.follow(way));
    }
    Explanation { paths: walk.paths, complete: true }
}

/// A comparison, and how it goes.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Condition {
    op: CmpOp,
    lhs: TermId,
    rhs: TermId,
    holds: bool,
}

/// A place in the filter and how it was reached.
#[derive(Clone)]
struct Way {
    pc: ClassicPc,
    a: TermId,
    x: TermId,
    cells: [TermId; Cell::COUNT],
    /// The last condition, by its place in [`Walk::trail`].
    last: Option<usize>,
    min_len: u32,
}

struct Walk<'f> {
    filter: &'f Filter,
    subject: Subject,
    terms: Terms,
    /// Conditions, each with the one before it on its way: ways share their beginnings.
    trail: Vec<(Condition, Option<usize>)>,
    paths: Vec<Path>,
}

impl Walk<'_> {
    /// Goes on to the next open branch, whose ways are given back (the one that holds last), or to
    /// the end.
    fn follow(&mut self, mut way: Way) -> Vec<Way> {
        loop {
            let pc = way.pc;
            way.pc = pc.next();
            match self.filter.insns()[pc.index()] {
                Insn::Jump(to) => way.pc = to,
                Insn::Branch { op, rhs, yes, no } => {
                    let rhs = self.operand(&way, rhs);
                    let condition = Condition { op, lhs: way.a, rhs, holds: true };
                    match self.outcome(&way, condition) {
                        _ if yes == no => way.pc = yes,
                        Some(holds) => way.pc = if holds { yes } else { no },
                        None => {
                            return [(no, false), (yes, true)]
                                .map(|(pc, holds)| {
                                    self.trail.push((Condition { holds, ..condition }, way.last));
                                    Way { pc, last: Some(self.trail.len() - 1), ..way.clone() }
                                })
                                .into();
                        }
                    }
                }
                Insn::RetImm(value) => {
                    let value = self.terms.constant(value);
                    self.end(&way, pc, value);
                    return Vec::new();
                }
                Insn::RetA => {
                    self.end(&way, pc, way.a);
                    return Vec::new();
                }
                insn => {
                    if !self.step(&mut way, pc, insn) {
                        let zero = self.terms.constant(0);
                        self.end(&way, pc, zero);
                        return Vec::new();
                    }
                }
            }
        }
    }

    /// What an instruction that does not jump does; `false` if it ends the filter with 0.
    fn step(&mut self, way: &mut Way, pc: ClassicPc, insn: Insn) -> bool {
        let (var, term) = match insn {
            Insn::LoadAbs { size, place } => {
                if !way.reach(place, size) {
                    return false;
                }
                (Var::A, Term::Load(size, place))
            }
            Insn::LoadMsh { place } => {
                if !way.reach(place, Size::B) {
                    return false;
                }
                (Var::X, Term::Msh(place))
            }
            Insn::LoadInd { size, off } => (Var::A, Term::LoadAt(size, way.x, off)),
            Insn::LoadAncillary(which) if which.reads_a() => {
                let is_xor = which == Ancillary::XorX;
                let xor = Term::Binary(AluOp::Xor, way.a, way.x);
                (Var::A, if is_xor { xor } else { Term::Opaque(pc) })
            }
            Insn::LoadAncillary(Ancillary::Random) => (Var::A, Term::Opaque(pc)),
            Insn::LoadAncillary(which) => (Var::A, Term::Ancillary(which)),
            Insn::LoadImm(var, value) => (var, Term::Const(value)),
            Insn::LoadLen(var) => (var, Term::Len),
            Insn::LoadMem(var, cell) => (var, self.terms.get(way.cells[cell.index()])),
            Insn::Store(var, cell) => {
                way.cells[cell.index()] = if var == Var::A { way.a } else { way.x };
                return true;
            }
            Insn::Alu(op, operand) => {
                let b = self.operand(way, operand);
                if matches!(op, AluOp::Div | AluOp::Mod) && self.terms.value(b) == Some(0) {
                    return false;
                }
                (Var::A, Term::Binary(op, way.a, b))
            }
            Insn::Neg => (Var::A, Term::Neg(way.a)),
            Insn::Tax => (Var::X, self.terms.get(way.a)),
            Insn::Txa => (Var::A, self.terms.get(way.x)),
            Insn::Jump(_) | Insn::Branch { .. } | Insn::RetImm(_) | Insn::RetA => {
                unreachable!("invariant: only instructions that go on to the next")
            }
        };
        let id = self.terms.add(term, pc);
        match var {
            Var::A => way.a = id,
            Var::X => way.x = id,
        }
        true
    }

    fn operand(&mut self, way: &Way, operand: Operand) -> TermId {
        match operand {
            Operand::Imm(value) => self.terms.constant(value),
            Operand::X => way.x,
        }
    }

    /// The conditions of a way, the last one first.
    fn conditions(&self, way: &Way) -> impl Iterator<Item = &Condition> {
        let link = |index: usize| &self.trail[index];
        let links = core::iter::successors(way.last.map(link), move |at| at.1.map(link));
        links.map(|(condition, _)| condition)
    }

    /// Those that further comparisons are judged by.
    fn recent(&self, way: &Way) -> impl Iterator<Item = &Condition> {
        self.conditions(way).take(RECENT)
    }

    /// How a comparison goes, if what was tested before says so.
    fn outcome(&self, way: &Way, asked: Condition) -> Option<bool> {
        let same = |known: &&Condition| Condition { holds: true, ..**known } == asked;
        if let Some(known) = self.recent(way).find(same) {
            return Some(known.holds);
        }
        let rhs = self.terms.value(asked.rhs)?;
        let (lo, hi) = self.range(way, asked.lhs);
        if lo == hi {
            return Some(compare(asked.op, lo, rhs));
        }
        match asked.op {
            CmpOp::Eq if rhs < lo || rhs > hi => Some(false),
            CmpOp::Gt if lo > rhs => Some(true),
            CmpOp::Gt if hi <= rhs => Some(false),
            CmpOp::Ge if lo >= rhs => Some(true),
            CmpOp::Ge if hi < rhs => Some(false),
            CmpOp::Set if rhs == 0 => Some(false),
            _ => None,
        }
    }

    /// Between which values a term is.
    fn range(&self, way: &Way, term: TermId) -> (u32, u32) {
        if let Some(value) = self.terms.value(term) {
            return (value, value);
        }
        let (mut lo, mut hi) = (0, self.terms.max(term));
        for &Condition { op, lhs, rhs, holds } in self.recent(way) {
            let Some(rhs) = self.terms.value(rhs).filter(|_| lhs == term) else {
                continue;
            };
            match (op, holds) {
                (CmpOp::Eq, true) => (lo, hi) = (rhs, rhs),
                (CmpOp::Gt, true) => lo = lo.max(rhs.saturating_add(1)),
                (CmpOp::Gt, false) => hi = hi.min(rhs),
                (CmpOp::Ge, true) => lo = lo.max(rhs),
                (CmpOp::Ge, false) => hi = hi.min(rhs.saturating_sub(1)),
                _ => {}
            }
        }
        (lo, hi)
    }

    fn end(&mut self, way: &Way, end: ClassicPc, result: TermId) {
        let value = self.terms.value(result);
        let text = match (self.subject, value) {
            (Subject::Packet, Some(0)) => return,
            (Subject::SystemCall, Some(value)) => Action::of(value).to_string(),
            (_, Some(value)) => Number(value).to_string(),
            (_, None) => self.terms.text(result, self.subject).to_string(),
        };
        let mut conditions: Vec<Condition> = self.conditions(way).copied().collect();
        conditions.reverse();
        let with_constant = |known: &Condition| self.terms.value(known.rhs).is_some();
        let is_equality =
            |known: &&Condition| known.op == CmpOp::Eq && known.holds && with_constant(known);
        let equal: BTreeSet<TermId> =
            conditions.iter().filter(is_equality).map(|known| known.lhs).collect();
        // Once a term is known to be equal to a constant, nothing else said of it matters.
        let matters = |known: &&Condition| {
            is_equality(known) || !with_constant(known) || !equal.contains(&known.lhs)
        };
        let conditions = conditions.iter().filter(matters).map(|known| self.text(known)).collect();
        let min_len = if self.subject == Subject::Packet { way.min_len } else { 0 };
        self.paths.push(Path { conditions, result: text, value, min_len, end });
    }

    fn text(&self, condition: &Condition) -> String {
        let Condition { op, lhs, rhs, holds } = *condition;
        let lhs = self.terms.text(lhs, self.subject);
        let rhs = self.terms.text(rhs, self.subject);
        match (op.inverse(), holds) {
            (Some(inverse), false) => alloc::format!("{lhs} {} {rhs}", inverse.mnemonic()),
            (Some(_), true) => alloc::format!("{lhs} {} {rhs}", op.mnemonic()),
            (None, true) => alloc::format!("{lhs} & {rhs} != 0"),
            (None, false) => alloc::format!("{lhs} & {rhs} == 0"),
        }
    }
}

impl Way {
    /// Notes that the packet must reach to the end of a load; `false` if no packet does.
    fn reach(&mut self, place: Place, size: Size) -> bool {
        match place {
            Place::Nowhere => return false,
            Place::Data(off) => {
                let end = off.saturating_add(size.bytes().into());
                self.min_len = self.min_len.max(end);
            }
            Place::Network(_) | Place::Link(_) => {}
        }
        true
    }
}

//! Neighbouring loads, each compared with a constant, as one.

use ebpf_isa::{CmpOp, Imm64, Insn as Ebpf, Operand as EbpfOperand, Size, WideSource, Width};

use super::analysis::Use;
use super::emit::{Emitter, State, Test, imm};
use crate::ancillary::Place;
use crate::filter::{ClassicPc, Insn, Operand};

/// Several loads that must all be equal to constants.
pub(super) struct WideComparison {
    /// Offset of the first byte.
    lo: u32,
    /// 2, 4 or 8 bytes.
    size: Size,
    /// What the packet must contain from `lo` on.
    bytes: [u8; 8],
    /// The last comparison.
    last: ClassicPc,
    yes: ClassicPc,
    no: ClassicPc,
}

/// A load and the comparison behind it, which leads to the next instruction or somewhere else.
#[derive(Clone, Copy)]
struct Link {
    off: u32,
    size: Size,
    k: u32,
    yes: ClassicPc,
    no: ClassicPc,
}

impl Emitter<'_> {
    /// The longest comparison that begins with the load at `pc`, if it has more than one link.
    ///
    /// A link is joined if control comes to it only from the one before, the ways out of all are the
    /// same and do not use the value loaded, and a packet too short for one of them ends with 0
    /// anyway.
    pub(super) fn wide_comparison(&self, pc: ClassicPc, state: &State) -> Option<WideComparison> {
        let first = self.link(pc)?;
        let reach = state.known.max(self.before(pc).need);
        let (mut lo, mut hi) = (first.off, first.off);
        let mut image = [0; 16];
        let (mut at, mut link, no) = (pc, first, first.no);
        let mut best = None;
        loop {
            let end = link.off.checked_add(link.size.bytes().into())?;
            (lo, hi) = (lo.min(link.off), hi.max(end));
            if hi - lo > 8 || hi > reach {
                return best;
            }
            // Offsets up to eight below and above the first load, around the middle of the image.
            let place = (link.off + 8 - first.off) as usize;
            let len = usize::from(link.size.bytes());
            image[place..place + len].copy_from_slice(&link.k.to_be_bytes()[4 - len..]);
            let last = at.next();
            let whole = Size::from_bytes((hi - lo).into());
            if let Some(size) = whole.filter(|_| at != pc && self.before(link.yes).a == Use::Dead) {
                let start = (lo + 8 - first.off) as usize;
                let mut bytes = [0; 8];
                bytes.copy_from_slice(&image[start..start + 8]);
                best = Some(WideComparison { lo, size, bytes, last, yes: link.yes, no });
            }
            at = last.next();
            let is_next = link.yes == at && self.analysis.entries[at.index()] == 1;
            let next = if is_next { self.link(at) } else { None };
            let Some(next) = next.filter(|next| {
                let touches = next.off == hi || next.off + u32::from(next.size.bytes()) == lo;
                touches && next.no == no
            }) else {
                return best;
            };
            link = next;
        }
    }

    fn link(&self, pc: ClassicPc) -> Option<Link> {
        let insns = self.filter.insns();
        let &Insn::LoadAbs { size, place } = insns.get(pc.index())? else {
            return None;
        };
        let Place::Data(off) = self.target.place(place) else {
            return None;
        };
        let branch = pc.next();
        let &Insn::Branch { op: CmpOp::Eq, rhs: Operand::Imm(k), yes, no } =
            insns.get(branch.index())?
        else {
            return None;
        };
        let fits = u64::from(k) < 1 << size.bits();
        let is_alone = self.analysis.entries[branch.index()] == 1;
        let joins = fits && is_alone && self.before(no).a == Use::Dead;
        (joins && self.target.has_direct_access()).then_some(Link { off, size, k, yes, no })
    }

    /// Converts all of it; gives the last instruction.
    pub(super) fn compare_wide(
        &mut self,
        pc: ClassicPc,
        wide: &WideComparison,
        mut state: State,
    ) -> ClassicPc {
        let &WideComparison { lo, size, bytes, last, yes, no } = wide;
        let regs = self.regs;
        self.reach(pc, lo + u32::from(size.bytes()), &mut state);
        self.load_data(size, regs.a, Place::Data(lo));
        let [b0, b1, b2, b3, ..] = bytes;
        let test = match size {
            Size::Dw => {
                let source = WideSource::Imm(Imm64::new(u64::from_ne_bytes(bytes)));
                self.push(Ebpf::LoadWide { dst: regs.tmp, source });
                let rhs = EbpfOperand::Reg(regs.tmp);
                Test { op: CmpOp::Eq, width: Width::W64, rhs }
            }
            Size::W => Test::words(CmpOp::Eq, imm(u32::from_ne_bytes([b0, b1, b2, b3]))),
            _ => Test::words(CmpOp::Eq, imm(u16::from_ne_bytes([b0, b1]).into())),
        };
        state.set_a(u32::MAX);
        self.enter(yes, state);
        self.enter(no, state);
        self.two_ways(test, yes, no, last.next());
        last
    }
}

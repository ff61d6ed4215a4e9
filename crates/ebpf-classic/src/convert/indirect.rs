//! Loads at `X` plus a constant, where a pointer into the packet is shared by several of them.

use ebpf_isa::{AluOp, CmpOp, Insn as Ebpf, Operand as EbpfOperand, Size, Width};

use super::analysis::{SHARED_SPAN, Span, indirect_span};
use super::emit::{Emitter, State, imm};
use super::packet::Relative;
use super::target::Target;
use crate::ancillary::{LINK_OFFSET, Place};
use crate::filter::ClassicPc;
use crate::op::Var;

impl Emitter<'_> {
    pub(super) fn load_indirect(&mut self, pc: ClassicPc, size: Size, off: u32, state: &mut State) {
        if self.target == Target::SocketFilter {
            return self.load_packet(size, Some(self.regs.x), off, state);
        }
        let used = self.is_used_after(pc, Var::A);
        let off = match self.target.place(Place::of(off)) {
            Place::Network(off) => {
                let relative = Relative { off, plus_x: true };
                self.load_relative(pc, size, self.regs.a, relative, state);
                None
            }
            Place::Data(off) | Place::Link(off) => Some(off),
            // With another negative constant, the sum may still lie in the packet.
            Place::Nowhere => Some(off),
        };
        if let Some(off) = off {
            let span = self.reach_indirect(pc, size, off, state);
            if used {
                self.load(size, self.regs.a, self.regs.ptr, (off - span.lo) as i16);
            }
        }
        if used {
            self.loaded(pc, size, state);
        }
    }

    /// Makes the pointer register point into the packet, at `X` plus the lower end of the span that
    /// is given back.
    fn reach_indirect(&mut self, pc: ClassicPc, size: Size, off: u32, state: &mut State) -> Span {
        let own = Span { lo: off, hi: off + u32::from(size.bytes()) };
        let shared = self.before(pc).need_x.filter(|shared| shared.covers(own));
        let span = match state.known_x {
            Some(known) if known.covers(own) => return known,
            Some(known) if self.can_grow(known, own, state) => {
                let span = Span { lo: known.lo, hi: own.hi };
                self.check_longer(span.hi - span.lo);
                span
            }
            _ => {
                let span = indirect_span(off, size).and(shared).unwrap_or(own);
                let span = self.down_to_x(span, state);
                self.point_at_x(span, state);
                span
            }
        };
        state.known_x = Some(span);
        span
    }

    /// Whether the pointer that there is can be checked to have more bytes behind it: a verifier must
    /// not lose track of it.
    fn can_grow(&self, known: Span, own: Span, state: &State) -> bool {
        let highest = u64::from(state.x_max) + u64::from(own.hi);
        known.lo <= own.lo
            && own.hi - known.lo <= SHARED_SPAN
            && highest <= u64::from(self.target.reach())
    }

    /// The span from `X` itself on, where that needs no more checks: the lower end is in the loads
    /// then, and not in the pointer.
    fn down_to_x(&self, span: Span, state: &State) -> Span {
        let highest = u64::from(state.x_max) + u64::from(span.hi);
        let is_in_reach = highest <= u64::from(self.target.reach()) && span.hi <= SHARED_SPAN;
        if is_in_reach { Span { lo: 0, ..span } } else { span }
    }

    /// Makes the pointer register point at `X` plus the lower end of a span of which the packet has
    /// all bytes.
    fn point_at_x(&mut self, span: Span, state: &State) {
        let regs = self.regs;
        let len = span.hi - span.lo;
        let highest = u64::from(state.x_max) + u64::from(span.lo);
        let limit = self.target.reach() - len;
        if self.target != Target::Flat && span.lo == 0 && highest <= u64::from(limit) {
            self.mov64(regs.ptr, EbpfOperand::Reg(regs.data));
            self.add(Width::W64, regs.ptr, EbpfOperand::Reg(regs.x));
            return self.check_longer(len);
        }
        if span.lo == 0 {
            self.mov32(regs.ptr, EbpfOperand::Reg(regs.x));
        } else {
            // Not the sum of a copy of `X` and a constant: the kernel's verifier remembers how such
            // a register differs from `X`, and refuses pointers where the difference is large.
            self.mov32(regs.ptr, imm(span.lo));
            self.add(Width::W32, regs.ptr, EbpfOperand::Reg(regs.x));
        }
        if self.target == Target::Flat {
            let counts_up = highest <= u64::from(i32::MAX as u32);
            self.check_in_block(len, counts_up);
        } else if highest > u64::from(limit) {
            self.check_offset(limit);
        }
        self.add(Width::W64, regs.ptr, EbpfOperand::Reg(regs.data));
        if self.target != Target::Flat {
            self.check_longer(len);
        }
    }

    /// Ends with 0 if the offset in the pointer register is above `limit`, also when counted from
    /// the link-layer header.
    fn check_offset(&mut self, limit: u32) {
        let ptr = self.regs.ptr;
        self.skip_if(CmpOp::Le, ptr, imm(limit), 2);
        self.add(Width::W32, ptr, imm(LINK_OFFSET.wrapping_neg()));
        self.zero_if(CmpOp::Gt, Width::W64, ptr, imm(limit));
    }

    /// Ends with 0 if fewer than `len` bytes of the block are behind the offset in the pointer
    /// register, also, unless it is known to be positive, when counted from the link-layer header.
    fn check_in_block(&mut self, len: u32, counts_up: bool) {
        let (ptr, tmp, end) = (self.regs.ptr, self.regs.tmp, EbpfOperand::Reg(self.regs.end));
        self.mov64(tmp, EbpfOperand::Reg(ptr));
        self.add(Width::W64, tmp, imm(len));
        if !counts_up {
            self.skip_if(CmpOp::Le, tmp, end, 4);
            self.add(Width::W32, ptr, imm(LINK_OFFSET.wrapping_neg()));
            self.mov64(tmp, EbpfOperand::Reg(ptr));
            self.add(Width::W64, tmp, imm(len));
        }
        self.zero_if(CmpOp::Gt, Width::W64, tmp, end);
    }

    /// Ends with 0 if fewer than `len` bytes of the packet are behind the pointer.
    fn check_longer(&mut self, len: u32) {
        let (ptr, tmp, end) = (self.regs.ptr, self.regs.tmp, EbpfOperand::Reg(self.regs.end));
        self.mov64(tmp, EbpfOperand::Reg(ptr));
        if self.target == Target::Flat {
            let (op, src) = (AluOp::Sub, EbpfOperand::Reg(self.regs.data));
            self.push(Ebpf::Alu { op, width: Width::W64, dst: tmp, src });
        }
        self.add(Width::W64, tmp, imm(len));
        self.zero_if(CmpOp::Gt, Width::W64, tmp, end);
    }
}

//! Loads at `X` plus a constant, where a pointer into the packet is shared by several of them.

use ebpf_isa::{AluOp, CmpOp, Insn as Ebpf, Operand as EbpfOperand, Reg, Size, Width};

use super::analysis::{Access, SHARED_SPAN, Span, indirect_span};
use super::emit::{Emitter, State, imm};
use super::target::Target;
use crate::ancillary::{LINK_OFFSET, NETWORK_OFFSET};
use crate::filter::ClassicPc;
use crate::op::Var;

impl Emitter<'_> {
    pub(super) fn load_indirect(&mut self, pc: ClassicPc, size: Size, off: u32, state: &mut State) {
        if self.target == Target::SocketFilter {
            return self.load_packet(size, Some(self.regs.x), off, state);
        }
        let used = self.is_used_after(pc, Var::A);
        match self.indirect.access(pc, off) {
            Access::Direct => self.load_direct(pc, size, off, used, state),
            Access::Helper => {
                self.mov32(Reg::R2, EbpfOperand::Reg(self.regs.x));
                self.add(Width::W32, Reg::R2, imm(off.wrapping_sub(NETWORK_OFFSET)));
                self.load_relative(size, self.regs.a, false, state);
            }
            Access::Either => self.load_anywhere(size, off, state),
        }
        if used {
            self.loaded(pc, size, state);
        }
    }

    /// Loads through the pointer register, which other loads may share.
    fn load_direct(&mut self, pc: ClassicPc, size: Size, off: u32, used: bool, state: &mut State) {
        let lower_end = match indirect_span(off, size) {
            Some(own) => self.reach_indirect(pc, own, state).lo,
            None => {
                self.point_at_x(off, size.bytes().into(), state);
                state.known_x = None;
                off
            }
        };
        if used {
            self.load(size, self.regs.a, self.regs.ptr, (off - lower_end) as i16);
        }
    }

    /// Loads from the region that the sum of `X` and `off` leads to.
    fn load_anywhere(&mut self, size: Size, off: u32, state: &mut State) {
        let (regs, len) = (self.regs, u32::from(size.bytes()));
        let limit = self.target.reach() - len;
        let is_inside = |this: &mut Self| this.skip_if(CmpOp::Le, regs.ptr, imm(limit));
        self.mov32(regs.ptr, imm(off));
        self.add(Width::W32, regs.ptr, EbpfOperand::Reg(regs.x));
        let in_data = is_inside(self);
        self.add(Width::W32, regs.ptr, imm(LINK_OFFSET.wrapping_neg()));
        let in_link = is_inside(self);
        self.mov32(Reg::R2, EbpfOperand::Reg(regs.ptr));
        self.add(Width::W32, Reg::R2, imm(LINK_OFFSET.wrapping_sub(NETWORK_OFFSET)));
        self.load_relative(size, regs.a, false, state);
        let loaded = self.skip();
        self.land(in_data);
        self.land(in_link);
        self.add(Width::W64, regs.ptr, EbpfOperand::Reg(regs.data));
        self.check_longer(len);
        self.load(size, regs.a, regs.ptr, 0);
        self.land(loaded);
    }

    /// Makes the pointer register point into the packet, at `X` plus the lower end of the span that
    /// is given back, which covers the load's own.
    fn reach_indirect(&mut self, pc: ClassicPc, own: Span, state: &mut State) -> Span {
        let shared = self.before(pc).need_x.filter(|shared| shared.covers(own));
        let span = match state.known_x {
            Some(known) if known.covers(own) => return known,
            Some(known) if self.can_grow(known, own, state) => {
                let span = Span { lo: known.lo, hi: own.hi };
                self.check_longer(span.hi - span.lo);
                span
            }
            _ => {
                let span = self.down_to_x(shared.unwrap_or(own), state);
                self.point_at_x(span.lo, span.hi - span.lo, state);
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

    /// Makes the pointer register point at `X + off`, from where the packet has `len` bytes.
    fn point_at_x(&mut self, off: u32, len: u32, state: &State) {
        let regs = self.regs;
        let highest = u64::from(state.x_max) + u64::from(off);
        let limit = self.target.reach() - len;
        if self.target != Target::Flat && off == 0 && highest <= u64::from(limit) {
            self.mov64(regs.ptr, EbpfOperand::Reg(regs.data));
            self.add(Width::W64, regs.ptr, EbpfOperand::Reg(regs.x));
            return self.check_longer(len);
        }
        if off == 0 {
            self.mov32(regs.ptr, EbpfOperand::Reg(regs.x));
        } else {
            // Not the sum of a copy of `X` and a constant: the kernel's verifier remembers how such
            // a register differs from `X`, and refuses pointers where the difference is large.
            self.mov32(regs.ptr, imm(off));
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
        let is_inside = self.skip_if(CmpOp::Le, ptr, imm(limit));
        self.add(Width::W32, ptr, imm(LINK_OFFSET.wrapping_neg()));
        self.zero_if(CmpOp::Gt, Width::W64, ptr, imm(limit));
        self.land(is_inside);
    }

    /// Ends with 0 if fewer than `len` bytes of the block are behind the offset in the pointer
    /// register, also, unless it is known to be positive, when counted from the link-layer header.
    fn check_in_block(&mut self, len: u32, counts_up: bool) {
        let (ptr, tmp, end) = (self.regs.ptr, self.regs.tmp, EbpfOperand::Reg(self.regs.end));
        self.mov64(tmp, EbpfOperand::Reg(ptr));
        self.add(Width::W64, tmp, imm(len));
        if counts_up {
            return self.zero_if(CmpOp::Gt, Width::W64, tmp, end);
        }
        let is_inside = self.skip_if(CmpOp::Le, tmp, end);
        self.add(Width::W32, ptr, imm(LINK_OFFSET.wrapping_neg()));
        self.mov64(tmp, EbpfOperand::Reg(ptr));
        self.add(Width::W64, tmp, imm(len));
        self.zero_if(CmpOp::Gt, Width::W64, tmp, end);
        self.land(is_inside);
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

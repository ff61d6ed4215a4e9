//! Neighbours that one machine instruction does together: what needs a look at the next few
//! instructions and at nothing else.
//!
//! All but the first of them are no jump's target, and each register holds afterwards what it would
//! have held, so whether it is used again does not matter.

use ebpf_isa::{AluOp, Extend, Insn, Operand, Pc, Reg, Size, Width};

use super::Lowering;
use crate::emitter::{Emitter, Shift};
use crate::encode::Mem;
use crate::regs::Gpr;

/// An arithmetic instruction.
#[derive(Debug, Clone, Copy)]
struct Alu {
    op: AluOp,
    width: Width,
    dst: Reg,
    src: Operand,
}

impl Alu {
    fn of(insn: Insn) -> Option<Self> {
        match insn {
            Insn::Alu { op, width, dst, src } => Some(Self { op, width, dst, src }),
            _ => None,
        }
    }

    const fn is_shift(self) -> bool {
        matches!(self.op, AluOp::Lsh | AluOp::Rsh | AluOp::Arsh)
    }

    /// How far it shifts, if it shifts `dst` by a constant.
    fn shifts(self, dst: Reg, width: Width) -> Option<(AluOp, u8)> {
        match self.src {
            Operand::Imm(imm) if self.dst == dst && self.width == width && self.is_shift() => {
                let count = u8::try_from(imm).ok()?;
                (1..bits(width)).contains(&count).then_some((self.op, count))
            }
            _ => None,
        }
    }
}

const fn bits(width: Width) -> u8 {
    match width {
        Width::W32 => 32,
        Width::W64 => 64,
    }
}

impl Lowering<'_> {
    /// The instruction `ahead` of the one at `pc`, if control reaches it from there alone. Those
    /// between have one slot.
    fn ahead(&self, pc: Pc, ahead: u32) -> Option<Insn> {
        let pc = Pc(pc.0 + ahead);
        self.program.get(pc).filter(|_| !self.leaders.contains(pc))
    }

    fn alu_ahead(&self, pc: Pc, ahead: u32) -> Option<Alu> {
        Alu::of(self.ahead(pc, ahead)?)
    }

    /// Emits `dst = src` at `pc` together with what comes next. Gives how many instructions that
    /// is; 0 if it emits nothing.
    #[inline]
    pub(super) fn fuse_mov(&mut self, pc: Pc, width: Width, dst: Reg, src: Reg) -> u32 {
        let Some(next) = self.alu_ahead(pc, 1) else { return 0 };
        if next.dst != dst || src == dst {
            return 0;
        }
        if let Some((op, count)) = next.shifts(dst, width) {
            return self.fuse_shifted(pc, width, (dst, src), (op, count));
        }
        // The lower half of a sum or product depends on the lower halves only.
        if width == Width::W32 && next.width == Width::W64 {
            return 0;
        }
        if let (AluOp::Add, Operand::Reg(index)) = (next.op, next.src)
            && next.width == Width::W64
            && index != dst
            && self.checks.is_none()
            && let Some(Insn::Load { size, extend, dst: loaded, base, off }) = self.ahead(pc, 2)
            && (loaded, base) == (dst, dst)
        {
            // The sum is not needed after the load.
            let (base, index) = (src.into(), index.into());
            self.emitter.load_indexed(extend, size, dst.into(), (base, index, off.into()));
            return 3;
        }
        u32::from(three_operands(self.emitter, next, src.into())) * 2
    }

    /// Emits `dst = src; dst = dst shifted`, and what makes a rotation or an extension of it.
    fn fuse_shifted(
        &mut self,
        pc: Pc,
        width: Width,
        (dst, src): (Reg, Reg),
        (op, count): (AluOp, u8),
    ) -> u32 {
        let third = self.alu_ahead(pc, 2);
        if let Some(second) = third.and_then(|third| third.shifts(dst, width))
            && extend(self.emitter, width, (dst.into(), src.into()), (op, count), second)
        {
            return 3;
        }
        // dst = src shifted; src shifted the other way; one |= other
        if let Some(other) = third.and_then(|third| third.shifts(src, width))
            && complement(width, (op, count), other)
            && let Some(into) = self.alu_ahead(pc, 3).and_then(|or| united(or, width, dst, src))
        {
            let e = &mut *self.emitter;
            e.mov(Width::W64, dst.into(), src.into());
            for (reg, (op, count)) in [(dst, (op, count)), (src, other)] {
                if reg == into {
                    rotate(e, width, reg.into(), op, count);
                } else {
                    shift(e, width, reg.into(), op, count);
                }
            }
            return 4;
        }
        // dst = src shifted; third = src shifted the other way; third |= dst
        if let Some(Insn::Mov { width: mov, dst: last, src: Operand::Reg(again) }) =
            self.ahead(pc, 2)
            && again == src
            && mov == width
            && last != dst
            && last != src
            && let Some(other) = self.alu_ahead(pc, 3).and_then(|insn| insn.shifts(last, width))
            && complement(width, (op, count), other)
            && self.alu_ahead(pc, 4).and_then(|or| united(or, width, last, dst)) == Some(last)
        {
            let e = &mut *self.emitter;
            e.mov(width, dst.into(), src.into());
            shift(e, width, dst.into(), op, count);
            e.mov(width, last.into(), src.into());
            rotate(e, width, last.into(), other.0, other.1);
            return 5;
        }
        0
    }

    /// Emits a shift at `pc` together with the one back that comes next, which leaves the low bits of
    /// `dst`, extended. Gives how many instructions that is; 0 if it emits nothing.
    #[inline]
    pub(super) fn fuse_shift(&mut self, pc: Pc, width: Width, dst: Reg, count: i32) -> u32 {
        let first = Alu { op: AluOp::Lsh, width, dst, src: Operand::Imm(count) };
        let pair = first.shifts(dst, width).zip(self.alu_ahead(pc, 1));
        let pair = pair.and_then(|(first, next)| Some((first, next.shifts(dst, width)?)));
        match pair {
            Some((first, second))
                if extend(self.emitter, width, (dst.into(), dst.into()), first, second) =>
            {
                2
            }
            _ => 0,
        }
    }
}

/// Emits `next.dst = src op next.src`, if there is one instruction for it.
fn three_operands(e: &mut Emitter, next: Alu, src: Gpr) -> bool {
    let (width, dst) = (next.width, Gpr::from(next.dst));
    match (next.op, next.src) {
        (AluOp::Add, Operand::Imm(imm)) => e.lea(width, dst, Mem { base: src, disp: imm }),
        (AluOp::Sub, Operand::Imm(imm)) if imm != i32::MIN => {
            e.lea(width, dst, Mem { base: src, disp: -imm });
        }
        (AluOp::Add, Operand::Reg(other)) => {
            // dst is what was moved, if it is added to itself.
            let other = if other == next.dst { src } else { other.into() };
            e.lea_sum(width, dst, src, other);
        }
        (AluOp::Mul, Operand::Imm(imm)) => e.imul_imm(width, dst, src, imm),
        (AluOp::And, Operand::Imm(0xff)) => {
            e.mov_extend(Extend::Zero, Size::B, Width::W64, dst, src);
        }
        (AluOp::And, Operand::Imm(0xffff)) => {
            e.mov_extend(Extend::Zero, Size::H, Width::W64, dst, src);
        }
        _ => return false,
    }
    true
}

/// Emits the extension of the low bits of `src` that a shift to the left and back by as much is.
fn extend(
    e: &mut Emitter,
    width: Width,
    (dst, src): (Gpr, Gpr),
    first: (AluOp, u8),
    second: (AluOp, u8),
) -> bool {
    let size = match bits(width) - first.1 {
        8 => Size::B,
        16 => Size::H,
        32 => Size::W,
        _ => return false,
    };
    let extend = match (first.0, second.0) {
        (AluOp::Lsh, AluOp::Rsh) => Extend::Zero,
        (AluOp::Lsh, AluOp::Arsh) => Extend::Sign,
        _ => return false,
    };
    if first.1 != second.1 {
        return false;
    }
    e.mov_extend(extend, size, width, dst, src);
    true
}

/// Whether two shifts of one value have between them each of its bits once.
fn complement(width: Width, one: (AluOp, u8), other: (AluOp, u8)) -> bool {
    let ops = (one.0, other.0);
    let opposite = matches!(ops, (AluOp::Lsh, AluOp::Rsh) | (AluOp::Rsh, AluOp::Lsh));
    opposite && one.1 + other.1 == bits(width)
}

/// Where the union of two registers goes, if `or` unites them; sums and differences of bits that are
/// set in one only are the same.
fn united(or: Alu, width: Width, one: Reg, other: Reg) -> Option<Reg> {
    let unites = matches!(or.op, AluOp::Or | AluOp::Xor | AluOp::Add) && or.width == width;
    let src = or.src.reg()?;
    let both = (or.dst, src) == (one, other) || (or.dst, src) == (other, one);
    (unites && both).then_some(or.dst)
}

fn shift(e: &mut Emitter, width: Width, reg: Gpr, op: AluOp, count: u8) {
    let op = if op == AluOp::Lsh { Shift::Shl } else { Shift::Shr };
    e.shift_imm(op, width, reg, count);
}

/// Rotates in the direction of a shift.
fn rotate(e: &mut Emitter, width: Width, reg: Gpr, op: AluOp, count: u8) {
    let op = if op == AluOp::Lsh { Shift::Rol } else { Shift::Ror };
    e.shift_imm(op, width, reg, count);
}

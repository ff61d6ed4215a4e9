//! Arithmetic and moves. What they compute is [`semantics`]; the operation is a constant of the
//! handler, so nothing is left of the choice.

use ebpf_isa::{AluOp, ByteOrder, Extend, Size, Width, semantics};
use ebpf_lower::Shift;

use super::op;
use crate::code::{Cell, Op};
use crate::dispatch::{Body, Regs};

/// An operation of one cell that gives a register a value, made of its operands.
pub(crate) trait Value {
    /// What `a` is to be. `A`, `B` and `C` are the places of the operands.
    fn value<const A: usize, const B: usize, const C: usize>(op: &Op, regs: &Regs<'_, '_>) -> u64;
}

impl<T: Value> Body for T {
    #[inline(always)]
    unsafe fn run<const A: usize, const B: usize, const C: usize>(
        at: *const Cell,
        regs: &mut Regs<'_, '_>,
    ) -> *const Cell {
        // SAFETY: the caller's promise.
        let op = unsafe { op(at) };
        let value = T::value::<A, B, C>(op, regs);
        regs.set::<A>(op.a, value);
        // SAFETY: another operation follows.
        unsafe { at.add(1) }
    }
}

const fn width(wide: bool) -> Width {
    if wide { Width::W64 } else { Width::W32 }
}

#[inline(always)]
fn compute<const OP: usize, const WIDE: bool>(lhs: u64, rhs: u64) -> u64 {
    const { assert!(OP < AluOp::ALL.len()) };
    semantics::alu(const { AluOp::ALL[OP] }, const { width(WIDE) }, lhs, rhs)
}

/// `a op= b`
pub(crate) struct Alu<const OP: usize, const WIDE: bool>;

impl<const OP: usize, const WIDE: bool> Value for Alu<OP, WIDE> {
    #[inline(always)]
    fn value<const A: usize, const B: usize, const C: usize>(op: &Op, regs: &Regs<'_, '_>) -> u64 {
        compute::<OP, WIDE>(regs.get::<A>(op.a), regs.get::<B>(op.b))
    }
}

/// `a op= imm`
pub(crate) struct AluImm<const OP: usize, const WIDE: bool>;

impl<const OP: usize, const WIDE: bool> Value for AluImm<OP, WIDE> {
    #[inline(always)]
    fn value<const A: usize, const B: usize, const C: usize>(op: &Op, regs: &Regs<'_, '_>) -> u64 {
        let imm = semantics::immediate(op.imm);
        compute::<OP, WIDE>(regs.get::<A>(op.a), imm)
    }
}

/// `a = b op c`, where `c` is the slot in `off`.
pub(crate) struct Alu3<const OP: usize, const WIDE: bool>;

impl<const OP: usize, const WIDE: bool> Value for Alu3<OP, WIDE> {
    #[inline(always)]
    fn value<const A: usize, const B: usize, const C: usize>(op: &Op, regs: &Regs<'_, '_>) -> u64 {
        compute::<OP, WIDE>(regs.get::<B>(op.b), regs.get::<C>(op.off as u8))
    }
}

/// `a = b op imm`
pub(crate) struct Alu3Imm<const OP: usize, const WIDE: bool>;

impl<const OP: usize, const WIDE: bool> Value for Alu3Imm<OP, WIDE> {
    #[inline(always)]
    fn value<const A: usize, const B: usize, const C: usize>(op: &Op, regs: &Regs<'_, '_>) -> u64 {
        let imm = semantics::immediate(op.imm);
        compute::<OP, WIDE>(regs.get::<B>(op.b), imm)
    }
}

/// `a = b`
pub(crate) struct Mov<const WIDE: bool>;

impl<const WIDE: bool> Value for Mov<WIDE> {
    #[inline(always)]
    fn value<const A: usize, const B: usize, const C: usize>(op: &Op, regs: &Regs<'_, '_>) -> u64 {
        semantics::truncate(const { width(WIDE) }, regs.get::<B>(op.b))
    }
}

/// `a = imm`
pub(crate) struct MovImm<const WIDE: bool>;

impl<const WIDE: bool> Value for MovImm<WIDE> {
    #[inline(always)]
    fn value<const A: usize, const B: usize, const C: usize>(op: &Op, _: &Regs<'_, '_>) -> u64 {
        semantics::truncate(const { width(WIDE) }, semantics::immediate(op.imm))
    }
}

/// `a =` the value in the second cell.
pub(crate) struct MovWide;

impl Body for MovWide {
    #[inline(always)]
    unsafe fn run<const A: usize, const B: usize, const C: usize>(
        at: *const Cell,
        regs: &mut Regs<'_, '_>,
    ) -> *const Cell {
        // SAFETY: the caller's promise; the second cell is a value.
        let (op, value) = unsafe { (op(at), (*at.add(1)).value) };
        regs.set::<A>(op.a, value);
        // SAFETY: another operation follows.
        unsafe { at.add(2) }
    }
}

/// `a = ` the low `FROM` bytes of `b`, sign-extended to 64 bits.
pub(crate) struct SignExtend<const FROM: usize>;

impl<const FROM: usize> Value for SignExtend<FROM> {
    #[inline(always)]
    fn value<const A: usize, const B: usize, const C: usize>(op: &Op, regs: &Regs<'_, '_>) -> u64 {
        let from = const { Size::ALL[FROM] };
        semantics::extend(Extend::Sign, from, regs.get::<B>(op.b))
    }
}

/// `a = ` the low `SIZE` bytes of `a` in reverse order.
pub(crate) struct Swap<const SIZE: usize>;

impl<const SIZE: usize> Value for Swap<SIZE> {
    #[inline(always)]
    fn value<const A: usize, const B: usize, const C: usize>(op: &Op, regs: &Regs<'_, '_>) -> u64 {
        let size = const { Size::ALL[SIZE] };
        semantics::swap(ByteOrder::Be, size, regs.get::<A>(op.a))
    }
}

/// `src` shifted by less than its width.
#[inline(always)]
fn shifted<const SHIFT: usize, const WIDE: bool>(src: u64, by: u32) -> u64 {
    match (const { SHIFTS[SHIFT] }, WIDE) {
        (Shift::Left, true) => src.wrapping_shl(by),
        (Shift::Left, false) => (src as u32).wrapping_shl(by).into(),
        (Shift::Right, true) => src.wrapping_shr(by),
        (Shift::Right, false) => (src as u32).wrapping_shr(by).into(),
        (Shift::Rotate, true) => src.rotate_left(by),
        (Shift::Rotate, false) => (src as u32).rotate_left(by).into(),
    }
}

const SHIFTS: [Shift; 3] = [Shift::Left, Shift::Right, Shift::Rotate];

/// `a = b` rotated to the left by `imm`.
pub(crate) struct Rotate<const WIDE: bool>;

impl<const WIDE: bool> Value for Rotate<WIDE> {
    #[inline(always)]
    fn value<const A: usize, const B: usize, const C: usize>(op: &Op, regs: &Regs<'_, '_>) -> u64 {
        let by = op.imm as u32;
        shifted::<{ Shift::Rotate as usize }, WIDE>(regs.get::<B>(op.b), by)
    }
}

/// `a = a op (b shifted by imm)`
pub(crate) struct AluShifted<const OP: usize, const SHIFT: usize, const WIDE: bool>;

impl<const OP: usize, const SHIFT: usize, const WIDE: bool> Value for AluShifted<OP, SHIFT, WIDE> {
    #[inline(always)]
    fn value<const A: usize, const B: usize, const C: usize>(op: &Op, regs: &Regs<'_, '_>) -> u64 {
        let moved = shifted::<SHIFT, WIDE>(regs.get::<B>(op.b), op.imm as u32);
        compute::<OP, WIDE>(regs.get::<A>(op.a), moved)
    }
}

/// `a = b op (a shifted by imm)`
pub(crate) struct ShiftAlu<const OP: usize, const SHIFT: usize, const WIDE: bool>;

impl<const OP: usize, const SHIFT: usize, const WIDE: bool> Value for ShiftAlu<OP, SHIFT, WIDE> {
    #[inline(always)]
    fn value<const A: usize, const B: usize, const C: usize>(op: &Op, regs: &Regs<'_, '_>) -> u64 {
        let moved = shifted::<SHIFT, WIDE>(regs.get::<A>(op.a), op.imm as u32);
        compute::<OP, WIDE>(regs.get::<B>(op.b), moved)
    }
}

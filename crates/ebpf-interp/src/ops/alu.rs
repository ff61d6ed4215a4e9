//! Arithmetic and moves: operations that give a register a value.

use core::marker::PhantomData;

use ebpf_lower::Shift;

use super::memory::{NoSource, Source};
use super::op;
use super::value::{
    Binary, Extended, Imm, Inputs, RegA, RegB, RegC, Shifted, Swapped, Truncated, Value,
};
use crate::code::Cell;
use crate::dispatch::{Body, Regs};

/// `a = V`, where `V` may use what `S` reads. An operation of one cell.
pub(crate) struct Set<V, S = NoSource>(PhantomData<(V, S)>);

impl<V: Value, S: Source> Body for Set<V, S> {
    #[inline(always)]
    unsafe fn run<const A: usize, const B: usize, const C: usize>(
        at: *const Cell,
        regs: &mut Regs<'_, '_>,
    ) -> *const Cell {
        // SAFETY: the caller's promise.
        let op = unsafe { op(at) };
        // SAFETY: the caller's promise.
        let Some(loaded) = (unsafe { S::read::<B, C>(op, regs) }) else {
            return regs.state.run_plainly(at);
        };
        let value = V::of::<A, B, C>(&Inputs { op, regs, loaded, second: 0 });
        regs.set::<A>(op.a, value);
        // SAFETY: another operation follows.
        unsafe { at.add(1) }
    }
}

/// `a op= b`
pub(crate) type Alu<const OP: usize, const WIDE: bool> = Set<Binary<RegA, RegB, OP, WIDE>>;
/// `a op= imm`
pub(crate) type AluImm<const OP: usize, const WIDE: bool> = Set<Binary<RegA, Imm, OP, WIDE>>;
/// `a = b op c`
pub(crate) type Alu3<const OP: usize, const WIDE: bool> = Set<Binary<RegB, RegC, OP, WIDE>>;
/// `a = b op imm`
pub(crate) type Alu3Imm<const OP: usize, const WIDE: bool> = Set<Binary<RegB, Imm, OP, WIDE>>;
/// `a = b`
pub(crate) type Mov<const WIDE: bool> = Set<Truncated<RegB, WIDE>>;
/// `a = imm`
pub(crate) type MovImm<const WIDE: bool> = Set<Truncated<Imm, WIDE>>;
/// `a = ` the low `FROM` bytes of `b`, sign-extended to 64 bits.
pub(crate) type SignExtend<const FROM: usize> = Set<Extended<RegB, FROM>>;
/// `a = ` the low `SIZE` bytes of `a` in reverse order.
pub(crate) type Swap<const SIZE: usize> = Set<Swapped<RegA, SIZE>>;
/// `a = b` rotated to the left by `imm`.
pub(crate) type Rotate<const WIDE: bool> = Set<Shifted<RegB, { Shift::Rotate as usize }, WIDE>>;
/// `a = a op (b shifted by imm)`
pub(crate) type AluShifted<const OP: usize, const SHIFT: usize, const WIDE: bool> =
    Set<Binary<RegA, Shifted<RegB, SHIFT, WIDE>, OP, WIDE>>;
/// `a = b op (a shifted by imm)`
pub(crate) type ShiftAlu<const OP: usize, const SHIFT: usize, const WIDE: bool> =
    Set<Binary<RegB, Shifted<RegA, SHIFT, WIDE>, OP, WIDE>>;

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

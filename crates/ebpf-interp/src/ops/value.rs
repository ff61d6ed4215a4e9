//! Values that operations compute, as expressions of their operands. Each expression is a type, so
//! that nothing of it is left in a handler; what it computes is [`semantics`].

use core::marker::PhantomData;

use ebpf_isa::{AluOp, ByteOrder, Extend, Size, Width, semantics};
use ebpf_lower::Shift;

use crate::code::Op;
use crate::dispatch::Regs;

/// What expressions are made of.
pub(crate) struct Inputs<'i, 's, 'a> {
    pub(super) op: &'i Op,
    pub(super) regs: &'i Regs<'s, 'a>,
    /// What the operation has read from memory, if it does.
    pub(super) loaded: u64,
    /// The second number of an operation of two cells.
    pub(super) second: i32,
}

/// An expression.
pub(crate) trait Value {
    /// What it comes to. `A`, `B` and `C` are the places of the operands.
    fn of<const A: usize, const B: usize, const C: usize>(inputs: &Inputs<'_, '_, '_>) -> u64;
}

/// Defines expressions without parts.
macro_rules! inputs {
    ($($(#[$meta:meta])* $name:ident = |$inputs:ident, $a:ident, $b:ident, $c:ident| $value:expr;)*) => { $(
        $(#[$meta])*
        pub(crate) struct $name;

        impl Value for $name {
            #[inline(always)]
            fn of<const $a: usize, const $b: usize, const $c: usize>(
                $inputs: &Inputs<'_, '_, '_>,
            ) -> u64 {
                $value
            }
        }
    )* };
}

inputs! {
    /// The register `a`.
    RegA = |inputs, A, B, C| inputs.regs.get::<A>(inputs.op.a);
    /// The register `b`.
    RegB = |inputs, A, B, C| inputs.regs.get::<B>(inputs.op.b);
    /// The register in the low byte of `off`.
    RegC = |inputs, A, B, C| inputs.regs.get::<C>(inputs.op.off as u8);
    /// The number in `imm`.
    Imm = |inputs, A, B, C| semantics::immediate(inputs.op.imm);
    /// The number in the second cell.
    SecondImm = |inputs, A, B, C| semantics::immediate(inputs.second);
    /// What was read from memory.
    Loaded = |inputs, A, B, C| inputs.loaded;
}

pub(super) const fn width(wide: bool) -> Width {
    if wide { Width::W64 } else { Width::W32 }
}

/// `L op R`
pub(crate) struct Binary<L, R, const OP: usize, const WIDE: bool>(PhantomData<(L, R)>);

impl<L: Value, R: Value, const OP: usize, const WIDE: bool> Value for Binary<L, R, OP, WIDE> {
    #[inline(always)]
    fn of<const A: usize, const B: usize, const C: usize>(inputs: &Inputs<'_, '_, '_>) -> u64 {
        let (lhs, rhs) = (L::of::<A, B, C>(inputs), R::of::<A, B, C>(inputs));
        semantics::alu(const { AluOp::ALL[OP] }, const { width(WIDE) }, lhs, rhs)
    }
}

/// All of `V`, or its low half.
pub(crate) struct Truncated<V, const WIDE: bool>(PhantomData<V>);

impl<V: Value, const WIDE: bool> Value for Truncated<V, WIDE> {
    #[inline(always)]
    fn of<const A: usize, const B: usize, const C: usize>(inputs: &Inputs<'_, '_, '_>) -> u64 {
        semantics::truncate(const { width(WIDE) }, V::of::<A, B, C>(inputs))
    }
}

/// The low `FROM` bytes of `V`, sign-extended to 64 bits.
pub(crate) struct Extended<V, const FROM: usize>(PhantomData<V>);

impl<V: Value, const FROM: usize> Value for Extended<V, FROM> {
    #[inline(always)]
    fn of<const A: usize, const B: usize, const C: usize>(inputs: &Inputs<'_, '_, '_>) -> u64 {
        semantics::extend(Extend::Sign, const { Size::ALL[FROM] }, V::of::<A, B, C>(inputs))
    }
}

/// The low `SIZE` bytes of `V` in reverse order.
pub(crate) struct Swapped<V, const SIZE: usize>(PhantomData<V>);

impl<V: Value, const SIZE: usize> Value for Swapped<V, SIZE> {
    #[inline(always)]
    fn of<const A: usize, const B: usize, const C: usize>(inputs: &Inputs<'_, '_, '_>) -> u64 {
        semantics::swap(ByteOrder::Be, const { Size::ALL[SIZE] }, V::of::<A, B, C>(inputs))
    }
}

const SHIFTS: [Shift; 3] = [Shift::Left, Shift::Right, Shift::Rotate];

/// `V` shifted by `imm`, which is less than its width.
pub(crate) struct Shifted<V, const SHIFT: usize, const WIDE: bool>(PhantomData<V>);

impl<V: Value, const SHIFT: usize, const WIDE: bool> Value for Shifted<V, SHIFT, WIDE> {
    #[inline(always)]
    fn of<const A: usize, const B: usize, const C: usize>(inputs: &Inputs<'_, '_, '_>) -> u64 {
        let (value, by) = (V::of::<A, B, C>(inputs), inputs.op.imm as u32);
        match (const { SHIFTS[SHIFT] }, WIDE) {
            (Shift::Left, true) => value.wrapping_shl(by),
            (Shift::Left, false) => (value as u32).wrapping_shl(by).into(),
            (Shift::Right, true) => value.wrapping_shr(by),
            (Shift::Right, false) => (value as u32).wrapping_shr(by).into(),
            (Shift::Rotate, true) => value.rotate_left(by),
            (Shift::Rotate, false) => (value as u32).rotate_left(by).into(),
        }
    }
}

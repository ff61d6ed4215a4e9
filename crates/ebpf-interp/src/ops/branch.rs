//! Jumps and branches, and the fuel that they charge.
//!
//! A run is not charged instruction by instruction. `State::count` is by how much more the run has
//! done than the place where it is tells: an instruction at place `p` (counted from 0) is the
//! `count + p + 1`st that is run. So only taken jumps change it, by a constant, and only those that
//! lead back compare with the fuel.

use core::marker::PhantomData;

use ebpf_isa::{AluOp, CmpOp, semantics};

use super::memory::{AtBase, NoSource, Source};
use super::value::{Binary, Imm, Inputs, Loaded, RegA, RegB, SecondImm, Value, width};
use super::{jump, op};
use crate::code::{Cell, Jump};
use crate::dispatch::{Body, Regs};

/// No fuel is charged.
pub(crate) const FREE: usize = 0;
/// The jump leads on.
pub(crate) const FORWARD: usize = 1;
/// The jump leads back: the run ends here where its fuel is used up.
pub(crate) const BACKWARD: usize = 2;

/// `if L cmp R goto`, where `L` and `R` may use what `S` reads. If `SETS`, `a = L` in any case; only
/// where the fuel is used up, `a` is as before, so that the operation can be run again.
pub(crate) struct Jumping<
    L,
    R,
    S,
    const CMP: usize,
    const WIDE: bool,
    const SETS: bool,
    const CHARGE: usize,
>(PhantomData<(L, R, S)>);

impl<
    L: Value,
    R: Value,
    S: Source,
    const CMP: usize,
    const WIDE: bool,
    const SETS: bool,
    const CHARGE: usize,
> Body for Jumping<L, R, S, CMP, WIDE, SETS, CHARGE>
{
    #[inline(always)]
    unsafe fn run<const A: usize, const B: usize, const C: usize>(
        at: *const Cell,
        regs: &mut Regs<'_, '_>,
    ) -> *const Cell {
        // SAFETY: the caller's promise.
        let (op, jump) = unsafe { (op(at), jump(at)) };
        // SAFETY: the caller's promise.
        let Some(loaded) = (unsafe { S::read::<B, C>(op, regs) }) else {
            return regs.state.run_plainly(at);
        };
        let inputs = Inputs { op, regs, loaded, second: jump.imm };
        let (lhs, rhs) = (L::of::<A, B, C>(&inputs), R::of::<A, B, C>(&inputs));
        let holds = semantics::compare(const { CmpOp::ALL[CMP] }, const { width(WIDE) }, lhs, rhs);
        if holds && !has_fuel::<CHARGE>(jump, regs) {
            return regs.state.end_without_fuel(at);
        }
        if SETS {
            regs.set::<A>(op.a, lhs);
        }
        let distance =
            if holds { take::<CHARGE>(jump, regs) } else { 2 * size_of::<Cell>() as isize };
        // SAFETY: a target is in the same code, and another operation follows.
        unsafe { at.byte_offset(distance) }
    }
}

/// Whether the jump may be taken; otherwise the run must end.
#[inline(always)]
fn has_fuel<const CHARGE: usize>(jump: &Jump, regs: &Regs<'_, '_>) -> bool {
    CHARGE != BACKWARD || regs.state.count + i64::from(jump.here) <= regs.state.fuel()
}

/// Charges the jump; gives how many bytes further on it leads.
#[inline(always)]
fn take<const CHARGE: usize>(jump: &Jump, regs: &mut Regs<'_, '_>) -> isize {
    if CHARGE != FREE {
        regs.state.count += i64::from(jump.gain);
    }
    jump.target as isize
}

/// `if a cmp b goto`
pub(crate) type Branch<const CMP: usize, const WIDE: bool, const CHARGE: usize> =
    Jumping<RegA, RegB, NoSource, CMP, WIDE, false, CHARGE>;
/// `if a cmp imm goto`
pub(crate) type BranchImm<const CMP: usize, const WIDE: bool, const CHARGE: usize> =
    Jumping<RegA, Imm, NoSource, CMP, WIDE, false, CHARGE>;

/// `a + imm`
type Sum<const WIDE: bool> = Binary<RegA, Imm, { AluOp::Add as usize }, WIDE>;

/// `a += imm; if a cmp b goto`
pub(crate) type AddBranch<const CMP: usize, const WIDE: bool, const CHARGE: usize> =
    Jumping<Sum<WIDE>, RegB, NoSource, CMP, WIDE, true, CHARGE>;
/// `a += imm; if a cmp second goto`
pub(crate) type AddBranchImm<const CMP: usize, const WIDE: bool, const CHARGE: usize> =
    Jumping<Sum<WIDE>, SecondImm, NoSource, CMP, WIDE, true, CHARGE>;
/// `if a + imm cmp b goto`
pub(crate) type SumBranch<const CMP: usize, const CHARGE: usize> =
    Jumping<Sum<true>, RegB, NoSource, CMP, true, false, CHARGE>;
/// `a = *(SIZE *)(b + off); if a cmp imm goto`, of 64 bits.
pub(crate) type LoadBranch<M, const SIZE: usize, const CMP: usize, const CHARGE: usize> =
    Jumping<Loaded, Imm, AtBase<M, SIZE>, CMP, true, true, CHARGE>;

/// `goto`
pub(crate) struct Goto<const CHARGE: usize>;

impl<const CHARGE: usize> Body for Goto<CHARGE> {
    #[inline(always)]
    unsafe fn run<const A: usize, const B: usize, const C: usize>(
        at: *const Cell,
        regs: &mut Regs<'_, '_>,
    ) -> *const Cell {
        // SAFETY: the caller's promise.
        let jump = unsafe { jump(at) };
        if !has_fuel::<CHARGE>(jump, regs) {
            return regs.state.end_without_fuel(at);
        }
        // SAFETY: the target is in the same code.
        unsafe { at.byte_offset(take::<CHARGE>(jump, regs)) }
    }
}

//! Jumps and branches, and the fuel that they charge.
//!
//! A run is not charged instruction by instruction. `State::count` is by how much more the run has
//! done than the place where it is tells: an instruction at place `p` (counted from 0) is the
//! `count + p + 1`st that is run. So only taken jumps change it, by a constant, and only those that
//! lead back compare with the fuel.

use ebpf_isa::{AluOp, CmpOp, Width, semantics};

use super::memory::{Mode, Reader};
use super::{jump, op};
use crate::code::Cell;
use crate::dispatch::{Body, Regs};

/// No fuel is charged.
pub(crate) const FREE: usize = 0;
/// The jump leads on.
pub(crate) const FORWARD: usize = 1;
/// The jump leads back: the run ends here where its fuel is used up.
pub(crate) const BACKWARD: usize = 2;

/// Whether the jump at `at` may be taken; otherwise the run must end.
///
/// # Safety
/// `at` is a jump.
#[inline(always)]
unsafe fn has_fuel<const CHARGE: usize>(at: *const Cell, regs: &Regs<'_, '_>) -> bool {
    if CHARGE != BACKWARD {
        return true;
    }
    // SAFETY: the caller's promise.
    let here = unsafe { jump(at) }.here;
    regs.state.count + i64::from(here) <= regs.state.fuel()
}

/// Takes the jump at `at`.
///
/// # Safety
/// `at` is a jump.
#[inline(always)]
unsafe fn take<const CHARGE: usize>(at: *const Cell, regs: &mut Regs<'_, '_>) -> *const Cell {
    // SAFETY: the caller's promise.
    let jump = unsafe { jump(at) };
    if CHARGE != FREE {
        regs.state.count += i64::from(jump.gain);
    }
    // SAFETY: the target is in the same code.
    unsafe { at.offset(jump.target as isize) }
}

#[inline(always)]
fn holds<const CMP: usize, const WIDE: bool>(lhs: u64, rhs: u64) -> bool {
    let width = if WIDE { Width::W64 } else { Width::W32 };
    semantics::compare(const { CmpOp::ALL[CMP] }, width, lhs, rhs)
}

/// `goto`
pub(crate) struct Goto<const CHARGE: usize>;

impl<const CHARGE: usize> Body for Goto<CHARGE> {
    #[inline(always)]
    unsafe fn run<const A: usize, const B: usize, const C: usize>(
        at: *const Cell,
        regs: &mut Regs<'_, '_>,
    ) -> *const Cell {
        // SAFETY: the caller's promise.
        unsafe {
            if !has_fuel::<CHARGE>(at, regs) {
                return regs.state.end_without_fuel(at);
            }
            take::<CHARGE>(at, regs)
        }
    }
}

/// `if a cmp b goto`
pub(crate) struct Branch<const CMP: usize, const WIDE: bool, const CHARGE: usize>;

impl<const CMP: usize, const WIDE: bool, const CHARGE: usize> Body for Branch<CMP, WIDE, CHARGE> {
    #[inline(always)]
    unsafe fn run<const A: usize, const B: usize, const C: usize>(
        at: *const Cell,
        regs: &mut Regs<'_, '_>,
    ) -> *const Cell {
        // SAFETY: the caller's promise.
        unsafe {
            let op = op(at);
            if !holds::<CMP, WIDE>(regs.get::<A>(op.a), regs.get::<B>(op.b)) {
                return at.add(2);
            }
            if !has_fuel::<CHARGE>(at, regs) {
                return regs.state.end_without_fuel(at);
            }
            take::<CHARGE>(at, regs)
        }
    }
}

/// `if a cmp imm goto`
pub(crate) struct BranchImm<const CMP: usize, const WIDE: bool, const CHARGE: usize>;

impl<const CMP: usize, const WIDE: bool, const CHARGE: usize> Body
    for BranchImm<CMP, WIDE, CHARGE>
{
    #[inline(always)]
    unsafe fn run<const A: usize, const B: usize, const C: usize>(
        at: *const Cell,
        regs: &mut Regs<'_, '_>,
    ) -> *const Cell {
        // SAFETY: the caller's promise.
        unsafe {
            let op = op(at);
            if !holds::<CMP, WIDE>(regs.get::<A>(op.a), semantics::immediate(op.imm)) {
                return at.add(2);
            }
            if !has_fuel::<CHARGE>(at, regs) {
                return regs.state.end_without_fuel(at);
            }
            take::<CHARGE>(at, regs)
        }
    }
}

/// `a += imm; if a cmp b goto`. Where the fuel is used up, `a` is as before, so that the operation
/// can be run again.
pub(crate) struct AddBranch<const CMP: usize, const WIDE: bool, const CHARGE: usize>;

impl<const CMP: usize, const WIDE: bool, const CHARGE: usize> Body
    for AddBranch<CMP, WIDE, CHARGE>
{
    #[inline(always)]
    unsafe fn run<const A: usize, const B: usize, const C: usize>(
        at: *const Cell,
        regs: &mut Regs<'_, '_>,
    ) -> *const Cell {
        // SAFETY: the caller's promise.
        unsafe {
            let op = op(at);
            let sum = add::<WIDE>(regs.get::<A>(op.a), op.imm);
            let holds = holds::<CMP, WIDE>(sum, regs.get::<B>(op.b));
            if holds && !has_fuel::<CHARGE>(at, regs) {
                return regs.state.end_without_fuel(at);
            }
            regs.set::<A>(op.a, sum);
            if holds { take::<CHARGE>(at, regs) } else { at.add(2) }
        }
    }
}

/// `a += imm; if a cmp jump.imm goto`, likewise.
pub(crate) struct AddBranchImm<const CMP: usize, const WIDE: bool, const CHARGE: usize>;

impl<const CMP: usize, const WIDE: bool, const CHARGE: usize> Body
    for AddBranchImm<CMP, WIDE, CHARGE>
{
    #[inline(always)]
    unsafe fn run<const A: usize, const B: usize, const C: usize>(
        at: *const Cell,
        regs: &mut Regs<'_, '_>,
    ) -> *const Cell {
        // SAFETY: the caller's promise.
        unsafe {
            let op = op(at);
            let sum = add::<WIDE>(regs.get::<A>(op.a), op.imm);
            let holds = holds::<CMP, WIDE>(sum, semantics::immediate(jump(at).imm));
            if holds && !has_fuel::<CHARGE>(at, regs) {
                return regs.state.end_without_fuel(at);
            }
            regs.set::<A>(op.a, sum);
            if holds { take::<CHARGE>(at, regs) } else { at.add(2) }
        }
    }
}

#[inline(always)]
fn add<const WIDE: bool>(value: u64, imm: i32) -> u64 {
    let width = if WIDE { Width::W64 } else { Width::W32 };
    semantics::alu(AluOp::Add, width, value, semantics::immediate(imm))
}

/// `a = *(SIZE *)(b + off); if a cmp imm goto`, of 64 bits, likewise.
pub(crate) struct LoadBranch<M: Mode, const SIZE: usize, const CMP: usize, const CHARGE: usize>(
    core::marker::PhantomData<M>,
);

impl<M: Mode, const SIZE: usize, const CMP: usize, const CHARGE: usize> Body
    for LoadBranch<M, SIZE, CMP, CHARGE>
{
    #[inline(always)]
    unsafe fn run<const A: usize, const B: usize, const C: usize>(
        at: *const Cell,
        regs: &mut Regs<'_, '_>,
    ) -> *const Cell {
        // SAFETY: the caller's promise.
        unsafe {
            let op = op(at);
            let addr = regs.get::<B>(op.b).wrapping_add_signed(op.off.into());
            let Some(value) = Reader::<M, SIZE>::read::<B>(regs, op.b, addr) else {
                return regs.state.run_plainly(at);
            };
            let holds = holds::<CMP, true>(value, semantics::immediate(op.imm));
            if holds && !has_fuel::<CHARGE>(at, regs) {
                return regs.state.end_without_fuel(at);
            }
            regs.set::<A>(op.a, value);
            if holds { take::<CHARGE>(at, regs) } else { at.add(2) }
        }
    }
}

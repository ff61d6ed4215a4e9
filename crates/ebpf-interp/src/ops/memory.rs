//! Loads and stores.
//!
//! Checked ones compare with the window of their base register: a region that an access through this
//! register was found to be in before. Where that does not hold the access, the operation is run
//! plainly, which asks all regions, and makes the one that holds it the window.

use core::marker::PhantomData;

use ebpf_isa::{AluOp, ByteOrder, Size, Width, semantics};

use super::op;
use crate::code::Cell;
use crate::dispatch::{Body, FILE, Regs};
use crate::memory;

/// Whether accesses are checked.
pub(crate) trait Mode {
    const CHECKED: bool;
}

/// Every access is checked.
pub(crate) struct CheckedMode;
/// A verifier has checked them.
pub(crate) struct UncheckedMode;

impl Mode for CheckedMode {
    const CHECKED: bool = true;
}

impl Mode for UncheckedMode {
    const CHECKED: bool = false;
}

/// Reads of `Size::ALL[SIZE]`.
pub(crate) struct Reader<M: Mode, const SIZE: usize>(PhantomData<M>);

impl<M: Mode, const SIZE: usize> Reader<M, SIZE> {
    /// Reads at `addr`, which was made from the base register in the place `B`, or `slot`; `None`
    /// where that is not known to be right.
    ///
    /// # Safety
    /// The run is of this mode.
    #[inline(always)]
    pub(crate) unsafe fn read<const B: usize>(
        regs: &Regs<'_, '_>,
        slot: u8,
        addr: u64,
    ) -> Option<u64> {
        if M::CHECKED && !regs.state.windows().may_read::<B, SIZE>(slot, addr) {
            return None;
        }
        // SAFETY: the address is inside of a region, or the program is verified.
        Some(unsafe { memory::machine_load(addr, const { Size::ALL[SIZE] }) })
    }
}

/// `a = *(SIZE *)(b + off)`
pub(crate) struct Load<M: Mode, const SIZE: usize>(PhantomData<M>);

impl<M: Mode, const SIZE: usize> Body for Load<M, SIZE> {
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
            regs.set::<A>(op.a, value);
            at.add(1)
        }
    }
}

/// `a = big-endian *(SIZE *)(b + off)`
pub(crate) struct LoadSwapped<M: Mode, const SIZE: usize>(PhantomData<M>);

impl<M: Mode, const SIZE: usize> Body for LoadSwapped<M, SIZE> {
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
            regs.set::<A>(op.a, semantics::swap(ByteOrder::Be, const { Size::ALL[SIZE] }, value));
            at.add(1)
        }
    }
}

/// `a = *(SIZE *)(b + c + imm)`, where `c` is the slot in the low byte of `off`. The high byte is
/// the slot of the base register of the program's load.
pub(crate) struct LoadIndexed<M: Mode, const SIZE: usize>(PhantomData<M>);

impl<M: Mode, const SIZE: usize> Body for LoadIndexed<M, SIZE> {
    #[inline(always)]
    unsafe fn run<const A: usize, const B: usize, const C: usize>(
        at: *const Cell,
        regs: &mut Regs<'_, '_>,
    ) -> *const Cell {
        // SAFETY: the caller's promise.
        unsafe {
            let op = op(at);
            let sum = regs.get::<B>(op.b).wrapping_add(regs.get::<C>(op.off as u8));
            let addr = sum.wrapping_add_signed(op.imm.into());
            let base = (op.off >> 8) as u8;
            let Some(value) = Reader::<M, SIZE>::read::<FILE>(regs, base, addr) else {
                return regs.state.run_plainly(at);
            };
            regs.set::<A>(op.a, value);
            at.add(1)
        }
    }
}

/// `a op= *(SIZE *)(b + off)`
pub(crate) struct LoadAlu<M: Mode, const SIZE: usize, const OP: usize, const WIDE: bool>(
    PhantomData<M>,
);

impl<M: Mode, const SIZE: usize, const OP: usize, const WIDE: bool> Body
    for LoadAlu<M, SIZE, OP, WIDE>
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
            let width = if WIDE { Width::W64 } else { Width::W32 };
            let result =
                semantics::alu(const { AluOp::ALL[OP] }, width, regs.get::<A>(op.a), value);
            regs.set::<A>(op.a, result);
            at.add(1)
        }
    }
}

/// `*(SIZE *)(a + off) = b`
pub(crate) struct Store<M: Mode, const SIZE: usize>(PhantomData<M>);

impl<M: Mode, const SIZE: usize> Body for Store<M, SIZE> {
    #[inline(always)]
    unsafe fn run<const A: usize, const B: usize, const C: usize>(
        at: *const Cell,
        regs: &mut Regs<'_, '_>,
    ) -> *const Cell {
        // SAFETY: the caller's promise.
        unsafe {
            let op = op(at);
            let addr = regs.get::<A>(op.a).wrapping_add_signed(op.off.into());
            if M::CHECKED && !regs.state.windows().may_write::<A, SIZE>(op.a, addr) {
                return regs.state.run_plainly(at);
            }
            memory::machine_store(addr, const { Size::ALL[SIZE] }, regs.get::<B>(op.b));
            at.add(1)
        }
    }
}

/// `*(SIZE *)(a + off) = imm`
pub(crate) struct StoreImm<M: Mode, const SIZE: usize>(PhantomData<M>);

impl<M: Mode, const SIZE: usize> Body for StoreImm<M, SIZE> {
    #[inline(always)]
    unsafe fn run<const A: usize, const B: usize, const C: usize>(
        at: *const Cell,
        regs: &mut Regs<'_, '_>,
    ) -> *const Cell {
        // SAFETY: the caller's promise.
        unsafe {
            let op = op(at);
            let addr = regs.get::<A>(op.a).wrapping_add_signed(op.off.into());
            if M::CHECKED && !regs.state.windows().may_write::<A, SIZE>(op.a, addr) {
                return regs.state.run_plainly(at);
            }
            memory::machine_store(addr, const { Size::ALL[SIZE] }, semantics::immediate(op.imm));
            at.add(1)
        }
    }
}

//! Loads and stores.
//!
//! Checked ones compare with the window of their base register: a region that an access through this
//! register was found to be in before. Where that does not hold the access, the operation is run
//! plainly, which asks all regions, and makes the one that holds it the window.

use core::marker::PhantomData;

use ebpf_isa::{AluOp, Size};

use super::alu::Set;
use super::op;
use super::value::{Binary, Imm, Inputs, Loaded, RegA, RegB, Swapped, Value};
use crate::code::{Cell, Op};
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

/// Where an operation reads a value that it needs.
pub(crate) trait Source {
    /// Reads it; `None` where the access is not known to be right. `B` and `C` are the places of the
    /// operands.
    ///
    /// # Safety
    /// The run is of the mode that the source is for.
    unsafe fn read<const B: usize, const C: usize>(op: &Op, regs: &Regs<'_, '_>) -> Option<u64>;
}

/// Nowhere.
pub(crate) struct NoSource;

impl Source for NoSource {
    #[inline(always)]
    unsafe fn read<const B: usize, const C: usize>(_: &Op, _: &Regs<'_, '_>) -> Option<u64> {
        Some(0)
    }
}

/// `*(SIZE *)(b + off)`
pub(crate) struct AtBase<M, const SIZE: usize>(PhantomData<M>);

impl<M: Mode, const SIZE: usize> Source for AtBase<M, SIZE> {
    #[inline(always)]
    unsafe fn read<const B: usize, const C: usize>(op: &Op, regs: &Regs<'_, '_>) -> Option<u64> {
        let addr = regs.get::<B>(op.b).wrapping_add_signed(op.off.into());
        // SAFETY: the caller's promise.
        unsafe { load::<M, SIZE, B>(regs, op.b, addr) }
    }
}

/// `*(SIZE *)(b + c + imm)`, where `c` is the slot in the low byte of `off`. The high byte is the
/// slot of the base register of the program's load.
pub(crate) struct AtSum<M, const SIZE: usize>(PhantomData<M>);

impl<M: Mode, const SIZE: usize> Source for AtSum<M, SIZE> {
    #[inline(always)]
    unsafe fn read<const B: usize, const C: usize>(op: &Op, regs: &Regs<'_, '_>) -> Option<u64> {
        let sum = regs.get::<B>(op.b).wrapping_add(regs.get::<C>(op.off as u8));
        let addr = sum.wrapping_add_signed(op.imm.into());
        // SAFETY: the caller's promise.
        unsafe { load::<M, SIZE, FILE>(regs, (op.off >> 8) as u8, addr) }
    }
}

/// Reads `Size::ALL[SIZE]` at `addr`, which was made from the base register in the place `BASE`, or
/// `slot`; `None` where that is not known to be right.
///
/// # Safety
/// The run is of this mode.
#[inline(always)]
unsafe fn load<M: Mode, const SIZE: usize, const BASE: usize>(
    regs: &Regs<'_, '_>,
    slot: u8,
    addr: u64,
) -> Option<u64> {
    if M::CHECKED && !regs.state.windows().may_read::<BASE, SIZE>(slot, addr) {
        return None;
    }
    // SAFETY: the address is inside of a region, or the program is verified.
    Some(unsafe { memory::machine_load(addr, const { Size::ALL[SIZE] }) })
}

/// `a = *(SIZE *)(b + off)`
pub(crate) type Load<M, const SIZE: usize> = Set<Loaded, AtBase<M, SIZE>>;
/// `a = big-endian *(SIZE *)(b + off)`
pub(crate) type LoadSwapped<M, const SIZE: usize> = Set<Swapped<Loaded, SIZE>, AtBase<M, SIZE>>;
/// `a = *(SIZE *)(b + off) & imm`, of 32 bits
pub(crate) type LoadMasked<M, const SIZE: usize> =
    Set<Binary<Loaded, Imm, { AluOp::And as usize }, false>, AtBase<M, SIZE>>;
/// `a = *(SIZE *)(b + c + imm)`: see [`AtSum`].
pub(crate) type LoadIndexed<M, const SIZE: usize> = Set<Loaded, AtSum<M, SIZE>>;
/// `a op= *(SIZE *)(b + off)`
pub(crate) type LoadAlu<M, const SIZE: usize, const OP: usize, const WIDE: bool> =
    Set<Binary<RegA, Loaded, OP, WIDE>, AtBase<M, SIZE>>;

/// `a = *(u64 *)(b + first); c = *(u64 *)(b + second)`, where `c` is the slot in the low byte of `off`,
/// and the halves of `imm` are `first` and `second`.
pub(crate) struct LoadPair<M>(PhantomData<M>);

impl<M: Mode> Body for LoadPair<M> {
    #[inline(always)]
    unsafe fn run<const A: usize, const B: usize, const C: usize>(
        at: *const Cell,
        regs: &mut Regs<'_, '_>,
    ) -> *const Cell {
        // SAFETY: the caller's promise.
        let op = unsafe { op(at) };
        let base = regs.get::<B>(op.b);
        let [first, second] = [op.imm as i16, (op.imm >> 16) as i16].map(|off| {
            let addr = base.wrapping_add_signed(off.into());
            // SAFETY: the caller's promise.
            unsafe { load::<M, { Size::Dw as usize }, B>(regs, op.b, addr) }
        });
        let (Some(first), Some(second)) = (first, second) else {
            return regs.state.run_plainly(at);
        };
        regs.set::<A>(op.a, first);
        regs.set::<C>(op.off as u8, second);
        // SAFETY: another operation follows.
        unsafe { at.add(1) }
    }
}

/// `*(SIZE *)(a + off) = V`
pub(crate) struct Storing<M, V, const SIZE: usize>(PhantomData<(M, V)>);

/// `*(SIZE *)(a + off) = b`
pub(crate) type Store<M, const SIZE: usize> = Storing<M, RegB, SIZE>;
/// `*(SIZE *)(a + off) = imm`
pub(crate) type StoreImm<M, const SIZE: usize> = Storing<M, Imm, SIZE>;

impl<M: Mode, V: Value, const SIZE: usize> Body for Storing<M, V, SIZE> {
    #[inline(always)]
    unsafe fn run<const A: usize, const B: usize, const C: usize>(
        at: *const Cell,
        regs: &mut Regs<'_, '_>,
    ) -> *const Cell {
        // SAFETY: the caller's promise.
        let op = unsafe { op(at) };
        let addr = regs.get::<A>(op.a).wrapping_add_signed(op.off.into());
        if M::CHECKED && !regs.state.windows().may_write::<A, SIZE>(op.a, addr) {
            return regs.state.run_plainly(at);
        }
        let value = V::of::<A, B, C>(&Inputs { op, regs, loaded: 0, second: 0 });
        // SAFETY: the address is inside of a region, or the program is verified.
        unsafe { memory::machine_store(addr, const { Size::ALL[SIZE] }, value) };
        // SAFETY: another operation follows.
        unsafe { at.add(1) }
    }
}

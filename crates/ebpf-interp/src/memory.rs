//! How an address becomes a pointer, checked or not, and the accesses through it.
//!
//! Memory that a program touches may be shared with other threads (values of maps), so every
//! access is atomic: whole where the address is aligned, byte by byte where it is not. Ordering is
//! relaxed, as the instruction set has it for plain loads and stores.

#![allow(unsafe_code, reason = "the accesses of programs are here, each behind a check")]

use alloc::vec::Vec;
use core::cell::UnsafeCell;
use core::marker::PhantomData;
use core::mem::MaybeUninit;
use core::ptr;
use core::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering};

use ebpf_isa::abi::{ExecEnv, MAX_CALL_DEPTH, Region, STACK_SIZE, TrapKind};
use ebpf_isa::{AtomicOp, Size, semantics};

/// The memory that a checked program may touch besides its stack.
///
/// Addresses inside of the program are the real ones. The borrow lasts as long as this value, so
/// nobody else can hold a reference to the bytes while a program runs on them.
#[derive(Debug, Default)]
pub struct Memory<'a> {
    regions: Vec<Region>,
    borrowed: PhantomData<&'a mut [u8]>,
}

impl<'a> Memory<'a> {
    /// No memory.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds bytes that the program may read and write; gives their address.
    pub fn add_mut(&mut self, bytes: &'a mut [u8]) -> u64 {
        let base = bytes.as_mut_ptr().expose_provenance() as u64;
        self.regions.push(Region { base, len: bytes.len() as u64, writable: 1 });
        base
    }

    /// Adds bytes that the program may only read; gives their address.
    pub fn add(&mut self, bytes: &'a [u8]) -> u64 {
        let base = bytes.as_ptr().expose_provenance() as u64;
        self.regions.push(Region { base, len: bytes.len() as u64, writable: 0 });
        base
    }

    /// The regions, in the form of [`ExecEnv::regions`].
    #[must_use]
    pub fn regions(&self) -> &[Region] {
        &self.regions
    }
}

/// All frames of one run, in the order of addresses: the main program's is the highest.
///
/// Only the program touches it, through addresses, which is why it is behind a cell.
#[repr(C, align(16))]
pub(crate) struct Stack(UnsafeCell<[MaybeUninit<u8>; STACK_SIZE * MAX_CALL_DEPTH]>);

impl Stack {
    pub(crate) const fn new() -> Self {
        Self(UnsafeCell::new([MaybeUninit::uninit(); STACK_SIZE * MAX_CALL_DEPTH]))
    }

    /// One past the highest byte: the frame pointer of the main program.
    pub(crate) fn top(&self) -> u64 {
        self.0.get().expose_provenance() as u64 + size_of::<Self>() as u64
    }

    /// Zeroes the frame of `size` bytes below `top`; gives its lowest address.
    pub(crate) fn clear(&self, top: u64, size: u16) -> u64 {
        let low = top - u64::from(size);
        let bottom = self.0.get().cast::<u8>();
        let offset = (low - bottom.addr() as u64) as usize;
        assert!(offset + usize::from(size) <= size_of::<Self>(), "a frame is inside of the stack");
        // SAFETY: the bytes are inside of the array, as asserted, and no reference to them exists.
        unsafe { bottom.add(offset).write_bytes(0, usize::from(size)) };
        low
    }
}

/// How an address becomes a pointer.
pub(crate) trait Access {
    /// A pointer to `len` bytes at `addr`, good for a read, or for a write where `write` is set.
    fn pointer(&self, addr: u64, len: u8, write: bool) -> Result<*mut u8, TrapKind>;

    /// Tells that the stack now reaches down to `low`.
    fn set_stack(&mut self, low: u64, high: u64);
}

/// Accesses of a verified program: every address is good.
#[derive(Default)]
pub(crate) struct Unchecked;

impl Access for Unchecked {
    fn pointer(&self, addr: u64, _len: u8, _write: bool) -> Result<*mut u8, TrapKind> {
        Ok(ptr::with_exposed_provenance_mut(addr as usize))
    }

    fn set_stack(&mut self, _low: u64, _high: u64) {}
}

/// Accesses of any program: only the stack and the declared regions.
pub(crate) struct Checked<'a> {
    stack: Region,
    regions: &'a [Region],
}

impl<'a> Checked<'a> {
    pub(crate) fn new(regions: &'a [Region]) -> Self {
        Self { stack: Region::default(), regions }
    }
}

/// Whether `region` holds all `len` bytes at `addr`; nothing here can wrap.
fn holds(region: &Region, addr: u64, len: u8) -> bool {
    match addr.checked_sub(region.base) {
        Some(offset) => offset <= region.len && region.len - offset >= u64::from(len),
        None => false,
    }
}

impl Access for Checked<'_> {
    fn pointer(&self, addr: u64, len: u8, write: bool) -> Result<*mut u8, TrapKind> {
        let mut regions = core::iter::once(&self.stack).chain(self.regions);
        let region = regions.find(|region| holds(region, addr, len));
        match region {
            Some(region) if write && region.writable == 0 => Err(TrapKind::ReadOnly),
            Some(_) => Ok(ptr::with_exposed_provenance_mut(addr as usize)),
            None => Err(TrapKind::OutOfBounds),
        }
    }

    fn set_stack(&mut self, low: u64, high: u64) {
        self.stack = Region { base: low, len: high - low, writable: 1 };
    }
}

fn is_aligned(pointer: *mut u8, size: Size) -> bool {
    pointer.addr() & (usize::from(size.bytes()) - 1) == 0
}

/// Reads `size` bytes, zero-extended.
///
/// # Safety
/// `pointer` is good for reads of `size` bytes, and nobody holds a unique reference to them.
pub(crate) unsafe fn load(pointer: *mut u8, size: Size) -> u64 {
    if !is_aligned(pointer, size) {
        let byte = |index: u8| {
            // SAFETY: the byte is one of those that the caller vouches for.
            let byte = unsafe { AtomicU8::from_ptr(pointer.add(usize::from(index))) };
            u64::from(byte.load(Ordering::Relaxed)) << (8 * index)
        };
        return (0..size.bytes()).map(byte).fold(0, |value, byte| value | byte);
    }
    // SAFETY: aligned as tested, good for reads by the caller's promise.
    unsafe {
        match size {
            Size::B => AtomicU8::from_ptr(pointer).load(Ordering::Relaxed).into(),
            Size::H => AtomicU16::from_ptr(pointer.cast()).load(Ordering::Relaxed).into(),
            Size::W => AtomicU32::from_ptr(pointer.cast()).load(Ordering::Relaxed).into(),
            Size::Dw => AtomicU64::from_ptr(pointer.cast()).load(Ordering::Relaxed),
        }
    }
}

/// Writes the low `size` bytes of `value`.
///
/// # Safety
/// `pointer` is good for writes of `size` bytes, and nobody holds a reference to them.
pub(crate) unsafe fn store(pointer: *mut u8, size: Size, value: u64) {
    if !is_aligned(pointer, size) {
        for index in 0..size.bytes() {
            // SAFETY: the byte is one of those that the caller vouches for.
            let byte = unsafe { AtomicU8::from_ptr(pointer.add(usize::from(index))) };
            byte.store((value >> (8 * index)) as u8, Ordering::Relaxed);
        }
        return;
    }
    // SAFETY: aligned as tested, good for writes by the caller's promise.
    unsafe {
        match size {
            Size::B => AtomicU8::from_ptr(pointer).store(value as u8, Ordering::Relaxed),
            Size::H => AtomicU16::from_ptr(pointer.cast()).store(value as u16, Ordering::Relaxed),
            Size::W => AtomicU32::from_ptr(pointer.cast()).store(value as u32, Ordering::Relaxed),
            Size::Dw => AtomicU64::from_ptr(pointer.cast()).store(value, Ordering::Relaxed),
        }
    }
}

/// Reads with acquire ordering.
///
/// # Safety
/// As for [`load`]; also, `pointer` is aligned to `size`.
pub(crate) unsafe fn load_acquire(pointer: *mut u8, size: Size) -> u64 {
    // SAFETY: the caller's promise.
    unsafe {
        match size {
            Size::B => AtomicU8::from_ptr(pointer).load(Ordering::Acquire).into(),
            Size::H => AtomicU16::from_ptr(pointer.cast()).load(Ordering::Acquire).into(),
            Size::W => AtomicU32::from_ptr(pointer.cast()).load(Ordering::Acquire).into(),
            Size::Dw => AtomicU64::from_ptr(pointer.cast()).load(Ordering::Acquire),
        }
    }
}

/// Writes with release ordering.
///
/// # Safety
/// As for [`store`]; also, `pointer` is aligned to `size`.
pub(crate) unsafe fn store_release(pointer: *mut u8, size: Size, value: u64) {
    // SAFETY: the caller's promise.
    unsafe {
        match size {
            Size::B => AtomicU8::from_ptr(pointer).store(value as u8, Ordering::Release),
            Size::H => AtomicU16::from_ptr(pointer.cast()).store(value as u16, Ordering::Release),
            Size::W => AtomicU32::from_ptr(pointer.cast()).store(value as u32, Ordering::Release),
            Size::Dw => AtomicU64::from_ptr(pointer.cast()).store(value, Ordering::Release),
        }
    }
}

/// An atomic read-modify-write of 4 or 8 bytes; gives the old value, zero-extended.
///
/// # Safety
/// As for [`store_release`].
pub(crate) unsafe fn atomic(op: AtomicOp, pointer: *mut u8, size: Size, src: u64, r0: u64) -> u64 {
    let new = |old| semantics::atomic(op, size, old, src, r0);
    let order = Ordering::SeqCst;
    match size {
        Size::Dw => {
            // SAFETY: the caller's promise.
            let cell = unsafe { AtomicU64::from_ptr(pointer.cast()) };
            cell.fetch_update(order, order, |old| Some(new(old))).unwrap_or_else(|old| old)
        }
        _ => {
            // SAFETY: the caller's promise.
            let cell = unsafe { AtomicU32::from_ptr(pointer.cast()) };
            let update = |old| Some(new(u64::from(old)) as u32);
            cell.fetch_update(order, order, update).unwrap_or_else(|old| old).into()
        }
    }
}

/// Whether an atomic access to `pointer` is aligned.
pub(crate) fn check_aligned(pointer: *mut u8, size: Size) -> Result<(), TrapKind> {
    if is_aligned(pointer, size) { Ok(()) } else { Err(TrapKind::Misaligned) }
}

/// Declares `memory` in `env`, for helpers that check what a program gives them.
pub(crate) fn declare(memory: &Memory<'_>, env: &mut ExecEnv) {
    env.regions = memory.regions.as_ptr();
    env.region_count = memory.regions.len() as u64;
}

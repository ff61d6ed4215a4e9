//! How an address becomes an access, checked or not.
//!
//! Memory that a program touches may be shared with other threads (values of maps), so every
//! access is atomic: whole where the address is aligned, byte by byte where it is not. Ordering is
//! relaxed, as the instruction set has it for plain loads and stores. Only bytes borrowed as
//! `&[u8]`, which nobody writes, are read plainly: an atomic access asks for a pointer that may
//! write.
//!
//! Nothing stops two programs from touching the same shared bytes at once with accesses of
//! different sizes. C++ and Rust do not say what happens then (unless the accesses are ordered by
//! other means); LLVM does, byte by byte, and so does the machine, for which each of these accesses
//! is one instruction. Compiled programs and kernels rely on the same.

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
/// nobody else touches the bytes while a program runs on them, unless they are shared.
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

    /// Adds bytes that the program may read and write while others do; gives their address.
    ///
    /// The program's accesses are atomic and relaxed, except for its atomic instructions, which are
    /// ordered as the instruction set says.
    pub fn add_shared(&mut self, bytes: &'a [AtomicU8]) -> u64 {
        let base = bytes.as_ptr().expose_provenance() as u64;
        self.regions.push(Region { base, len: bytes.len() as u64, writable: 1 });
        base
    }

    /// The regions, in the form of [`ExecEnv::regions`].
    #[must_use]
    pub fn regions(&self) -> &[Region] {
        &self.regions
    }
}

/// All frames of one run without gaps, in the order of addresses: the main program's is the
/// highest.
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

    /// Makes a frame of `size` bytes, a multiple of 8, below `top`. It is zeroed: a program may
    /// read what it never wrote.
    pub(crate) fn frame(&self, top: u64, size: u16) -> Frame {
        let low = top - u64::from(size);
        let bottom = self.0.get().cast::<u8>();
        let offset = (low - bottom.addr() as u64) as usize;
        assert!(offset + usize::from(size) <= size_of::<Self>(), "a frame is inside of the stack");
        // SAFETY: the bytes are inside of the array, as asserted, and no reference to them exists.
        unsafe { bottom.add(offset).write_bytes(0, usize::from(size)) };
        Frame { low, top }
    }
}

/// Where the stack of one subprogram is: its lowest byte, and one past its highest.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Frame {
    pub(crate) low: u64,
    pub(crate) top: u64,
}

/// How an address becomes an access.
pub(crate) trait Access {
    /// Reads `size` bytes at `addr`, zero-extended.
    fn read(&self, addr: u64, size: Size) -> Result<u64, TrapKind>;

    /// The `size` bytes at `addr`, for writing.
    fn place(&self, addr: u64, size: Size) -> Result<Place<'_>, TrapKind>;

    /// Tells that the stack now reaches from `low` to `high`. All of it is initialised.
    fn set_stack(&mut self, low: u64, high: u64);
}

/// Accesses of a verified program: every address is good.
pub(crate) struct Unchecked(());

impl Unchecked {
    /// # Safety
    /// Every address that is given to [`Access`] is good for what it is given for, in the sense of
    /// [`load`] and of [`Place`].
    pub(crate) unsafe fn new() -> Self {
        Self(())
    }
}

impl Access for Unchecked {
    fn read(&self, addr: u64, size: Size) -> Result<u64, TrapKind> {
        // SAFETY: promised when this value was made.
        Ok(unsafe { load(ptr::with_exposed_provenance_mut(addr as usize), size) })
    }

    fn place(&self, addr: u64, size: Size) -> Result<Place<'_>, TrapKind> {
        // The address is good, as promised when this value was made.
        Ok(Place::new(addr, size))
    }

    fn set_stack(&mut self, _low: u64, _high: u64) {}
}

/// Accesses of any program: only the stack and the declared regions.
pub(crate) struct Checked<'a> {
    stack: Region,
    memory: &'a Memory<'a>,
}

impl<'a> Checked<'a> {
    pub(crate) fn new(memory: &'a Memory<'a>) -> Self {
        Self { stack: Region::default(), memory }
    }

    /// The region that has all `size` bytes at `addr`.
    fn region(&self, addr: u64, size: Size) -> Result<&Region, TrapKind> {
        let mut regions = core::iter::once(&self.stack).chain(&self.memory.regions);
        regions.find(|region| holds(region, addr, size.bytes())).ok_or(TrapKind::OutOfBounds)
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
    fn read(&self, addr: u64, size: Size) -> Result<u64, TrapKind> {
        let region = self.region(addr, size)?;
        let pointer = ptr::with_exposed_provenance_mut(addr as usize);
        if region.writable == 0 {
            // SAFETY: the bytes are in a region that is borrowed as `&[u8]` as long as `memory`.
            return Ok(unsafe { load_frozen(pointer, size) });
        }
        // SAFETY: the bytes are in a region of the kind that may be written: the stack, or borrowed
        // as long as `memory`, uniquely or as atomics.
        Ok(unsafe { load(pointer, size) })
    }

    fn place(&self, addr: u64, size: Size) -> Result<Place<'_>, TrapKind> {
        // A place is in a region that may be written: see `read`.
        match self.region(addr, size)?.writable {
            0 => Err(TrapKind::ReadOnly),
            _ => Ok(Place::new(addr, size)),
        }
    }

    fn set_stack(&mut self, low: u64, high: u64) {
        self.stack = Region { base: low, len: high - low, writable: 1 };
    }
}

/// Bytes that a program may write: good for atomic reads and writes, and referenced by nobody
/// except as atomics. An [`Access`] makes it and vouches for that.
#[derive(Clone, Copy)]
pub(crate) struct Place<'a> {
    pointer: *mut u8,
    size: Size,
    borrowed: PhantomData<&'a AtomicU8>,
}

impl Place<'_> {
    fn new(addr: u64, size: Size) -> Self {
        let pointer = ptr::with_exposed_provenance_mut(addr as usize);
        Self { pointer, size, borrowed: PhantomData }
    }

    /// Writes the low bytes of `value`.
    pub(crate) fn store(self, value: u64) {
        let Self { pointer, size, .. } = self;
        if !is_aligned(pointer.addr() as u64, size) {
            for index in 0..size.bytes() {
                // SAFETY: the byte is one of this place.
                let byte = unsafe { AtomicU8::from_ptr(pointer.add(usize::from(index))) };
                byte.store((value >> (8 * index)) as u8, Ordering::Relaxed);
            }
            return;
        }
        let order = Ordering::Relaxed;
        // SAFETY: aligned as tested, good for atomic writes as every place is.
        unsafe {
            match size {
                Size::B => AtomicU8::from_ptr(pointer).store(value as u8, order),
                Size::H => AtomicU16::from_ptr(pointer.cast()).store(value as u16, order),
                Size::W => AtomicU32::from_ptr(pointer.cast()).store(value as u32, order),
                Size::Dw => AtomicU64::from_ptr(pointer.cast()).store(value, order),
            }
        }
    }

    /// An atomic read-modify-write of 4 or 8 aligned bytes; gives the old value, zero-extended.
    pub(crate) fn atomic(self, op: AtomicOp, src: u64, r0: u64) -> u64 {
        let Self { pointer, size, .. } = self;
        assert!(is_aligned(pointer.addr() as u64, size), "atomic accesses are aligned");
        let new = |old| semantics::atomic(op, size, old, src, r0);
        let order = Ordering::SeqCst;
        match size {
            Size::Dw => {
                // SAFETY: aligned as asserted, good for atomic accesses as every place is.
                let cell = unsafe { AtomicU64::from_ptr(pointer.cast()) };
                cell.fetch_update(order, order, |old| Some(new(old))).unwrap_or_else(|old| old)
            }
            Size::W => {
                // SAFETY: aligned as asserted, good for atomic accesses as every place is.
                let cell = unsafe { AtomicU32::from_ptr(pointer.cast()) };
                let update = |old| Some(new(u64::from(old)) as u32);
                cell.fetch_update(order, order, update).unwrap_or_else(|old| old).into()
            }
            Size::B | Size::H => unreachable!("such an instruction was refused at linking"),
        }
    }
}

/// Whether an access of this size to `addr` can be atomic.
pub(crate) fn is_aligned(addr: u64, size: Size) -> bool {
    addr & (u64::from(size.bytes()) - 1) == 0
}

/// Reads `size` bytes, zero-extended, each atomically, and all at once where they are aligned.
///
/// # Safety
/// `pointer` is good for atomic accesses of `size` bytes (which asks for a pointer that may write,
/// see [`AtomicU8::from_ptr`]), and nobody references them except as atomics.
unsafe fn load(pointer: *mut u8, size: Size) -> u64 {
    if !is_aligned(pointer.addr() as u64, size) {
        let byte = |index: u8| {
            // SAFETY: the byte is one of those that the caller vouches for.
            let byte = unsafe { AtomicU8::from_ptr(pointer.add(usize::from(index))) };
            u64::from(byte.load(Ordering::Relaxed)) << (8 * index)
        };
        return (0..size.bytes()).map(byte).fold(0, |value, byte| value | byte);
    }
    // SAFETY: aligned as tested, good for atomic accesses by the caller's promise.
    unsafe {
        match size {
            Size::B => AtomicU8::from_ptr(pointer).load(Ordering::Relaxed).into(),
            Size::H => AtomicU16::from_ptr(pointer.cast()).load(Ordering::Relaxed).into(),
            Size::W => AtomicU32::from_ptr(pointer.cast()).load(Ordering::Relaxed).into(),
            Size::Dw => AtomicU64::from_ptr(pointer.cast()).load(Ordering::Relaxed),
        }
    }
}

/// Reads `size` bytes that nobody writes, zero-extended.
///
/// # Safety
/// `pointer` is good for reads of `size` bytes, and nobody writes them meanwhile.
unsafe fn load_frozen(pointer: *const u8, size: Size) -> u64 {
    // SAFETY: the caller's promise.
    unsafe {
        match size {
            Size::B => pointer.read().into(),
            Size::H => pointer.cast::<u16>().read_unaligned().into(),
            Size::W => pointer.cast::<u32>().read_unaligned().into(),
            Size::Dw => pointer.cast::<u64>().read_unaligned(),
        }
    }
}

/// Declares `memory` in `env`, for helpers that check what a program gives them.
pub(crate) fn declare(memory: &Memory<'_>, env: &mut ExecEnv) {
    env.regions = memory.regions.as_ptr();
    env.region_count = memory.regions.len() as u64;
}

//! The memory of programs: regions, and their stack.

#![allow(unsafe_code, reason = "frames are cleared here, and checked accesses made")]

mod access;

use alloc::vec::Vec;
use core::cell::UnsafeCell;
use core::marker::PhantomData;
use core::mem::MaybeUninit;
use core::sync::atomic::AtomicU8;

use ebpf_isa::Size;
use ebpf_isa::abi::{ExecEnv, FRAME_SIZE, MAX_CALL_DEPTH, Region, TrapKind};

pub(crate) use self::access::{HAS_MACHINE_ACCESS, Place, is_aligned, machine_load, machine_store};

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
pub(crate) struct Stack(UnsafeCell<[MaybeUninit<u8>; FRAME_SIZE * MAX_CALL_DEPTH]>);

impl Stack {
    pub(crate) const fn new() -> Self {
        Self(UnsafeCell::new([MaybeUninit::uninit(); FRAME_SIZE * MAX_CALL_DEPTH]))
    }

    /// One past the highest byte: the frame pointer of the main program.
    pub(crate) fn top(&self) -> u64 {
        self.0.get().expose_provenance() as u64 + size_of::<Self>() as u64
    }

    /// Zeroes the bytes from `low` to `high`, two addresses in it: a program may read what it never
    /// wrote.
    #[inline(always)]
    pub(crate) fn clear(&self, low: u64, high: u64) {
        if low == high {
            return;
        }
        let bottom = self.0.get().cast::<u8>();
        let [from, to] = [low, high].map(|addr| addr.wrapping_sub(bottom.addr() as u64));
        assert!(from <= to && to <= size_of::<Self>() as u64, "frames are inside of the stack");
        // SAFETY: the bytes are inside of the array, as asserted, and no reference to them exists.
        unsafe { bottom.add(from as usize).write_bytes(0, (to - from) as usize) };
    }
}

/// Where the stack of one subprogram is: its lowest byte, and one past its highest.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Frame {
    pub(crate) low: u64,
    pub(crate) top: u64,
}

/// A region that holds all bytes of an access.
#[derive(Clone, Copy)]
pub(crate) struct Found(Region);

/// The region that has all `size` bytes at `addr`: `stack`, or one of `memory`.
pub(crate) fn find(
    stack: &Region,
    memory: &Memory<'_>,
    addr: u64,
    size: Size,
) -> Result<Found, TrapKind> {
    let mut regions = core::iter::once(stack).chain(&memory.regions);
    let found = regions.find(|region| holds(region, addr, size.bytes()));
    found.map(|&region| Found(region)).ok_or(TrapKind::OutOfBounds)
}

/// Whether `region` holds all `len` bytes at `addr`; nothing here can wrap.
fn holds(region: &Region, addr: u64, len: u8) -> bool {
    match addr.checked_sub(region.base) {
        Some(offset) => offset <= region.len && region.len - offset >= u64::from(len),
        None => false,
    }
}

impl Found {
    pub(crate) fn region(&self) -> &Region {
        &self.0
    }

    pub(crate) fn is_writable(&self) -> bool {
        self.0.writable != 0
    }

    /// Reads the access that the region was found for.
    pub(crate) fn load(&self, addr: u64, size: Size) -> u64 {
        debug_assert!(holds(&self.0, addr, size.bytes()));
        if self.is_writable() {
            // SAFETY: the bytes are in a region of the kind that may be written: the stack, or
            // borrowed as long as the memory, uniquely or as atomics.
            unsafe { Place::new(addr, size) }.load()
        } else {
            // SAFETY: the bytes are in a region that is borrowed as `&[u8]`.
            unsafe { access::load_frozen(addr, size) }
        }
    }

    /// The bytes of the access that the region was found for.
    pub(crate) fn place(&self, addr: u64, size: Size) -> Result<Place, TrapKind> {
        debug_assert!(holds(&self.0, addr, size.bytes()));
        if !self.is_writable() {
            return Err(TrapKind::ReadOnly);
        }
        // SAFETY: as for `load`.
        Ok(unsafe { Place::new(addr, size) })
    }
}

/// Declares `memory` in `env`, for helpers that check what a program gives them.
pub(crate) fn declare(memory: &Memory<'_>, env: &mut ExecEnv) {
    env.regions = memory.regions.as_ptr();
    env.region_count = memory.regions.len() as u64;
}

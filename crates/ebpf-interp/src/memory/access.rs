//! How an address becomes an access.
//!
//! Memory that a program touches may be shared with other threads (values of maps), so every
//! access is atomic: whole where the address is aligned, byte by byte where it is not. Ordering is
//! relaxed, as the instruction set has it for plain loads and stores. Only bytes borrowed as
//! `&[u8]`, which nobody writes, are read plainly: an atomic access asks for a pointer that may
//! write.
//!
//! On x86-64, operations are one instruction of the machine instead, which is all that and does not
//! ask for alignment: it is written as assembly, because Rust has no such access.
//!
//! Nothing stops two programs from touching the same shared bytes at once with accesses of
//! different sizes. C++ and Rust do not say what happens then (unless the accesses are ordered by
//! other means); LLVM does, byte by byte, and so does the machine, for which each of these accesses
//! is one instruction. Compiled programs and kernels rely on the same.

#[cfg(all(target_arch = "x86_64", not(miri)))]
use core::arch::asm;
use core::ptr;
use core::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering};

use ebpf_isa::{AtomicOp, Size};

/// Bytes that a program may write: good for atomic reads and writes, and referenced by nobody
/// except as atomics.
#[derive(Clone, Copy)]
pub(crate) struct Place {
    pointer: *mut u8,
    size: Size,
}

impl Place {
    /// # Safety
    /// The bytes are such bytes until the place is used last.
    pub(crate) unsafe fn new(addr: u64, size: Size) -> Self {
        Self { pointer: ptr::with_exposed_provenance_mut(addr as usize), size }
    }

    /// Reads, zero-extended, each byte atomically, and all at once where they are aligned.
    pub(crate) fn load(self) -> u64 {
        // SAFETY: the bytes are as a place's are.
        unsafe { load(self.pointer, self.size) }
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
        let order = Ordering::SeqCst;
        match size {
            Size::Dw => {
                // SAFETY: aligned as asserted, good for atomic accesses as every place is.
                let cell = unsafe { AtomicU64::from_ptr(pointer.cast()) };
                match op {
                    AtomicOp::Add => cell.fetch_add(src, order),
                    AtomicOp::Or => cell.fetch_or(src, order),
                    AtomicOp::And => cell.fetch_and(src, order),
                    AtomicOp::Xor => cell.fetch_xor(src, order),
                    AtomicOp::Xchg => cell.swap(src, order),
                    AtomicOp::Cmpxchg => {
                        cell.compare_exchange(r0, src, order, order).unwrap_or_else(|old| old)
                    }
                }
            }
            Size::W => {
                // SAFETY: aligned as asserted, good for atomic accesses as every place is.
                let cell = unsafe { AtomicU32::from_ptr(pointer.cast()) };
                let (src, r0) = (src as u32, r0 as u32);
                u64::from(match op {
                    AtomicOp::Add => cell.fetch_add(src, order),
                    AtomicOp::Or => cell.fetch_or(src, order),
                    AtomicOp::And => cell.fetch_and(src, order),
                    AtomicOp::Xor => cell.fetch_xor(src, order),
                    AtomicOp::Xchg => cell.swap(src, order),
                    AtomicOp::Cmpxchg => {
                        cell.compare_exchange(r0, src, order, order).unwrap_or_else(|old| old)
                    }
                })
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

/// Reads `size` bytes at `addr` that nobody writes, zero-extended.
///
/// # Safety
/// The bytes are good for reads, and nobody writes them meanwhile.
pub(super) unsafe fn load_frozen(addr: u64, size: Size) -> u64 {
    let pointer = ptr::with_exposed_provenance::<u8>(addr as usize);
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

/// Whether [`machine_load`] and [`machine_store`] are single instructions of the machine.
pub(crate) const HAS_MACHINE_ACCESS: bool = cfg!(all(target_arch = "x86_64", not(miri)));

/// Reads `size` bytes at `addr`, zero-extended, as compiled programs do.
///
/// # Safety
/// The bytes are good for reads; without machine accesses, they are those of a [`Place`].
#[cfg(all(target_arch = "x86_64", not(miri)))]
#[inline(always)]
pub(crate) unsafe fn machine_load(addr: u64, size: Size) -> u64 {
    let value: u64;
    // SAFETY: one instruction that reads bytes which are good for it.
    unsafe {
        match size {
            Size::B => asm!(
                "movzx {value:e}, byte ptr [{addr}]",
                addr = in(reg) addr,
                value = lateout(reg) value,
                options(nostack, preserves_flags, readonly)
            ),
            Size::H => asm!(
                "movzx {value:e}, word ptr [{addr}]",
                addr = in(reg) addr,
                value = lateout(reg) value,
                options(nostack, preserves_flags, readonly)
            ),
            Size::W => asm!(
                "mov {value:e}, dword ptr [{addr}]",
                addr = in(reg) addr,
                value = lateout(reg) value,
                options(nostack, preserves_flags, readonly)
            ),
            Size::Dw => asm!(
                "mov {value}, qword ptr [{addr}]",
                addr = in(reg) addr,
                value = lateout(reg) value,
                options(nostack, preserves_flags, readonly)
            ),
        }
    }
    value
}

/// Writes the low `size` bytes of `value` at `addr`, as compiled programs do.
///
/// # Safety
/// The bytes are those of a [`Place`].
#[cfg(all(target_arch = "x86_64", not(miri)))]
#[inline(always)]
pub(crate) unsafe fn machine_store(addr: u64, size: Size, value: u64) {
    // SAFETY: one instruction that writes bytes which are good for it.
    unsafe {
        match size {
            Size::B => asm!(
                "mov byte ptr [{addr}], {value}",
                addr = in(reg) addr,
                value = in(reg_byte) value as u8,
                options(nostack, preserves_flags)
            ),
            Size::H => asm!(
                "mov word ptr [{addr}], {value:x}",
                addr = in(reg) addr,
                value = in(reg) value,
                options(nostack, preserves_flags)
            ),
            Size::W => asm!(
                "mov dword ptr [{addr}], {value:e}",
                addr = in(reg) addr,
                value = in(reg) value,
                options(nostack, preserves_flags)
            ),
            Size::Dw => asm!(
                "mov qword ptr [{addr}], {value}",
                addr = in(reg) addr,
                value = in(reg) value,
                options(nostack, preserves_flags)
            ),
        }
    }
}

/// Reads `size` bytes at `addr`, zero-extended.
///
/// # Safety
/// The bytes are those of a [`Place`].
#[cfg(not(all(target_arch = "x86_64", not(miri))))]
#[inline(always)]
pub(crate) unsafe fn machine_load(addr: u64, size: Size) -> u64 {
    // SAFETY: the caller's promise.
    unsafe { Place::new(addr, size) }.load()
}

/// Writes the low `size` bytes of `value` at `addr`.
///
/// # Safety
/// The bytes are those of a [`Place`].
#[cfg(not(all(target_arch = "x86_64", not(miri))))]
#[inline(always)]
pub(crate) unsafe fn machine_store(addr: u64, size: Size, value: u64) {
    // SAFETY: the caller's promise.
    unsafe { Place::new(addr, size) }.store(value);
}

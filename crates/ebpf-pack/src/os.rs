//! The system calls: mappings, the memory behind them, the mark that a forked child loses, the barrier over all cores.

use crate::PackError;
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{FallocateFlags, MemfdFlags, SealFlags};
use rustix::io::Errno;
use rustix::mm::{Advice, MapFlags, MprotectFlags, ProtFlags};
use rustix::thread::{MembarrierCommand, membarrier};
use std::ffi::c_void;
use std::ops::Range;
use std::ptr;
use std::sync::atomic::{AtomicU8, Ordering};

/// Size of a page, in bytes: fixed on x86-64.
pub(crate) const PAGE_BYTES: usize = 4096;

/// A mapping of this process, unmapped when dropped.
#[derive(Debug)]
pub(crate) struct Mapping {
    start: *mut c_void,
    len: usize,
}

// SAFETY: a mapping is an address range that belongs to the whole process; the type itself never accesses the memory.
unsafe impl Send for Mapping {}
// SAFETY: as above; every access through `as_ptr` is the accessor's to justify.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Address space without memory, at exactly `at` where given. `len` is a multiple of the page size.
    pub(crate) fn reserve(at: Option<u64>, len: usize) -> Result<Self, Errno> {
        let (hint, fixed) = match at {
            Some(at) => (ptr::without_provenance_mut(at as usize), MapFlags::FIXED_NOREPLACE),
            None => (ptr::null_mut(), MapFlags::empty()),
        };
        let flags = MapFlags::PRIVATE | MapFlags::NORESERVE | fixed;
        // SAFETY: FIXED_NOREPLACE (or no address at all) never replaces an existing mapping.
        let start = unsafe { rustix::mm::mmap_anonymous(hint, len, ProtFlags::empty(), flags) }?;
        let mapping = Self { start, len };
        // Kernels and emulators that do not know the flag take the address as a hint.
        if at.is_some_and(|at| at != mapping.addresses().start) {
            Err(Errno::EXIST)
        } else {
            Ok(mapping)
        }
    }

    /// Zeroed private memory.
    fn private(len: usize) -> Result<Self, Errno> {
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: without an address, a new mapping replaces nothing.
        let start = unsafe {
            rustix::mm::mmap_anonymous(ptr::null_mut(), len, protection, MapFlags::PRIVATE)
        }?;
        Ok(Self { start, len })
    }

    /// A writable view of the first `len` bytes of `memory` that a forked child does not inherit.
    pub(crate) fn write_view(memory: impl AsFd, len: usize) -> Result<Self, PackError> {
        // SAFETY: without an address, a new mapping replaces nothing.
        let start = unsafe {
            rustix::mm::mmap(ptr::null_mut(), len, ProtFlags::empty(), MapFlags::SHARED, memory, 0)
        };
        let view = Self { start: start.map_err(PackError::os("mmap of the write view"))?, len };
        view.advise(Advice::LinuxDontFork).map_err(PackError::os("madvise(MADV_DONTFORK)"))?;
        // Accessible only now, so that no fork in between gives a child a view it can write through.
        let protection = MprotectFlags::READ | MprotectFlags::WRITE;
        // SAFETY: the range is this mapping's own and nothing refers to its memory yet.
        let protected = unsafe { rustix::mm::mprotect(view.start, view.len, protection) };
        protected.map_err(PackError::os("mprotect of the write view"))?;
        Ok(view)
    }

    /// Replaces `range` of this mapping by an executable view of the same range of `memory`.
    pub(crate) fn map_executable(
        &self,
        memory: impl AsFd,
        range: &Range<usize>,
    ) -> Result<(), PackError> {
        assert!(
            range.start <= range.end && range.end <= self.len,
            "invariant: the view stays inside its reservation"
        );
        let (protection, flags) =
            (ProtFlags::READ | ProtFlags::EXEC, MapFlags::SHARED | MapFlags::FIXED);
        // SAFETY: the offset is inside the mapping, by the assertion.
        let start = unsafe { self.start.byte_add(range.start) };
        // SAFETY: only addresses of this mapping are replaced, by the assertion; no Rust reference points into them.
        let mapped = unsafe {
            rustix::mm::mmap(start, range.len(), protection, flags, memory, range.start as u64)
        };
        mapped.map(|_| ()).map_err(PackError::os("mmap of the executable view"))
    }

    /// First byte of the mapping.
    pub(crate) fn as_ptr(&self) -> *mut u8 {
        self.start.cast()
    }

    /// The addresses it occupies.
    pub(crate) fn addresses(&self) -> Range<u64> {
        let start = self.start.addr() as u64;
        start..start + self.len as u64
    }

    /// Length, in bytes.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    fn advise(&self, advice: Advice) -> Result<(), Errno> {
        // SAFETY: the range is this mapping's own, and the advices used here (about fork) leave its contents alone.
        unsafe { rustix::mm::madvise(self.start, self.len, advice) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the mapping owns the range; who shares its addresses also shares the owner of the mapping.
        // A failure can only leave the range mapped: address space is lost, nothing else.
        let _ = unsafe { rustix::mm::munmap(self.start, self.len) };
    }
}

/// An anonymous file of `len` bytes, nothing of which is backed by memory yet.
pub(crate) fn create_memory(len: usize) -> Result<OwnedFd, PackError> {
    let create = |extra| {
        rustix::fs::memfd_create(
            c"ebpf-pack",
            MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING | extra,
        )
    };
    // The seal keeps the file from being run by execve; it is about the file's mode, not about mappings. Linux 6.3 and later.
    let memory = match create(MemfdFlags::NOEXEC_SEAL) {
        Err(Errno::INVAL) => create(MemfdFlags::empty()),
        other => other,
    };
    let memory = memory.map_err(PackError::os("memfd_create"))?;
    rustix::fs::ftruncate(&memory, len as u64).map_err(PackError::os("ftruncate of the memfd"))?;
    Ok(memory)
}

/// From here on the file keeps its size, and only views that are writable already can write to it.
pub(crate) fn seal_memory(memory: impl AsFd) -> Result<(), PackError> {
    let seals = SealFlags::FUTURE_WRITE | SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL;
    rustix::fs::fcntl_add_seals(memory, seals).map_err(PackError::os("fcntl(F_ADD_SEALS)"))
}

/// Backs `range` of the file by memory now: running out is an error here, and not a `SIGBUS` at the first write.
pub(crate) fn back_memory(memory: impl AsFd, range: &Range<usize>) -> Result<(), PackError> {
    rustix::fs::fallocate(memory, FallocateFlags::empty(), range.start as u64, range.len() as u64)
        .map_err(PackError::os("fallocate of the memfd"))
}

/// Announces that this process will use [`sync_core`].
pub(crate) fn register_sync_core() -> Result<(), PackError> {
    membarrier(MembarrierCommand::RegisterPrivateExpeditedSyncCore)
        .map_err(PackError::os("membarrier registration (SYNC_CORE)"))
}

/// Returns when every core that runs a thread of this process has executed a serializing instruction, so that none holds
/// instructions fetched before the call.
pub(crate) fn sync_core() -> Result<(), PackError> {
    membarrier(MembarrierCommand::PrivateExpeditedSyncCore)
        .map_err(PackError::os("membarrier (SYNC_CORE)"))
}

/// Tells the process it was made in from that process's children: a page which the kernel empties in a forked child.
/// (Process ids are not enough: both sides of a fork may be number 1 of their namespaces.)
#[derive(Debug)]
pub(crate) struct Owner {
    mark: Mapping,
}

impl Owner {
    /// Marks the current process.
    pub(crate) fn new() -> Result<Self, PackError> {
        let mark = Mapping::private(PAGE_BYTES).map_err(PackError::os("mmap of the fork mark"))?;
        mark.advise(Advice::LinuxWipeOnFork).map_err(PackError::os("madvise(MADV_WIPEONFORK)"))?;
        let owner = Self { mark };
        owner.flag().store(1, Ordering::Relaxed);
        Ok(owner)
    }

    /// `Ok` in the process that made the mark, [`PackError::Forked`] in its children.
    pub(crate) fn check(&self) -> Result<(), PackError> {
        if self.flag().load(Ordering::Relaxed) == 1 { Ok(()) } else { Err(PackError::Forked) }
    }

    fn flag(&self) -> &AtomicU8 {
        // SAFETY: the page is readable and writable as long as `self` lives, and accessed through this function alone.
        unsafe { AtomicU8::from_ptr(self.mark.as_ptr()) }
    }
}

//! The anonymous file that is mapped twice.

use super::refusal::attempt;
use crate::PackError;
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{FallocateFlags, MemfdFlags, SealFlags};
use rustix::io::Errno;
use std::ops::Range;

/// An anonymous file of `len` bytes, nothing of which is backed by memory yet.
pub(crate) fn create_memory(len: usize) -> Result<OwnedFd, PackError> {
    let create = |extra| {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING | extra;
        attempt(|| rustix::fs::memfd_create(c"ebpf-pack", flags))
    };
    // The seal keeps the file from being run by execve; it is about the file's mode, not about mappings. Linux 6.3 and later.
    let memory = match create(MemfdFlags::NOEXEC_SEAL) {
        Err(Errno::INVAL) => create(MemfdFlags::empty()),
        other => other,
    };
    let memory = memory.map_err(PackError::os("memfd_create"))?;
    attempt(|| rustix::fs::ftruncate(&memory, len as u64))
        .map_err(PackError::os("ftruncate of the memfd"))?;
    Ok(memory)
}

/// From here on the file keeps its size, and only views that are writable already can write to it.
pub(crate) fn seal_memory(memory: impl AsFd) -> Result<(), PackError> {
    let seals = SealFlags::FUTURE_WRITE | SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL;
    attempt(|| rustix::fs::fcntl_add_seals(memory, seals))
        .map_err(PackError::os("fcntl(F_ADD_SEALS)"))
}

/// Backs `range` of the file by memory now: running out is an error here, and not a `SIGBUS` at the first write.
pub(crate) fn back_memory(memory: impl AsFd, range: &Range<usize>) -> Result<(), PackError> {
    let (start, len) = (range.start as u64, range.len() as u64);
    attempt(|| rustix::fs::fallocate(memory, FallocateFlags::empty(), start, len))
        .map_err(PackError::os("fallocate of the memfd"))
}

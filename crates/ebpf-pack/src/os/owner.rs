//! Who made the pack, and who is only a child of that process.

use super::PAGE_BYTES;
use super::refusal::attempt;
use super::view::Mapping;
use crate::PackError;
use rustix::mm::Advice;
use std::sync::atomic::{AtomicU8, Ordering};

/// Tells the process it was made in from that process's children: a page which the kernel empties in a forked child.
/// (Process ids are not enough: both sides of a fork may be number 1 of their namespaces.)
#[derive(Debug)]
pub(crate) struct Owner {
    mark: Mapping,
}

impl Owner {
    /// Marks the current process.
    pub(crate) fn new() -> Result<Self, PackError> {
        let mark = Mapping::zeroed(PAGE_BYTES).map_err(PackError::os("mmap of the fork mark"))?;
        attempt(|| mark.advise(Advice::LinuxWipeOnFork))
            .map_err(PackError::os("madvise(MADV_WIPEONFORK)"))?;
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

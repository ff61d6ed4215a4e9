//! Counters of the processor, where the system has them for us.

#![allow(unsafe_code, reason = "perf_event_open(2) is called")]

use rustix::fd::{FromRawFd as _, OwnedFd};

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Event {
    /// Misses of the instruction TLB.
    ItlbMisses,
    /// Branches that were not predicted.
    BranchMisses,
}

impl Event {
    /// Type and number of the event, as `linux/perf_event.h` has them.
    const fn numbers(self) -> (u64, u64) {
        match self {
            // PERF_TYPE_HW_CACHE: PERF_COUNT_HW_CACHE_ITLB, read, misses.
            Self::ItlbMisses => (3, 4 | 1 << 16),
            // PERF_TYPE_HARDWARE: PERF_COUNT_HW_BRANCH_MISSES.
            Self::BranchMisses => (0, 5),
        }
    }
}

/// A counter of one event in this thread, outside of the kernel.
#[derive(Debug)]
pub(crate) struct Counter(OwnedFd);

impl Counter {
    /// Starts counting.
    pub(crate) fn start(event: Event) -> std::io::Result<Self> {
        /// Length of the oldest `perf_event_attr`.
        const SIZE: u64 = 64;
        /// `exclude_kernel` and `exclude_hv`.
        const USER_ONLY: u64 = 1 << 5 | 1 << 6;
        let (kind, number) = event.numbers();
        let attributes: [u64; 8] = [kind | SIZE << 32, number, 0, 0, 0, USER_ONLY, 0, 0];
        // SAFETY: the attributes are valid for the call: as long as they say.
        let fd =
            unsafe { libc::syscall(libc::SYS_perf_event_open, attributes.as_ptr(), 0, -1, -1, 0) };
        let Ok(fd @ 0..) = i32::try_from(fd) else {
            return Err(std::io::Error::last_os_error());
        };
        // SAFETY: the descriptor is new, and nobody else's.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// Events since the start.
    pub(crate) fn count(&self) -> std::io::Result<u64> {
        let mut count = [0; 8];
        rustix::io::read(&self.0, &mut count)?;
        Ok(u64::from_ne_bytes(count))
    }
}

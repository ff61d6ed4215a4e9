//! How much memory something has allocated at most.

#![allow(unsafe_code, reason = "an allocator hands on what it is called with")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicBool, AtomicIsize, Ordering::Relaxed};

/// The system's allocator, which counts while `most_allocated` runs something.
#[derive(Debug, Clone, Copy, Default)]
pub struct Counting;

static IS_COUNTING: AtomicBool = AtomicBool::new(false);
/// Bytes allocated since counting began, less those that were freed.
static NOW: AtomicIsize = AtomicIsize::new(0);
static MOST: AtomicIsize = AtomicIsize::new(0);

/// The most bytes that `run` had allocated at a time; 0 where [`Counting`] is not the allocator. One
/// at a time: all threads count.
pub(crate) fn most_allocated<T>(run: impl FnOnce() -> T) -> (T, usize) {
    NOW.store(0, Relaxed);
    MOST.store(0, Relaxed);
    IS_COUNTING.store(true, Relaxed);
    let result = run();
    IS_COUNTING.store(false, Relaxed);
    (result, MOST.load(Relaxed).unsigned_abs())
}

/// From now on the system's allocator keeps what is freed. Otherwise it may give it back at the end
/// of each round, and have it again page by page in the next, depending on what lies behind it.
pub(crate) fn keep_freed() {
    /// The greatest that glibc takes.
    #[cfg(target_env = "gnu")]
    const LARGE: i32 = 32 << 20;
    // SAFETY: the parameters of the allocator are numbers, and any number is one.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, LARGE);
        libc::mallopt(libc::M_TRIM_THRESHOLD, i32::MAX);
    }
}

/// Gives back what the system's allocator keeps. What is allocated next is memory that the system has
/// just given.
pub(crate) fn give_back_freed() {
    // SAFETY: it takes any number of bytes to keep, and what is in use stays.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Counts so many bytes more, or fewer.
fn count(bytes: isize) {
    if IS_COUNTING.load(Relaxed) {
        let now = NOW.fetch_add(bytes, Relaxed) + bytes;
        MOST.fetch_max(now, Relaxed);
    }
}

// SAFETY: all calls go to the system's allocator as they come.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size().cast_signed());
        // SAFETY: what the caller promises is what the system's allocator asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size().cast_signed());
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, old: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size.cast_signed() - layout.size().cast_signed());
        // SAFETY: as above.
        unsafe { System.realloc(old, layout, size) }
    }

    unsafe fn dealloc(&self, old: *mut u8, layout: Layout) {
        count(-layout.size().cast_signed());
        // SAFETY: as above.
        unsafe { System.dealloc(old, layout) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[global_allocator]
    static ALLOCATOR: Counting = Counting;

    #[test]
    fn what_is_freed_does_not_count() {
        let ((), most) = most_allocated(|| {
            for _ in 0..10 {
                drop(std::hint::black_box(vec![0_u8; 1 << 20]));
            }
        });
        assert!((1 << 20..2 << 20).contains(&most), "{most}");
    }
}

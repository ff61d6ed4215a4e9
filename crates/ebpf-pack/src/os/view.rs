//! Address space, and what is mapped into it.

use super::refusal::attempt;
use super::{HUGE_PAGE_BYTES, PAGE_BYTES};
use rustix::fd::AsFd;
use rustix::io::Errno;
use rustix::mm::{Advice, MapFlags, MprotectFlags, MremapFlags, ProtFlags};
use std::ffi::c_void;
use std::ops::Range;
use std::ptr;

/// A range of this process's addresses, unmapped when dropped.
#[derive(Debug)]
pub(super) struct Mapping {
    start: *mut c_void,
    len: usize,
}

// SAFETY: a mapping is an address range that belongs to the whole process; the type itself never accesses the memory.
unsafe impl Send for Mapping {}
// SAFETY: as above; every access through `as_ptr` is the accessor's to justify.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Zeroed private memory.
    pub(super) fn zeroed(len: usize) -> Result<Self, Errno> {
        Self::anonymous(None, len, ProtFlags::READ | ProtFlags::WRITE, MapFlags::empty())
    }

    /// Address space without memory, at exactly `at` where given.
    fn inaccessible(at: Option<u64>, len: usize) -> Result<Self, Errno> {
        let mapping = Self::anonymous(at, len, ProtFlags::empty(), MapFlags::NORESERVE)?;
        // Kernels and emulators that do not know FIXED_NOREPLACE take the address as a hint.
        if at.is_some_and(|at| at != mapping.start.addr() as u64) {
            Err(Errno::EXIST)
        } else {
            Ok(mapping)
        }
    }

    fn anonymous(
        at: Option<u64>,
        len: usize,
        protection: ProtFlags,
        flags: MapFlags,
    ) -> Result<Self, Errno> {
        let (hint, fixed) = match at {
            Some(at) => (ptr::without_provenance_mut(at as usize), MapFlags::FIXED_NOREPLACE),
            None => (ptr::null_mut(), MapFlags::empty()),
        };
        let flags = MapFlags::PRIVATE | flags | fixed;
        // SAFETY: FIXED_NOREPLACE (or no address at all) never replaces an existing mapping.
        let start =
            attempt(|| unsafe { rustix::mm::mmap_anonymous(hint, len, protection, flags) })?;
        Ok(Self { start, len })
    }

    /// First byte.
    pub(super) fn as_ptr(&self) -> *mut u8 {
        self.start.cast()
    }

    pub(super) fn advise(&self, advice: Advice) -> Result<(), Errno> {
        // SAFETY: the range is this mapping's own, and the advice used here (about fork) leaves its contents alone.
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

/// Address space between two guard pages, into which memory is mapped. Positions are bytes from its start, the guards
/// are not counted.
#[derive(Debug)]
pub(crate) struct View {
    /// The view and the guard pages around it.
    reservation: Mapping,
}

impl View {
    /// Reserves `len` bytes, a multiple of the page size, starting at exactly `at` where given. Nothing is accessible.
    pub(crate) fn reserve(at: Option<u64>, len: usize) -> Result<Self, Errno> {
        let at = match at {
            Some(at) => Some(at.checked_sub(PAGE_BYTES as u64).ok_or(Errno::INVAL)?),
            None => None,
        };
        let reservation = Mapping::inaccessible(at, len + 2 * PAGE_BYTES)?;
        Ok(Self { reservation })
    }

    /// Reserves `len` bytes anywhere; at a multiple of a huge page where it is long enough to hold one.
    pub(crate) fn reserve_anywhere(len: usize) -> Result<Self, Errno> {
        if len < HUGE_PAGE_BYTES {
            return Self::reserve(None, len);
        }
        // Finds a hole that is long enough, leaves it, and takes the aligned part. Another thread may be faster: then
        // the view is unaligned, and has no huge pages.
        let hole = Self::reserve(None, len + HUGE_PAGE_BYTES)?.addresses();
        let aligned = hole.start.next_multiple_of(HUGE_PAGE_BYTES as u64);
        Self::reserve(Some(aligned), len).or_else(|_| Self::reserve(None, len))
    }

    /// Private memory from the crate `region`, readable and writable.
    pub(crate) fn private(len: usize) -> Result<Self, Errno> {
        let refused = |error: region::Error| match error {
            region::Error::SystemCall(errno) => Errno::from_raw_os_error(errno),
            _ => Errno::INVAL,
        };
        let total = len + 2 * PAGE_BYTES;
        let allocation =
            attempt(|| region::alloc(total, region::Protection::NONE).map_err(refused))?;
        let (start, total) = allocation.into_raw_parts::<c_void>();
        // From here on dropping the view frees the memory, by the same call that `region` would make.
        let view = Self { reservation: Mapping { start, len: total } };
        view.protect_region(region::Protection::READ_WRITE)?;
        Ok(view)
    }

    /// Changes the protection of the whole of a [private](Self::private) view.
    fn protect_region(&self, protection: region::Protection) -> Result<(), Errno> {
        // SAFETY: the range is this view's own, and no reference points into it.
        let protect = || unsafe { region::protect(self.as_ptr(), self.len(), protection) };
        attempt(|| {
            protect().map_err(|error| match error {
                region::Error::SystemCall(errno) => Errno::from_raw_os_error(errno),
                _ => Errno::INVAL,
            })
        })
    }

    /// Ends writing to a [private](Self::private) view, and makes it executable.
    pub(crate) fn publish_private(&self) -> Result<(), Errno> {
        self.protect_region(region::Protection::READ_EXECUTE)
    }

    /// Maps `range` of `memory` at `range` of this view.
    pub(crate) fn map_file(
        &self,
        memory: impl AsFd,
        range: &Range<usize>,
        protection: ProtFlags,
    ) -> Result<(), Errno> {
        let start = self.checked(range);
        let (len, flags) = (range.len(), MapFlags::SHARED | MapFlags::FIXED);
        // SAFETY: only addresses of this view are replaced, as `checked` checked; no Rust reference points into them.
        attempt(|| unsafe {
            rustix::mm::mmap(start, len, protection, flags, memory, range.start as u64)
        })?;
        Ok(())
    }

    /// Maps new shared memory, inaccessible at first, in the whole view.
    pub(crate) fn map_shared(&self) -> Result<(), Errno> {
        let (len, none, flags) =
            (self.len(), ProtFlags::empty(), MapFlags::SHARED | MapFlags::FIXED);
        let start = self.as_ptr().cast();
        // SAFETY: only addresses of this view are replaced; no Rust reference points into them.
        attempt(|| unsafe { rustix::mm::mmap_anonymous(start, len, none, flags) })?;
        Ok(())
    }

    /// Maps the shared memory of `original`, a view of the same length, a second time: into this one, with the same protection.
    pub(crate) fn map_alias(&self, original: &Self) -> Result<(), Errno> {
        assert_eq!(self.len(), original.len(), "invariant: an alias is as long as its original");
        let (from, to) = (original.as_ptr().cast(), self.as_ptr().cast());
        let (len, flags) = (self.len(), MremapFlags::MAYMOVE);
        // SAFETY: an old length of 0 leaves the original as it is; only addresses of this view are replaced, into which
        // no Rust reference points.
        attempt(|| unsafe { rustix::mm::mremap_fixed(from, 0, len, flags, to) })?;
        Ok(())
    }

    /// Changes the protection of `range`.
    pub(crate) fn protect(
        &self,
        range: &Range<usize>,
        protection: MprotectFlags,
    ) -> Result<(), Errno> {
        let start = self.checked(range);
        // SAFETY: the range is this view's own, as `checked` checked, and no Rust reference points into it.
        attempt(|| unsafe { rustix::mm::mprotect(start, range.len(), protection) })
    }

    /// Keeps forked children from inheriting the view.
    pub(crate) fn keep_from_children(&self) -> Result<(), Errno> {
        self.advise(&(0..self.len()), Advice::LinuxDontFork)
    }

    /// Backs `range`, which is writable, by memory now: running out is an error here, and not a `SIGBUS` at the first write.
    /// `EINVAL` before Linux 5.14.
    pub(crate) fn populate(&self, range: &Range<usize>) -> Result<(), Errno> {
        self.advise(range, Advice::LinuxPopulateWrite)
    }

    fn advise(&self, range: &Range<usize>, advice: Advice) -> Result<(), Errno> {
        let start = self.checked(range);
        // SAFETY: the range is this view's own, and the advices used here (about fork, and about backing it by memory) leave
        // its contents alone.
        attempt(|| unsafe { rustix::mm::madvise(start, range.len(), advice) })
    }

    /// Asks the kernel to put huge pages under the view, now.
    pub(crate) fn collapse(&self) -> Result<(), Errno> {
        let (start, len) = (self.as_ptr().cast(), self.len());
        // SAFETY: the range is this view's own, and the advice leaves its contents alone.
        let collapse = || match unsafe { libc::madvise(start, len, libc::MADV_COLLAPSE) } {
            0 => Ok(()),
            _ => {
                Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::INVAL))
            }
        };
        attempt(collapse)
    }

    /// Start of `range`, which lies inside the view.
    fn checked(&self, range: &Range<usize>) -> *mut c_void {
        assert!(
            range.start <= range.end && range.end <= self.len(),
            "invariant: {range:?} is inside of a view of {} bytes",
            self.len()
        );
        self.as_ptr().wrapping_add(range.start).cast()
    }

    /// First byte.
    pub(crate) fn as_ptr(&self) -> *mut u8 {
        self.reservation.as_ptr().wrapping_add(PAGE_BYTES)
    }

    /// The addresses it occupies.
    pub(crate) fn addresses(&self) -> Range<u64> {
        let start = self.as_ptr().expose_provenance() as u64;
        start..start + self.len() as u64
    }

    /// Length, in bytes.
    pub(crate) fn len(&self) -> usize {
        self.reservation.len - 2 * PAGE_BYTES
    }
}

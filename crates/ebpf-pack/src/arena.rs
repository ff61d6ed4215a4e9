//! One arena: a memfd, its write view, its executable view, and the only two functions that write to text.

use crate::PackError;
use crate::link::INT3;
use crate::os::{self, Mapping, Owner, PAGE_BYTES};
use rustix::fd::OwnedFd;
use std::mem::ManuallyDrop;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

/// An arena is backed by memory, and becomes executable, in steps of this many bytes.
pub const COMMIT_STEP_BYTES: usize = 4 * PAGE_BYTES;

/// Distance kept from the anchor in both directions, in bytes: room for the rest of the binary's text, and for its heap,
/// which grows upwards behind it.
const CLEARANCE: u64 = 256 << 20;

/// Farthest end of an arena from the anchor, in bytes: from there, a displacement of 2 GiB still reaches whatever text
/// lies within [`CLEARANCE`] of the anchor.
const REACH: u64 = (2 << 30) - CLEARANCE;

/// Near candidates are multiples of this many bytes: a huge page.
const ALIGNMENT: u64 = 2 << 20;

/// Executable memory, growing from its start. All positions are bytes from there.
#[derive(Debug)]
pub(crate) struct Arena {
    owner: Arc<Owner>,
    memory: OwnedFd,
    /// Present in the owning process only: a child has no such mapping, and may have another one at its addresses.
    write_view: ManuallyDrop<Mapping>,
    executable_view: Mapping,
    committed: Mutex<usize>,
}

impl Arena {
    /// Reserves `len` bytes (rounded up to whole steps), as near to the address `near` as possible, and commits the first
    /// step. So a system that refuses executable memory refuses here.
    pub(crate) fn new(owner: Arc<Owner>, len: usize, near: Option<u64>) -> Result<Self, PackError> {
        owner.check()?;
        let len = len.next_multiple_of(COMMIT_STEP_BYTES);
        let executable_view = reserve(len, near)?;
        let memory = os::create_memory(len)?;
        let write_view = ManuallyDrop::new(Mapping::write_view(&memory, len)?);
        // From here on dropping the arena drops the view.
        let arena = Self { owner, memory, write_view, executable_view, committed: Mutex::new(0) };
        os::seal_memory(&arena.memory)?;
        arena.commit(COMMIT_STEP_BYTES)?;
        Ok(arena)
    }

    /// Makes at least the first `end` bytes executable; what is new is filled with `int3` before.
    pub(crate) fn commit(&self, end: usize) -> Result<(), PackError> {
        self.owner.check()?;
        let mut committed = self.committed.lock().unwrap_or_else(PoisonError::into_inner);
        let end = end.next_multiple_of(COMMIT_STEP_BYTES);
        if end <= *committed {
            return Ok(());
        }
        let step = *committed..end;
        if end > self.len() {
            return Err(PackError::OutsideCommitted {
                offset: step.start,
                len: step.len(),
                committed: *committed,
            });
        }
        os::back_memory(&self.memory, &step)?;
        // SAFETY: the step is inside the arena, and the lock makes this thread the only one that can write to it: both
        // writers stop at `committed`.
        let new = unsafe { self.write_view.as_ptr().add(step.start) };
        // SAFETY: as above; the whole step is inside the write view.
        unsafe { new.write_bytes(INT3, step.len()) };
        self.executable_view.map_executable(&self.memory, &step)?;
        *committed = end;
        Ok(())
    }

    /// Writes code.
    ///
    /// # Safety
    /// The caller owns the range of `bytes.len()` bytes at `offset` alone, and nobody executes it until this returns.
    pub(crate) unsafe fn text_copy(&self, offset: usize, bytes: &[u8]) -> Result<(), PackError> {
        let destination = self.writable(offset, bytes.len())?;
        // SAFETY: `writable` checked the range; it is the caller's alone, so no access is concurrent and none overlaps.
        unsafe { destination.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
        Ok(())
    }

    /// Fills `range` with `int3`.
    ///
    /// # Safety
    /// The caller owns the range alone, and nobody executes it any more.
    pub(crate) unsafe fn text_invalidate(&self, range: Range<usize>) -> Result<(), PackError> {
        let destination = self.writable(range.start, range.len())?;
        // SAFETY: `writable` checked the range; it is the caller's alone, so no access is concurrent.
        unsafe { destination.write_bytes(INT3, range.len()) };
        Ok(())
    }

    /// The place in the write view for `len` bytes at `offset`, if all of it is committed and the view is ours.
    fn writable(&self, offset: usize, len: usize) -> Result<*mut u8, PackError> {
        self.owner.check()?;
        let committed = self.committed_bytes();
        if offset.checked_add(len).is_none_or(|end| end > committed) {
            return Err(PackError::OutsideCommitted { offset, len, committed });
        }
        // SAFETY: `offset` is inside the write view, by the test above.
        Ok(unsafe { self.write_view.as_ptr().add(offset) })
    }

    /// The addresses at which code of this arena runs.
    pub(crate) fn addresses(&self) -> Range<u64> {
        self.executable_view.addresses()
    }

    /// The address of the byte at `offset`, as a pointer into the executable view.
    pub(crate) fn executable_ptr(&self, offset: usize) -> *const u8 {
        self.executable_view.as_ptr().wrapping_add(offset)
    }

    /// Bytes reserved.
    pub(crate) fn len(&self) -> usize {
        self.executable_view.len()
    }

    /// Bytes backed by memory and executable.
    pub(crate) fn committed_bytes(&self) -> usize {
        *self.committed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        if self.owner.check().is_ok() {
            // SAFETY: nothing uses the view after this, and in the owning process it is mapped.
            unsafe { ManuallyDrop::drop(&mut self.write_view) };
        }
    }
}

/// Address space for the executable view: near `near` where there is room, else anywhere.
fn reserve(len: usize, near: Option<u64>) -> Result<Mapping, PackError> {
    near.into_iter()
        .flat_map(|anchor| near_candidates(anchor, len as u64))
        .find_map(|at| Mapping::reserve(Some(at), len).ok())
        .map_or_else(|| Mapping::reserve(None, len), Ok)
        .map_err(PackError::os("mmap of address space"))
}

/// Aligned addresses for `len` bytes near `anchor`, nearest first: those below (where a position-independent binary has
/// free space), then those above.
fn near_candidates(anchor: u64, len: u64) -> impl Iterator<Item = u64> {
    let distances = || (CLEARANCE..REACH).step_by(ALIGNMENT as usize);
    let fits = move |distance: &u64| distance + len + ALIGNMENT <= REACH;
    let below = distances()
        .take_while(fits)
        .map_while(move |distance| anchor.checked_sub(distance + len))
        .map(|at| at & !(ALIGNMENT - 1))
        .take_while(|&at| at > 0);
    let above = distances().take_while(fits).map_while(move |distance| {
        anchor.checked_add(distance)?.checked_next_multiple_of(ALIGNMENT)
    });
    below.chain(above)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arena(len: usize) -> Arena {
        let owner = Arc::new(Owner::new().expect("mark"));
        Arena::new(owner, len, None).expect("executable memory")
    }

    fn executable_bytes(arena: &Arena, range: Range<usize>) -> Vec<u8> {
        assert!(range.end <= arena.committed_bytes());
        // SAFETY: the range is committed, hence readable, and the test writes to the arena from one thread.
        unsafe { std::slice::from_raw_parts(arena.executable_ptr(range.start), range.len()) }
            .to_vec()
    }

    #[test]
    fn grows_in_steps_of_int3() {
        let arena = arena(COMMIT_STEP_BYTES * 3 - 1);
        assert_eq!(
            (arena.len(), arena.committed_bytes()),
            (COMMIT_STEP_BYTES * 3, COMMIT_STEP_BYTES)
        );
        arena.commit(COMMIT_STEP_BYTES + 1).expect("room");
        assert_eq!(arena.committed_bytes(), COMMIT_STEP_BYTES * 2);
        assert!(
            executable_bytes(&arena, 0..COMMIT_STEP_BYTES * 2).iter().all(|&byte| byte == 0xcc)
        );
        let beyond = arena.commit(COMMIT_STEP_BYTES * 3 + 1);
        assert!(matches!(beyond, Err(PackError::OutsideCommitted { .. })), "{beyond:?}");
        assert_eq!(arena.committed_bytes(), COMMIT_STEP_BYTES * 2);
    }

    #[test]
    fn what_one_view_writes_the_other_shows() {
        let arena = arena(COMMIT_STEP_BYTES);
        // SAFETY: the arena is this test's alone and nothing executes it.
        unsafe { arena.text_copy(64, &[1, 2, 3]) }.expect("committed");
        assert_eq!(executable_bytes(&arena, 63..68), [0xcc, 1, 2, 3, 0xcc]);
        // SAFETY: as above.
        unsafe { arena.text_invalidate(65..67) }.expect("committed");
        assert_eq!(executable_bytes(&arena, 63..68), [0xcc, 1, 0xcc, 0xcc, 0xcc]);
    }

    #[test]
    fn writers_stop_at_what_is_committed() {
        let arena = arena(COMMIT_STEP_BYTES * 2);
        let outside = |offset, len| {
            Err(PackError::OutsideCommitted { offset, len, committed: COMMIT_STEP_BYTES })
        };
        // SAFETY: the arena is this test's alone and nothing executes it.
        let copy = |offset, bytes: &[u8]| unsafe { arena.text_copy(offset, bytes) };
        assert_eq!(copy(COMMIT_STEP_BYTES - 2, &[1, 2]), Ok(()));
        assert_eq!(copy(COMMIT_STEP_BYTES - 1, &[1, 2]), outside(COMMIT_STEP_BYTES - 1, 2));
        assert_eq!(copy(usize::MAX, &[1, 2]), outside(usize::MAX, 2));
        // SAFETY: as above.
        let invalidate = unsafe { arena.text_invalidate(0..COMMIT_STEP_BYTES + 1) };
        assert_eq!(invalidate, outside(0, COMMIT_STEP_BYTES + 1));
    }

    #[test]
    fn the_kernel_refuses_any_other_way_to_write() {
        let arena = arena(COMMIT_STEP_BYTES);
        let (text, writable) =
            (arena.executable_view.as_ptr().cast(), rustix::mm::MprotectFlags::WRITE);
        // SAFETY: the call is refused; were it not, the test would fail before anything uses the page.
        let protect = unsafe { rustix::mm::mprotect(text, PAGE_BYTES, writable) };
        assert_eq!(protect, Err(rustix::io::Errno::ACCESS));
        assert!(Mapping::write_view(&arena.memory, PAGE_BYTES).is_err(), "a second write view");
        assert!(rustix::fs::ftruncate(&arena.memory, 0).is_err());
        assert!(rustix::io::write(&arena.memory, &[0x90]).is_err());
    }

    #[test]
    fn candidates_are_aligned_and_in_reach() {
        let (anchor, len) = (0x5555_5555_4321u64, 2 << 20);
        let all: Vec<u64> = near_candidates(anchor, len).collect();
        assert_eq!(all[0], 0x5555_4520_0000, "the first is 256 MiB below, rounded down");
        assert!(all.iter().any(|&at| at > anchor));
        for at in all {
            assert_eq!(at % ALIGNMENT, 0);
            assert!(
                at.abs_diff(anchor) >= CLEARANCE && (at + len).abs_diff(anchor) >= CLEARANCE,
                "{at:#x}"
            );
            assert!(
                at.abs_diff(anchor) <= REACH && (at + len).abs_diff(anchor) <= REACH,
                "{at:#x}"
            );
        }
        assert!(
            near_candidates(0x40_0000, len).all(|at| at > 0x40_0000),
            "there is nothing below a fixed binary"
        );
        assert_eq!(
            near_candidates(u64::MAX, len).next().map(|at| at < u64::MAX - CLEARANCE),
            Some(true)
        );
        assert_eq!(near_candidates(anchor, 2 << 30).next(), None, "too long to be in reach");
    }
}

//! One arena: address space that becomes executable step by step, and the only two functions that write to text.

use crate::PackError;
use crate::backing::{Backing, Text, Writer};
use crate::link::INT3;
use crate::os::{HUGE_PAGE_BYTES, Owner, PAGE_BYTES};
use crate::position::Position;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// An arena is backed by memory, and becomes executable, in steps: a page, then doubling, at most this many bytes more.
pub const MAX_STEP_BYTES: usize = 8 * PAGE_BYTES;

/// Length of the words that are written in one piece, in bytes.
const WORD_BYTES: usize = 8;

/// Executable memory, growing from its start. All positions are bytes from there.
///
/// Who writes has the arena for itself (`&mut`); who runs what is in it does not come by here.
#[derive(Debug)]
pub(crate) struct Arena {
    owner: Arc<Owner>,
    text: Text,
    /// `None` once nothing can be written any more. In a forked child the view is not there: it is the parent's alone.
    writer: Option<Writer>,
    committed: usize,
    huge: bool,
}

impl Arena {
    /// Reserves `len` bytes (rounded up to whole pages) and commits the first page. So a system that refuses executable
    /// memory refuses here.
    pub(crate) fn new(
        owner: Arc<Owner>,
        backing: Backing,
        position: Position,
        len: usize,
    ) -> Result<Self, PackError> {
        owner.check()?;
        let (text, writer) = Text::new(backing, position, len.next_multiple_of(PAGE_BYTES))?;
        let mut arena = Self { owner, text, writer: Some(writer), committed: 0, huge: false };
        arena.commit(PAGE_BYTES)?;
        Ok(arena)
    }

    /// Makes at least the first `end` bytes executable; what is new is filled with `int3` before.
    #[inline]
    pub(crate) fn commit(&mut self, end: usize) -> Result<(), PackError> {
        if end <= self.committed { Ok(()) } else { self.grow(end) }
    }

    #[cold]
    fn grow(&mut self, end: usize) -> Result<(), PackError> {
        self.owner.check()?;
        let committed = self.committed;
        if end > self.len() {
            let len = end - committed;
            return Err(PackError::OutsideCommitted { offset: committed, len, committed });
        }
        let least = committed.clamp(PAGE_BYTES, MAX_STEP_BYTES);
        let end = end.max(committed + least).next_multiple_of(PAGE_BYTES).min(self.len());
        let writer = self.writer.as_ref().ok_or(PackError::Sealed)?;
        self.text.commit(&(committed..end), writer)?;
        self.committed = end;
        Ok(())
    }

    /// Writes code. Each aligned word of 8 bytes is written in one piece.
    ///
    /// # Safety
    /// Nobody executes the range of `bytes.len()` bytes at `offset` until this returns; or it is a word that code only
    /// reads.
    #[inline]
    pub(crate) unsafe fn text_copy(
        &mut self,
        offset: usize,
        bytes: &[u8],
    ) -> Result<(), PackError> {
        let destination = self.writable(offset, bytes.len())?;
        let head = (offset.next_multiple_of(WORD_BYTES) - offset).min(bytes.len());
        let (head, rest) = bytes.split_at(head);
        let (words, tail) = rest.as_chunks::<WORD_BYTES>();
        let tail_at = head.len() + words.len() * WORD_BYTES;
        for (index, &byte) in head.iter().enumerate() {
            // SAFETY: `writable` checked the whole range, and `&mut self` makes this the only write to it.
            unsafe { destination.add(index).write(byte) };
        }
        for (index, &byte) in tail.iter().enumerate() {
            // SAFETY: as above.
            unsafe { destination.add(tail_at + index).write(byte) };
        }
        // SAFETY: inside the range, as above.
        let first = unsafe { destination.add(head.len()) };
        for (index, word) in words.iter().enumerate() {
            // SAFETY: as above.
            let at = unsafe { first.add(index * WORD_BYTES) }.cast();
            // SAFETY: inside the range and aligned, since views start at pages; what others read here, they read atomically.
            unsafe { AtomicU64::from_ptr(at) }.store(u64::from_ne_bytes(*word), Ordering::Release);
        }
        Ok(())
    }

    /// Fills `range` with `int3`.
    ///
    /// # Safety
    /// Nobody executes the range any more.
    pub(crate) unsafe fn text_invalidate(&mut self, range: Range<usize>) -> Result<(), PackError> {
        let destination = self.writable(range.start, range.len())?;
        // SAFETY: `writable` checked the range, and `&mut self` makes this the only write to it.
        unsafe { destination.write_bytes(INT3, range.len()) };
        Ok(())
    }

    /// Where to write `len` bytes at `offset`, if all of it is committed and the process is the pack's.
    fn writable(&self, offset: usize, len: usize) -> Result<*mut u8, PackError> {
        self.owner.check()?;
        let writer = self.writer.as_ref().ok_or(PackError::Sealed)?;
        let committed = self.committed;
        if offset.checked_add(len).is_none_or(|end| end > committed) {
            return Err(PackError::OutsideCommitted { offset, len, committed });
        }
        Ok(self.text.written_through(writer).as_ptr().wrapping_add(offset))
    }

    /// Gives up writing, for ever: a write view is unmapped; pages that were written in place become executable.
    pub(crate) fn seal(&mut self) -> Result<(), PackError> {
        self.owner.check()?;
        if let Some(Writer::InPlace) = self.writer {
            self.text.publish_in_place()?;
        }
        self.writer = None;
        Ok(())
    }

    /// Whether nothing can be written any more.
    pub(crate) fn is_sealed(&self) -> bool {
        self.writer.is_none()
    }

    /// Commits all of the arena and asks for huge pages under it.
    pub(crate) fn collapse(&mut self) -> Result<(), PackError> {
        self.commit(self.len())?;
        self.text.executable.collapse().map_err(PackError::os("madvise(MADV_COLLAPSE)"))?;
        self.huge = true;
        Ok(())
    }

    /// Whether the arena consists of whole huge pages.
    pub(crate) fn can_be_huge(&self) -> bool {
        let Range { start, end } = self.addresses();
        let huge = HUGE_PAGE_BYTES as u64;
        start.is_multiple_of(huge) && end.is_multiple_of(huge)
    }

    /// Whether it lies in huge pages.
    pub(crate) fn is_huge(&self) -> bool {
        self.huge
    }

    /// The addresses at which code of this arena runs.
    pub(crate) fn addresses(&self) -> Range<u64> {
        self.text.executable.addresses()
    }

    /// Bytes reserved.
    pub(crate) fn len(&self) -> usize {
        self.text.executable.len()
    }

    /// Bytes backed by memory and executable.
    pub(crate) fn committed_bytes(&self) -> usize {
        self.committed
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        // A child has no write view, and may have something else at its addresses.
        if self.owner.check().is_err() {
            std::mem::forget(self.writer.take());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arena_of(backing: Backing, len: usize) -> Arena {
        let owner = Arc::new(Owner::new().expect("mark"));
        Arena::new(owner, backing, Position::Anywhere, len).expect("executable memory")
    }

    fn arena(len: usize) -> Arena {
        arena_of(Backing::Memfd, len)
    }

    fn executable_bytes(arena: &Arena, range: Range<usize>) -> Vec<u8> {
        assert!(range.end <= arena.committed_bytes());
        let start = arena.text.executable.as_ptr().wrapping_add(range.start);
        // SAFETY: the range is committed, hence readable, and the test writes to the arena from one thread.
        unsafe { std::slice::from_raw_parts(start, range.len()) }.to_vec()
    }

    #[test]
    fn grows_in_steps_of_int3() {
        for backing in Backing::ALL {
            let mut arena = arena_of(backing, 10 * PAGE_BYTES - 1);
            assert_eq!((arena.len(), arena.committed_bytes()), (10 * PAGE_BYTES, PAGE_BYTES));
            for (end, committed) in [(1, 1), (2, 2), (3, 4), (5, 8), (9, 10), (10, 10)] {
                arena.commit(end * PAGE_BYTES).expect("room");
                assert_eq!(arena.committed_bytes(), committed * PAGE_BYTES, "{end} pages");
            }
            let bytes = executable_bytes(&arena, 0..10 * PAGE_BYTES);
            assert!(bytes.iter().all(|&byte| byte == 0xcc), "{backing}");
            let beyond = arena.commit(10 * PAGE_BYTES + 1);
            assert!(matches!(beyond, Err(PackError::OutsideCommitted { .. })), "{beyond:?}");
            assert_eq!(arena.committed_bytes(), 10 * PAGE_BYTES);
        }
    }

    #[test]
    fn steps_grow_with_the_arena_up_to_a_longest() {
        let mut arena = arena(400 * PAGE_BYTES);
        for (end, committed) in [(2, 2), (3, 4), (5, 8), (9, 16), (17, 24), (24, 24), (60, 60)] {
            arena.commit(end * PAGE_BYTES).expect("room");
            assert_eq!(arena.committed_bytes(), committed * PAGE_BYTES, "{end} pages");
        }
    }

    #[test]
    fn what_is_written_shows_where_it_runs() {
        for backing in Backing::ALL {
            let mut arena = arena_of(backing, PAGE_BYTES);
            // SAFETY: the arena is this test's alone and nothing executes it.
            unsafe { arena.text_copy(64, &[1, 2, 3]) }.expect("committed");
            assert_eq!(executable_bytes(&arena, 63..68), [0xcc, 1, 2, 3, 0xcc]);
            // SAFETY: as above.
            unsafe { arena.text_invalidate(65..67) }.expect("committed");
            assert_eq!(executable_bytes(&arena, 63..68), [0xcc, 1, 0xcc, 0xcc, 0xcc]);
        }
    }

    #[test]
    fn every_length_at_every_alignment_is_written_whole() {
        let mut arena = arena(PAGE_BYTES);
        let bytes: Vec<u8> = (1..=40).collect();
        for offset in 64..80 {
            for len in 0..=bytes.len() {
                // SAFETY: the arena is this test's alone and nothing executes it.
                unsafe { arena.text_copy(offset, &bytes[..len]) }.expect("committed");
                let written = executable_bytes(&arena, offset - 1..offset + len + 1);
                assert_eq!(written[1..=len], bytes[..len]);
                assert_eq!((written[0], written[len + 1]), (0xcc, 0xcc), "{offset} {len}");
                // SAFETY: as above.
                unsafe { arena.text_invalidate(offset..offset + len) }.expect("committed");
            }
        }
    }

    #[test]
    fn writers_stop_at_what_is_committed() {
        let mut arena = arena(PAGE_BYTES * 2);
        let outside =
            |offset, len| Err(PackError::OutsideCommitted { offset, len, committed: PAGE_BYTES });
        // SAFETY: the arena is this test's alone and nothing executes it.
        let mut copy = |offset, bytes: &[u8]| unsafe { arena.text_copy(offset, bytes) };
        assert_eq!(copy(PAGE_BYTES - 2, &[1, 2]), Ok(()));
        assert_eq!(copy(PAGE_BYTES - 1, &[1, 2]), outside(PAGE_BYTES - 1, 2));
        assert_eq!(copy(usize::MAX, &[1, 2]), outside(usize::MAX, 2));
        // SAFETY: as above.
        let invalidate = unsafe { arena.text_invalidate(0..PAGE_BYTES + 1) };
        assert_eq!(invalidate, outside(0, PAGE_BYTES + 1));
    }

    #[test]
    fn a_sealed_arena_is_written_no_more() {
        for backing in Backing::ALL {
            let mut arena = arena_of(backing, PAGE_BYTES * 2);
            // SAFETY: the arena is this test's alone and nothing executes it.
            unsafe { arena.text_copy(0, &[1, 2, 3]) }.expect("committed");
            arena.seal().expect("ours");
            arena.seal().expect("as it was");
            assert!(arena.is_sealed());
            // SAFETY: as above.
            assert_eq!(unsafe { arena.text_copy(0, &[4]) }, Err(PackError::Sealed));
            // SAFETY: as above.
            assert_eq!(unsafe { arena.text_invalidate(0..1) }, Err(PackError::Sealed));
            assert_eq!(arena.commit(PAGE_BYTES * 2), Err(PackError::Sealed));
            assert_eq!(executable_bytes(&arena, 0..4), [1, 2, 3, 0xcc]);
        }
    }

    #[test]
    fn the_kernel_refuses_any_other_way_to_write() {
        let arena = arena(PAGE_BYTES);
        let (view, writable) = (&arena.text.executable, rustix::mm::MprotectFlags::WRITE);
        assert_eq!(view.protect(&(0..PAGE_BYTES), writable), Err(rustix::io::Errno::ACCESS));
    }

    #[test]
    fn huge_pages_need_whole_ones() {
        assert!(!arena(PAGE_BYTES).can_be_huge());
        assert!(arena(HUGE_PAGE_BYTES).can_be_huge());
        assert!(!arena(HUGE_PAGE_BYTES + PAGE_BYTES).can_be_huge());
    }

    #[test]
    fn what_collapses_keeps_its_bytes() {
        let mut arena = arena(HUGE_PAGE_BYTES);
        // SAFETY: the arena is this test's alone and nothing executes it.
        unsafe { arena.text_copy(64, &[1, 2, 3]) }.expect("committed");
        // Whether the system has a huge page to give is not ours to say.
        let collapsed = arena.collapse();
        assert_eq!(arena.is_huge(), collapsed.is_ok(), "{collapsed:?}");
        assert_eq!(executable_bytes(&arena, 63..68), [0xcc, 1, 2, 3, 0xcc]);
        let end = executable_bytes(&arena, HUGE_PAGE_BYTES - 64..HUGE_PAGE_BYTES);
        assert_eq!(end, [0xcc; 64]);
        // SAFETY: as above.
        unsafe { arena.text_copy(HUGE_PAGE_BYTES - 3, &[1, 2, 3]) }.expect("committed");
        let end = executable_bytes(&arena, HUGE_PAGE_BYTES - 4..HUGE_PAGE_BYTES);
        assert_eq!(end, [0xcc, 1, 2, 3]);
    }
}

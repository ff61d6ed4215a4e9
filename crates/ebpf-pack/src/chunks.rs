//! Which chunks of an arena are free: a pure allocator over numbers.
//!
//! Free space is a map of maximal runs: no two touch, since freeing merges with both neighbours. First fit at the lowest
//! position keeps an arena dense at its start, so that it grows late.

use std::collections::BTreeMap;
use std::ops::Range;

/// Granularity of placement, in bytes: one cache line, so that writing one program never touches a line that another is
/// executed from.
pub const CHUNK_BYTES: usize = 64;

/// A run of chunks, by number from the start of the arena.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    /// First chunk.
    pub(crate) start: u32,
    /// Number of chunks, at least one.
    pub(crate) count: u32,
}

impl Run {
    /// The run's bytes, from the start of the arena.
    pub(crate) fn bytes(self) -> Range<usize> {
        let start = self.start as usize * CHUNK_BYTES;
        start..start + self.count as usize * CHUNK_BYTES
    }
}

/// The allocator of one arena.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Chunks {
    /// Maximal free runs: start to count.
    free: BTreeMap<u32, u32>,
    total: u32,
    used: u32,
}

impl Chunks {
    /// An arena of `bytes`, all free. At most 2³² − 1 chunks; a part of a chunk at the end is left out.
    pub(crate) fn new(bytes: usize) -> Self {
        let total =
            u32::try_from(bytes / CHUNK_BYTES).expect("invariant: arenas are shorter than 256 GiB");
        let free = if total == 0 { BTreeMap::new() } else { BTreeMap::from([(0, total)]) };
        Self { free, total, used: 0 }
    }

    /// Takes the lowest run that holds `bytes`; at least one chunk. `None` if there is none.
    pub(crate) fn alloc(&mut self, bytes: usize) -> Option<Run> {
        let count = u32::try_from(bytes.div_ceil(CHUNK_BYTES).max(1)).ok()?;
        let (&start, &room) = self.free.iter().find(|&(_, &room)| room >= count)?;
        self.free.remove(&start);
        if room > count {
            self.free.insert(start + count, room - count);
        }
        self.used += count;
        Some(Run { start, count })
    }

    /// Gives back a run that [`Chunks::alloc`] handed out, and merges it with its free neighbours.
    pub(crate) fn free(&mut self, run: Run) {
        let end = run.start + run.count;
        assert!(run.count > 0 && end <= self.total, "invariant: {run:?} was allocated here");
        let before =
            self.free.range(..run.start).next_back().map(|(&start, &count)| (start, count));
        let after = self.free.range(run.start..).next().map(|(&start, &count)| (start, count));
        assert!(
            before.is_none_or(|(start, count)| start + count <= run.start)
                && after.is_none_or(|(start, _)| end <= start),
            "invariant: {run:?} is freed once"
        );
        let (mut start, mut count) = (run.start, run.count);
        if let Some((before_start, before_count)) = before
            && before_start + before_count == start
        {
            start = before_start;
            count += before_count;
        }
        if let Some((after_start, after_count)) = after
            && after_start == end
        {
            self.free.remove(&after_start);
            count += after_count;
        }
        self.free.insert(start, count);
        self.used -= run.count;
    }

    /// Bytes in allocated chunks.
    pub(crate) fn used_bytes(&self) -> usize {
        self.used as usize * CHUNK_BYTES
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn sizes_are_rounded_up_to_chunks() {
        let mut chunks = Chunks::new(10 * CHUNK_BYTES);
        assert_eq!(chunks.alloc(1), Some(Run { start: 0, count: 1 }));
        assert_eq!(chunks.alloc(64), Some(Run { start: 1, count: 1 }));
        assert_eq!(chunks.alloc(65), Some(Run { start: 2, count: 2 }));
        assert_eq!(chunks.alloc(0), Some(Run { start: 4, count: 1 }));
        assert_eq!(chunks.used_bytes(), 320);
        assert_eq!(Run { start: 2, count: 2 }.bytes(), 128..256);
    }

    #[test]
    fn the_lowest_run_that_fits_is_taken() {
        let mut chunks = Chunks::new(8 * CHUNK_BYTES);
        let runs: Vec<Run> = (0..8).map_while(|_| chunks.alloc(64)).collect();
        assert_eq!(runs.len(), 8);
        assert_eq!(chunks.alloc(1), None, "full");
        for index in [1, 4, 5, 7] {
            chunks.free(runs[index]);
        }
        assert_eq!(chunks.alloc(128), Some(Run { start: 4, count: 2 }));
        assert_eq!(chunks.alloc(128), None, "two single holes are left, and they do not touch");
        assert_eq!(chunks.alloc(64), Some(Run { start: 1, count: 1 }));
        assert_eq!(chunks.alloc(64), Some(Run { start: 7, count: 1 }));
    }

    #[test]
    fn freeing_merges_on_both_sides() {
        let mut chunks = Chunks::new(3 * CHUNK_BYTES);
        let runs: Vec<Run> = (0..3).map_while(|_| chunks.alloc(64)).collect();
        chunks.free(runs[0]);
        chunks.free(runs[2]);
        assert_eq!(chunks.free, BTreeMap::from([(0, 1), (2, 1)]));
        chunks.free(runs[1]);
        assert_eq!(chunks, Chunks::new(3 * CHUNK_BYTES));
    }

    #[test]
    fn what_cannot_fit_is_refused() {
        assert_eq!(Chunks::new(63).alloc(1), None);
        assert_eq!(Chunks::new(128).alloc(129), None);
        assert_eq!(Chunks::new(128).alloc(usize::MAX), None);
    }

    #[test]
    #[should_panic(expected = "is freed once")]
    fn freeing_twice_is_caught() {
        let mut chunks = Chunks::new(128);
        let run = chunks.alloc(64).expect("room");
        chunks.free(run);
        chunks.free(run);
    }

    /// The model: one flag for each chunk, searched naively.
    fn model_alloc(taken: &mut [bool], count: usize) -> Option<usize> {
        let start = (0..taken.len()).find(|&start| {
            taken.get(start..start + count).is_some_and(|window| window.iter().all(|&taken| !taken))
        })?;
        taken[start..start + count].fill(true);
        Some(start)
    }

    /// Allocate (or free), how many chunks, which of the live runs.
    fn steps() -> impl Strategy<Value = Vec<(bool, usize, prop::sample::Index)>> {
        prop::collection::vec((any::<bool>(), 1usize..9, any::<prop::sample::Index>()), 1..200)
    }

    proptest! {
        #[test]
        fn agrees_with_a_flag_per_chunk(steps in steps()) {
            const TOTAL: usize = 40;
            let mut chunks = Chunks::new(TOTAL * CHUNK_BYTES);
            let mut taken = [false; TOTAL];
            let mut live: Vec<Run> = Vec::new();
            for (allocate, count, pick) in steps {
                if allocate || live.is_empty() {
                    let got = chunks.alloc(count * CHUNK_BYTES);
                    let expected = model_alloc(&mut taken, count);
                    prop_assert_eq!(got.map(|run| run.start as usize), expected);
                    live.extend(got);
                } else {
                    let run = live.swap_remove(pick.index(live.len()));
                    taken[run.start as usize..][..run.count as usize].fill(false);
                    chunks.free(run);
                }
                let used = taken.iter().filter(|&&taken| taken).count();
                prop_assert_eq!(chunks.used_bytes(), used * CHUNK_BYTES);
            }
        }
    }
}

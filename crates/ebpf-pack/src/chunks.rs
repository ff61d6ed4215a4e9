//! Which chunks of an arena are free: a pure allocator over numbers.
//!
//! One bit a chunk says whether it is taken, so neighbouring free runs are merged by being neighbours. First fit at the
//! lowest position keeps an arena dense at its start, so that it grows late.
//!
//! Two kinds of bounds make first fit fast. A *hint* for each short length: below it, no free run of that length starts. A
//! *ceiling* for each block of chunks: no free run that starts in the block is longer. Searches make them tighter,
//! freeing makes them looser, and both are always true.

use std::ops::Range;

/// Granularity of placement, in bytes: the alignment that entries and stubs need. Programs may share a cache line; see
/// `docs/decisions/0012-chunks-of-sixteen-bytes.md` for what that was measured to cost.
pub const CHUNK_BYTES: usize = 16;

/// Chunks in a word of the bitmap.
const WORD_BITS: u32 = u64::BITS;

/// Lengths that have a hint of their own, in chunks; longer runs share the last hint. A word's bits, so that the
/// neighbourhood of a freed run is looked at a word at a time.
const HINTS: usize = WORD_BITS as usize;

/// Longest arena, in bytes: chunks are counted in 32 bits, with room for adding two such numbers.
const MAX_BYTES: usize = CHUNK_BYTES << 31;

/// Chunks in a block, which has a ceiling.
const BLOCK: u32 = 16 * WORD_BITS;

/// The ceiling of a block of which nothing is known.
const UNKNOWN: u16 = u16::MAX;

/// A run of chunks, by number from the start of the arena.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    /// First chunk.
    pub(crate) start: u32,
    /// Number of chunks, at least one.
    pub(crate) count: u32,
}

impl Run {
    /// The run that holds `len` bytes from `start` on, where an allocated run starts.
    pub(crate) fn of_bytes(start: usize, len: usize) -> Self {
        Self { start: (start / CHUNK_BYTES) as u32, count: len.div_ceil(CHUNK_BYTES).max(1) as u32 }
    }

    /// The run's bytes, from the start of the arena.
    pub(crate) fn bytes(self) -> Range<usize> {
        let start = self.start as usize * CHUNK_BYTES;
        start..start + self.count as usize * CHUNK_BYTES
    }

    /// The chunk behind the run.
    fn end(self) -> u32 {
        self.start + self.count
    }
}

/// The allocator of one arena.
#[derive(Debug)]
pub(crate) struct Chunks {
    /// A bit for each chunk, set where it is taken. Bits behind the last chunk are set.
    taken: Box<[u64]>,
    /// At `n - 1`: no free run of `n` chunks or more starts below. What holds for `n` holds for all longer runs.
    hints: Box<[u32; HINTS]>,
    /// A bit for each hint, set where it says something: where it is not 0.
    hinted: u64,
    /// For each block, the length of the longest free run that starts there, at most.
    ceilings: Box<[u16]>,
    total: u32,
    used: u32,
}

impl Chunks {
    /// An arena of `bytes`, all free; a part of a chunk at the end is left out.
    pub(crate) fn new(bytes: usize) -> Self {
        assert!(bytes <= MAX_BYTES, "invariant: arenas are short");
        let total = (bytes / CHUNK_BYTES) as u32;
        let mut taken = vec![0; total.div_ceil(WORD_BITS) as usize].into_boxed_slice();
        let last = total % WORD_BITS;
        if last > 0 {
            taken[(total / WORD_BITS) as usize] = !0 << last;
        }
        let ceilings = vec![UNKNOWN; total.div_ceil(BLOCK) as usize].into_boxed_slice();
        Self { taken, hints: Box::new([0; HINTS]), hinted: 0, ceilings, total, used: 0 }
    }

    /// Takes the lowest run that holds `bytes`, at least one chunk, if it ends within the first `limit` bytes.
    #[inline]
    pub(crate) fn alloc(&mut self, bytes: usize, limit: usize) -> Option<Run> {
        if bytes > MAX_BYTES {
            return None;
        }
        let count = Run::of_bytes(0, bytes).count;
        let limit = u32::try_from(limit / CHUNK_BYTES).map_or(self.total, |it| it.min(self.total));
        let start = self.lowest_fit(self.hint(count), count);
        let fits = start.checked_add(count).is_some_and(|end| end <= limit);
        if count <= WORD_BITS {
            self.hints[count as usize - 1] = if fits { start + count } else { start };
            self.hinted |= 1 << (count - 1);
        }
        if !fits {
            return None;
        }
        let run = Run { start, count };
        self.set(run, true);
        self.used += count;
        // What is left of the free run may start in another block now.
        let (before, after) = ((start / BLOCK) as usize, (run.end() / BLOCK) as usize);
        if after > before && after < self.ceilings.len() {
            self.ceilings[after] = UNKNOWN;
        }
        Some(run)
    }

    /// No free run of `count` chunks starts below.
    fn hint(&self, count: u32) -> u32 {
        let shorter = self.hinted & !0 >> (WORD_BITS - count.min(WORD_BITS));
        bits(shorter).map(|index| self.hints[index]).max().unwrap_or(0)
    }

    /// Start of the first run of `count` free chunks from `from` on, below which none starts; the number of chunks if
    /// there is none.
    fn lowest_fit(&mut self, from: u32, count: u32) -> u32 {
        // Where nothing was freed, a hint points at room.
        if self.word_starting_at(from).trailing_zeros() >= count {
            return from;
        }
        let mut at = from;
        while at < self.total {
            let block = (at / BLOCK) as usize;
            let end = self.total.min((at / BLOCK + 1) * BLOCK);
            let ceiling = self.ceilings[block];
            if ceiling == UNKNOWN || u32::from(ceiling) >= count {
                // Of the block's part below `from` it is known that its runs are shorter.
                let mut longest = if at.is_multiple_of(BLOCK) { 0 } else { count - 1 };
                let mut start = self.next(false, at, end);
                while start < end {
                    let stop = self.next(true, start, self.total.min(start.saturating_add(count)));
                    if stop - start == count {
                        return start;
                    }
                    longest = longest.max(stop - start);
                    start = self.next(false, stop, end);
                }
                self.ceilings[block] = u16::try_from(longest).unwrap_or(UNKNOWN).min(ceiling);
            }
            at = end;
        }
        self.total
    }

    /// Gives back a run that [`Chunks::alloc`] handed out.
    pub(crate) fn free(&mut self, run: Run) {
        assert!(run.count > 0 && run.end() <= self.total, "invariant: {run:?} was allocated here");
        assert_eq!(
            self.next(false, run.start, run.end()),
            run.end(),
            "invariant: {run:?} is freed once"
        );
        self.set(run, false);
        self.used -= run.count;
        let above = self.word_starting_at(run.end()).trailing_zeros();
        let below = self.free_below(run.start);
        let start = run.start - below;
        let len = below + run.count + above;
        for index in bits(self.hinted & !0 >> (WORD_BITS - len.min(WORD_BITS))) {
            self.hints[index] = start.min(self.hints[index]);
        }
        let block = (start / BLOCK) as usize;
        if below > BLOCK {
            // The run may start in any of the blocks below.
            self.ceilings[..=block].fill(UNKNOWN);
        } else {
            let known = above < WORD_BITS;
            let len = u16::try_from(len).ok().filter(|_| known).unwrap_or(UNKNOWN);
            self.ceilings[block] = self.ceilings[block].max(len);
        }
    }

    /// How many chunks below `end` are free in one piece; where that is more than a block, some number above that. (Hints know
    /// of such a long run already.)
    fn free_below(&self, end: u32) -> u32 {
        let mut free = 0;
        loop {
            let more = self.word_ending_at(end - free).leading_zeros();
            free += more;
            if more < WORD_BITS || free > BLOCK {
                return free;
            }
        }
    }

    /// The first chunk from `from` on that is `taken` or not, at most `limit`.
    fn next(&self, taken: bool, from: u32, limit: u32) -> u32 {
        let flip = if taken { 0 } else { !0 };
        let mut at = from;
        while at < limit {
            let bits = (self.taken[(at / WORD_BITS) as usize] ^ flip) >> (at % WORD_BITS);
            if bits != 0 {
                return limit.min(at + bits.trailing_zeros());
            }
            at = (at / WORD_BITS + 1) * WORD_BITS;
        }
        limit
    }

    /// The bits of the 64 chunks below `end`, the nearest one highest. Below the first, everything is taken.
    fn word_ending_at(&self, end: u32) -> u64 {
        let (word, bit) = ((end / WORD_BITS) as usize, end % WORD_BITS);
        let below = word.checked_sub(1).map_or(!0, |below| self.taken[below]);
        match bit {
            0 => below,
            _ => self.taken[word] << (WORD_BITS - bit) | below >> bit,
        }
    }

    /// The bits of the 64 chunks from `start` on, the nearest one lowest. Behind the last, everything is taken.
    fn word_starting_at(&self, start: u32) -> u64 {
        let (word, bit) = ((start / WORD_BITS) as usize, start % WORD_BITS);
        let at = |word: usize| self.taken.get(word).copied().unwrap_or(!0);
        match bit {
            0 => at(word),
            _ => at(word) >> bit | at(word + 1) << (WORD_BITS - bit),
        }
    }

    fn set(&mut self, run: Run, taken: bool) {
        let mut at = run.start;
        while at < run.end() {
            let bits = (WORD_BITS - at % WORD_BITS).min(run.end() - at);
            let mask = (!0 >> (WORD_BITS - bits)) << (at % WORD_BITS);
            let word = &mut self.taken[(at / WORD_BITS) as usize];
            *word = if taken { *word | mask } else { *word & !mask };
            at += bits;
        }
    }

    /// Bytes in allocated chunks.
    pub(crate) fn used_bytes(&self) -> usize {
        self.used as usize * CHUNK_BYTES
    }

    /// Bytes of the longest free run within the first `limit` bytes.
    pub(crate) fn longest_free_bytes(&self, limit: usize) -> usize {
        let limit = u32::try_from(limit / CHUNK_BYTES).map_or(self.total, |it| it.min(self.total));
        let (mut longest, mut at) = (0, 0);
        while at < limit {
            let start = self.next(false, at, limit);
            at = self.next(true, start, limit);
            longest = longest.max(at - start);
        }
        longest as usize * CHUNK_BYTES
    }

    /// Bytes that the account itself takes.
    pub(crate) fn metadata_bytes(&self) -> usize {
        size_of_val(&*self.taken) + size_of_val(&*self.hints) + size_of_val(&*self.ceilings)
    }
}

/// The positions of the bits that are set.
fn bits(mut word: u64) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let lowest = (word != 0).then(|| word.trailing_zeros() as usize);
        word &= word.wrapping_sub(1);
        lowest
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ANYWHERE: usize = usize::MAX;

    #[test]
    fn sizes_are_rounded_up_to_chunks() {
        let mut chunks = Chunks::new(10 * CHUNK_BYTES);
        assert_eq!(chunks.alloc(1, ANYWHERE), Some(Run { start: 0, count: 1 }));
        assert_eq!(chunks.alloc(16, ANYWHERE), Some(Run { start: 1, count: 1 }));
        assert_eq!(chunks.alloc(17, ANYWHERE), Some(Run { start: 2, count: 2 }));
        assert_eq!(chunks.alloc(0, ANYWHERE), Some(Run { start: 4, count: 1 }));
        assert_eq!(chunks.used_bytes(), 80);
        assert_eq!(Run { start: 2, count: 2 }.bytes(), 32..64);
    }

    #[test]
    fn the_lowest_run_that_fits_is_taken() {
        let mut chunks = Chunks::new(8 * CHUNK_BYTES);
        let runs: Vec<Run> = (0..8).map_while(|_| chunks.alloc(16, ANYWHERE)).collect();
        assert_eq!(runs.len(), 8);
        assert_eq!(chunks.alloc(1, ANYWHERE), None, "full");
        for index in [1, 4, 5, 7] {
            chunks.free(runs[index]);
        }
        assert_eq!(chunks.longest_free_bytes(ANYWHERE), 32);
        assert_eq!(chunks.alloc(32, ANYWHERE), Some(Run { start: 4, count: 2 }));
        assert_eq!(
            chunks.alloc(32, ANYWHERE),
            None,
            "two single holes are left, and they do not touch"
        );
        assert_eq!(chunks.alloc(16, ANYWHERE), Some(Run { start: 1, count: 1 }));
        assert_eq!(chunks.alloc(16, ANYWHERE), Some(Run { start: 7, count: 1 }));
        assert_eq!(chunks.longest_free_bytes(ANYWHERE), 0);
    }

    #[test]
    fn freeing_merges_on_both_sides() {
        let mut chunks = Chunks::new(3 * CHUNK_BYTES);
        let runs: Vec<Run> = (0..3).map_while(|_| chunks.alloc(16, ANYWHERE)).collect();
        chunks.free(runs[0]);
        chunks.free(runs[2]);
        assert_eq!(chunks.longest_free_bytes(ANYWHERE), 16);
        chunks.free(runs[1]);
        assert_eq!(chunks.taken, Chunks::new(3 * CHUNK_BYTES).taken);
        assert_eq!(chunks.alloc(48, ANYWHERE), Some(Run { start: 0, count: 3 }));
    }

    #[test]
    fn a_limit_keeps_what_is_behind_it_free() {
        let mut chunks = Chunks::new(8 * CHUNK_BYTES);
        assert_eq!(chunks.alloc(64, 63), None);
        assert_eq!(chunks.longest_free_bytes(63), 48);
        assert_eq!(chunks.alloc(64, 64), Some(Run { start: 0, count: 4 }));
        assert_eq!(chunks.alloc(1, 64), None);
        assert_eq!(chunks.alloc(1, 80), Some(Run { start: 4, count: 1 }));
    }

    #[test]
    fn what_cannot_fit_is_refused() {
        assert_eq!(Chunks::new(15).alloc(1, ANYWHERE), None);
        assert_eq!(Chunks::new(32).alloc(33, ANYWHERE), None);
        assert_eq!(Chunks::new(32).alloc(usize::MAX, ANYWHERE), None);
        assert_eq!(Chunks::new(32).alloc(u32::MAX as usize * CHUNK_BYTES, ANYWHERE), None);
    }

    #[test]
    fn runs_longer_than_a_word_are_found() {
        let mut chunks = Chunks::new(1000 * CHUNK_BYTES);
        let first = chunks.alloc(300 * CHUNK_BYTES, ANYWHERE).expect("room");
        let second = chunks.alloc(300 * CHUNK_BYTES, ANYWHERE).expect("room");
        assert_eq!((first.start, second.start), (0, 300));
        chunks.free(first);
        assert_eq!(chunks.alloc(301 * CHUNK_BYTES, ANYWHERE).map(|run| run.start), Some(600));
        assert_eq!(chunks.alloc(65 * CHUNK_BYTES, ANYWHERE).map(|run| run.start), Some(0));
        assert_eq!(chunks.alloc(64 * CHUNK_BYTES, ANYWHERE).map(|run| run.start), Some(65));
        assert_eq!(chunks.alloc(171 * CHUNK_BYTES, ANYWHERE).map(|run| run.start), Some(129));
    }

    #[test]
    #[should_panic(expected = "is freed once")]
    fn freeing_twice_is_caught() {
        let mut chunks = Chunks::new(128);
        let run = chunks.alloc(64, ANYWHERE).expect("room");
        chunks.free(run);
        chunks.free(run);
    }

    /// The model: one flag for each chunk, searched naively.
    fn model_alloc(taken: &mut [bool], count: usize, limit: usize) -> Option<usize> {
        let start = (0..taken.len()).find(|&start| {
            taken.get(start..start + count).is_some_and(|window| window.iter().all(|&taken| !taken))
        })?;
        if start + count > limit {
            return None;
        }
        taken[start..start + count].fill(true);
        Some(start)
    }

    /// Allocate (or free), how many chunks, up to which chunk, which of the live runs.
    fn steps() -> impl Strategy<Value = Vec<(bool, usize, usize, prop::sample::Index)>> {
        let count = prop_oneof![4 => 1usize..9, 2 => 60usize..130, 1 => 900usize..1800];
        let limit = prop_oneof![Just(TOTAL), 0..=TOTAL];
        prop::collection::vec((any::<bool>(), count, limit, any::<prop::sample::Index>()), 1..300)
    }

    /// Several blocks and a part of one.
    const TOTAL: usize = 4000;

    proptest! {
        #[test]
        fn agrees_with_a_flag_per_chunk(steps in steps()) {
            let mut chunks = Chunks::new(TOTAL * CHUNK_BYTES);
            let mut taken = [false; TOTAL];
            let mut live: Vec<Run> = Vec::new();
            for (allocate, count, limit, pick) in steps {
                if allocate || live.is_empty() {
                    let got = chunks.alloc(count * CHUNK_BYTES, limit * CHUNK_BYTES);
                    let expected = model_alloc(&mut taken, count, limit);
                    prop_assert_eq!(got.map(|run| run.start as usize), expected);
                    live.extend(got);
                } else {
                    let run = live.swap_remove(pick.index(live.len()));
                    taken[run.start as usize..][..run.count as usize].fill(false);
                    chunks.free(run);
                }
                let used = taken.iter().filter(|&&taken| taken).count();
                prop_assert_eq!(chunks.used_bytes(), used * CHUNK_BYTES);
                let longest = taken.split(|&taken| taken).map(<[bool]>::len).max().unwrap_or(0);
                prop_assert_eq!(chunks.longest_free_bytes(ANYWHERE), longest * CHUNK_BYTES);
            }
        }
    }
}

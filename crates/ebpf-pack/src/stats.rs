//! What a pack is made of, and what it holds.

use crate::{Backing, PackError};

/// What a pack could get from the system, found out when it was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// Where its executable memory comes from.
    pub backing: Backing,
    /// Better ways that the system refused, and what it said.
    pub refused: Vec<(Backing, PackError)>,
    /// Whether all cores can be made to serialize (`membarrier(2)` with `SYNC_CORE`). Without that, room that was used
    /// is not used again; an arena that becomes empty is still returned.
    pub sync_core: bool,
}

/// What a pack holds at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PackStats {
    /// Arenas.
    pub arenas: usize,
    /// Arenas that lie in huge pages.
    pub huge_arenas: usize,
    /// Address space of all arenas, in bytes, without guard pages and write views.
    pub reserved_bytes: usize,
    /// Memory behind them, in bytes; a multiple of the page size.
    pub committed_bytes: usize,
    /// Bytes in chunks that belong to programs.
    pub used_bytes: usize,
    /// Of those, bytes that programs asked for, code and stubs; the rest is lost by rounding up to chunks.
    pub placed_bytes: usize,
    /// Freed bytes that wait until all cores have serialized.
    pub resting_bytes: usize,
    /// Bytes of the longest run of free chunks with memory behind it.
    pub longest_free_bytes: usize,
    /// Bytes of the pack's own account of all this, without the handles that its users hold.
    pub metadata_bytes: usize,
    /// Programs placed and not freed.
    pub programs: usize,
    /// How often all cores were made to serialize.
    pub barriers: u64,
}

impl PackStats {
    /// Bytes with memory behind them that belong to no program and can be used at once.
    #[must_use]
    pub fn free_bytes(&self) -> usize {
        self.committed_bytes - self.used_bytes - self.resting_bytes
    }

    /// Bytes in programs' chunks that no program asked for.
    #[must_use]
    pub fn wasted_bytes(&self) -> usize {
        self.used_bytes - self.placed_bytes
    }

    /// The part of the memory that programs are in, from 0 to 1; 1 where there is no memory.
    #[must_use]
    pub fn utilisation(&self) -> f64 {
        ratio(self.used_bytes, self.committed_bytes).unwrap_or(1.0)
    }

    /// The part of the free bytes that is outside of the longest free run, from 0 (one piece) to 1.
    #[must_use]
    pub fn fragmentation(&self) -> f64 {
        ratio(self.longest_free_bytes, self.free_bytes()).map_or(0.0, |longest| 1.0 - longest)
    }
}

fn ratio(part: usize, whole: usize) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_the_memory() {
        let stats = PackStats {
            committed_bytes: 4000,
            used_bytes: 2000,
            placed_bytes: 1900,
            resting_bytes: 1000,
            longest_free_bytes: 250,
            ..PackStats::default()
        };
        assert_eq!((stats.free_bytes(), stats.wasted_bytes()), (1000, 100));
        assert_eq!((stats.utilisation(), stats.fragmentation()), (0.5, 0.75));
    }

    #[test]
    fn nothing_is_neither_wasted_nor_in_pieces() {
        let stats = PackStats::default();
        assert_eq!((stats.utilisation(), stats.fragmentation()), (1.0, 0.0));
    }
}

//! Where arenas lie.

use crate::PackError;
use crate::os::{HUGE_PAGE_BYTES, View};
use rustix::io::Errno;

/// Where a pack reserves the address space of its arenas.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Position {
    /// Within reach of direct calls to functions around this address, where there is room; else anywhere.
    Near(u64),
    /// Out of reach of direct calls to functions around this address, as in a process whose space near its text is
    /// used up: for testing both forms of calls. Where there is no such place, there is no arena.
    FarFrom(u64),
    /// Wherever the kernel likes.
    Anywhere,
}

/// Distance kept from the anchor in both directions, in bytes: room for the rest of the binary's text, and for its heap,
/// which grows upwards behind it.
const CLEARANCE: u64 = 256 << 20;

/// Farthest end of an arena from the anchor, in bytes: from there, a displacement of 2 GiB still reaches whatever text
/// lies within [`CLEARANCE`] of the anchor.
const REACH: u64 = (2 << 30) - CLEARANCE;

/// Least distance of an arena that is to be far, in bytes: beyond reach from each byte of any arena to whatever lies within
/// [`CLEARANCE`] of the anchor.
const FAR: u64 = 4 << 30;

/// Distances to try for an arena that is to be far.
const FAR_TRIES: u64 = 64;

/// Candidates are multiples of this many bytes.
const ALIGNMENT: u64 = HUGE_PAGE_BYTES as u64;

impl Position {
    /// Reserves `len` bytes there.
    pub(crate) fn reserve(self, len: usize) -> Result<View, PackError> {
        let reserved = match self {
            Self::Near(anchor) => first_free(near_candidates(anchor, len as u64), len)
                .or_else(|_| View::reserve_anywhere(len)),
            Self::FarFrom(anchor) => first_free(far_candidates(anchor, len as u64), len),
            Self::Anywhere => View::reserve_anywhere(len),
        };
        reserved.map_err(PackError::os("mmap of address space"))
    }

    /// Whether addresses from which something else chose suit.
    pub(crate) fn allows(self, start: u64) -> bool {
        match self {
            Self::Near(_) | Self::Anywhere => true,
            Self::FarFrom(anchor) => start.abs_diff(anchor) >= FAR,
        }
    }
}

/// A view at the first candidate where nothing is.
fn first_free(candidates: impl Iterator<Item = u64>, len: usize) -> Result<View, Errno> {
    for at in candidates {
        match View::reserve(Some(at), len) {
            // Taken, below `mmap_min_addr`, or beyond the end of the address space.
            Err(Errno::EXIST | Errno::PERM | Errno::INVAL) => {}
            // Beyond the end, too, or out of space altogether, which the next try will show.
            Err(Errno::NOMEM) if at >= 1 << 46 => {}
            other => return other,
        }
    }
    Err(Errno::NOMEM)
}

/// Aligned addresses for `len` bytes near `anchor`, nearest first: those below (where a position-independent binary has
/// free space), then those above.
fn near_candidates(anchor: u64, len: u64) -> impl Iterator<Item = u64> {
    let distances = || (CLEARANCE..REACH).step_by(ALIGNMENT as usize);
    let fits = move |distance: &u64| distance + len + ALIGNMENT <= REACH;
    let below =
        distances().take_while(fits).map_while(move |distance| below(anchor, distance, len));
    let above = distances().take_while(fits).map_while(move |distance| above(anchor, distance));
    below.chain(above)
}

/// Aligned addresses for `len` bytes far from `anchor` on both sides, nearest first.
fn far_candidates(anchor: u64, len: u64) -> impl Iterator<Item = u64> {
    (1..=FAR_TRIES).map(|step| step * FAR).flat_map(move |distance| {
        below(anchor, distance, len).into_iter().chain(above(anchor, distance))
    })
}

/// The highest aligned address for `len` bytes that end at least `distance` below `anchor`.
fn below(anchor: u64, distance: u64, len: u64) -> Option<u64> {
    let at = anchor.checked_sub(distance)?.checked_sub(len)? & !(ALIGNMENT - 1);
    (at > 0).then_some(at)
}

/// The lowest aligned address at least `distance` above `anchor`.
fn above(anchor: u64, distance: u64) -> Option<u64> {
    anchor.checked_add(distance)?.checked_next_multiple_of(ALIGNMENT)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANCHOR: u64 = 0x5555_5555_4321;
    const LEN: u64 = 2 << 20;

    #[test]
    fn near_candidates_are_aligned_and_in_reach() {
        let all: Vec<u64> = near_candidates(ANCHOR, LEN).collect();
        assert_eq!(all[0], 0x5555_4520_0000, "the first is 256 MiB below, rounded down");
        assert!(all.iter().any(|&at| at > ANCHOR));
        for at in all {
            assert_eq!(at % ALIGNMENT, 0);
            let (start, end) = (at.abs_diff(ANCHOR), (at + LEN).abs_diff(ANCHOR));
            assert!(start >= CLEARANCE && end >= CLEARANCE, "{at:#x}");
            assert!(start <= REACH && end <= REACH, "{at:#x}");
        }
    }

    #[test]
    fn near_candidates_end_where_addresses_do() {
        assert!(
            near_candidates(0x40_0000, LEN).all(|at| at > 0x40_0000),
            "there is nothing below a fixed binary"
        );
        let highest = near_candidates(u64::MAX, LEN).next();
        assert_eq!(highest.map(|at| at < u64::MAX - CLEARANCE), Some(true));
        assert_eq!(near_candidates(ANCHOR, 2 << 30).next(), None, "too long to be in reach");
    }

    #[test]
    fn far_candidates_are_aligned_and_out_of_reach() {
        let all: Vec<u64> = far_candidates(ANCHOR, LEN).collect();
        assert_eq!(all.len(), 128);
        for at in all {
            assert_eq!(at % ALIGNMENT, 0);
            let distance = at.abs_diff(ANCHOR).min((at + LEN).abs_diff(ANCHOR));
            assert!(distance - CLEARANCE > 1 << 31, "{at:#x}");
        }
        assert!(far_candidates(0x40_0000, LEN).all(|at| at > 0x40_0000));
        assert!(far_candidates(u64::MAX, LEN).all(|at| at < u64::MAX - FAR));
    }

    #[test]
    fn only_far_is_a_demand() {
        assert!(Position::Near(ANCHOR).allows(0));
        assert!(Position::Anywhere.allows(ANCHOR));
        assert!(Position::FarFrom(ANCHOR).allows(0x7fff_0000_0000));
        assert!(!Position::FarFrom(ANCHOR).allows(ANCHOR + 0x8000_0000));
    }

    #[test]
    fn places_are_taken_one_after_another() {
        let anchor = near_candidates as fn(_, _) -> _ as usize as u64;
        for position in [Position::Near(anchor), Position::FarFrom(anchor)] {
            let views = [(); 3].map(|()| position.reserve(LEN as usize).expect("address space"));
            let far = matches!(position, Position::FarFrom(_));
            for view in &views {
                assert_eq!(view.addresses().start.abs_diff(anchor) > 1 << 31, far, "{view:?}");
            }
        }
        let view = Position::Anywhere.reserve(LEN as usize).expect("address space");
        assert_eq!(view.addresses().start % ALIGNMENT, 0);
    }
}

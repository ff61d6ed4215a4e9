//! Which ids of two states correspond.

use alloc::vec::Vec;

/// A one-to-one relation between the ids of an old state and those of the current one, built while
/// they are compared.
#[derive(Debug, Default)]
pub(super) struct IdMap {
    pairs: Vec<(u64, u64)>,
    /// Ids made up for current values that have none, from [`MADE_UP`] on.
    made_up: u64,
}

/// Greater than every real id, however it is qualified.
const MADE_UP: u64 = 1 << 40;
/// Divides what has an id in two: of one part of the old state, all must be in one part of the current
/// one.
pub(super) const TAG: u64 = 1 << 41;

fn untagged(id: u64) -> u64 {
    id & !TAG
}

impl IdMap {
    pub(super) fn clear(&mut self) {
        self.pairs.clear();
        self.made_up = 0;
    }

    /// Takes `old` and `current` to be the same from now on; `false` if one of them already
    /// corresponds to another id.
    pub(super) fn relate(&mut self, old: u64, current: u64) -> bool {
        for &(known_old, known_current) in &self.pairs {
            let is_same_old = untagged(known_old) == untagged(old);
            let is_same_current = untagged(known_current) == untagged(current);
            if is_same_old != is_same_current {
                return false;
            }
            if known_old == old {
                return known_current == current;
            }
        }
        self.pairs.push((old, current));
        true
    }

    /// As [`IdMap::relate`], but one alone is related to nothing.
    pub(super) fn relate_both(&mut self, old: Option<u64>, current: Option<u64>) -> bool {
        match (old, current) {
            (Some(old), Some(current)) => self.relate(old, current),
            (None, None) => true,
            (Some(_), None) | (None, Some(_)) => false,
        }
    }

    /// An id that no value has.
    pub(super) fn make_up(&mut self) -> u64 {
        self.made_up += 1;
        MADE_UP + self.made_up
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_relation_is_one_to_one() {
        let mut ids = IdMap::default();
        assert!(ids.relate(1, 7) && ids.relate(2, 8) && ids.relate(1, 7));
        assert!(!ids.relate(1, 8) && !ids.relate(3, 8));
        assert!(ids.relate_both(None, None) && !ids.relate_both(Some(4), None));
        assert_ne!(ids.make_up(), ids.make_up());
    }

    #[test]
    fn what_is_in_one_part_stays_in_one_part() {
        let mut ids = IdMap::default();
        assert!(ids.relate(1, 7) && ids.relate(1 | TAG, 7) && ids.relate(1, 7));
        assert!(!ids.relate(1, 7 | TAG) && !ids.relate(1 | TAG, 7 | TAG));
        assert!(!ids.relate(1 | TAG, 8) && !ids.relate(2, 7) && !ids.relate(2 | TAG, 7 | TAG));
        assert!(ids.relate(2 | TAG, 8 | TAG) && ids.relate(2, 8));
    }
}

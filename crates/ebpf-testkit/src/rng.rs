//! A small random number generator that gives the same numbers everywhere, for ever.

use std::ops::Range;

/// A seeded generator (splitmix64). Good for test data; not for secrets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rng {
    state: u64,
}

impl Rng {
    /// A generator whose numbers follow from `seed` alone.
    pub fn seed(seed: u64) -> Self {
        Self { state: seed }
    }

    /// Any 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    /// A number from `range`.
    ///
    /// # Panics
    ///
    /// If the range is empty.
    pub fn range(&mut self, range: Range<u64>) -> u64 {
        assert!(!range.is_empty(), "empty range {range:?}");
        let width = u128::from(range.end - range.start);
        let scaled = (u128::from(self.next_u64()) * width) >> 64;
        range.start + u64::try_from(scaled).expect("less than the width, a u64")
    }

    /// One of `items`.
    ///
    /// # Panics
    ///
    /// If there are none.
    pub fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        let index = self.range(0..items.len() as u64);
        &items[usize::try_from(index).expect("less than a usize")]
    }

    /// True `times` times out of `of`, on average.
    ///
    /// # Panics
    ///
    /// If `of` is 0.
    pub fn chance(&mut self, times: u64, of: u64) -> bool {
        self.range(0..of) < times
    }

    /// That many random bytes.
    pub fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.next_u64().to_le_bytes()[0]).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first outputs of the reference implementation (Sebastiano Vigna, 2015) for this seed.
    #[test]
    fn numbers_are_those_of_splitmix64() {
        let mut rng = Rng::seed(1_234_567);
        let numbers: Vec<u64> = (0..3).map(|_| rng.next_u64()).collect();
        assert_eq!(
            numbers,
            [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423]
        );
    }

    #[test]
    fn ranges_are_covered_and_kept() {
        let mut rng = Rng::seed(1);
        let mut seen = [0; 5];
        for _ in 0..1000 {
            seen[usize::try_from(rng.range(10..15) - 10).unwrap()] += 1;
        }
        assert!(seen.iter().all(|&count| count > 100), "{seen:?}");
        assert_eq!(rng.range(7..8), 7);
        assert!(rng.range(0..u64::MAX) < u64::MAX);
    }

    #[test]
    fn picks_and_chances() {
        let mut rng = Rng::seed(2);
        let picked: Vec<char> = (0..100).map(|_| *rng.pick(&['a', 'b'])).collect();
        assert!(picked.contains(&'a') && picked.contains(&'b'));
        assert!((0..100).all(|_| rng.chance(1, 1)));
        assert!((0..100).all(|_| !rng.chance(0, 1)));
        assert_eq!(rng.bytes(5).len(), 5);
    }

    #[test]
    #[should_panic(expected = "empty range")]
    fn an_empty_range_has_no_number() {
        Rng::seed(0).range(3..3);
    }
}

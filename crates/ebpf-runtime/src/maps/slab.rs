//! The values of a map: a block of memory that never moves.

#![allow(unsafe_code, reason = "zeroed memory from the allocator becomes atomics")]

use std::sync::atomic::{AtomicU64, Ordering};

use ebpf_verifier::ArrayLayout;

use super::MAX_VALUES_BYTES;

/// Values of equal size, each starting at an address that is a multiple of 8.
#[derive(Debug)]
pub(super) struct Slab {
    words: Box<[AtomicU64]>,
    words_per_value: usize,
    value_size: usize,
}

impl Slab {
    /// Zeroed values; `None` where they would take more than [`MAX_VALUES_BYTES`].
    pub(super) fn new(count: u32, value_size: u32) -> Option<Self> {
        let words_per_value = u64::from(value_size).div_ceil(8);
        let words = words_per_value * u64::from(count);
        if words > MAX_VALUES_BYTES / 8 {
            return None;
        }
        // The allocator gives zeroed pages that cost nothing until they are touched.
        let zeroed = Box::into_raw(vec![0_u64; words as usize].into_boxed_slice());
        // SAFETY: `AtomicU64` has the size, alignment and bit validity of `u64`.
        let words = unsafe { Box::from_raw(zeroed as *mut [AtomicU64]) };
        let (words_per_value, value_size) = (words_per_value as usize, value_size as usize);
        Some(Self { words, words_per_value, value_size })
    }

    /// Bytes of a value.
    pub(super) fn value_size(&self) -> u32 {
        self.value_size as u32
    }

    /// Number of values.
    fn len(&self) -> u32 {
        (self.words.len() / self.words_per_value) as u32
    }

    /// Where a value is. It stays there as long as the slab lives.
    pub(super) fn address(&self, index: u32) -> u64 {
        // Of all values: programs also compute addresses from the first one's.
        let first = self.words.as_ptr().expose_provenance() as u64;
        first + u64::from(index) * u64::from(self.layout().stride)
    }

    /// How the values lie.
    pub(super) fn layout(&self) -> ArrayLayout {
        // A value is no larger than 4 MiB.
        ArrayLayout { entries: self.len(), stride: 8 * self.words_per_value as u32 }
    }

    /// A copy of a value.
    pub(super) fn read(&self, index: u32) -> Vec<u8> {
        let mut bytes = self.read_padded(index);
        bytes.truncate(self.value_size);
        bytes
    }

    /// A copy of a value and of what is behind it up to the next.
    pub(super) fn read_padded(&self, index: u32) -> Vec<u8> {
        let words = self.value(index).iter();
        words.flat_map(|word| word.load(Ordering::Relaxed).to_ne_bytes()).collect()
    }

    /// Overwrites a value; `bytes` has its size.
    pub(super) fn write(&self, index: u32, bytes: &[u8]) {
        debug_assert_eq!(bytes.len(), self.value_size);
        for (word, chunk) in self.value(index).iter().zip(bytes.chunks(8)) {
            let mut value = [0; 8];
            value[..chunk.len()].copy_from_slice(chunk);
            word.store(u64::from_ne_bytes(value), Ordering::Relaxed);
        }
    }

    fn value(&self, index: u32) -> &[AtomicU64] {
        let start = index as usize * self.words_per_value;
        &self.words[start..start + self.words_per_value]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_do_not_overlap_and_are_aligned() {
        let slab = Slab::new(3, 9).unwrap();
        slab.write(1, &[0xff; 9]);
        assert_eq!(slab.read(0), [0; 9]);
        assert_eq!(slab.read(1), [0xff; 9]);
        assert_eq!(slab.read(2), [0; 9]);
        assert_eq!(slab.address(1) - slab.address(0), 16);
        assert_eq!(slab.address(2) % 8, 0);
    }

    #[test]
    fn the_limit_holds_on_both_sides() {
        // Untouched pages cost nothing, so the largest slab can be made.
        assert!(Slab::new(1 << 18, 4096).is_some());
        assert!(Slab::new((1 << 18) + 1, 4096).is_none());
        assert!(Slab::new(u32::MAX, u32::MAX).is_none());
    }
}

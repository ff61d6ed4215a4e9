//! The block of memory that a benchmark program runs on.

use crate::programs::BLOCK_BYTES;

/// A block that starts at a multiple of 8.
#[derive(Debug, Clone)]
pub struct Memory(Box<[u64]>);

impl Memory {
    /// A block with these bytes.
    #[must_use]
    pub fn new(bytes: &[u8]) -> Self {
        let word = |bytes: &[u8]| {
            bytes.iter().rev().fold(0, |word: u64, &byte| word << 8 | u64::from(byte))
        };
        let words: Vec<u64> = bytes.chunks(8).map(word).collect();
        assert_eq!(words.len() * 8, BLOCK_BYTES, "programs run on blocks of this size");
        Self(words.into())
    }

    /// The first byte; all of them may be read and written.
    pub fn as_mut_ptr(&mut self) -> *mut u8 {
        self.0.as_mut_ptr().cast()
    }
}

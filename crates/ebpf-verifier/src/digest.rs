//! A stable digest of what a verdict rests on.

use core::fmt;
use core::hash::Hasher;

/// 128 bits that tell environments apart.
///
/// It is the same on every machine and in every run. It guards against mix-ups, not against
/// somebody who constructs a collision (it is FNV-1a).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Digest([u8; 16]);

impl Digest {
    /// The bytes.
    #[must_use]
    pub const fn to_bytes(self) -> [u8; 16] {
        self.0
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({self})")
    }
}

/// Takes in plain data and gives a [`Digest`]. Variable lengths are written before their content,
/// so that different data cannot run together.
#[derive(Debug, Clone)]
pub struct DigestWriter(u128);

impl DigestWriter {
    /// A writer that has seen nothing.
    #[must_use]
    pub const fn new() -> Self {
        Self(0x6c62_272e_07bb_0142_62b8_2175_6295_c58d)
    }

    /// Takes in bytes of a length that is fixed.
    fn raw(&mut self, bytes: &[u8]) {
        const PRIME: u128 = (1 << 88) + 0x13b;
        for &byte in bytes {
            self.0 = (self.0 ^ u128::from(byte)).wrapping_mul(PRIME);
        }
    }

    /// Takes in a number.
    pub fn u32(&mut self, value: u32) {
        self.raw(&value.to_le_bytes());
    }

    /// Takes in a number.
    pub fn u64(&mut self, value: u64) {
        self.raw(&value.to_le_bytes());
    }

    /// Takes in bytes and their number.
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.u64(bytes.len() as u64);
        self.raw(bytes);
    }

    /// Takes in a text and its length.
    pub fn str(&mut self, text: &str) {
        self.bytes(text.as_bytes());
    }

    /// The digest of everything taken in.
    #[must_use]
    pub const fn finish(&self) -> Digest {
        Digest(self.0.to_le_bytes())
    }
}

/// Data that says itself what it consists of.
impl Hasher for DigestWriter {
    fn finish(&self) -> u64 {
        self.0 as u64
    }

    fn write(&mut self, bytes: &[u8]) {
        self.raw(bytes);
    }

    fn write_u16(&mut self, value: u16) {
        self.raw(&value.to_le_bytes());
    }

    fn write_u32(&mut self, value: u32) {
        self.raw(&value.to_le_bytes());
    }

    fn write_u64(&mut self, value: u64) {
        self.raw(&value.to_le_bytes());
    }

    fn write_usize(&mut self, value: usize) {
        self.raw(&(value as u64).to_le_bytes());
    }

    fn write_isize(&mut self, value: isize) {
        self.raw(&(value as i64).to_le_bytes());
    }
}

impl Default for DigestWriter {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_fnv_1a() {
        let mut writer = DigestWriter::new();
        writer.raw(b"a");
        // From the test vectors of draft-eastlake-fnv: FNV-1a 128 of "a".
        assert_eq!(writer.0, 0xd228_cb69_6f1a_8caf_7891_2b70_4e4a_8964);
    }

    #[test]
    fn lengths_keep_texts_apart() {
        let digest = |texts: &[&str]| {
            let mut writer = DigestWriter::new();
            texts.iter().for_each(|text| writer.str(text));
            writer.finish()
        };
        assert_ne!(digest(&["ab", "c"]), digest(&["a", "bc"]));
        assert_eq!(digest(&["ab"]).to_string().len(), 32);
    }
}

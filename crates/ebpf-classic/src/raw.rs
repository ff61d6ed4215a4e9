//! Instructions as they are stored and handed to a kernel.

/// One instruction, as `struct sock_filter` of `linux/filter.h` has it: eight bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct SockFilter {
    /// The opcode.
    pub code: u16,
    /// Instructions that a conditional jump skips where its comparison holds.
    pub jt: u8,
    /// Instructions that it skips where the comparison does not hold.
    pub jf: u8,
    /// The constant.
    pub k: u32,
}

/// Bytes that are no whole number of instructions.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{len} bytes are no whole number of instructions: each takes 8")]
pub struct BytesError {
    /// How many bytes.
    pub len: usize,
}

impl SockFilter {
    /// An instruction that does not jump conditionally.
    #[must_use]
    pub const fn new(code: u16, k: u32) -> Self {
        Self { code, jt: 0, jf: 0, k }
    }

    /// As a kernel takes it: in the byte order of the host.
    #[must_use]
    pub fn to_ne_bytes(self) -> [u8; 8] {
        let [c0, c1] = self.code.to_ne_bytes();
        let [k0, k1, k2, k3] = self.k.to_ne_bytes();
        [c0, c1, self.jt, self.jf, k0, k1, k2, k3]
    }

    /// From what a kernel takes.
    #[must_use]
    pub fn from_ne_bytes([c0, c1, jt, jf, k0, k1, k2, k3]: [u8; 8]) -> Self {
        let (code, k) = (u16::from_ne_bytes([c0, c1]), u32::from_ne_bytes([k0, k1, k2, k3]));
        Self { code, jt, jf, k }
    }

    /// All instructions of an array of `struct sock_filter`.
    ///
    /// # Errors
    /// The length is no multiple of 8.
    pub fn all_from_ne_bytes(bytes: &[u8]) -> Result<alloc::vec::Vec<Self>, BytesError> {
        let (chunks, rest) = bytes.as_chunks();
        match rest {
            [] => Ok(chunks.iter().copied().map(Self::from_ne_bytes).collect()),
            _ => Err(BytesError { len: bytes.len() }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_layout_is_that_of_the_header() {
        let insn = SockFilter { code: 0x15, jt: 3, jf: 4, k: 0x0102_0304 };
        let bytes = insn.to_ne_bytes();
        assert_eq!(bytes[2..4], [3, 4]);
        assert_eq!(bytes[..2], 0x15_u16.to_ne_bytes());
        assert_eq!(bytes[4..], 0x0102_0304_u32.to_ne_bytes());
        assert_eq!(SockFilter::all_from_ne_bytes(&bytes), Ok([insn].to_vec()));
        assert_eq!(SockFilter::all_from_ne_bytes(&bytes[1..]), Err(BytesError { len: 7 }));
    }
}

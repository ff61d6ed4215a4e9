//! The eight bytes of an instruction slot.

use alloc::vec::Vec;

/// One 8-byte slot as it stands in memory and in object files, little-endian
/// (RFC 9669, section 3.1): `opcode:8 dst_reg:4 src_reg:4 offset:16 imm:32`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct RawInsn {
    /// Operation and class.
    pub opcode: u8,
    /// Destination register number, 0 to 15.
    pub dst: u8,
    /// Source register number, 0 to 15, or a variant of the operation.
    pub src: u8,
    /// Signed offset.
    pub off: i16,
    /// Signed immediate.
    pub imm: i32,
}

/// A byte string that is not a whole number of slots.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{len} bytes of instructions are not a multiple of 8")]
pub struct SlotBytesError {
    /// Length of the byte string.
    pub len: usize,
}

impl RawInsn {
    /// Size of a slot in bytes.
    pub const SIZE: usize = 8;

    /// Reads a slot.
    #[inline]
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 8]) -> Self {
        let [opcode, regs, o0, o1, i0, i1, i2, i3] = bytes;
        Self {
            opcode,
            dst: regs & 0xf,
            src: regs >> 4,
            off: i16::from_le_bytes([o0, o1]),
            imm: i32::from_le_bytes([i0, i1, i2, i3]),
        }
    }

    /// Writes a slot. The register fields keep their low four bits.
    #[inline]
    #[must_use]
    pub const fn to_bytes(self) -> [u8; 8] {
        let [o0, o1] = self.off.to_le_bytes();
        let [i0, i1, i2, i3] = self.imm.to_le_bytes();
        [self.opcode, self.src << 4 | self.dst & 0xf, o0, o1, i0, i1, i2, i3]
    }

    /// Reads a byte string as slots.
    ///
    /// # Errors
    /// The length is not a multiple of eight.
    pub fn slots(bytes: &[u8]) -> Result<Vec<Self>, SlotBytesError> {
        let (slots, rest) = bytes.as_chunks::<8>();
        if !rest.is_empty() {
            return Err(SlotBytesError { len: bytes.len() });
        }
        Ok(slots.iter().map(|&slot| Self::from_bytes(slot)).collect())
    }
}

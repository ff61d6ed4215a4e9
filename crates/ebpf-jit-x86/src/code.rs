//! The bytes of code so far.

use dynasmrt::{AssemblyOffset, DynasmApi};

use crate::encode::Bytes;

/// A growing piece of code.
///
/// Instructions are written sixteen bytes at a time, however long they are, and the next one over
/// what is too much of the last: a copy of as many bytes as there are would be a branch that no
/// processor predicts.
#[derive(Debug)]
pub(crate) struct Code {
    /// The code, and zeros behind it.
    bytes: Vec<u8>,
    len: usize,
}

impl Code {
    /// With room for `capacity` bytes; more is allocated as needed.
    pub(crate) fn with_capacity(capacity: usize) -> Self {
        Self { bytes: vec![0; capacity], len: 0 }
    }

    /// Number of bytes.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Appends an instruction.
    #[inline]
    pub(crate) fn put(&mut self, insn: Bytes) {
        let room = self.len..self.len + Bytes::CAPACITY;
        match self.bytes.get_mut(room) {
            Some(room) => {
                room.copy_from_slice(&insn.padded());
                self.len += insn.len();
            }
            None => self.put_slowly(insn),
        }
    }

    #[cold]
    fn put_slowly(&mut self, insn: Bytes) {
        const STEP: usize = 4096;
        self.bytes.resize(self.bytes.len() + (self.bytes.len() / 2).max(STEP), 0);
        self.put(insn);
    }

    /// The bytes from `start` on, to be filled in.
    pub(crate) fn field<const N: usize>(&mut self, start: usize) -> &mut [u8; N] {
        self.bytes[start..self.len].first_chunk_mut().expect("invariant: a field is in the code")
    }

    /// All bytes, to be filled in.
    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[..self.len]
    }

    /// The code.
    pub(crate) fn finish(mut self) -> Vec<u8> {
        self.bytes.truncate(self.len);
        self.bytes.shrink_to_fit();
        self.bytes
    }
}

impl Extend<u8> for Code {
    fn extend<I: IntoIterator<Item = u8>>(&mut self, bytes: I) {
        for byte in bytes {
            self.push(byte);
        }
    }
}

impl<'a> Extend<&'a u8> for Code {
    fn extend<I: IntoIterator<Item = &'a u8>>(&mut self, bytes: I) {
        self.extend(bytes.into_iter().copied());
    }
}

/// What assembly text is written through.
impl DynasmApi for Code {
    fn offset(&self) -> AssemblyOffset {
        AssemblyOffset(self.len)
    }

    fn push(&mut self, byte: u8) {
        self.put(Bytes::of(&[byte]));
    }

    fn align(&mut self, alignment: usize, with: u8) {
        while !self.len.is_multiple_of(alignment) {
            self.push(with);
        }
    }
}

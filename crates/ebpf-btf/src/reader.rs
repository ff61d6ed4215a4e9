//! Reading little-endian words from a part of a blob, with every error naming the offset in the
//! blob.

use crate::{BtfError, NameOff};

/// The most bytes of a name or source line that are looked at; the kernel takes no name of 512 or
/// more.
///
/// Names are offsets, so a short blob could otherwise name one long string a million times.
pub const MAX_STRING_LEN: usize = 1024;

/// The least that a reader of names must know about the string section.
#[derive(Clone, Copy)]
pub(crate) struct Strings<'a>(pub(crate) &'a str);

impl<'a> Strings<'a> {
    /// The string at `name_off`, up to its zero byte or [`MAX_STRING_LEN`]; none outside the
    /// section or inside a character.
    pub(crate) fn get(self, name_off: NameOff) -> Option<&'a str> {
        let from = self.0.get(name_off.0 as usize..)?;
        let limit = MAX_STRING_LEN.min(from.len());
        let end = (0..=limit).rev().find(|&at| from.is_char_boundary(at))?;
        let window = &from[..end];
        Some(window.split_once('\0').map_or(window, |(name, _)| name))
    }

    /// Checks that `name_off`, read at `offset`, is the start of a string.
    ///
    /// The section ends with a zero byte (checked when it was read), so any offset inside it has an
    /// end.
    pub(crate) fn check(self, name_off: u32, offset: usize) -> Result<NameOff, BtfError> {
        let at = name_off as usize;
        if at < self.0.len() && self.0.is_char_boundary(at) {
            Ok(NameOff(name_off))
        } else {
            Err(BtfError::BadName { offset, name_off })
        }
    }
}

/// A cursor over a part of a blob.
pub(crate) struct Reader<'a> {
    bytes: &'a [u8],
    /// Where `bytes` starts in the blob.
    offset: usize,
}

impl<'a> Reader<'a> {
    /// A cursor over `bytes`, which start at `offset` in the blob.
    pub(crate) fn new(bytes: &'a [u8], offset: usize) -> Self {
        Self { bytes, offset }
    }

    /// The offset in the blob of the next byte.
    pub(crate) fn offset(&self) -> usize {
        self.offset
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// All the bytes that are left.
    pub(crate) fn rest(self) -> &'a [u8] {
        self.bytes
    }

    /// The next `len` bytes.
    pub(crate) fn take(&mut self, len: usize) -> Result<&'a [u8], BtfError> {
        let Some((head, tail)) = self.bytes.split_at_checked(len) else {
            return Err(BtfError::Truncated {
                offset: self.offset,
                needed: len,
                available: self.bytes.len(),
            });
        };
        self.bytes = tail;
        self.offset += len;
        Ok(head)
    }

    /// The next word.
    pub(crate) fn u32(&mut self) -> Result<u32, BtfError> {
        let [word] = self.words()?;
        Ok(word)
    }

    /// The next `N` words.
    pub(crate) fn words<const N: usize>(&mut self) -> Result<[u32; N], BtfError> {
        let mut words = [0; N];
        for (word, bytes) in words.iter_mut().zip(self.take(N * 4)?.chunks_exact(4)) {
            *word = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        }
        Ok(words)
    }
}

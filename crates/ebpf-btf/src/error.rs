//! Why bytes are not BTF, or a question about types has no answer.

use crate::{Kind, TypeId};

/// Why a blob could not be read, or a lookup has no answer. Offsets are bytes from the start of the
/// blob.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BtfError {
    /// The blob has more than [`MAX_BTF_BYTES`](crate::MAX_BTF_BYTES) bytes.
    #[error("BTF of {len} bytes is larger than the limit of {limit} bytes")]
    TooLarge {
        /// Bytes in the blob.
        len: usize,
        /// The limit.
        limit: usize,
    },
    /// The blob or one of its sections ends inside something.
    #[error(
        "BTF is truncated: {needed} bytes wanted at offset {offset}, but only {available} are left"
    )]
    Truncated {
        /// Where the bytes were wanted.
        offset: usize,
        /// How many were wanted.
        needed: usize,
        /// How many there are.
        available: usize,
    },
    /// The first two bytes are not the BTF magic number.
    #[error("not BTF: magic number {found:#06x} instead of 0xeb9f")]
    BadMagic {
        /// The first two bytes, as a little-endian number.
        found: u16,
    },
    /// The blob is big-endian BTF.
    #[error("big-endian BTF is not supported; compile for the little-endian target (bpfel)")]
    BigEndian,
    /// The version is not 1.
    #[error("BTF version {version} is not supported (only 1 is)")]
    UnsupportedVersion {
        /// The version found.
        version: u8,
    },
    /// Header flags are set; none is defined.
    #[error("BTF header flags {flags:#04x} are not supported")]
    UnsupportedFlags {
        /// The flags found.
        flags: u8,
    },
    /// The header is too short for its fields, or has non-zero fields that are not known here.
    #[error(
        "BTF header length {len} is not supported (at least {min}, and zero beyond the known fields)"
    )]
    BadHeaderLength {
        /// The length the header states.
        len: u32,
        /// The shortest header.
        min: u32,
    },
    /// A section that the header describes does not lie in the blob, or is not aligned to 4 bytes.
    #[error(
        "BTF {section} section (offset {offset}, {len} bytes after the header) is misaligned or not inside the blob"
    )]
    BadSection {
        /// Which section.
        section: &'static str,
        /// Its offset from the end of the header.
        offset: u32,
        /// Its length in bytes.
        len: u32,
    },
    /// The string section is empty, or does not start and end with a zero byte.
    #[error("BTF string section does not start and end with a zero byte")]
    BadStrings,
    /// A name or string offset does not point into the string section.
    #[error("BTF string offset {name_off} (used at offset {offset}) is outside the string section")]
    BadName {
        /// Where the string is referred to.
        offset: usize,
        /// The offset into the string section.
        name_off: u32,
    },
    /// There are more than [`MAX_TYPES`](crate::MAX_TYPES) types.
    #[error("BTF has more than {limit} types")]
    TooManyTypes {
        /// The limit.
        limit: u32,
    },
    /// A type has a kind that is not one of [`Kind`].
    #[error("BTF {id} has the unknown kind {kind}")]
    UnknownKind {
        /// The type.
        id: TypeId,
        /// The kind's number.
        kind: u8,
    },
    /// A field of a type has a value that the format does not define.
    #[error("BTF {id} ({kind}): {field} {value:#x} is not valid")]
    BadField {
        /// The type.
        id: TypeId,
        /// Its kind.
        kind: Kind,
        /// Which field.
        field: &'static str,
        /// The field's value.
        value: u32,
    },
    /// A type refers to a type that does not exist.
    #[error("BTF {id} refers to {target}, which does not exist")]
    DanglingReference {
        /// The type that refers.
        id: TypeId,
        /// What it refers to.
        target: TypeId,
    },
    /// The type does not exist.
    #[error("BTF has no {id}")]
    NoSuchType {
        /// The type asked for.
        id: TypeId,
    },
    /// The type is of another kind than the question needs.
    #[error("BTF {id} is {found}, not {expected}")]
    WrongKind {
        /// The type asked about.
        id: TypeId,
        /// What would have had an answer.
        expected: &'static str,
        /// Its kind.
        found: Kind,
    },
    /// A chain of references is longer than [`MAX_RESOLVE_DEPTH`](crate::MAX_RESOLVE_DEPTH), or a
    /// cycle.
    #[error("BTF {id} refers through more than {limit} types, or to itself")]
    TooDeep {
        /// Where the chain starts.
        id: TypeId,
        /// The limit.
        limit: usize,
    },
    /// The size of a type does not fit 32 bits.
    #[error("the size of BTF {id} does not fit 32 bits")]
    SizeOverflow {
        /// The type.
        id: TypeId,
    },
    /// A BTF.ext table speaks of more than [`MAX_EXT_SECTIONS`](crate::MAX_EXT_SECTIONS) sections.
    #[error("the BTF.ext {table} table has more than {limit} sections")]
    TooManySections {
        /// Which table.
        table: &'static str,
        /// The limit.
        limit: usize,
    },
    /// The record size of a BTF.ext table is smaller than its record, or not a multiple of 4.
    #[error(
        "BTF.ext {table} records of {size} bytes are not supported (at least {min}, a multiple of 4)"
    )]
    BadRecordSize {
        /// Which table.
        table: &'static str,
        /// The size stated.
        size: u32,
        /// The size of the known fields.
        min: u32,
    },
}

//! What is wrong with accesses to structures of the kernel, and with arguments of what programs are
//! attached to.

use alloc::string::String;

/// An access that does not find anything in a structure. Offsets count from the start of this structure,
/// which may be a part of the one that a pointer points to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub enum WalkFault {
    /// It goes beyond the structure.
    #[error("access beyond struct {structure} at off {off} size {size}")]
    Beyond {
        /// The name of the structure.
        structure: String,
        /// Where the access begins.
        off: u32,
        /// Its size.
        size: u32,
    },
    /// There is nothing there.
    #[error("struct {structure} doesn't have field at offset {off}")]
    NoMember {
        /// The name of the structure.
        structure: String,
        /// Where the access begins.
        off: u32,
    },
    /// It is at a part of a pointer.
    #[error(
        "cannot access ptr member {member} with moff {start} in struct {structure} \
         with off {off} size {size}"
    )]
    Pointer {
        /// The name of the structure.
        structure: String,
        /// The name of the pointer.
        member: String,
        /// Where the pointer begins.
        start: u32,
        /// Where the access begins.
        off: u32,
        /// Its size.
        size: u32,
    },
    /// It goes beyond a member.
    #[error(
        "access beyond the end of member {member} (mend:{end}) in struct {structure} \
         with off {off} size {size}"
    )]
    Member {
        /// The name of the structure.
        structure: String,
        /// The name of the member.
        member: String,
        /// Where the member ends.
        end: u32,
        /// Where the access begins.
        off: u32,
        /// Its size.
        size: u32,
    },
}

/// What is wrong with an access to an argument of what the program is attached to. Arguments count from 0,
/// but for those that are not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub enum TargetFault {
    /// It does not begin with an argument.
    #[error("offset {off} is not multiple of 8")]
    Offset {
        /// Where it begins.
        off: i16,
    },
    /// There are not so many arguments.
    #[error("doesn't have {number}-th argument")]
    Missing {
        /// Which one, from 1.
        number: usize,
    },
    /// A pointer loaded in part.
    #[error("size {size} must be 8")]
    Size {
        /// Size of the load.
        size: u8,
    },
    /// A pointer to something else than a structure.
    #[error("arg{argument} type {kind} is not a struct")]
    NoStructure {
        /// The argument.
        argument: usize,
        /// What BTF calls the type that it points to.
        kind: &'static str,
    },
}

//! Why code could not be placed.

use ebpf_image::{CodeOffset, Symbol};
use rustix::io::Errno;
use thiserror::Error;

/// Why a pack could not be made or an image not be placed. The pack stays usable, and nothing was placed in part.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum PackError {
    /// The system refused something that executable memory needs.
    #[error("{call} failed: {}", std::io::Error::from_raw_os_error(*.errno))]
    Os {
        /// The system call, with what it was for.
        call: &'static str,
        /// Its `errno`.
        errno: i32,
    },
    /// The pack belongs to the process this one was forked from. Its pages are shared with that process, so only
    /// that one may write to them.
    #[error("the pack belongs to the parent process: make a new one after fork")]
    Forked,
    /// The resolver has no address for a symbol of the image.
    #[error("no address for {symbol}, which the code at {at} refers to")]
    UnknownSymbol {
        /// The symbol.
        symbol: Symbol,
        /// First byte of the field that needs its address.
        at: CodeOffset,
    },
    /// The pack was [sealed](crate::Pack::seal), or its memory is of the kind that is written once.
    #[error("the code can be written no more: its pack is sealed, or its pages are private")]
    Sealed,
    /// [`Placed::replace`](crate::Placed::replace) of a symbol that was not placed as replaceable, or that the image does not have.
    #[error("{symbol} cannot be replaced: place the image with a replaceable target for it")]
    NotReplaceable {
        /// The symbol.
        symbol: Symbol,
    },
    /// Private pages cannot be had where [`PackOptions::position`](crate::PackOptions::position) asks for.
    #[error("private pages cannot be placed far away: choose another position or backing")]
    Position,
    /// The code with its stubs is longer than [`MAX_PLACEMENT_BYTES`](crate::MAX_PLACEMENT_BYTES).
    #[error(
        "code of {code_len} bytes with {stubs} stubs for calls is too long: at most {max} bytes are placed",
        max = crate::MAX_PLACEMENT_BYTES
    )]
    TooLarge {
        /// Length of the code, in bytes.
        code_len: usize,
        /// Stubs needed for call targets that are out of reach, or replaceable.
        stubs: usize,
    },
    /// [`PackOptions::arena_bytes`](crate::PackOptions::arena_bytes) is out of range.
    #[error("arenas of {bytes} bytes are not supported: choose 1 to {max}", max = crate::MAX_ARENA_BYTES)]
    ArenaSize {
        /// The size asked for.
        bytes: usize,
    },
    /// A write to memory that the arena has not backed yet, or that is not its own.
    #[error(
        "write of {len} bytes at {offset:#x} is outside the {committed:#x} bytes the arena has backed"
    )]
    OutsideCommitted {
        /// Bytes from the start of the arena.
        offset: usize,
        /// Length of the write, in bytes.
        len: usize,
        /// Bytes backed, from the start of the arena.
        committed: usize,
    },
}

impl PackError {
    /// The error of `call`, for use in `map_err`.
    pub(crate) fn os(call: &'static str) -> impl Fn(Errno) -> Self {
        move |errno| Self::Os { call, errno: errno.raw_os_error() }
    }

    /// Whether the system lacks or forbids what was asked for, so that something else may work; not whether it has run
    /// out of something.
    pub(crate) fn is_missing_facility(&self) -> bool {
        const MISSING: [Errno; 5] =
            [Errno::NOSYS, Errno::PERM, Errno::ACCESS, Errno::INVAL, Errno::OPNOTSUPP];
        match self {
            Self::Os { errno, .. } => MISSING.map(Errno::raw_os_error).contains(errno),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_say_where_and_what() {
        let unknown = PackError::UnknownSymbol { symbol: Symbol::Helper(7), at: CodeOffset(0x1a) };
        assert_eq!(
            unknown.to_string(),
            "no address for helper#7, which the code at +0x1a refers to"
        );
        let refused = PackError::os("memfd_create")(Errno::MFILE);
        assert_eq!(refused.to_string(), "memfd_create failed: Too many open files (os error 24)");
    }
}

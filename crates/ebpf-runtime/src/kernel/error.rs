//! Why the kernel cannot be asked.

use std::fmt;
use std::io;

/// An error number of Linux, positive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Errno(pub i32);

impl Errno {
    /// What the last system call of this thread left.
    pub(crate) fn last() -> Self {
        Self(io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO))
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", io::Error::from_raw_os_error(self.0))
    }
}

/// Why the kernel cannot be asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KernelError {
    /// The kernel is built without it, or the sandbox that this runs in hides it.
    #[error("there is no bpf(2) here")]
    NoSyscall,
    /// Programs cannot be loaded by this user.
    #[error(
        "no right to load programs; run as root, or with CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN"
    )]
    NoRights,
    /// The kernel refuses something that it should not refuse.
    #[error("the kernel refuses {what}: {errno}")]
    Refused {
        /// What.
        what: String,
        /// Why.
        errno: Errno,
    },
    /// Something that is not asked of the kernel, since it would take too much memory.
    #[error("{what}: {bytes} bytes, more than the limit of {limit}")]
    TooLarge {
        /// What.
        what: String,
        /// Its size.
        bytes: u64,
        /// The limit.
        limit: u64,
    },
}

impl KernelError {
    pub(crate) fn refused(what: impl Into<String>, errno: Errno) -> Self {
        match errno.0 {
            libc::ENOSYS => Self::NoSyscall,
            libc::EPERM => Self::NoRights,
            _ => Self::Refused { what: what.into(), errno },
        }
    }

    /// The error number, where it is one of the kernel's.
    #[must_use]
    pub fn errno(&self) -> Option<Errno> {
        match self {
            Self::NoSyscall => Some(Errno(libc::ENOSYS)),
            Self::NoRights => Some(Errno(libc::EPERM)),
            Self::Refused { errno, .. } => Some(*errno),
            Self::TooLarge { .. } => None,
        }
    }
}

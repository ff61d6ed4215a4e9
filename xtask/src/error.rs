//! Why a task failed.

use std::path::{Path, PathBuf};

/// Why a task failed.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum TaskError {
    /// Wrong arguments.
    #[error("{0}")]
    Usage(String),
    /// A file that cannot be read or written.
    #[error("{}: {reason}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system says.
        reason: String,
    },
    /// The running kernel cannot be asked.
    #[error("the kernel cannot be asked: {0}")]
    Kernel(#[from] ebpf_runtime::kernel::KernelError),
    /// What the task is there to find, or a program it needs that failed.
    #[error("{0}")]
    Failed(String),
}

impl TaskError {
    pub(crate) fn file(path: &Path, error: impl std::fmt::Display) -> Self {
        Self::File { path: path.to_path_buf(), reason: error.to_string() }
    }
}

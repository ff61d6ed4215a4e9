//! The types of a kernel, and what a program is attached to.

mod facts;
mod target;
mod trust;
mod walk;

use alloc::format;
use core::fmt;
use core::hash::Hash as _;

use ebpf_btf::{Btf, Kind, TypeId, TypeIndex};
use ebpf_isa::uapi::AttachType;

pub(crate) use target::{Argument, Target};
pub(crate) use trust::{Parent, Trust, behind};
pub(crate) use walk::{Found, Stuck, is_at, walk};

use crate::digest::{Digest, DigestWriter};

/// The types of a kernel: what its `/sys/kernel/btf/vmlinux` has.
#[derive(Clone, PartialEq, Eq)]
pub struct KernelTypes {
    index: TypeIndex,
    digest: Digest,
}

impl KernelTypes {
    /// Sorts the types by name. This takes long, so that it should be done once.
    #[must_use]
    pub fn new(btf: Btf) -> Self {
        let mut digest = DigestWriter::new();
        btf.hash(&mut digest);
        Self { index: TypeIndex::new(btf), digest: digest.finish() }
    }

    /// The types by name.
    #[must_use]
    pub fn index(&self) -> &TypeIndex {
        &self.index
    }

    /// The types.
    #[must_use]
    pub fn btf(&self) -> &Btf {
        self.index.btf()
    }

    /// A digest of all types.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// What a program of this attach type is attached to by this name: the function `NAME`; for
    /// `tp_btf` the tracepoint `NAME`, a type `btf_trace_NAME`; for LSM programs the function
    /// `bpf_lsm_NAME`; for iterators `bpf_iter_NAME`. `None` if the kernel has no such type.
    #[must_use]
    pub fn attach_target(&self, attach_type: Option<AttachType>, name: &str) -> Option<TypeId> {
        let function = |prefix| self.index.find(Kind::Func, &format!("{prefix}{name}"));
        match attach_type {
            Some(AttachType::TraceRawTp) => {
                self.index.find(Kind::Typedef, &format!("btf_trace_{name}"))
            }
            Some(AttachType::LsmMac | AttachType::LsmCgroup) => function("bpf_lsm_"),
            Some(AttachType::TraceIter) => function("bpf_iter_"),
            _ => function(""),
        }
    }
}

impl fmt::Debug for KernelTypes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let types = self.btf().types().len();
        f.debug_struct("KernelTypes").field("types", &types).finish_non_exhaustive()
    }
}

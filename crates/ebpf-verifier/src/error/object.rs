//! What is wrong with the use of objects that programs keep in the stack for the kernel: dynptrs and
//! iterators.

use ebpf_isa::Reg;

use crate::domain::Tnum;

/// A place in the stack where an object cannot be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Misplaced {
    /// The kind of object: `dynptr`, `iter`.
    pub object: &'static str,
    /// Where, counted from the frame pointer; `None` if that is not constant.
    pub off: Option<i64>,
}

/// Something else than the object that is wanted, or no room for one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ObjectFault {
    /// No room for a dynptr.
    #[error("Dynptr has to be an uninitialized dynptr")]
    DynptrRoom {
        /// Why there is none; `None` if it is not the stack.
        place: Option<Misplaced>,
    },
    /// Something else where a dynptr is wanted.
    #[error("Expected an initialized dynptr as arg #{argument}")]
    DynptrMissing {
        /// The argument, from 0.
        argument: usize,
        /// Why there cannot be one, if that is the reason.
        place: Option<Misplaced>,
    },
    /// Something to release that is not a dynptr of something acquired.
    #[error("arg {} is an unacquired reference", register.number())]
    NotAcquired {
        /// The argument.
        register: Reg,
        /// Why there cannot be one, if that is the reason.
        place: Option<Misplaced>,
    },
    /// A size of a slice that is not known.
    #[error("R{} must be a known constant", register.number())]
    SliceSize {
        /// The argument.
        register: Reg,
    },
    /// A slice to be written, in a program that may not write packets.
    #[error("the prog does not allow writes to packet data")]
    SliceWritable,
    /// A dynptr to release that is not in the stack.
    #[error("cannot release unowned const bpf_dynptr")]
    NotOwned,
    /// A store over a dynptr that was acquired.
    #[error("cannot overwrite referenced dynptr")]
    Overwritten,
    /// Something else where a kernel function takes an iterator.
    #[error("arg#{argument} expected pointer to an iterator on stack")]
    IterPointer {
        /// The argument, from 0.
        argument: usize,
    },
    /// No room for an iterator, or another one in its place.
    #[error("expected uninitialized iter_{name} as arg #{argument}")]
    IterRoom {
        /// The kind of iterator.
        name: &'static str,
        /// The argument, from 0.
        argument: usize,
        /// Why there cannot be one, if that is the reason.
        place: Option<Misplaced>,
    },
    /// No iterator of the kind that a kernel function takes.
    #[error("expected an initialized iter_{name} as arg #{argument}")]
    IterMissing {
        /// The kind of iterator.
        name: &'static str,
        /// The argument, from 0.
        argument: usize,
        /// Why there cannot be one, if that is the reason.
        place: Option<Misplaced>,
    },
}

impl ObjectFault {
    /// Why there cannot be an object, if that is the reason.
    pub(super) fn misplaced(&self) -> Option<Misplaced> {
        match *self {
            Self::DynptrRoom { place }
            | Self::DynptrMissing { place, .. }
            | Self::NotAcquired { place, .. }
            | Self::IterRoom { place, .. }
            | Self::IterMissing { place, .. } => place,
            Self::SliceSize { .. }
            | Self::SliceWritable
            | Self::NotOwned
            | Self::Overwritten
            | Self::IterPointer { .. } => None,
        }
    }
}

/// An access to bytes of an object, or by one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ObjectAccess {
    /// A dynptr of memory that cannot have one.
    #[error("Unsupported reg type {kind} for bpf_dynptr_from_mem data")]
    Memory {
        /// What the memory is.
        kind: &'static str,
    },
    /// Memory for a helper to fill, in which there is a dynptr.
    #[error("potential write to dynptr at off={off} disallowed")]
    Filled {
        /// The first byte of the dynptr, counted from the frame pointer.
        off: i64,
    },
    /// A load.
    #[error("invalid read from stack off {off}+0 size {size}")]
    Load {
        /// The access, counted from the frame pointer.
        off: i64,
        /// Size of the access.
        size: u8,
    },
    /// Memory given to a helper.
    #[error("invalid read from stack R{} off {off}+{at} size {size}", register.number())]
    Given {
        /// The argument.
        register: Reg,
        /// The lowest byte, counted from the frame pointer.
        off: i64,
        /// The byte of the object, counted from the lowest one.
        at: i64,
        /// Size of the memory.
        size: i64,
    },
    /// A load from somewhere, or memory somewhere given to a helper.
    #[error("invalid read from stack R{} var_off {var_off}+{at} size {size}", register.number())]
    Somewhere {
        /// The register with the pointer.
        register: Reg,
        /// The variable part of the offset.
        var_off: Tnum,
        /// The byte of the object, counted from the lowest one.
        at: i64,
        /// Size of the access.
        size: i64,
    },
}

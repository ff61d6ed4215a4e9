//! What is wrong with the use of fields of map values that the kernel guards.

use alloc::string::String;

use ebpf_isa::Reg;

use super::Ending;
use crate::map_fields::SpecialField;

/// Why a pointer that a helper is given is not to a field of the kind that it takes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FieldFault {
    /// Where it points to is not a constant.
    #[error(
        "R{} doesn't have constant offset. {} has to be at the constant offset",
        register.number(),
        field.name()
    )]
    Variable {
        /// The argument.
        register: Reg,
        /// What it is to point to.
        field: SpecialField,
    },
    /// The map has no types.
    #[error("map '{map}' has to have BTF in order to use {}", field.name())]
    Untyped {
        /// The map's name.
        map: String,
        /// What it is to point to.
        field: SpecialField,
    },
    /// The map's values have no such field.
    #[error("map '{map}' has no valid {}", field.name())]
    Missing {
        /// The map's name.
        map: String,
        /// What it is to point to.
        field: SpecialField,
    },
    /// The field is elsewhere in the value.
    #[error("off {off} doesn't point to 'struct {}' that is at {at}", field.name())]
    Elsewhere {
        /// Where it points to, in bytes.
        off: i64,
        /// Where the field is, in bytes.
        at: u32,
        /// What it is to point to.
        field: SpecialField,
    },
}

/// Why a lock cannot be given back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UnlockFault {
    /// None is held.
    #[error("bpf_spin_unlock without taking a lock")]
    NotHeld,
    /// It is that of another element than the one that is held.
    #[error("bpf_spin_unlock of different lock")]
    OfAnother,
}

/// What is not possible while a lock is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UnderLock {
    /// A call of a helper or a kernel function.
    #[error("function calls are not allowed while holding a lock")]
    Call,
    /// A call of a function that is verified on its own.
    #[error("use static function instead")]
    GlobalCall,
    /// The end of the program.
    #[error("{0} cannot be used inside bpf_spin_lock-ed region")]
    End(Ending),
}

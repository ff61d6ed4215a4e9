//! What is wrong with the use of fields of map values that the kernel guards.

use alloc::string::String;

use ebpf_isa::Reg;
use ebpf_isa::uapi::ProgramType;

use super::{Ending, text};
use crate::map_fields::SpecialField;
use crate::rules::LATER_RANGE;

/// What is wrong with the use of a field: a pointer that a helper is given is not to one of the kind that
/// it takes, or programs of this type may not have it at all.
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
    /// A timer is initialised with another map than the one that it is in.
    #[error("timer pointer in R1 map_uid=0 doesn't match map pointer in R2 map_uid=0")]
    OtherMap,
    /// Programs of this type may not refer to a map with the field.
    #[error("{} progs cannot use {} yet", programs(*program_type), field.name())]
    Program {
        /// The field.
        field: SpecialField,
        /// The program's type.
        program_type: ProgramType,
    },
}

/// What programs are called that may not have some fields.
const fn programs(program_type: ProgramType) -> &'static str {
    match program_type {
        ProgramType::SocketFilter => "socket filter",
        _ => "tracing",
    }
}

/// What is wrong with a lock that is held, or is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LockFault {
    /// One is given back, but none is held.
    #[error("bpf_spin_unlock without taking a lock")]
    NotHeld,
    /// That of another element is given back than the one that is held.
    #[error("bpf_spin_unlock of different lock")]
    OfAnother,
    /// A helper or a kernel function is called while one is held.
    #[error("function calls are not allowed while holding a lock")]
    Call,
    /// A function that is verified on its own is called while one is held.
    #[error("use static function instead")]
    GlobalCall,
    /// The program ends while one is held.
    #[error("{0} cannot be used inside bpf_spin_lock-ed region")]
    End(Ending),
}

/// What a function that runs later returns, which is to be 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LaterFault {
    /// Something that is not a number.
    #[error("is not a known value ({kind})")]
    Pointer {
        /// What it is.
        kind: &'static str,
    },
    /// A number that may be another one.
    #[error("{}", text::value_outside(*smin, *smax, LATER_RANGE))]
    Value {
        /// Its least value.
        smin: i64,
        /// Its greatest value.
        smax: i64,
    },
}

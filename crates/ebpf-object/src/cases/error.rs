//! What is wrong with a case.

use std::path::PathBuf;

use ebpf_isa::SlotBytesError;

/// A case that cannot be read.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{problem}")]
pub struct CaseError {
    /// The id, as far as the line has one.
    pub id: Option<String>,
    /// What is wrong.
    #[source]
    pub problem: CaseProblem,
}

/// What is wrong with a case.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum CaseProblem {
    /// The line is not JSON.
    #[error("not JSON: {reason}")]
    Json {
        /// What the reader of JSON says.
        reason: String,
    },
    /// The line has more bytes than [`super::MAX_LINE_BYTES`].
    #[error("the line is longer than the limit of {} bytes", super::MAX_LINE_BYTES)]
    LineTooLong,
    /// The line is not text.
    #[error("the line is not UTF-8 text")]
    NotText,
    /// A field that must be there is not.
    #[error("field `{0}` is missing")]
    Missing(&'static str),
    /// A field of the wrong kind.
    #[error("field `{field}` is not {expected}")]
    Wrong {
        /// The field.
        field: &'static str,
        /// What it should be.
        expected: &'static str,
    },
    /// No program type has this name.
    #[error("there is no program type `{name}`")]
    ProgramType {
        /// The name.
        name: String,
    },
    /// Instructions that are no slots.
    #[error(transparent)]
    Slots(#[from] SlotBytesError),
    /// More maps than [`super::MAX_MAPS`].
    #[error("{count} maps, more than the limit of {}", super::MAX_MAPS)]
    TooManyMaps {
        /// How many.
        count: usize,
    },
    /// A reference to a map that is not there, or from something that is no wide load.
    #[error("`map_refs`: slot {slot} is no wide load, or there is no map {map}")]
    MapReference {
        /// The slot.
        slot: u32,
        /// The map.
        map: u32,
    },
    /// A reference to a kernel function from outside of the program.
    #[error("`kfunc_refs`: there is no slot {slot}")]
    KfuncReference {
        /// The slot.
        slot: u32,
    },
    /// A file that cannot be read.
    #[error("{}: {reason}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system says.
        reason: String,
    },
}

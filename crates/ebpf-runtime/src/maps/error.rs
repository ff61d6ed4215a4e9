//! What can go wrong with maps.

use ebpf_isa::uapi::MapType;

/// Why a map cannot be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CreateMapError {
    /// The runtime has no such maps.
    #[error("map `{name}`: maps of type {map_type} are not supported")]
    UnsupportedType {
        /// The map.
        name: String,
        /// Its type.
        map_type: MapType,
    },
    /// The runtime has no sockets that such a map could hold.
    #[error(
        "map `{name}`: maps of type {map_type} hold sockets, and there are no sockets here; such programs can only be verified"
    )]
    NoSockets {
        /// The map.
        name: String,
        /// Its type.
        map_type: MapType,
    },
    /// A map of maps for which nobody says what its maps are like.
    #[error("map `{name}`: maps of type {map_type} need a description of the maps they hold")]
    NoInner {
        /// The map.
        name: String,
        /// Its type.
        map_type: MapType,
    },
    /// Sizes that the type does not allow.
    #[error("map `{name}`: {reason}")]
    BadSize {
        /// The map.
        name: String,
        /// What is wrong.
        reason: &'static str,
    },
}

/// Why an operation on a map failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MapError {
    /// A key or value that has not the map's size.
    #[error("the {what} has {got} bytes, the map's has {want}")]
    WrongSize {
        /// `key` or `value`.
        what: &'static str,
        /// Bytes given.
        got: usize,
        /// Bytes wanted.
        want: u32,
    },
    /// Update flags that are none.
    #[error("no update has the flags {flags:#x}")]
    BadFlags {
        /// The flags.
        flags: u64,
    },
    /// All elements are in use, or the index is beyond the array's end.
    #[error("the map is full, or the index beyond its end")]
    Full,
    /// An element exists where none may.
    #[error("the element exists already")]
    Exists,
    /// No element where there must be one.
    #[error("there is no such element")]
    NotFound,
    /// Elements of this type of map are always there.
    #[error("elements of this type of map cannot be deleted")]
    CannotDelete,
    /// A map that is not like those that the map of maps holds.
    #[error("the map is not like those that the map of maps was made for")]
    OtherInner,
    /// The operation is for maps that hold values.
    #[error("the map holds maps, not values")]
    HoldsMaps,
    /// The map takes events.
    #[error("the map takes events, and holds neither values nor maps")]
    HoldsEvents,
    /// There is no room for an event.
    #[error("there is no room for the event until others are taken out")]
    NoSpace,
    /// The operation is for maps that hold maps.
    #[error("the map holds values, not maps")]
    HoldsValues,
    /// The map is frozen.
    #[error("the map is frozen")]
    Frozen,
}

impl MapError {
    /// The Linux error number that a program gets, negated, from the helper.
    #[must_use]
    pub const fn errno(&self) -> i32 {
        const EPERM: i32 = 1;
        const ENOENT: i32 = 2;
        const E2BIG: i32 = 7;
        const EEXIST: i32 = 17;
        const EINVAL: i32 = 22;
        const ENOSPC: i32 = 28;
        match self {
            Self::WrongSize { .. }
            | Self::BadFlags { .. }
            | Self::CannotDelete
            | Self::OtherInner
            | Self::HoldsMaps
            | Self::HoldsEvents
            | Self::HoldsValues => EINVAL,
            Self::Full => E2BIG,
            Self::NoSpace => ENOSPC,
            Self::Exists => EEXIST,
            Self::NotFound => ENOENT,
            Self::Frozen => EPERM,
        }
    }
}

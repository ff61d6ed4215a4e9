//! Descriptions of maps.

use super::MapType;

/// Flags of a map (`BPF_F_*` of `BPF_MAP_CREATE`).
pub mod map_flags {
    /// Allocate elements when they are inserted.
    pub const NO_PREALLOC: u32 = 1 << 0;
    /// Programs may only read.
    pub const RDONLY_PROG: u32 = 1 << 7;
    /// Programs may only write.
    pub const WRONLY_PROG: u32 = 1 << 8;
    /// The values may be mapped into user space.
    pub const MMAPABLE: u32 = 1 << 10;
    /// Maps of maps may hold arrays of other sizes beside one with this flag.
    pub const INNER_MAP: u32 = 1 << 12;
}

/// What a map is, without its contents.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct MapDesc {
    /// Type of the map.
    pub map_type: MapType,
    /// Size of a key in bytes.
    pub key_size: u32,
    /// Size of a value in bytes.
    pub value_size: u32,
    /// Number of elements it can hold.
    pub max_entries: u32,
    /// Flags: see [`map_flags`].
    pub flags: u32,
}

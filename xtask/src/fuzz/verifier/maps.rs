//! The maps of generated programs: always the same.

use ebpf_runtime::isa::uapi::{MapType, map_flags};
use ebpf_runtime::object::cases::{CaseMap, MapTypes};

/// A map.
pub(super) struct MapShape {
    map_type: MapType,
    key_size: u32,
    pub(super) value_size: u32,
    entries: u32,
    /// Contents, for a map that nobody may write.
    frozen: Option<[u8; 16]>,
}

const fn shape(map_type: MapType, key_size: u32, value_size: u32, entries: u32) -> MapShape {
    MapShape { map_type, key_size, value_size, entries, frozen: None }
}

const CONTENTS: [u8; 16] = [7, 0, 0, 0, 0xff, 0, 0, 0, 0, 0, 0, 0x80, 1, 2, 3, 4];

/// The maps that programs may name.
pub(super) const MAPS: [MapShape; 6] = [
    shape(MapType::Array, 4, 16, 4),
    shape(MapType::Hash, 8, 24, 8),
    shape(MapType::Array, 4, 48, 1),
    MapShape { frozen: Some(CONTENTS), ..shape(MapType::Array, 4, CONTENTS.len() as u32, 1) },
    shape(MapType::ProgArray, 4, 4, 2),
    shape(MapType::Ringbuf, 0, 0, 4096),
];

/// Which of them nobody may write.
pub(super) const FROZEN: usize = 3;
/// The first ones, so many, have values that programs read and write.
pub(super) const WITH_VALUES: usize = 4;
/// Which of them has programs.
pub(super) const PROGRAMS: usize = 4;
/// Which of them is a ring buffer.
pub(super) const RING_BUFFER: usize = 5;

impl MapShape {
    const fn flags(&self) -> u32 {
        if self.frozen.is_some() { map_flags::RDONLY_PROG } else { 0 }
    }

    pub(super) fn case(&self) -> CaseMap {
        CaseMap {
            // As the kernel is given it, which names it in its log.
            name: String::new(),
            map_type: self.map_type.number(),
            key_size: self.key_size,
            value_size: self.value_size,
            max_entries: self.entries,
            flags: self.flags(),
            extra: 0,
            inner: None,
            held: Vec::new(),
            init: self.frozen.iter().map(|value| (vec![0; 4], value.to_vec())).collect(),
            frozen: self.frozen.is_some(),
            types: MapTypes::None,
            programs: Vec::new(),
        }
    }

    /// The line of an `env` section.
    pub(super) fn env(&self) -> String {
        let Self { map_type, key_size, value_size, entries, frozen } = self;
        let sizes = format!("map {map_type} {key_size} {value_size} {entries}");
        match frozen {
            Some(contents) => format!("{sizes} rdonly_prog frozen={}", hex::encode(contents)),
            None => sizes,
        }
    }
}

//! Maps: the memory that programs and their host share.
//!
//! Values live in slabs that never move and are never unmapped while anything refers to the map: a
//! program may hold the address of a value for as long as it runs. Deleted elements are recycled,
//! so an old address reads another element's value at worst, never foreign memory. The host reads
//! and writes by copying, in words that are atomic; it never gets a reference into a value.

mod array;
mod error;
mod hash;
mod slab;

use std::sync::atomic::{AtomicBool, Ordering};

use ebpf_isa::uapi::{MapDesc, MapType, map_flags};
use ebpf_verifier::ArrayLayout;

pub use error::{CreateMapError, MapError};

use array::Array;
use hash::Hash;
use slab::Slab;

/// Most memory that the values of one map may take, in bytes.
pub const MAX_VALUES_BYTES: u64 = 1 << 30;
/// Largest key and value, in bytes.
pub const MAX_ELEMENT_BYTES: u32 = 1 << 22;

/// What [`Map::update`] does about an element that exists, or does not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UpdateMode {
    /// Insert or replace (`BPF_ANY`).
    Any,
    /// Insert only (`BPF_NOEXIST`).
    NoExist,
    /// Replace only (`BPF_EXIST`).
    Exist,
}

impl UpdateMode {
    /// The mode with this number in the ABI.
    ///
    /// # Errors
    /// [`MapError::BadFlags`] for any other number.
    pub fn from_flags(flags: u64) -> Result<Self, MapError> {
        match flags {
            0 => Ok(Self::Any),
            1 => Ok(Self::NoExist),
            2 => Ok(Self::Exist),
            _ => Err(MapError::BadFlags { flags }),
        }
    }
}

/// A map. Shared between programs and threads behind an [`Arc`](std::sync::Arc).
#[derive(Debug)]
pub struct Map {
    name: String,
    desc: MapDesc,
    storage: Storage,
    frozen: AtomicBool,
}

#[derive(Debug)]
enum Storage {
    Array(Array),
    Hash(Hash),
}

impl Map {
    /// Makes an empty map.
    ///
    /// # Errors
    /// A type that the runtime does not have, or sizes that the type does not allow.
    pub fn new(name: &str, desc: MapDesc) -> Result<Self, CreateMapError> {
        let bad = |reason| CreateMapError::BadSize { name: name.to_owned(), reason };
        if desc.max_entries == 0 || desc.key_size == 0 || desc.value_size == 0 {
            return Err(bad("key size, value size and number of entries must not be 0"));
        }
        if desc.key_size > MAX_ELEMENT_BYTES || desc.value_size > MAX_ELEMENT_BYTES {
            return Err(bad("a key or value is larger than 4 MiB"));
        }
        let values = || {
            Slab::new(desc.max_entries, desc.value_size)
                .ok_or_else(|| bad("the values take more than 1 GiB"))
        };
        let storage = match desc.map_type {
            MapType::Array if desc.key_size != 4 => {
                return Err(bad("the key of an array is 4 bytes"));
            }
            MapType::Array => Storage::Array(Array::new(values()?)),
            MapType::Hash => Storage::Hash(Hash::new(values()?)),
            map_type => {
                return Err(CreateMapError::UnsupportedType { name: name.to_owned(), map_type });
            }
        };
        Ok(Self { name: name.to_owned(), desc, storage, frozen: AtomicBool::new(false) })
    }

    /// The name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Type, sizes and flags.
    #[must_use]
    pub fn desc(&self) -> &MapDesc {
        &self.desc
    }

    /// Forbids the host to write from now on. Programs are held back by the map's flags.
    pub fn freeze(&self) {
        self.frozen.store(true, Ordering::Release);
    }

    /// The bytes of the only value, if they can never change again: the map is frozen and programs
    /// may only read it.
    #[must_use]
    pub fn constant_value(&self) -> Option<Vec<u8>> {
        let read_only = self.desc.flags & map_flags::RDONLY_PROG != 0;
        match &self.storage {
            Storage::Array(array) if read_only && self.is_frozen() => Some(array.contents()),
            _ => None,
        }
    }

    /// A copy of the value at `key`, if there is one.
    ///
    /// # Errors
    /// The key has not the map's key size.
    pub fn lookup(&self, key: &[u8]) -> Result<Option<Vec<u8>>, MapError> {
        self.check_size("key", key, self.desc.key_size)?;
        Ok(match &self.storage {
            Storage::Array(array) => array.find(key).map(|index| array.values.read(index)),
            Storage::Hash(hash) => hash.lookup(key),
        })
    }

    /// Writes the value at `key`.
    ///
    /// # Errors
    /// Wrong sizes, a full or frozen map, or `mode` forbids it.
    pub fn update(&self, key: &[u8], value: &[u8], mode: UpdateMode) -> Result<(), MapError> {
        if self.is_frozen() {
            return Err(MapError::Frozen);
        }
        self.update_from_program(key, value, mode)
    }

    /// Removes the element at `key`.
    ///
    /// # Errors
    /// Wrong key size, no such element, or a map whose elements are always there.
    pub fn delete(&self, key: &[u8]) -> Result<(), MapError> {
        if self.is_frozen() {
            return Err(MapError::Frozen);
        }
        self.delete_from_program(key)
    }

    /// Copies of all elements, sorted by key. Elements that come or go meanwhile may be missing.
    #[must_use]
    pub fn elements(&self) -> Vec<(Vec<u8>, Vec<u8>)> {
        match &self.storage {
            Storage::Array(array) => array.elements(),
            Storage::Hash(hash) => hash.elements(),
        }
    }

    /// As [`Map::update`], for programs: freezing binds the host only.
    pub(crate) fn update_from_program(
        &self,
        key: &[u8],
        value: &[u8],
        mode: UpdateMode,
    ) -> Result<(), MapError> {
        self.check_size("key", key, self.desc.key_size)?;
        self.check_size("value", value, self.desc.value_size)?;
        match &self.storage {
            Storage::Array(array) => array.update(key, value, mode),
            Storage::Hash(hash) => hash.update(key, value, mode),
        }
    }

    /// As [`Map::delete`], for programs.
    pub(crate) fn delete_from_program(&self, key: &[u8]) -> Result<(), MapError> {
        self.check_size("key", key, self.desc.key_size)?;
        match &self.storage {
            Storage::Array(_) => Err(MapError::CannotDelete),
            Storage::Hash(hash) => hash.delete(key),
        }
    }

    /// The address of the value at `key`, for programs; the key has the right size.
    pub(crate) fn value_address(&self, key: &[u8]) -> Option<u64> {
        match &self.storage {
            Storage::Array(array) => array.find(key).map(|index| array.values.address(index)),
            Storage::Hash(hash) => hash.value_address(key),
        }
    }

    /// The address of the first value, where programs may hold addresses in it from the start.
    pub(crate) fn first_value_address(&self) -> Option<u64> {
        match &self.storage {
            Storage::Array(array) => Some(array.values.address(0)),
            Storage::Hash(_) => None,
        }
    }

    /// How the values lie, where all are there from the start.
    pub(crate) fn array_layout(&self) -> Option<ArrayLayout> {
        match &self.storage {
            Storage::Array(array) => Some(array.values.layout()),
            Storage::Hash(_) => None,
        }
    }

    fn is_frozen(&self) -> bool {
        self.frozen.load(Ordering::Acquire)
    }

    fn check_size(&self, what: &'static str, bytes: &[u8], size: u32) -> Result<(), MapError> {
        if bytes.len() != size as usize {
            return Err(MapError::WrongSize { what, got: bytes.len(), want: size });
        }
        Ok(())
    }
}

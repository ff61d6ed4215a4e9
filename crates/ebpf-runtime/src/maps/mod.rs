//! Maps: the memory that programs and their host share.
//!
//! Values live in slabs that never move and are never unmapped while anything refers to the map: a
//! program may hold the address of a value for as long as it runs. Deleted elements are recycled,
//! so an old address reads another element's value at worst, never foreign memory. The host reads
//! and writes by copying, in words that are atomic; it never gets a reference into a value.
//!
//! Maps of maps give programs the handles of their inner maps: see [`Map::put`].

mod array;
mod error;
mod events;
mod hash;
mod outer;
mod slab;
mod values;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ebpf_isa::abi::ElementCursor;
use ebpf_isa::uapi::{MapDesc, MapType, map_flags};
use ebpf_verifier::ArrayLayout;

pub use error::{CreateMapError, MapError};
pub(crate) use outer::Epoch;

use array::Array;
use events::Events;
use hash::Hash;
use outer::Outer;
use slab::Slab;
use values::Values;

/// Most memory that the values of one map may take, in bytes.
pub const MAX_VALUES_BYTES: u64 = 1 << 30;
/// Most bytes of events that a ring buffer has room for.
pub const MAX_EVENT_BYTES: u64 = 1 << 28;
/// Bytes of events that an array of perf events has room for.
pub const PERF_EVENT_BYTES: u64 = 1 << 20;
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

/// Key and value of an element.
type Element = (Vec<u8>, Vec<u8>);

/// Who writes a value.
#[derive(Debug, Clone, Copy)]
enum Writer {
    /// The host, which sees the values of all slots of per-CPU maps.
    Host,
    /// A run, which sees the one of the slot that it holds.
    Run { cpu_slot: u32 },
}

impl Writer {
    /// Overwrites a value, of an element that is `new` or was there.
    fn write(self, values: &Values, element: u32, bytes: &[u8], new: bool) {
        match self {
            Self::Host => values.write(element, bytes),
            Self::Run { cpu_slot } => values.write_slot(element, bytes, cpu_slot, new),
        }
    }
}

/// A map. Shared between programs and threads behind an [`Arc`].
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
    Outer(Outer),
    Events(Events),
}

impl Map {
    /// Makes an empty map: [`Self::with_cpus`] with one slot.
    ///
    /// # Errors
    /// A type that the runtime does not have, or sizes that the type does not allow.
    pub fn new(name: &str, desc: MapDesc) -> Result<Self, CreateMapError> {
        Self::with_cpus(name, desc, 1)
    }

    /// Makes an empty map, whose elements have so many values, at least one, if its type is a per-CPU one. A run uses that
    /// of the slot which its environment holds ([`ExecEnv::cpu_slot`](ebpf_isa::abi::ExecEnv)), or
    /// the last one.
    ///
    /// # Errors
    /// As for [`Self::new`].
    pub fn with_cpus(name: &str, desc: MapDesc, cpus: u32) -> Result<Self, CreateMapError> {
        let bad = |reason| CreateMapError::BadSize { name: name.to_owned(), reason };
        if let Some(bytes) = event_bytes(&desc) {
            if !(1..=MAX_EVENT_BYTES).contains(&bytes) {
                return Err(bad("a ring buffer has 1 byte to 256 MiB"));
            }
            let storage = Storage::Events(Events::new(bytes));
            return Ok(Self {
                name: name.to_owned(),
                desc,
                storage,
                frozen: AtomicBool::new(false),
            });
        }
        if desc.max_entries == 0 || desc.key_size == 0 || desc.value_size == 0 {
            return Err(bad("key size, value size and number of entries must not be 0"));
        }
        if desc.key_size > MAX_ELEMENT_BYTES || desc.value_size > MAX_ELEMENT_BYTES {
            return Err(bad("a key or value is larger than 4 MiB"));
        }
        let values = |copies| {
            Values::new(desc.max_entries, desc.value_size, copies)
                .ok_or_else(|| bad("the values take more than 1 GiB"))
        };
        let array = |copies| match desc.key_size {
            4 => Ok(Storage::Array(Array::new(values(copies)?))),
            _ => Err(bad("the key of an array is 4 bytes")),
        };
        let hash = |copies, evicts| {
            let keys = Slab::new(desc.max_entries, desc.key_size);
            let keys = keys.ok_or_else(|| bad("the keys take more than 1 GiB"))?;
            Ok(Storage::Hash(Hash::new(keys, values(copies)?, evicts)))
        };
        let cpus = Some(cpus.max(1));
        let storage = match desc.map_type {
            MapType::Array => array(None)?,
            MapType::PercpuArray => array(cpus)?,
            MapType::Hash => hash(None, false)?,
            MapType::PercpuHash => hash(cpus, false)?,
            MapType::LruHash => hash(None, true)?,
            MapType::LruPercpuHash => hash(cpus, true)?,
            // Their elements are there once the host has put them in.
            MapType::Devmap | MapType::Cpumap if desc.key_size != 4 => {
                return Err(bad("the key of an array is 4 bytes"));
            }
            MapType::Devmap | MapType::Cpumap | MapType::DevmapHash => hash(None, false)?,
            map_type @ (MapType::ArrayOfMaps | MapType::HashOfMaps) => {
                return Err(CreateMapError::NoInner { name: name.to_owned(), map_type });
            }
            map_type if holds_sockets(map_type) => {
                return Err(CreateMapError::NoSockets { name: name.to_owned(), map_type });
            }
            map_type => {
                return Err(CreateMapError::UnsupportedType { name: name.to_owned(), map_type });
            }
        };
        Ok(Self { name: name.to_owned(), desc, storage, frozen: AtomicBool::new(false) })
    }

    /// Makes an empty map of maps, which holds maps like `inner`.
    ///
    /// # Errors
    /// The type is not one of maps of maps, or `inner` is, or sizes are not what the type allows.
    pub fn of_maps(name: &str, desc: MapDesc, inner: MapDesc) -> Result<Self, CreateMapError> {
        let bad = |reason| CreateMapError::BadSize { name: name.to_owned(), reason };
        let is_array = match desc.map_type {
            MapType::ArrayOfMaps => true,
            MapType::HashOfMaps => false,
            map_type => {
                return Err(CreateMapError::UnsupportedType { name: name.to_owned(), map_type });
            }
        };
        if desc.max_entries == 0 || desc.key_size == 0 || desc.value_size != 4 {
            let reason = "a map of maps has keys, entries, and values of 4 bytes";
            return Err(bad(reason));
        }
        if desc.key_size > MAX_ELEMENT_BYTES || is_array && desc.key_size != 4 {
            return Err(bad("the key of an array is 4 bytes, that of a hash map at most 4 MiB"));
        }
        if matches!(inner.map_type, MapType::ArrayOfMaps | MapType::HashOfMaps) {
            return Err(bad("maps of maps hold no maps of maps"));
        }
        let entries = is_array.then_some(desc.max_entries);
        let storage = Storage::Outer(Outer::new(inner, entries, desc.max_entries));
        Ok(Self { name: name.to_owned(), desc, storage, frozen: AtomicBool::new(false) })
    }

    /// What the maps are like that a map of maps holds; `None` for other maps.
    #[must_use]
    pub fn inner_desc(&self) -> Option<&MapDesc> {
        match &self.storage {
            Storage::Outer(outer) => Some(outer.inner_desc()),
            _ => None,
        }
    }

    /// Puts a map into a map of maps. Runs that found another one at `key` go on with that; it is kept
    /// until they have ended.
    ///
    /// # Errors
    /// This is no map of maps, or is full or frozen; `inner` is not like those it holds; wrong key size, or `mode`
    /// forbids it.
    pub fn put(&self, key: &[u8], inner: Arc<Self>, mode: UpdateMode) -> Result<(), MapError> {
        if self.is_frozen() {
            return Err(MapError::Frozen);
        }
        self.check_size("key", key, self.desc.key_size)?;
        match &self.storage {
            Storage::Outer(outer) => outer.put(key, inner, mode),
            _ => Err(MapError::HoldsValues),
        }
    }

    /// The maps that a map of maps holds, sorted by key; nothing for other maps.
    #[must_use]
    pub fn inner_maps(&self) -> Vec<(Vec<u8>, Arc<Self>)> {
        match &self.storage {
            Storage::Outer(outer) => outer.maps(),
            _ => Vec::new(),
        }
    }

    /// What keeps the inner maps that a run may find from now on, if this is a map of maps.
    pub(crate) fn hold(&self) -> Option<Arc<Epoch>> {
        match &self.storage {
            Storage::Outer(outer) => Some(outer.hold()),
            _ => None,
        }
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

    /// A copy of the value at `key`, if there is one; in per-CPU maps the values of all slots, each
    /// filled up to a multiple of 8 bytes.
    ///
    /// # Errors
    /// The key has not the map's key size, or the map holds maps.
    pub fn lookup(&self, key: &[u8]) -> Result<Option<Vec<u8>>, MapError> {
        self.check_size("key", key, self.desc.key_size)?;
        Ok(match &self.storage {
            Storage::Array(array) => array.find(key).map(|index| array.values.read(index)),
            Storage::Hash(hash) => hash.lookup(key),
            Storage::Outer(_) => return Err(MapError::HoldsMaps),
            Storage::Events(_) => return Err(MapError::HoldsEvents),
        })
    }

    /// Writes the value at `key`; in per-CPU maps the values of all slots, as [`Self::lookup`] gives them.
    ///
    /// # Errors
    /// Wrong sizes, a full or frozen map, or `mode` forbids it.
    pub fn update(&self, key: &[u8], value: &[u8], mode: UpdateMode) -> Result<(), MapError> {
        if self.is_frozen() {
            return Err(MapError::Frozen);
        }
        self.write(key, value, mode, Writer::Host)
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

    /// Copies of all elements, sorted by key. Elements that come or go meanwhile may be missing. Maps that
    /// are in the map are no such elements: [`Self::inner_maps`].
    #[must_use]
    pub fn elements(&self) -> Vec<Element> {
        match &self.storage {
            Storage::Array(array) => array.elements(),
            Storage::Hash(hash) => hash.elements(),
            Storage::Outer(_) | Storage::Events(_) => Vec::new(),
        }
    }

    /// As [`Map::update`], for programs: freezing binds the host only.
    pub(crate) fn update_from_program(
        &self,
        key: &[u8],
        value: &[u8],
        mode: UpdateMode,
        cpu_slot: u32,
    ) -> Result<(), MapError> {
        self.write(key, value, mode, Writer::Run { cpu_slot })
    }

    fn write(
        &self,
        key: &[u8],
        value: &[u8],
        mode: UpdateMode,
        writer: Writer,
    ) -> Result<(), MapError> {
        self.check_size("key", key, self.desc.key_size)?;
        let values = match &self.storage {
            Storage::Array(array) => &array.values,
            Storage::Hash(hash) => &hash.values,
            Storage::Outer(_) => return Err(MapError::HoldsMaps),
            Storage::Events(_) => return Err(MapError::HoldsEvents),
        };
        let size = match writer {
            Writer::Host => values.host_size(),
            Writer::Run { .. } => self.desc.value_size,
        };
        self.check_size("value", value, size)?;
        let is_sparse = matches!(self.desc.map_type, MapType::Devmap | MapType::Cpumap);
        if is_sparse
            && key.try_into().is_ok_and(|key| u32::from_ne_bytes(key) >= self.desc.max_entries)
        {
            return Err(MapError::Full);
        }
        match &self.storage {
            Storage::Array(array) => array.update(key, value, mode, writer),
            Storage::Hash(hash) => hash.update(key, value, mode, writer),
            Storage::Outer(_) => Err(MapError::HoldsMaps),
            Storage::Events(_) => Err(MapError::HoldsEvents),
        }
    }

    /// As [`Map::delete`], for programs.
    pub(crate) fn delete_from_program(&self, key: &[u8]) -> Result<(), MapError> {
        self.check_size("key", key, self.desc.key_size)?;
        match &self.storage {
            Storage::Array(_) => Err(MapError::CannotDelete),
            Storage::Hash(hash) => hash.delete(key),
            Storage::Outer(outer) => outer.delete(key),
            Storage::Events(_) => Err(MapError::HoldsEvents),
        }
    }

    /// The address of the value at `key`, for programs, or the handle of the map there; the key has the
    /// right size.
    pub(crate) fn value_address(&self, key: &[u8], cpu_slot: u32) -> Option<u64> {
        match &self.storage {
            Storage::Array(array) => {
                array.find(key).map(|index| array.values.address(index, cpu_slot))
            }
            Storage::Hash(hash) => hash.value_address(key, cpu_slot),
            Storage::Outer(outer) => outer.find(key).map(|map| map.handle()),
            Storage::Events(_) => None,
        }
    }

    /// The address of the next value of a walk, for programs.
    pub(crate) fn next(&self, cursor: &mut ElementCursor, cpu_slot: u32) -> Option<u64> {
        let value = match &self.storage {
            Storage::Array(array) => array.next(cursor, cpu_slot),
            Storage::Hash(hash) => hash.next(cursor, cpu_slot),
            Storage::Outer(_) | Storage::Events(_) => None,
        }?;
        cursor.count += 1;
        Some(value)
    }

    /// Takes the events out of a ring buffer or an array of perf events that programs have put in, in their
    /// order; nothing from other maps.
    #[must_use]
    pub fn take_events(&self) -> Vec<Vec<u8>> {
        self.events().map(Events::take).unwrap_or_default()
    }

    /// How many events there was no room for.
    #[must_use]
    pub fn lost_events(&self) -> u64 {
        self.events().map_or(0, Events::lost)
    }

    /// Whether the map takes events: a ring buffer, or an array of perf events.
    #[must_use]
    pub fn takes_events(&self) -> bool {
        self.events().is_some()
    }

    fn events(&self) -> Option<&Events> {
        match &self.storage {
            Storage::Events(events) => Some(events),
            _ => None,
        }
    }

    /// Room for an event of so many bytes, for programs.
    pub(crate) fn reserve(&self, len: u32) -> Option<u64> {
        self.events()?.reserve(self.handle(), len)
    }

    /// Ends the event at this address, for programs.
    pub(crate) fn finish(&self, address: u64, discard: bool) {
        if let Some(events) = self.events() {
            events.finish(address, discard);
        }
    }

    /// An event of these pieces, for programs. An array of perf events is asked for the element of an index,
    /// or of the run's slot.
    pub(crate) fn output(
        &self,
        index: u32,
        cpu_slot: u32,
        pieces: &[&[u8]],
    ) -> Result<(), MapError> {
        let index = if index == u32::MAX { cpu_slot } else { index };
        if self.desc.map_type == MapType::PerfEventArray && index >= self.desc.max_entries {
            return Err(MapError::Full);
        }
        self.events().ok_or(MapError::HoldsValues)?.output(self.handle(), pieces)
    }

    /// What `bpf_ringbuf_query` answers.
    pub(crate) fn query(&self, what: u64) -> u64 {
        self.events().map_or(0, |events| events.query(what))
    }

    /// What programs get as the handle of the map.
    pub(crate) fn handle(&self) -> u64 {
        std::ptr::from_ref(self).expose_provenance() as u64
    }

    /// The address of the first value, where programs may hold addresses in it from the start.
    pub(crate) fn first_value_address(&self) -> Option<u64> {
        match &self.storage {
            Storage::Array(array) if array.values.layout().is_some() => {
                Some(array.values.address(0, 0))
            }
            _ => None,
        }
    }

    /// How the values lie, where all are there from the start.
    pub(crate) fn array_layout(&self) -> Option<ArrayLayout> {
        match &self.storage {
            Storage::Array(array) => array.values.layout(),
            _ => None,
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

/// Whether the elements of such a map are sockets.
const fn holds_sockets(map_type: MapType) -> bool {
    matches!(
        map_type,
        MapType::Sockmap
            | MapType::Sockhash
            | MapType::Xskmap
            | MapType::ReuseportSockarray
            | MapType::SkStorage
    )
}

/// Bytes of events that such a map has room for, if it is for events.
fn event_bytes(desc: &MapDesc) -> Option<u64> {
    match desc.map_type {
        MapType::Ringbuf => Some(desc.max_entries.into()),
        MapType::PerfEventArray => Some(PERF_EVENT_BYTES),
        _ => None,
    }
}

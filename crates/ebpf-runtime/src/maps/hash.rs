//! Hash maps, plain and such that make room for new elements.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use ebpf_isa::abi::ElementCursor;

use super::slab::Slab;
use super::values::Values;
use super::{Element, MapError, UpdateMode, Writer};

#[derive(Debug)]
pub(super) struct Hash {
    /// By slot, like values: programs that walk over the elements hold addresses of keys.
    keys: Slab,
    pub(super) values: Values,
    table: RwLock<Table>,
    /// By slot: whether the element was used since it was last passed over. Only maps that make room for new
    /// elements have this.
    recent: Option<Box<[AtomicBool]>>,
}

/// Which value belongs to which key. The values of the slab are used in order, then recycled.
#[derive(Debug, Default)]
struct Table {
    slots: HashMap<Box<[u8]>, u32>,
    recycled: Vec<u32>,
    /// By slot: whether there is an element. Slots from here on were never used.
    used: Vec<bool>,
    /// The slot that is looked at next when room is made.
    hand: u32,
}

impl Hash {
    /// An empty map. If it `evicts`, it makes room for new elements where it is full.
    pub(super) fn new(keys: Slab, values: Values, evicts: bool) -> Self {
        let flags = || (0..values.len()).map(|_| AtomicBool::new(false)).collect();
        Self { recent: evicts.then(flags), keys, values, table: RwLock::default() }
    }

    pub(super) fn lookup(&self, key: &[u8]) -> Option<Vec<u8>> {
        let table = self.read();
        table.slots.get(key).map(|&slot| self.values.read(slot))
    }

    pub(super) fn value_address(&self, key: &[u8], cpu_slot: u32) -> Option<u64> {
        let table = self.read();
        let slot = *table.slots.get(key)?;
        self.touch(slot);
        Some(self.values.address(slot, cpu_slot))
    }

    pub(super) fn update(
        &self,
        key: &[u8],
        value: &[u8],
        mode: UpdateMode,
        writer: Writer,
    ) -> Result<(), MapError> {
        let mut table = self.write();
        let known = table.slots.get(key).copied();
        let slot = match (known, mode) {
            (Some(_), UpdateMode::NoExist) => return Err(MapError::Exists),
            (None, UpdateMode::Exist) => return Err(MapError::NotFound),
            (Some(slot), _) => slot,
            (None, _) => self.insert(&mut table, key).ok_or(MapError::Full)?,
        };
        writer.write(&self.values, slot, value, known.is_none());
        Ok(())
    }

    pub(super) fn delete(&self, key: &[u8]) -> Result<(), MapError> {
        let mut table = self.write();
        let slot = table.slots.remove(key).ok_or(MapError::NotFound)?;
        table.used[slot as usize] = false;
        table.recycled.push(slot);
        Ok(())
    }

    /// The next element of a walk, in the order of slots. Elements that come meanwhile may be passed over.
    pub(super) fn next(&self, cursor: &mut ElementCursor, cpu_slot: u32) -> Option<u64> {
        let table = self.read();
        let from = usize::try_from(cursor.position).ok()?;
        let slot = from + table.used.get(from..)?.iter().position(|&used| used)?;
        cursor.position = slot as u64 + 1;
        cursor.key = self.keys.address(slot as u32);
        Some(self.values.address(slot as u32, cpu_slot))
    }

    pub(super) fn elements(&self) -> Vec<Element> {
        let table = self.read();
        let slots = table.slots.iter();
        let mut elements: Vec<_> =
            slots.map(|(key, &slot)| (key.to_vec(), self.values.read(slot))).collect();
        elements.sort_unstable();
        elements
    }

    /// A slot for a key that is not in the map.
    fn insert(&self, table: &mut Table, key: &[u8]) -> Option<u32> {
        let slot = table.take_slot(self.values.len()).or_else(|| self.evict(table))?;
        table.used[slot as usize] = true;
        table.slots.insert(key.into(), slot);
        self.keys.write(slot, key);
        self.touch(slot);
        Some(slot)
    }

    /// Removes an element that was not used lately, if the map does such things: its slot. Every slot is in use.
    fn evict(&self, table: &mut Table) -> Option<u32> {
        let recent = self.recent.as_ref()?;
        // Each flag is cleared on the way, so that the second time around one is found at last.
        let mut slot = table.hand;
        while recent[slot as usize].swap(false, Ordering::Relaxed) {
            slot = (slot + 1) % self.values.len();
        }
        table.hand = (slot + 1) % self.values.len();
        table.slots.remove(&*self.keys.read(slot));
        Some(slot)
    }

    fn touch(&self, slot: u32) {
        if let Some(recent) = &self.recent {
            recent[slot as usize].store(true, Ordering::Relaxed);
        }
    }

    // The table is whole after every operation, so a panic elsewhere while it was locked does no
    // harm.
    fn read(&self) -> RwLockReadGuard<'_, Table> {
        self.table.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Table> {
        self.table.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn take_slot(&mut self, capacity: u32) -> Option<u32> {
        if let Some(slot) = self.recycled.pop() {
            return Some(slot);
        }
        let slot = u32::try_from(self.used.len()).ok().filter(|&slot| slot < capacity)?;
        self.used.push(false);
        Some(slot)
    }
}

//! Hash maps.

use std::collections::HashMap;
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::slab::Slab;
use super::{MapError, UpdateMode};

#[derive(Debug)]
pub(super) struct Hash {
    values: Slab,
    table: RwLock<Table>,
}

/// Which value belongs to which key. The values of the slab are used in order, then recycled.
#[derive(Debug, Default)]
struct Table {
    slots: HashMap<Box<[u8]>, u32>,
    recycled: Vec<u32>,
    fresh: u32,
}

impl Hash {
    pub(super) fn new(values: Slab) -> Self {
        Self { values, table: RwLock::default() }
    }

    pub(super) fn lookup(&self, key: &[u8]) -> Option<Vec<u8>> {
        let table = self.read();
        table.slots.get(key).map(|&slot| self.values.read(slot))
    }

    pub(super) fn value_address(&self, key: &[u8]) -> Option<u64> {
        self.read().slots.get(key).map(|&slot| self.values.address(slot))
    }

    pub(super) fn update(
        &self,
        key: &[u8],
        value: &[u8],
        mode: UpdateMode,
    ) -> Result<(), MapError> {
        let mut table = self.write();
        let slot = match (table.slots.get(key), mode) {
            (Some(_), UpdateMode::NoExist) => return Err(MapError::Exists),
            (None, UpdateMode::Exist) => return Err(MapError::NotFound),
            (Some(&slot), _) => slot,
            (None, _) => {
                let slot = table.take_slot(self.values.len()).ok_or(MapError::Full)?;
                table.slots.insert(key.into(), slot);
                slot
            }
        };
        self.values.write(slot, value);
        Ok(())
    }

    pub(super) fn delete(&self, key: &[u8]) -> Result<(), MapError> {
        let mut table = self.write();
        let slot = table.slots.remove(key).ok_or(MapError::NotFound)?;
        table.recycled.push(slot);
        Ok(())
    }

    pub(super) fn elements(&self) -> Vec<(Vec<u8>, Vec<u8>)> {
        let table = self.read();
        let slots = table.slots.iter();
        let mut elements: Vec<_> =
            slots.map(|(key, &slot)| (key.to_vec(), self.values.read(slot))).collect();
        elements.sort_unstable();
        elements
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
        let slot = self.fresh;
        if slot == capacity {
            return None;
        }
        self.fresh += 1;
        Some(slot)
    }
}

//! Maps of maps.
//!
//! Programs get the handles of inner maps and use them until their run ends, whatever the host does
//! meanwhile. So a run holds the [`Epoch`] in which it began. When a map is taken out, the epoch that is
//! current takes it, ends, and takes the next epoch, too: whoever holds one epoch has all maps that were
//! taken out since.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use ebpf_isa::uapi::{MapDesc, MapType, map_flags};

use super::{Map, MapError, UpdateMode};

#[derive(Debug)]
pub(super) struct Outer {
    inner: MapDesc,
    /// Number of elements of an array, whose keys are below that.
    entries: Option<u32>,
    capacity: u32,
    table: RwLock<Table>,
}

#[derive(Debug, Default)]
struct Table {
    maps: BTreeMap<Box<[u8]>, Arc<Map>>,
    epoch: Arc<Epoch>,
}

/// The time between two maps being taken out.
#[derive(Debug, Default)]
pub(crate) struct Epoch {
    /// What was taken out at its end, and what came then.
    ended: OnceLock<(Arc<Map>, Arc<Epoch>)>,
}

impl Drop for Epoch {
    /// One after the other: a long run leaves a chain that is too long for recursion.
    fn drop(&mut self) {
        let mut next = self.ended.take();
        while let Some((_, epoch)) = next {
            next = Arc::into_inner(epoch).and_then(|mut epoch| epoch.ended.take());
        }
    }
}

impl Outer {
    pub(super) fn new(inner: MapDesc, entries: Option<u32>, capacity: u32) -> Self {
        Self { inner, entries, capacity, table: RwLock::default() }
    }

    pub(super) fn inner_desc(&self) -> &MapDesc {
        &self.inner
    }

    pub(super) fn hold(&self) -> Arc<Epoch> {
        Arc::clone(&self.read().epoch)
    }

    pub(super) fn find(&self, key: &[u8]) -> Option<Arc<Map>> {
        self.read().maps.get(key).cloned()
    }

    pub(super) fn maps(&self) -> Vec<(Vec<u8>, Arc<Map>)> {
        let table = self.read();
        table.maps.iter().map(|(key, map)| (key.to_vec(), Arc::clone(map))).collect()
    }

    pub(super) fn put(&self, key: &[u8], map: Arc<Map>, mode: UpdateMode) -> Result<(), MapError> {
        if !is_like(&self.inner, map.desc()) {
            return Err(MapError::OtherInner);
        }
        let mut table = self.write();
        let is_there = table.maps.contains_key(key);
        match (self.entries, mode) {
            (Some(entries), _) if !is_below(key, entries) => return Err(MapError::Full),
            // The elements of an array are always there, if only as nothing.
            (Some(_), UpdateMode::NoExist) => return Err(MapError::Exists),
            (None, UpdateMode::NoExist) if is_there => return Err(MapError::Exists),
            (None, UpdateMode::Exist) if !is_there => return Err(MapError::NotFound),
            (None, _) if !is_there && table.maps.len() >= self.capacity as usize => {
                return Err(MapError::Full);
            }
            _ => {}
        }
        if let Some(old) = table.maps.insert(key.into(), map) {
            table.retire(old);
        }
        Ok(())
    }

    pub(super) fn delete(&self, key: &[u8]) -> Result<(), MapError> {
        let mut table = self.write();
        let old = table.maps.remove(key).ok_or(MapError::NotFound)?;
        table.retire(old);
        Ok(())
    }

    // The table is whole after every operation.
    fn read(&self) -> RwLockReadGuard<'_, Table> {
        self.table.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Table> {
        self.table.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    /// Keeps a map that was taken out for those who may have found it.
    fn retire(&mut self, map: Arc<Map>) {
        let next = Arc::<Epoch>::default();
        let ended = std::mem::replace(&mut self.epoch, Arc::clone(&next));
        ended.ended.set((map, next)).expect("invariant: the current epoch has not ended");
    }
}

/// Whether a program that was verified for maps like the first one may be given the second.
fn is_like(wanted: &MapDesc, given: &MapDesc) -> bool {
    // A program may rely on the elements of an array to exist, unless it is said that arrays differ.
    let is_array = matches!(wanted.map_type, MapType::Array | MapType::PercpuArray);
    let may_differ = !is_array || wanted.flags & map_flags::INNER_MAP != 0;
    let max_entries = if may_differ { given.max_entries } else { wanted.max_entries };
    MapDesc { max_entries, ..*wanted } == *given
}

/// Whether the index in a key of 4 bytes is below a number.
fn is_below(key: &[u8], entries: u32) -> bool {
    key.try_into().is_ok_and(|key| u32::from_ne_bytes(key) < entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ARRAY: MapDesc =
        MapDesc { map_type: MapType::Array, key_size: 4, value_size: 8, max_entries: 1, flags: 0 };

    fn map() -> Arc<Map> {
        Arc::new(Map::new("inner", ARRAY).unwrap())
    }

    #[test]
    fn what_was_taken_out_lives_as_long_as_somebody_may_use_it() {
        let outer = Outer::new(ARRAY, Some(2), 2);
        let (first, second) = (map(), map());
        let [of_first, of_second] = [&first, &second].map(Arc::downgrade);
        outer.put(&[0; 4], first, UpdateMode::Any).unwrap();
        let early = outer.hold();
        outer.put(&[0; 4], second, UpdateMode::Any).unwrap();
        assert!(of_first.upgrade().is_some(), "a run may have found it");
        let late = outer.hold();
        outer.delete(&[0; 4]).unwrap();
        drop(early);
        assert!(of_first.upgrade().is_none(), "the runs that found it have ended");
        assert!(of_second.upgrade().is_some());
        drop(late);
        assert!(of_second.upgrade().is_none());
    }

    #[test]
    fn a_run_that_began_early_keeps_what_came_later() {
        let outer = Outer::new(ARRAY, None, 2);
        let early = outer.hold();
        let later: Vec<_> = (0..100_000)
            .map(|_| {
                let map = map();
                outer.put(&[0; 4], Arc::clone(&map), UpdateMode::Any).unwrap();
                Arc::downgrade(&map)
            })
            .collect();
        assert!(later.iter().all(|map| map.upgrade().is_some()));
        drop(early);
        assert_eq!(later.iter().filter(|map| map.upgrade().is_some()).count(), 1);
    }

    #[test]
    fn arrays_are_as_long_as_the_one_that_was_promised() {
        let longer = MapDesc { max_entries: 2, ..ARRAY };
        assert!(is_like(&ARRAY, &ARRAY) && !is_like(&ARRAY, &longer));
        let any = |desc| MapDesc { flags: map_flags::INNER_MAP, ..desc };
        assert!(is_like(&any(ARRAY), &any(longer)) && !is_like(&any(ARRAY), &longer));
        let hash = |max_entries| MapDesc { map_type: MapType::Hash, max_entries, ..ARRAY };
        assert!(is_like(&hash(1), &hash(2)) && !is_like(&hash(1), &ARRAY));
    }
}

//! Array maps: every element is there from the start.

use super::slab::Slab;
use super::{MapError, UpdateMode};

#[derive(Debug)]
pub(super) struct Array {
    pub(super) values: Slab,
}

impl Array {
    pub(super) fn new(values: Slab) -> Self {
        Self { values }
    }

    /// The index that a key of 4 bytes holds, if it is inside of the array.
    pub(super) fn find(&self, key: &[u8]) -> Option<u32> {
        let index = u32::from_ne_bytes(key.try_into().ok()?);
        (index < self.values.len()).then_some(index)
    }

    pub(super) fn update(
        &self,
        key: &[u8],
        value: &[u8],
        mode: UpdateMode,
    ) -> Result<(), MapError> {
        let index = self.find(key).ok_or(MapError::Full)?;
        if mode == UpdateMode::NoExist {
            return Err(MapError::Exists);
        }
        self.values.write(index, value);
        Ok(())
    }

    pub(super) fn elements(&self) -> Vec<(Vec<u8>, Vec<u8>)> {
        let element = |index: u32| (index.to_ne_bytes().to_vec(), self.values.read(index));
        (0..self.values.len()).map(element).collect()
    }

    /// The bytes of all values, one after the other.
    pub(super) fn contents(&self) -> Vec<u8> {
        (0..self.values.len()).flat_map(|index| self.values.read(index)).collect()
    }
}

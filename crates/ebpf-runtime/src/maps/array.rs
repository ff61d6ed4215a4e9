//! Array maps: every element is there from the start.

use ebpf_isa::abi::ElementCursor;

use super::values::Values;
use super::{Element, MapError, UpdateMode, Writer};

#[derive(Debug)]
pub(super) struct Array {
    pub(super) values: Values,
}

impl Array {
    pub(super) fn new(values: Values) -> Self {
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
        writer: Writer,
    ) -> Result<(), MapError> {
        let index = self.find(key).ok_or(MapError::Full)?;
        if mode == UpdateMode::NoExist {
            return Err(MapError::Exists);
        }
        writer.write(&self.values, index, value, false);
        Ok(())
    }

    /// The next element of a walk. Its key is the cursor's position, in the first four bytes of that.
    pub(super) fn next(&self, cursor: &mut ElementCursor, cpu_slot: u32) -> Option<u64> {
        let index = u32::try_from(cursor.count).ok().filter(|&index| index < self.values.len())?;
        let mut position = [0; 8];
        position[..4].copy_from_slice(&index.to_ne_bytes());
        cursor.position = u64::from_ne_bytes(position);
        Some(self.values.address(index, cpu_slot))
    }

    pub(super) fn elements(&self) -> Vec<Element> {
        let element = |index: u32| (index.to_ne_bytes().to_vec(), self.values.read(index));
        (0..self.values.len()).map(element).collect()
    }

    /// The bytes of all values, one after the other.
    pub(super) fn contents(&self) -> Vec<u8> {
        (0..self.values.len()).flat_map(|index| self.values.read(index)).collect()
    }
}

//! The values of a map's elements: one for each, or one for each slot of per-CPU maps.

use ebpf_verifier::ArrayLayout;

use super::slab::Slab;

/// Values by element.
#[derive(Debug)]
pub(super) struct Values {
    slab: Slab,
    /// Values that an element has; `None` for the one that all share.
    copies: Option<u32>,
    elements: u32,
}

impl Values {
    /// Zeroed values; `None` where they would take too much memory.
    pub(super) fn new(elements: u32, value_size: u32, copies: Option<u32>) -> Option<Self> {
        let count = elements.checked_mul(copies.unwrap_or(1))?;
        Some(Self { slab: Slab::new(count, value_size)?, copies, elements })
    }

    /// Number of elements.
    pub(super) fn len(&self) -> u32 {
        self.elements
    }

    /// Where a run that holds this slot finds the value of an element. Slots that there are no values for share
    /// the last.
    pub(super) fn address(&self, element: u32, cpu_slot: u32) -> u64 {
        self.slab.address(self.index(element, cpu_slot))
    }

    /// What the host sees of an element: its value, or those of all slots, each taking a multiple of 8 bytes.
    pub(super) fn read(&self, element: u32) -> Vec<u8> {
        let Some(copies) = self.copies else { return self.slab.read(element) };
        let first = element * copies;
        (first..first + copies).flat_map(|index| self.slab.read_padded(index)).collect()
    }

    /// Bytes of what [`Self::read`] gives.
    pub(super) fn host_size(&self) -> u32 {
        self.copies.map_or(self.slab.value_size(), |copies| copies * self.slab.layout().stride)
    }

    /// Overwrites what the host sees of an element.
    pub(super) fn write(&self, element: u32, bytes: &[u8]) {
        let Some(copies) = self.copies else { return self.slab.write(element, bytes) };
        let stride = self.slab.layout().stride as usize;
        for (index, value) in (element * copies..).zip(bytes.chunks(stride)) {
            self.slab.write(index, &value[..self.slab.value_size() as usize]);
        }
    }

    /// Overwrites the value of an element that a run sees; those of other slots become zero if it is `new`.
    pub(super) fn write_slot(&self, element: u32, bytes: &[u8], cpu_slot: u32, new: bool) {
        if let Some(copies) = self.copies.filter(|_| new) {
            let zero = vec![0; self.slab.value_size() as usize];
            let first = element * copies;
            (first..first + copies).for_each(|index| self.slab.write(index, &zero));
        }
        self.slab.write(self.index(element, cpu_slot), bytes);
    }

    /// How the values lie, if elements have one each.
    pub(super) fn layout(&self) -> Option<ArrayLayout> {
        self.copies.is_none().then(|| self.slab.layout())
    }

    fn index(&self, element: u32, cpu_slot: u32) -> u32 {
        match self.copies {
            None => element,
            Some(copies) => element * copies + cpu_slot.min(copies - 1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_slot_has_a_value_of_its_own() {
        let values = Values::new(2, 4, Some(2)).unwrap();
        values.write_slot(1, &[1; 4], 0, true);
        values.write_slot(1, &[2; 4], 1, false);
        let both = [[1; 4], [0; 4], [2; 4], [0; 4]].concat();
        assert_eq!((values.read(0), values.read(1)), (vec![0; 16], both.clone()));
        assert_eq!(values.address(1, 1) - values.address(1, 0), 8);
        assert_eq!(values.address(1, 7), values.address(1, 1), "there are two slots");
        values.write(0, &both);
        assert_eq!(values.read(0), both);
        values.write_slot(0, &[3; 4], 1, true);
        assert_eq!(values.read(0), [[0; 4], [0; 4], [3; 4], [0; 4]].concat());
    }
}

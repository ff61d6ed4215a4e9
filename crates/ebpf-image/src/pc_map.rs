//! Which instruction each piece of code comes from.

use crate::{CodeOffset, SourcePc};
use alloc::vec::Vec;

/// A map from code to the instructions it was compiled from: in ascending order, where code begins and which instruction it
/// comes from, up to the next entry. Of several entries with one offset the last owns the code; the others emitted none.
///
/// Instructions mostly follow each other in code as they do in the program, so an entry takes the four bytes of its offset,
/// and only where the order breaks another eight.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PcMap {
    starts: Vec<CodeOffset>,
    /// Where instructions do not follow the one before: ascending, the first at entry 0.
    runs: Vec<Run>,
}

/// From this entry on, instructions follow each other slot by slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Run {
    entry: u32,
    pc: SourcePc,
}

impl PcMap {
    /// An empty map with room for so many entries.
    #[must_use]
    pub fn with_capacity(entries: usize) -> Self {
        Self { starts: Vec::with_capacity(entries), runs: Vec::new() }
    }

    /// Number of entries.
    #[must_use]
    pub fn len(&self) -> usize {
        self.starts.len()
    }

    /// Whether there are no entries.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.starts.is_empty()
    }

    /// Adds an entry: code from `start` on comes from the instruction at `pc`.
    pub fn push(&mut self, start: CodeOffset, pc: SourcePc) {
        self.extend(pc, core::iter::once(start));
    }

    /// Adds entries for the instruction at `pc` and those in the slots behind it.
    pub fn extend(&mut self, pc: SourcePc, starts: impl IntoIterator<Item = CodeOffset>) {
        let entry = self.starts.len() as u32;
        if self.runs.last().is_none_or(|run| run.pc_at(entry) != pc) {
            self.runs.push(Run { entry, pc });
        }
        self.starts.extend(starts);
    }

    /// Where the code of an entry begins.
    ///
    /// # Panics
    /// If there is no such entry.
    #[must_use]
    pub fn start(&self, entry: usize) -> CodeOffset {
        self.starts[entry]
    }

    /// Says where the code of an entry begins.
    ///
    /// # Panics
    /// If there is no such entry.
    pub fn set_start(&mut self, entry: usize, start: CodeOffset) {
        self.starts[entry] = start;
    }

    /// Every offset, in the order of entries.
    #[must_use]
    pub fn starts(&self) -> &[CodeOffset] {
        &self.starts
    }

    /// An entry; `None` if there are fewer.
    #[must_use]
    pub fn get(&self, entry: usize) -> Option<(CodeOffset, SourcePc)> {
        let start = *self.starts.get(entry)?;
        let entry = entry as u32;
        let following = self.runs.partition_point(|run| run.entry <= entry);
        Some((start, self.runs[following - 1].pc_at(entry)))
    }

    /// All entries.
    pub fn iter(&self) -> impl Iterator<Item = (CodeOffset, SourcePc)> {
        let mut runs = self.runs.iter().copied().peekable();
        let mut current = Run { entry: 0, pc: SourcePc(0) };
        (0..).zip(&self.starts).map(move |(entry, &start)| {
            if let Some(run) = runs.next_if(|run| run.entry == entry) {
                current = run;
            }
            (start, current.pc_at(entry))
        })
    }

    /// The entry that owns the code at `offset`; `None` for what precedes the first one. The map is in order.
    #[must_use]
    pub fn owner(&self, offset: CodeOffset) -> Option<(CodeOffset, SourcePc)> {
        let following = self.starts.partition_point(|&start| start <= offset);
        self.get(following.checked_sub(1)?)
    }
}

impl Run {
    /// The instruction of an entry of this run.
    fn pc_at(self, entry: u32) -> SourcePc {
        SourcePc(self.pc.0.wrapping_add(entry - self.entry))
    }
}

impl FromIterator<(CodeOffset, SourcePc)> for PcMap {
    fn from_iter<I: IntoIterator<Item = (CodeOffset, SourcePc)>>(entries: I) -> Self {
        let mut map = Self::default();
        for (start, pc) in entries {
            map.push(start, pc);
        }
        map
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_come_back_whatever_their_order() {
        let entries = [(0, 0), (0, 0), (3, 1), (4, 2), (9, 3), (9, 7), (12, 8), (13, 2)];
        let entries = entries.map(|(start, pc)| (CodeOffset(start), SourcePc(pc)));
        let map: PcMap = entries.into_iter().collect();
        assert_eq!(map.iter().collect::<Vec<_>>(), entries);
        assert_eq!(map.runs.len(), 4, "0, 0 1 2 3, 7 8, 2");
        for (index, entry) in entries.into_iter().enumerate() {
            assert_eq!(map.get(index), Some(entry));
        }
        assert_eq!((map.len(), map.get(8)), (8, None));
        assert_eq!(map.owner(CodeOffset(9)), Some(entries[5]), "the last of two owns the code");
        assert_eq!(map.owner(CodeOffset(8)), Some(entries[3]));
        assert_eq!(map.owner(CodeOffset(100)), Some(entries[7]));
    }

    #[test]
    fn an_empty_map_owns_nothing() {
        let map = PcMap::default();
        assert!(map.is_empty() && map.iter().next().is_none());
        assert_eq!((map.get(0), map.owner(CodeOffset(5))), (None, None));
    }

    #[test]
    fn many_entries_at_once() {
        let mut map = PcMap::with_capacity(3);
        map.extend(SourcePc(4), [1, 2, 3].map(CodeOffset));
        map.push(CodeOffset(5), SourcePc(7));
        map.set_start(1, CodeOffset(3));
        let expected = [(1, 4), (3, 5), (3, 6), (5, 7)];
        let expected = expected.map(|(start, pc)| (CodeOffset(start), SourcePc(pc)));
        assert_eq!(map.iter().collect::<Vec<_>>(), expected);
        assert_eq!((map.runs.len(), map.start(3)), (1, CodeOffset(5)));
    }
}

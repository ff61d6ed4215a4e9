//! Where jumps lead.

use ebpf_isa::Pc;

/// The slots that jumps lead to.
#[derive(Debug)]
pub(super) struct Leaders {
    /// A bit a slot.
    words: Vec<u64>,
}

impl Leaders {
    const BITS: usize = u64::BITS as usize;

    /// None yet, of so many slots.
    pub(super) fn new(slots: usize) -> Self {
        Self { words: vec![0; slots.div_ceil(Self::BITS)] }
    }

    #[inline]
    pub(super) fn mark(&mut self, pc: Pc) {
        self.words[pc.index() / Self::BITS] |= 1 << (pc.index() % Self::BITS);
    }

    #[inline]
    pub(super) fn contains(&self, pc: Pc) -> bool {
        self.words[pc.index() / Self::BITS] >> (pc.index() % Self::BITS) & 1 != 0
    }
}

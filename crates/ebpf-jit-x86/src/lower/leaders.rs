//! Where jumps lead.

use ebpf_isa::Pc;

/// The slots that jumps lead to.
#[derive(Debug)]
pub(super) struct Leaders {
    all: Bits,
    /// Those that jumps back lead to; with fuel only.
    loops: Option<Bits>,
}

/// A bit a slot.
#[derive(Debug)]
struct Bits {
    words: Vec<u64>,
}

impl Leaders {
    /// None yet, of so many slots.
    pub(super) fn new(slots: usize, fuel: bool) -> Self {
        Self { all: Bits::new(slots), loops: fuel.then(|| Bits::new(slots)) }
    }

    /// A jump leads to `target`.
    #[inline]
    pub(super) fn mark(&mut self, target: Pc) {
        self.all.mark(target);
    }

    /// The instruction at `pc` leads there, if it is a jump.
    pub(super) fn mark_loop(&mut self, pc: Pc, target: Option<Pc>) {
        if let Some(target) = target.filter(|&target| target <= pc)
            && let Some(loops) = &mut self.loops
        {
            loops.mark(target);
        }
    }

    #[inline]
    pub(super) fn contains(&self, pc: Pc) -> bool {
        self.all.contains(pc)
    }

    /// Whether a jump back leads to `pc`; known with fuel only.
    pub(super) fn begins_loop(&self, pc: Pc) -> bool {
        self.loops.as_ref().is_some_and(|loops| loops.contains(pc))
    }
}

impl Bits {
    const BITS: usize = u64::BITS as usize;

    fn new(slots: usize) -> Self {
        Self { words: vec![0; slots.div_ceil(Self::BITS)] }
    }

    #[inline]
    fn mark(&mut self, pc: Pc) {
        self.words[pc.index() / Self::BITS] |= 1 << (pc.index() % Self::BITS);
    }

    #[inline]
    fn contains(&self, pc: Pc) -> bool {
        self.words[pc.index() / Self::BITS] >> (pc.index() % Self::BITS) & 1 != 0
    }
}

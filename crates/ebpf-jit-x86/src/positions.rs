//! Where BPF instructions went, and the displacements that depend on it.

use ebpf_image::{CodeOffset, Image, ImageError, PcMap, SourcePc};
use ebpf_isa::{Pc, SubprogIdx};

/// A displacement that is not known yet.
#[derive(Debug, Clone, Copy)]
struct Fixup {
    /// Where it ends, and counts from.
    end: CodeOffset,
    /// Which entry of the table it leads to, times two, plus one if it has 8 bits and not 32.
    entry_and_short: u32,
}

/// Positions of instructions and subprograms in the code, as far as it is emitted.
///
/// There is one table, which becomes the map of the image: memory that is touched for the first
/// time is a good part of what a long program costs. For each subprogram it has an entry for the
/// frame and one for each slot. Until an instruction is emitted its entry is an estimate: the
/// distance between two estimates in one subprogram is at least that of the instructions.
pub(crate) struct Positions {
    entries: PcMap,
    /// In the current subprogram.
    jumps: Vec<Fixup>,
    /// In all of them: where displacements end, and what they lead to.
    calls: Vec<(CodeOffset, SubprogIdx)>,
    /// First slots of the subprograms.
    starts: Vec<Pc>,
    /// The subprogram that is being emitted.
    current: SubprogIdx,
}

impl Positions {
    /// For a program of so many slots.
    pub(crate) fn with_capacity(slots: usize, subprogs: usize) -> Self {
        Self {
            entries: PcMap::with_capacity(slots + subprogs),
            jumps: Vec::new(),
            calls: Vec::new(),
            starts: Vec::with_capacity(subprogs),
            current: SubprogIdx::MAIN,
        }
    }

    /// Begins a subprogram at `start`, which comes from `origin`.
    pub(crate) fn add_subprog(&mut self, start: Pc, origin: Pc) {
        self.starts.push(start);
        self.entries.push(CodeOffset(0), SourcePc(origin.0));
    }

    /// Adds the estimates of slots that come from `origin` and those behind it.
    pub(crate) fn add_slots(&mut self, origin: Pc, estimates: impl Iterator<Item = CodeOffset>) {
        self.entries.extend(SourcePc(origin.0), estimates);
    }

    /// Reserves room for so many jumps of one subprogram.
    pub(crate) fn reserve(&mut self, jumps: usize) {
        self.jumps.reserve_exact(jumps);
    }

    /// How many entries there are.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    fn entry(&self, pc: Pc) -> usize {
        pc.index() + self.current.index() + 1
    }

    fn frame(&self, subprog: SubprogIdx) -> usize {
        self.starts[subprog.index()].index() + subprog.index()
    }

    /// The next code is that of `subprog`, from `offset` on.
    pub(crate) fn begin_subprog(&mut self, subprog: SubprogIdx, offset: CodeOffset) {
        self.current = subprog;
        let frame = self.frame(subprog);
        self.entries.set_start(frame, offset);
    }

    /// What is at `pc` in the current subprogram begins at `offset`.
    #[inline]
    pub(crate) fn begin_insn(&mut self, pc: Pc, offset: CodeOffset) {
        let entry = self.entry(pc);
        self.entries.set_start(entry, offset);
    }

    /// The code from `offset` on, behind all subprograms, belongs to the instruction at `pc`.
    pub(crate) fn append(&mut self, pc: Pc, offset: CodeOffset) {
        self.entries.push(offset, SourcePc(pc.0));
    }

    /// The displacement that ends at `end` leads to an instruction of the current subprogram, and
    /// has 8 bits or 32, which reach everything in an image.
    #[inline]
    pub(crate) fn fix_up(&mut self, end: CodeOffset, target: Pc, short: bool) {
        let entry_and_short = (self.entry(target) as u32) << 1 | u32::from(short);
        self.jumps.push(Fixup { end, entry_and_short });
    }

    /// The displacement of 32 bits that ends at `end` leads to a subprogram: the frame that it
    /// makes comes before its first instruction.
    pub(crate) fn fix_up_subprog(&mut self, end: CodeOffset, target: SubprogIdx) {
        self.calls.push((end, target));
    }

    /// Whether 8 bits are enough for a jump at `pc` whose opcode is to be emitted `here`.
    #[inline]
    pub(crate) fn is_near(&self, pc: Pc, here: CodeOffset, target: Pc) -> bool {
        let to = self.entries.start(self.entry(target)).0;
        if target <= pc {
            const SHORT_JUMP: u32 = 2;
            here.0 + SHORT_JUMP - to <= i8::MIN.unsigned_abs().into()
        } else {
            // Where there is a target behind it, there is a next slot, not emitted either.
            let next = self.entries.start(self.entry(pc) + 1).0;
            to - next <= i8::MAX.unsigned_abs().into()
        }
    }

    /// Where an instruction of the current subprogram went that was emitted before.
    pub(crate) fn insn(&self, pc: Pc) -> CodeOffset {
        self.entries.start(self.entry(pc))
    }

    /// Where a subprogram went that was emitted before.
    pub(crate) fn subprog(&self, subprog: SubprogIdx) -> CodeOffset {
        self.entries.start(self.frame(subprog))
    }

    /// Fills in the displacements of jumps, when the current subprogram is emitted: while it is
    /// still in the processor's cache.
    ///
    /// # Errors
    /// The code is too long for displacements of 32 bits.
    pub(crate) fn resolve_jumps(&mut self, code: &mut [u8]) -> Result<(), ImageError> {
        check_len(code)?;
        for Fixup { end, entry_and_short } in self.jumps.drain(..) {
            fill_in(
                code,
                end,
                self.entries.start((entry_and_short >> 1) as usize),
                entry_and_short & 1,
            );
        }
        Ok(())
    }

    /// Fills in those of calls, when all is emitted.
    ///
    /// # Errors
    /// The code is too long for displacements of 32 bits.
    pub(crate) fn resolve_calls(&self, code: &mut [u8]) -> Result<(), ImageError> {
        check_len(code)?;
        for &(end, subprog) in &self.calls {
            fill_in(code, end, self.subprog(subprog), 0);
        }
        Ok(())
    }

    /// The map from code to instructions.
    pub(crate) fn into_pc_map(self) -> PcMap {
        self.entries
    }
}

fn check_len(code: &[u8]) -> Result<(), ImageError> {
    match code.len() {
        0..=Image::MAX_CODE_LEN => Ok(()),
        len => Err(ImageError::CodeTooLong { len }),
    }
}

/// Fills in the displacement that ends at `end`; `short` is 1 if it has 8 bits, or 0.
#[inline]
fn fill_in(code: &mut [u8], end: CodeOffset, to: CodeOffset, short: u32) {
    let distance = to.0.cast_signed() - end.0.cast_signed();
    let fits8 = distance == i32::from(distance as i8);
    assert!(fits8 || short == 0, "invariant: a jump is short only where its target is near");
    // Short displacements are the last of four bytes, and the others stay: half of all jumps are
    // short, and no processor could predict which.
    let Some(field) = code[..end.index()].last_chunk_mut() else {
        // The very first instruction is such a jump.
        code[end.index() - 1] = distance as u8;
        return;
    };
    let shift = 24 * short;
    let others = u32::from_le_bytes(*field) & !(u32::MAX << shift);
    *field = (distance.cast_unsigned() << shift | others).to_le_bytes();
}

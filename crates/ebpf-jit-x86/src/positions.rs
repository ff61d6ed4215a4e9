//! Where BPF instructions went, and the displacements that depend on it.

use ebpf_image::{CodeOffset, Image, ImageError, SourcePc};
use ebpf_isa::{Pc, SubprogIdx};

/// Length of a jump's displacement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reach {
    /// 8 bits.
    Short,
    /// 32 bits, which reach everything in an image.
    Near,
}

/// What a displacement leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Target {
    /// An instruction.
    Insn(Pc),
    /// A subprogram: the frame it makes comes before its first instruction.
    Subprog(SubprogIdx),
}

/// A displacement that is not known yet; it counts from its own end.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fixup {
    pub(crate) end: CodeOffset,
    pub(crate) reach: Reach,
    pub(crate) target: Target,
}

/// Positions of instructions and subprograms in the code, as far as it is emitted.
pub(crate) struct Positions {
    /// By slot. Until an instruction is emitted, an estimate: the distance between two estimates
    /// in one subprogram is at least that of the instructions.
    insns: Vec<CodeOffset>,
    /// By [`SubprogIdx`].
    subprogs: Vec<CodeOffset>,
    fixups: Vec<Fixup>,
    pc_map: Vec<(CodeOffset, SourcePc)>,
}

impl Positions {
    /// Nothing is emitted yet; `estimates` are by slot, and never too close to each other.
    pub(crate) fn new(estimates: Vec<CodeOffset>) -> Self {
        let pc_map = Vec::with_capacity(estimates.len());
        Self { insns: estimates, subprogs: Vec::new(), fixups: Vec::new(), pc_map }
    }

    /// The next subprogram, whose first instruction is at `pc`, begins at `offset`.
    pub(crate) fn begin_subprog(&mut self, pc: Pc, offset: CodeOffset) {
        self.subprogs.push(offset);
        self.pc_map.push((offset, SourcePc(pc.0)));
    }

    /// The instruction at `pc` begins at `offset`.
    pub(crate) fn begin_insn(&mut self, pc: Pc, offset: CodeOffset) {
        self.insns[pc.index()] = offset;
        if self.pc_map.last() != Some(&(offset, SourcePc(pc.0))) {
            self.pc_map.push((offset, SourcePc(pc.0)));
        }
    }

    pub(crate) fn fix_up(&mut self, fixup: Fixup) {
        self.fixups.push(fixup);
    }

    /// The form of a jump at `pc` whose opcode is to be emitted `here`.
    pub(crate) fn reach(&self, pc: Pc, here: CodeOffset, target: Pc) -> Reach {
        let to = self.insns[target.index()].0;
        let near = if target <= pc {
            const SHORT_JUMP: u32 = 2;
            here.0 + SHORT_JUMP - to <= i8::MIN.unsigned_abs().into()
        } else {
            // Where there is a target behind it, there is a next instruction, not emitted either.
            let next = self.insns[pc.index() + 1].0;
            to - next <= i8::MAX.unsigned_abs().into()
        };
        if near { Reach::Short } else { Reach::Near }
    }

    /// Where a subprogram went that was emitted before.
    pub(crate) fn subprog(&self, subprog: SubprogIdx) -> CodeOffset {
        self.subprogs[subprog.index()]
    }

    /// Fills in every displacement, when all is emitted.
    ///
    /// # Errors
    /// The code is too long for displacements of 32 bits.
    pub(crate) fn resolve(&self, code: &mut [u8]) -> Result<(), ImageError> {
        if code.len() > Image::MAX_CODE_LEN {
            return Err(ImageError::CodeTooLong { len: code.len() });
        }
        for &Fixup { end, reach, target } in &self.fixups {
            let target = match target {
                Target::Insn(pc) => self.insns[pc.index()],
                Target::Subprog(subprog) => self.subprog(subprog),
            };
            let distance = target.0.cast_signed() - end.0.cast_signed();
            let end = end.index();
            match reach {
                Reach::Short => {
                    let short = i8::try_from(distance)
                        .expect("invariant: a jump is short only where its target is near");
                    code[end - 1] = short as u8;
                }
                Reach::Near => code[end - 4..end].copy_from_slice(&distance.to_le_bytes()),
            }
        }
        Ok(())
    }

    /// The map from code to instructions.
    pub(crate) fn into_pc_map(self) -> Vec<(CodeOffset, SourcePc)> {
        self.pc_map
    }
}

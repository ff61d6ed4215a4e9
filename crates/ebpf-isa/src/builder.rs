//! Programs made piece by piece.

use alloc::collections::BTreeMap;
use core::ops::Range;

use crate::program::References;
use crate::{Code, Insn, LineTable, Pc, Program, ProgramError, SubprogInfo};

/// Makes a [`Program`] of pieces of code. What its soundness depends on is noted while a piece is at hand, so
/// that long programs are not read again from memory when they are complete.
#[derive(Debug, Clone, Default)]
pub struct ProgramBuilder {
    code: Code,
    /// How much of the code is settled.
    settled: usize,
    references: References,
    /// What was wrong first.
    fault: Option<ProgramError>,
}

impl ProgramBuilder {
    /// No code yet, but memory for so many slots.
    #[must_use]
    pub fn with_capacity(slots: usize) -> Self {
        Code::with_capacity(slots).into()
    }

    /// All code so far.
    #[must_use]
    pub fn code(&self) -> &Code {
        &self.code
    }

    /// Adds these slots at the end.
    #[inline]
    pub fn extend_from_slice(&mut self, slots: &[Option<Insn>]) {
        self.code.extend_from_slice(slots);
    }

    /// Settles the next `slots` slots that are not: puts what `with` gives in the place of each instruction that
    /// is not plain. No wide load may be half among them.
    ///
    /// # Panics
    /// There are not so many slots.
    #[inline]
    pub fn settle(&mut self, slots: usize, mut with: impl FnMut(Insn) -> Insn) {
        let piece = self.settled..self.settled + slots;
        self.settled = piece.end;
        let next_from = |code: &Code, at| code.marked(at..piece.end).next();
        let mut next = next_from(&self.code, piece.start);
        while let Some(pc) = next {
            if let Some(insn) = self.code[pc.index()] {
                self.code.set(pc.index(), with(insn));
            }
            self.note(pc, piece.clone());
            next = next_from(&self.code, pc.index() + 1);
        }
    }

    /// Notes what is at `pc`, which is not plain and part of the piece.
    fn note(&mut self, pc: Pc, piece: Range<usize>) {
        let code = &self.code[piece.clone()];
        let index = pc.index() - piece.start;
        if let Some(pc) = split_wide_load(&code[..index], &code[index..], pc) {
            self.fault.get_or_insert(ProgramError::SplitWideLoad { pc });
        }
        let Some(insn) = code[index] else { return };
        if let Some(target) = insn.jump_target() {
            self.references.jumps.push((pc, target));
        } else if let Some(target) = insn.subprog_ref() {
            self.references.subprogs.push((pc, target));
        }
    }

    /// The program, with what is known about its subprograms by their start, and source lines. What is not settled
    /// is taken as it is.
    ///
    /// # Errors
    /// A structure that is not sound: see [`ProgramError`].
    pub fn finish(
        mut self,
        infos: BTreeMap<Pc, SubprogInfo>,
        lines: LineTable,
    ) -> Result<Program, ProgramError> {
        self.settle(self.code.len() - self.settled, |insn| insn);
        match self.fault {
            Some(fault) => Err(fault),
            None => Program::of_references(self.code, &self.references, infos, lines),
        }
    }
}

/// Code of which nothing is settled.
impl From<Code> for ProgramBuilder {
    fn from(code: Code) -> Self {
        Self { code, ..Self::default() }
    }
}

/// Where a wide load, or half of one, at `pc` is not whole; what is in front of it, and it with what is behind.
#[inline]
fn split_wide_load(before: &[Option<Insn>], from: &[Option<Insn>], pc: Pc) -> Option<Pc> {
    let is_wide = |slot: &Option<Insn>| matches!(slot, Some(Insn::LoadWide { .. }));
    match (before, from) {
        ([.., wide], [None, ..]) if is_wide(wide) => None,
        (_, [None, ..]) => Some(pc),
        (_, [wide]) if is_wide(wide) => Some(pc),
        (_, [wide, Some(_), ..]) if is_wide(wide) => Some(Pc(pc.0 + 1)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Imm64, Operand, Reg, WideSource, Width};
    use alloc::vec::Vec;

    const PLAIN: Insn = Insn::Mov { width: Width::W64, dst: Reg::R0, src: Operand::Imm(1) };
    const WIDE: Insn = Insn::LoadWide { dst: Reg::R0, source: WideSource::Imm(Imm64::new(1)) };

    const fn goto(target: u32) -> Insn {
        Insn::Jump { target: Pc(target), long: false }
    }

    fn code(insns: &[Insn]) -> Code {
        let mut code = Code::new();
        insns.iter().for_each(|&insn| code.push(insn));
        code
    }

    fn finish(builder: ProgramBuilder) -> Result<Program, ProgramError> {
        builder.finish(BTreeMap::new(), LineTable::new())
    }

    #[test]
    fn pieces_make_the_program_that_their_code_makes() {
        let whole = code(&[PLAIN, goto(4), WIDE, Insn::Exit, PLAIN, goto(0)]);
        let expected = finish(whole.clone().into()).unwrap();
        let mut builder = ProgramBuilder::with_capacity(whole.len());
        for piece in [0..1, 1..4, 4..7] {
            builder.extend_from_slice(&whole[piece.clone()]);
            builder.settle(piece.len(), |insn| insn);
        }
        assert_eq!(finish(builder), Ok(expected));
    }

    #[test]
    fn what_settling_gives_is_what_is_checked() {
        let mut seen = Vec::new();
        let mut builder = ProgramBuilder::from(code(&[PLAIN, goto(9), PLAIN, Insn::Exit]));
        builder.settle(3, |insn| {
            seen.push(insn);
            goto(0)
        });
        assert_eq!(seen, [goto(9)]);
        let program = finish(builder).unwrap();
        assert_eq!(program.get(Pc(1)), Some(goto(0)));
        assert!(program.code().is_marked(Pc(1)));

        let mut builder = ProgramBuilder::from(code(&[goto(1), Insn::Exit]));
        builder.settle(1, |_| goto(2));
        let beyond = ProgramError::TargetOutOfRange { pc: Pc(0), target: Pc(2) };
        assert_eq!(finish(builder), Err(beyond));
        let mut builder = ProgramBuilder::from(code(&[goto(1), Insn::Exit]));
        builder.settle(2, |insn| if insn == Insn::Exit { PLAIN } else { insn });
        assert_eq!(finish(builder), Err(ProgramError::FallsThrough { pc: Pc(1) }));
    }

    #[test]
    fn wide_loads_stay_whole() {
        let split = |pc| Err(ProgramError::SplitWideLoad { pc: Pc(pc) });
        let mut builder = ProgramBuilder::from(code(&[WIDE, Insn::Exit]));
        builder.settle(1, |insn| insn);
        assert_eq!(finish(builder), split(0));
        let mut builder = ProgramBuilder::from(code(&[WIDE, Insn::Exit]));
        builder.settle(3, |insn| if insn == WIDE { goto(2) } else { insn });
        assert_eq!(finish(builder), split(1));
        let mut builder = ProgramBuilder::from(code(&[Insn::Exit, Insn::Exit]));
        builder.settle(1, |_| WIDE);
        assert_eq!(finish(builder), split(0));
    }
}

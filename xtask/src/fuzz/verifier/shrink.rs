//! A smaller program of which the same holds.

use std::ops::Range;

use ebpf_runtime::isa::{Insn, Operand, Pc, Program, Width};
use ebpf_runtime::patch::{Patch, PatchError, Patched};

use super::subject::Subject;
use crate::error::TaskError;

/// Programs that are tried before what was reached is good enough.
const TRIES: u32 = 4_000;

/// How many instructions are taken out at a time.
const PIECES: [usize; 5] = [16, 8, 4, 2, 1];

/// Whether a program is one of those that are looked for.
type Holds<'a> = &'a mut dyn FnMut(&Subject) -> Result<bool, TaskError>;

/// Takes instructions out of the program, and makes others simpler, for as long as `holds` does.
pub(super) fn shrink(mut subject: Subject, holds: Holds<'_>) -> Result<Subject, TaskError> {
    // Calls of kernel functions are not followed to other places.
    let Some(mut program) = subject.program().filter(|_| subject.case().kfunc_refs.is_empty())
    else {
        return Ok(subject);
    };
    let mut tries = 0;
    let mut attempt = |program: &mut Program, candidate: Option<Program>| {
        let Some(candidate) = candidate.filter(|candidate| candidate != program) else {
            return Ok(false);
        };
        tries += 1;
        let smaller_subject = subject.with(&candidate);
        let smaller = tries <= TRIES && holds(&smaller_subject)?;
        if smaller {
            (*program, subject) = (candidate, smaller_subject);
        }
        Ok::<bool, TaskError>(smaller)
    };
    loop {
        let mut changed = false;
        for piece in PIECES {
            let mut end = program.insns().count();
            while end > 0 {
                let begin = end.saturating_sub(piece);
                let candidate = without(&program, begin..end);
                changed |= attempt(&mut program, candidate)?;
                end = begin;
            }
        }
        for at in 0..program.insns().count() {
            for step in 0.. {
                let Some((pc, simpler)) = simpler(&program, at, step) else { break };
                let candidate = edited(&program, |patch| patch.replace(pc, [simpler]));
                changed |= attempt(&mut program, candidate)?;
            }
        }
        if !changed {
            return Ok(subject);
        }
    }
}

/// The program without the instructions of these numbers.
fn without(program: &Program, numbers: Range<usize>) -> Option<Program> {
    let at = |number| program.insns().nth(number).map_or(Pc(program.len()), |(pc, _)| pc);
    edited(program, |patch| patch.delete_range(at(numbers.start)..at(numbers.end)))
}

fn edited(
    program: &Program,
    edit: impl FnOnce(&mut Patch<'_>) -> Result<(), PatchError>,
) -> Option<Program> {
    let mut patch = Patch::new(program);
    edit(&mut patch).ok()?;
    let Patched { program, .. } = patch.linearize().ok()?;
    Some(program)
}

/// The ways to make an instruction simpler, one after the other.
fn simpler(program: &Program, at: usize, step: usize) -> Option<(Pc, Insn)> {
    let (pc, insn) = program.insns().nth(at)?;
    let mut ways = Vec::new();
    let mut operands = |operand: Operand, with: &dyn Fn(Operand) -> Insn| match operand {
        Operand::Reg(_) => ways.push(with(Operand::Imm(1))),
        Operand::Imm(imm) => {
            let smaller = [0, 1, imm / 2, imm - imm.signum()];
            let smaller =
                smaller.into_iter().filter(|&new| new.unsigned_abs() < imm.unsigned_abs());
            ways.extend(smaller.map(|imm| with(Operand::Imm(imm))));
        }
    };
    match insn {
        Insn::Alu { op, width, dst, src } => {
            operands(src, &|src| Insn::Alu { op, width, dst, src });
            ways.push(Insn::Mov { width: Width::W64, dst, src: Operand::Imm(0) });
        }
        Insn::Mov { width, dst, src } => operands(src, &|src| Insn::Mov { width, dst, src }),
        Insn::Store { size, base, off, src } => {
            operands(src, &|src| Insn::Store { size, base, off, src });
        }
        Insn::Branch { op, width, lhs, rhs, target } => {
            operands(rhs, &|rhs| Insn::Branch { op, width, lhs, rhs, target });
        }
        Insn::MovSx { dst, .. } | Insn::LoadWide { dst, .. } | Insn::Load { dst, .. } => {
            ways.push(Insn::Mov { width: Width::W64, dst, src: Operand::Imm(0) });
        }
        _ => {}
    }
    ways.get(step).map(|&insn| (pc, insn))
}

#[cfg(test)]
mod tests {
    use ebpf_runtime::isa::text::assemble;
    use ebpf_runtime::isa::uapi::ProgramType;

    use super::*;

    fn subject(text: &str) -> Subject {
        Subject::generated(ProgramType::Xdp, &assemble(text).unwrap())
    }

    fn listing(subject: &Subject) -> String {
        subject.program().unwrap().listing().to_string()
    }

    #[test]
    fn what_does_not_matter_goes() {
        let program = subject(
            "r6 = r1\nr2 = 0x123456789 ll\nif r6 == 5 goto out\nr3 = 77\nr3 *= 1000\n\
             w4 = w3\nout:\nr0 = 0\nexit",
        );
        let has_product =
            |subject: &Subject| Ok(listing(subject).lines().any(|line| line.contains("r3 *=")));
        let shrunk = shrink(program, &mut { has_product }).unwrap();
        assert_eq!(listing(&shrunk).trim_end(), "   0: r3 *= 0\n   1: exit");
    }

    #[test]
    fn jumps_follow_what_is_left() {
        let program = subject("r0 = 1\nif r0 == 9 goto out\nr2 = 3\nr3 = 4\nout:\nexit");
        let has_branch = |subject: &Subject| Ok(listing(subject).contains("goto"));
        let shrunk = shrink(program, &mut { has_branch }).unwrap();
        assert_eq!(listing(&shrunk).trim_end(), "   0: if r0 == 0x0 goto pc+0\n   1: exit");
    }
}

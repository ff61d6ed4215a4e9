//! Short names for instructions and programs.

#![allow(dead_code, reason = "each test file uses a part of it")]

use std::collections::BTreeMap;

use ebpf_isa::{
    CallTarget, CmpOp, Imm64, Insn, LineTable, Operand, Pc, Program, Reg, SourceLine, SubprogInfo,
    WideSource, Width,
};
use ebpf_patch::{Patch, PatchError, Patched};

pub(crate) const EXIT: Insn = Insn::Exit;

/// `r0 = value`: an instruction that can be told apart.
pub(crate) fn set(value: i32) -> Insn {
    Insn::Mov { width: Width::W64, dst: Reg::R0, src: Operand::Imm(value) }
}

/// `r0 = value ll`, of two slots.
pub(crate) fn wide(value: u64) -> Insn {
    Insn::LoadWide { dst: Reg::R0, source: WideSource::Imm(Imm64::new(value)) }
}

/// `r0 = address of the subprogram at target`, of two slots.
pub(crate) fn func(target: u32) -> Insn {
    Insn::LoadWide { dst: Reg::R0, source: WideSource::Func(Pc(target)) }
}

pub(crate) fn goto(target: u32) -> Insn {
    Insn::Jump { target: Pc(target), long: false }
}

pub(crate) fn gotol(target: u32) -> Insn {
    Insn::Jump { target: Pc(target), long: true }
}

pub(crate) fn may_goto(target: u32) -> Insn {
    Insn::MayGoto { target: Pc(target) }
}

/// `if r0 == 0 goto target`
pub(crate) fn branch(target: u32) -> Insn {
    branch_if(CmpOp::Eq, target)
}

/// `if r0 != 0 goto target`
pub(crate) fn branch_unless(target: u32) -> Insn {
    branch_if(CmpOp::Ne, target)
}

/// `if r0 & 0 goto target`: the comparison that has no inverse.
pub(crate) fn branch_set(target: u32) -> Insn {
    branch_if(CmpOp::Set, target)
}

fn branch_if(op: CmpOp, target: u32) -> Insn {
    let (width, lhs, rhs) = (Width::W64, Reg::R0, Operand::Imm(0));
    Insn::Branch { op, width, lhs, rhs, target: Pc(target) }
}

pub(crate) fn call(target: u32) -> Insn {
    Insn::Call(CallTarget::Subprog(Pc(target)))
}

/// Instructions as slots.
pub(crate) fn slots(insns: &[Insn]) -> Vec<Option<Insn>> {
    let mut slots = Vec::new();
    for &insn in insns {
        slots.push(Some(insn));
        slots.resize(slots.len() + insn.slots() as usize - 1, None);
    }
    slots
}

/// Line number `line` of the one source file.
pub(crate) fn source_line(text: &str, line: u32) -> SourceLine<'_> {
    SourceLine { file: "prog.c", text, line, col: 1 }
}

/// A program whose lines, given as position and number, are in that order in the source.
pub(crate) fn program_with(insns: &[Insn], names: &[(u32, &str)], lines: &[(u32, u32)]) -> Program {
    let info = |name: &str| SubprogInfo { name: Some(name.into()), btf_id: None };
    let infos: BTreeMap<_, _> = names.iter().map(|&(pc, name)| (Pc(pc), info(name))).collect();
    let mut table = LineTable::new();
    for &(pc, line) in lines {
        table.push(Pc(pc), source_line(&format!("line {line}"), line));
    }
    Program::new(slots(insns), infos, table).expect("the program is sound")
}

pub(crate) fn program(insns: &[Insn]) -> Program {
    program_with(insns, &[], &[])
}

pub(crate) fn insns(program: &Program) -> Vec<Insn> {
    program.insns().map(|(_, insn)| insn).collect()
}

/// Line entries as position and number.
pub(crate) fn lines(program: &Program) -> Vec<(u32, u32)> {
    program.lines().entries().iter().map(|entry| (entry.pc.0, entry.line)).collect()
}

/// Subprograms as start and name.
pub(crate) fn names(program: &Program) -> Vec<(u32, &str)> {
    program
        .subprogs()
        .iter()
        .map(|sub| (sub.start.0, sub.info.name.as_deref().unwrap_or("")))
        .collect()
}

/// Makes edits and carries them out.
#[track_caller]
pub(crate) fn patched(program: &Program, edit: impl FnOnce(&mut Patch<'_>)) -> Patched {
    linearized(program, edit).expect("the edits fit together")
}

/// Makes edits and tries to carry them out.
pub(crate) fn linearized(
    program: &Program,
    edit: impl FnOnce(&mut Patch<'_>),
) -> Result<Patched, PatchError> {
    let mut patch = Patch::new(program);
    edit(&mut patch);
    patch.linearize()
}

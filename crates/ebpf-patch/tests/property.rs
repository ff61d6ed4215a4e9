//! Random edits of random programs, against the naive patcher.

mod common;
mod naive;

use std::collections::BTreeMap;

use common::*;
use ebpf_isa::{Facts, Insn, LineTable, Pc, Program, SubprogFacts, SubprogIdx, SubprogInfo};
use ebpf_patch::{Landing, Patch, PatchInsn, PcMap, Target};
use naive::Naive;
use proptest::collection::vec;
use proptest::prelude::*;

/// An instruction before positions are known; numbers are taken modulo what there is.
#[derive(Debug, Clone, Copy)]
enum Shape {
    Set(i32),
    Wide(u64),
    Branch(usize),
    MayGoto(usize),
    Goto(usize),
    Call(usize),
    Func(usize),
    Exit,
}

fn shape() -> impl Strategy<Value = Shape> {
    prop_oneof![
        4 => any::<i32>().prop_map(Shape::Set),
        2 => any::<u64>().prop_map(Shape::Wide),
        4 => any::<usize>().prop_map(Shape::Branch),
        1 => any::<usize>().prop_map(Shape::MayGoto),
        1 => any::<usize>().prop_map(Shape::Goto),
        1 => any::<usize>().prop_map(Shape::Call),
        1 => any::<usize>().prop_map(Shape::Func),
        1 => Just(Shape::Exit),
    ]
}

impl Shape {
    /// The instruction, with jumps to one of `targets` and calls to one of `callees`.
    fn insn(self, targets: &[u32], callees: &[u32]) -> Insn {
        let one_of = |list: &[u32], number: usize| list[number % list.len()];
        match self {
            Self::Set(value) => set(value),
            Self::Wide(value) => wide(value),
            Self::Branch(number) => branch(one_of(targets, number)),
            Self::MayGoto(number) => may_goto(one_of(targets, number)),
            Self::Goto(number) => goto(one_of(targets, number)),
            Self::Call(number) => call(one_of(callees, number)),
            Self::Func(number) => func(one_of(callees, number)),
            Self::Exit => EXIT,
        }
    }

    fn slots(self) -> u32 {
        if matches!(self, Self::Wide(_) | Self::Func(_)) { 2 } else { 1 }
    }
}

/// A program of some subprograms, most of them called, with a line at about every third
/// instruction.
fn any_program() -> impl Strategy<Value = Program> {
    let bodies = vec((vec(shape(), 0..8), any::<bool>()), 1..5);
    (bodies, vec(any::<usize>(), 1..40), 0..3_u32).prop_map(|(bodies, lines, first_line)| {
        // The main program calls each subprogram, or it would be none.
        let mut bodies: Vec<Vec<Shape>> = bodies
            .into_iter()
            .map(|(body, ends_in_exit)| {
                let end = if ends_in_exit { Shape::Exit } else { Shape::Goto(0) };
                body.into_iter().chain([end]).collect()
            })
            .collect();
        for callee in 1..bodies.len() {
            bodies[0].insert(0, Shape::Call(callee));
        }
        build(&bodies, &lines, first_line)
    })
}

fn build(bodies: &[Vec<Shape>], lines: &[usize], first_line: u32) -> Program {
    let mut next = 0;
    let mut starts: Vec<Vec<u32>> = Vec::new();
    for body in bodies {
        let mut of_body = Vec::new();
        for shape in body {
            of_body.push(next);
            next += shape.slots();
        }
        starts.push(of_body);
    }
    let callees: Vec<u32> = starts.iter().map(|of_body| of_body[0]).collect();
    let insns: Vec<Insn> = bodies
        .iter()
        .zip(&starts)
        .flat_map(|(body, targets)| body.iter().map(|shape| shape.insn(targets, &callees)))
        .collect();
    let mut table = LineTable::new();
    for (number, pc) in starts.concat().into_iter().enumerate() {
        if pc >= first_line && lines[number % lines.len()].is_multiple_of(3) {
            table.push(Pc(pc), source_line("text", number as u32 + 1));
        }
    }
    let info = |pc: &u32| SubprogInfo { name: Some(format!("at_{pc}")), btf_id: Some(*pc) };
    let infos: BTreeMap<_, _> = callees.iter().map(|pc| (Pc(*pc), info(pc))).collect();
    Program::new(slots(&insns), infos, table).expect("the program is sound")
}

/// Where a jump of inserted code leads, before positions are known.
#[derive(Debug, Clone, Copy)]
enum Leads {
    Old,
    Local(usize),
    Next,
    Over(usize),
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    Replace,
    Prepend(Landing),
    Append,
    Delete,
    DeleteSubprog,
}

#[derive(Debug, Clone)]
struct Edit {
    kind: Kind,
    at: usize,
    seq: Vec<(Shape, Leads)>,
}

fn any_edit() -> impl Strategy<Value = Edit> {
    let kind = prop_oneof![
        3 => Just(Kind::Replace),
        2 => Just(Kind::Prepend(Landing::Insn)),
        2 => Just(Kind::Prepend(Landing::Inserted)),
        2 => Just(Kind::Append),
        4 => Just(Kind::Delete),
        1 => Just(Kind::DeleteSubprog),
    ];
    let leads = prop_oneof![
        Just(Leads::Old),
        any::<usize>().prop_map(Leads::Local),
        Just(Leads::Next),
        any::<usize>().prop_map(Leads::Over),
    ];
    let seq = vec((shape(), leads), 1..4);
    (kind, any::<usize>(), seq).prop_map(|(kind, at, seq)| Edit { kind, at, seq })
}

/// The sequence of an edit at `pc`, as both patchers can take it.
fn sequence(program: &Program, pc: Pc, shapes: &[(Shape, Leads)]) -> Vec<(Insn, Option<Target>)> {
    let subprog = &program.subprogs()[program.subprog_of(pc).index()];
    let inside = program.insns().filter(|(at, _)| (subprog.start..subprog.end).contains(at));
    let targets: Vec<u32> = inside.map(|(at, _)| at.0).collect();
    let callees: Vec<u32> = program.subprogs().iter().map(|subprog| subprog.start.0).collect();
    let mut starts = Vec::new();
    let mut next = 0;
    for (shape, _) in shapes {
        starts.push(next);
        next += shape.slots();
    }
    let ends: Vec<u32> = starts.iter().skip(1).copied().chain([next]).collect();
    let one = |(index, &(shape, leads)): (usize, &(Shape, Leads))| {
        let insn = shape.insn(&targets, &callees);
        let target = match leads {
            Leads::Old => insn.jump_target().map(Target::Pc),
            Leads::Local(number) => Some(Target::Local(starts[number % starts.len()])),
            Leads::Next => Some(Target::Next),
            Leads::Over(number) => {
                let later = &ends[index..];
                Some(Target::Over(later[number % later.len()] - ends[index]))
            }
        };
        (insn, target.filter(|_| insn.jump_target().is_some()))
    };
    shapes.iter().enumerate().map(one).collect()
}

/// Makes an edit in both, where the patch does not refuse it.
fn apply(edit: &Edit, program: &Program, patch: &mut Patch<'_>, naive: &mut Naive<'_>) {
    let pcs: Vec<Pc> = program.insns().map(|(pc, _)| pc).collect();
    let pc = pcs[edit.at % pcs.len()];
    let seq = sequence(program, pc, &edit.seq);
    let insns = seq.iter().map(|&(insn, target)| match target {
        Some(target) => PatchInsn::jump(insn, target),
        None => insn.into(),
    });
    match edit.kind {
        Kind::Replace => {
            if patch.replace(pc, insns).is_ok() {
                naive.replace(pc, &seq);
            }
        }
        Kind::Prepend(landing) => {
            if patch.prepend(pc, insns, landing).is_ok() {
                naive.prepend(pc, &seq, landing);
            }
        }
        Kind::Append => {
            if patch.append(pc, insns).is_ok() {
                naive.append(pc, &seq);
            }
        }
        Kind::Delete => {
            if patch.delete(pc).is_ok() {
                naive.delete(pc);
            }
        }
        Kind::DeleteSubprog => {
            let subprog = &program.subprogs()[program.subprog_of(pc).index()];
            let range = subprog.start..subprog.end;
            if patch.delete_range(range.clone()).is_ok() {
                pcs.iter().filter(|pc| range.contains(pc)).for_each(|pc| naive.delete(*pc));
            }
        }
    }
}

/// Facts that tell subprograms apart.
fn facts(program: &Program) -> Facts {
    let depth = |index: usize| SubprogFacts { stack_depth: 8 * (index as u16 + 1) };
    Facts { subprogs: (0..program.subprogs().len()).map(depth).collect() }
}

fn marked(program: &Program) -> Vec<Pc> {
    program.code().marked(0..program.slots().len()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn a_patch_does_what_the_naive_patcher_does(
        program in any_program(),
        edits in vec(any_edit(), 0..10),
    ) {
        let mut patch = Patch::new(&program);
        let mut naive = Naive::new(&program);
        for edit in &edits {
            apply(edit, &program, &mut patch, &mut naive);
        }
        let (patched, expected) = (patch.linearize(), naive.finish());
        prop_assert_eq!(patched.is_ok(), expected.is_some(), "{:?}", patched);
        let (Ok(patched), Some((expected, olds))) = (patched, expected) else { return Ok(()) };
        prop_assert_eq!(&patched.program, &expected);
        prop_assert_eq!(marked(&patched.program), marked(&expected));

        let map = &patched.map;
        for (new, old) in olds.iter().enumerate() {
            prop_assert_eq!(map.old(Pc(new as u32)), *old);
            if let Some(old) = old {
                prop_assert_eq!(map.insn(*old), Some(Pc(new as u32)));
                let line = patched.program.lines().at(Pc(new as u32));
                prop_assert_eq!(line, program.lines().at(*old));
            }
        }
        prop_assert_eq!(map.carry((0..program.len()).map(Pc)), olds);

        let carried = map.facts(&facts(&program)).unwrap();
        prop_assert_eq!(carried.subprogs.len(), expected.subprogs().len());
        for old in (0..program.subprogs().len() as u32).map(SubprogIdx) {
            let Some(new) = map.subprog(old) else { continue };
            let depth = carried.subprog(new).unwrap().stack_depth;
            prop_assert!(depth >= facts(&program).subprog(old).unwrap().stack_depth);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn a_map_of_two_patches_leads_where_they_lead_one_after_the_other(
        program in any_program(),
        edits in [vec(any_edit(), 0..6), vec(any_edit(), 0..6)],
    ) {
        let edited = |program: &Program, edits: &[Edit]| {
            let (mut patch, mut naive) = (Patch::new(program), Naive::new(program));
            edits.iter().for_each(|edit| apply(edit, program, &mut patch, &mut naive));
            patch.linearize().ok()
        };
        let Some(first) = edited(&program, &edits[0]) else { return Ok(()) };
        let Some(second) = edited(&first.program, &edits[1]) else { return Ok(()) };
        let both = first.map.then(&second.map).unwrap();
        for old in (0..program.len()).map(Pc) {
            let in_turn = |step: fn(&PcMap, Pc) -> Option<Pc>| {
                step(&first.map, old).and_then(|pc| step(&second.map, pc))
            };
            prop_assert_eq!(both.insn(old), in_turn(PcMap::insn));
            prop_assert_eq!(both.landing(old), in_turn(PcMap::landing));
        }
        for new in (0..second.program.len()).map(Pc) {
            let origin = second.map.origin(new).and_then(|pc| first.map.origin(pc));
            prop_assert_eq!(both.origin(new), origin);
            let old = second.map.old(new).and_then(|pc| first.map.old(pc));
            prop_assert_eq!(both.old(new), old);
        }
        let facts = facts(&program);
        let in_turn = first.map.facts(&facts).and_then(|facts| second.map.facts(&facts));
        prop_assert_eq!(both.facts(&facts), in_turn);
    }
}

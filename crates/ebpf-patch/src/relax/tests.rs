//! Relaxation with short reaches, so that small programs need it: whatever is patched, control
//! takes the same way.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use ebpf_isa::{CmpOp, Insn, LineTable, Operand, Pc, Program, Reg, Width};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::{Landing, Patch, PatchInsn, Target};

#[derive(Debug, Clone, Copy)]
enum Shape {
    Set,
    Branch(CmpOp, u32),
    MayGoto(u32),
    Goto(u32),
}

fn shape() -> impl Strategy<Value = Shape> {
    prop_oneof![
        3 => Just(Shape::Set),
        2 => any::<u32>().prop_map(|to| Shape::Branch(CmpOp::Eq, to)),
        2 => any::<u32>().prop_map(|to| Shape::Branch(CmpOp::Set, to)),
        1 => any::<u32>().prop_map(Shape::MayGoto),
        1 => any::<u32>().prop_map(Shape::Goto),
    ]
}

impl Shape {
    /// The instruction, which can be told apart by `number`, leading to one of `count` places.
    fn insn(self, number: i32, count: usize) -> Insn {
        let place = |to: u32| Pc(to % count as u32);
        let (width, rhs) = (Width::W64, Operand::Imm(0));
        match self {
            Self::Set => Insn::Mov { width, dst: Reg::R0, src: Operand::Imm(number) },
            Self::Branch(op, to) => {
                Insn::Branch { op, width, lhs: Reg::R0, rhs, target: place(to) }
            }
            Self::MayGoto(to) => Insn::MayGoto { target: place(to) },
            Self::Goto(to) => Insn::Jump { target: place(to), long: false },
        }
    }
}

fn program(shapes: &[Shape]) -> Program {
    let len = shapes.len() + 1;
    let insns = shapes.iter().zip(0..).map(|(shape, number)| shape.insn(number, len));
    let slots = insns.chain([Insn::Exit]).map(Some).collect();
    Program::new(slots, BTreeMap::new(), LineTable::new()).unwrap()
}

/// The numbers of the instructions that run, if the n-th condition that is met holds where the n-th
/// bit of `conditions` is set.
fn trace(program: &Program, conditions: u64) -> Vec<i32> {
    let (mut pc, mut met, mut trace) = (Pc(0), 0, Vec::new());
    // A loop without conditions and numbers goes nowhere.
    for _ in 0..5000 {
        let holds = conditions.rotate_right(met) & 1 != 0;
        let insn = program.get(pc).unwrap();
        let jumps = match insn {
            Insn::Exit => break,
            Insn::Mov { src: Operand::Imm(number), .. } => {
                trace.push(number);
                false
            }
            Insn::Jump { .. } => true,
            Insn::Branch { op: CmpOp::Ne, .. } => !holds,
            _ => holds,
        };
        met += u32::from(matches!(insn, Insn::Branch { .. } | Insn::MayGoto { .. }));
        if trace.len() == 100 || met == 64 {
            break;
        }
        pc = if jumps { insn.jump_target().unwrap() } else { Pc(pc.0 + 1) };
    }
    trace
}

/// Where code goes, at which instruction, and what it is; local jumps lead inside or behind.
type Edit = (u8, usize, Vec<(Shape, bool)>);

fn apply(edits: &[Edit], program: &Program, patch: &mut Patch<'_>) {
    for ((how, at, shapes), number) in edits.iter().zip(1..) {
        let seq: Vec<PatchInsn> = shapes
            .iter()
            .zip(0..)
            .map(|(&(shape, local), slot)| {
                let insn = shape.insn(1000 * number + slot, program.len() as usize);
                match (shape, local) {
                    (Shape::Branch(_, to) | Shape::MayGoto(to) | Shape::Goto(to), true) => {
                        let to = to as usize % (shapes.len() + 1);
                        let inside = Target::Local(to as u32);
                        let target = if to == shapes.len() { Target::Next } else { inside };
                        PatchInsn::jump(insn, target)
                    }
                    _ => insn.into(),
                }
            })
            .collect();
        let pc = Pc((at % (program.len() as usize - 1)) as u32);
        // An instruction that is replaced already is left alone.
        let _ = match how % 4 {
            0 => patch.replace(pc, seq),
            1 => patch.prepend(pc, seq, Landing::Insn),
            2 => patch.prepend(pc, seq, Landing::Inserted),
            _ => patch.append(pc, seq),
        };
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn control_takes_the_same_way_within_any_reach(
        shapes in vec(shape(), 1..30),
        edits in vec((any::<u8>(), any::<usize>(), vec((shape(), any::<bool>()), 1..5)), 0..6),
        reach in 3..40_i64,
        conditions in any::<[u64; 8]>(),
    ) {
        let program = program(&shapes);
        let mut patch = Patch::new(&program);
        apply(&edits, &program, &mut patch);
        let mut short = patch.clone();
        short.reach = -reach - 1..=reach;
        let mut forbidden = short.clone();
        forbidden.forbid_relaxation();

        let (patched, relaxed) = (patch.linearize().unwrap(), short.linearize().unwrap());
        for conditions in conditions {
            let expected = trace(&patched.program, conditions);
            prop_assert_eq!(trace(&relaxed.program, conditions), expected);
        }
        let offset = |(pc, insn): (Pc, Insn)| match insn {
            Insn::Jump { long: true, .. } => None,
            _ => insn.jump_target().map(|target| pc.offset_to(target)),
        };
        let too_far = |program: &Program| {
            program.insns().filter_map(offset).any(|offset| !(-reach - 1..=reach).contains(&offset))
        };
        prop_assert!(!too_far(&relaxed.program));
        // Nothing is touched without need, and nothing is left that would need it.
        prop_assert_eq!(relaxed.program == patched.program, !too_far(&patched.program));
        prop_assert_eq!(forbidden.linearize().is_err(), too_far(&patched.program));
        for pc in (0..program.len()).map(Pc) {
            let number = |insn: Option<Insn>| insn.filter(|insn| insn.jump_target().is_none());
            let at = |pc: Option<Pc>, program: &Program| pc.and_then(|pc| number(program.get(pc)));
            let (before, after) = (patched.map.insn(pc), relaxed.map.insn(pc));
            prop_assert_eq!(at(before, &patched.program), at(after, &relaxed.program));
        }
    }
}

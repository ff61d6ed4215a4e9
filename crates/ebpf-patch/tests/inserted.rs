//! Passes over what earlier passes inserted, and maps of several patches in a row.

mod common;

use common::*;
use ebpf_isa::{Insn, Pc};
use ebpf_patch::{Landing, Patch, PatchError, PatchInsn, PcMap, Target};

#[test]
fn inserted_code_is_walked_in_the_order_in_which_it_was_given() {
    let program = program(&[set(0), branch(0), EXIT]);
    let mut patch = Patch::new(&program);
    let skip = PatchInsn::jump(branch(0), Target::Local(2));
    let leave = PatchInsn::jump(goto(0), Target::Next);
    patch.append(Pc(1), [skip, leave, set(7).into()]).unwrap();
    patch.prepend(Pc(0), [goto(1)], Landing::Inserted).unwrap();
    let walked: Vec<(Pc, Option<Target>)> =
        patch.inserted().map(|(pc, insn)| (pc, insn.target())).collect();
    let expected = [
        (Pc(1), Some(Target::Local(2))),
        (Pc(1), Some(Target::Next)),
        (Pc(1), None),
        (Pc(0), None),
    ];
    assert_eq!(walked, expected);
    assert_eq!(patch.inserted().last().unwrap().1.insn(), goto(1));
}

/// Puts `with(number)` in the place of each inserted `r0 = number`.
fn replace_sets(
    patch: &mut Patch<'_>,
    with: impl Fn(i32) -> Option<Vec<PatchInsn>>,
) -> Result<(), PatchError> {
    patch.replace_inserted(|_, insn| match insn.insn() {
        Insn::Mov { src: ebpf_isa::Operand::Imm(number), .. } => with(number),
        _ => None,
    })
}

#[test]
fn jumps_within_rewritten_code_keep_their_meaning() {
    let program = program(&[set(0), EXIT]);
    let seq = [
        PatchInsn::jump(branch(0), Target::Local(3)),
        set(1).into(),
        PatchInsn::jump(branch(0), Target::Next),
        set(2).into(),
        PatchInsn::jump(goto(0), Target::Local(1)),
    ];
    let edit = |with: fn(i32) -> Option<Vec<PatchInsn>>| {
        patched(&program, |patch| {
            patch.append(Pc(0), seq).unwrap();
            replace_sets(patch, with).unwrap();
        })
    };
    let untouched = edit(|_| None).program;
    let expected = [set(0), branch(4), set(1), branch(6), set(2), goto(2), EXIT];
    assert_eq!(insns(&untouched), expected);
    // One becomes a wide load and another instruction, of three slots.
    let grown = edit(|number| (number == 1).then(|| vec![wide(9).into(), set(8).into()])).program;
    let expected = [set(0), branch(6), wide(9), set(8), branch(8), set(2), goto(2), EXIT];
    assert_eq!(insns(&grown), expected);
    // One is removed: what led to it leads to what follows.
    let shrunk = edit(|number| (number == 2).then(Vec::new)).program;
    let expected = [set(0), branch(4), set(1), branch(5), goto(2), EXIT];
    assert_eq!(insns(&shrunk), expected);
}

#[test]
fn rewritten_code_may_jump_elsewhere() {
    let program = program(&[set(0), set(1), EXIT]);
    let patched = patched(&program, |patch| {
        patch.replace(Pc(0), [set(7), set(8)]).unwrap();
        replace_sets(patch, |number| {
            let jumps = || {
                vec![
                    branch(2).into(),
                    PatchInsn::jump(branch(0), Target::Next),
                    PatchInsn::jump(branch(0), Target::Local(0)),
                ]
            };
            (number == 8).then(jumps)
        })
        .unwrap();
    });
    let expected = [set(7), branch(5), branch(4), branch(0), set(1), EXIT];
    assert_eq!(insns(&patched.program), expected);
    assert_eq!(patched.map.insn(Pc(0)), Some(Pc(0)));
}

#[test]
fn a_replacement_that_is_rewritten_to_nothing_is_a_deletion() {
    let program = program(&[branch(1), set(1), EXIT]);
    let patched = patched(&program, |patch| {
        patch.replace(Pc(1), [set(7)]).unwrap();
        replace_sets(patch, |_| Some(vec![])).unwrap();
        assert_eq!(patch.inserted().count(), 0);
    });
    assert_eq!(insns(&patched.program), [branch(1), EXIT]);
    assert_eq!(patched.map.insn(Pc(1)), None);
    assert_eq!(patched.map.landing(Pc(1)), Some(Pc(1)));
}

#[test]
fn bad_rewriting_changes_nothing() {
    let program = program(&[set(0), wide(1), EXIT]);
    let mut patch = Patch::with_limit(&program, 6);
    patch.append(Pc(0), [set(7), set(8)]).unwrap();
    let one = |insn: PatchInsn| move |number| (number == 8).then(|| vec![insn]);
    let local = |slot| PatchInsn::jump(goto(0), Target::Local(slot));
    let refused = [
        (local(3), PatchError::NoSuchLocal { pc: Pc(0), target: 3 }),
        (
            PatchInsn::jump(goto(0), Target::Over(1)),
            PatchError::NoSuchLocal { pc: Pc(0), target: 3 },
        ),
        (goto(2).into(), PatchError::InWideLoad { pc: Pc(2) }),
        (goto(9).into(), PatchError::OutOfRange { pc: Pc(9) }),
        (call(1).into(), PatchError::NotASubprog { pc: Pc(0), target: Pc(1) }),
        (PatchInsn::jump(set(0), Target::Next), PatchError::NotAJump { pc: Pc(0), slot: 1 }),
        (wide(0).into(), PatchError::TooLong { pc: Pc(0), limit: 6 }),
    ];
    for (insn, error) in refused {
        assert_eq!(replace_sets(&mut patch, one(insn)), Err(error));
    }
    // Local(2) is where the sequence ends.
    replace_sets(&mut patch, one(local(2))).unwrap();
    let expected = [set(0), set(7), goto(3), wide(1), EXIT];
    assert_eq!(insns(&patch.linearize().unwrap().program), expected);
}

#[test]
fn maps_of_patches_in_a_row_are_one_map() {
    let program = program(&[set(0), set(1), branch(0), set(3), EXIT]);
    let first = patched(&program, |patch| {
        patch.replace(Pc(0), [set(10), set(11)]).unwrap();
        patch.delete(Pc(1)).unwrap();
    });
    let second = patched(&first.program, |patch| {
        patch.delete(Pc(0)).unwrap();
        patch.prepend(Pc(1), [set(20)], Landing::Insn).unwrap();
        patch.prepend(Pc(3), [set(21)], Landing::Inserted).unwrap();
    });
    let expected = [set(20), set(11), branch(1), set(21), set(3), EXIT];
    assert_eq!(insns(&second.program), expected);
    let map = first.map.then(&second.map).unwrap();
    let each = |step: fn(&PcMap, Pc) -> Option<Pc>| -> Vec<Option<u32>> {
        (0..5).map(|pc| step(&map, Pc(pc)).map(|pc| pc.0)).collect()
    };
    assert_eq!(each(PcMap::insn), [None, None, Some(2), Some(4), Some(5)]);
    assert_eq!(each(PcMap::landing), [Some(1), Some(2), Some(2), Some(3), Some(5)]);
    let origins: Vec<u32> = (0..6).map(|pc| map.origin(Pc(pc)).unwrap().0).collect();
    assert_eq!(origins, [0, 0, 2, 3, 3, 4]);
    assert_eq!((map.old_len(), map.new_len()), (5, 6));
    assert_eq!(second.map.then(&second.map), None);
}

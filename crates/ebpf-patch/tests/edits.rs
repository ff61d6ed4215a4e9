//! Each operation, where jumps lead afterwards, and what is refused.

mod common;

use common::*;
use ebpf_isa::{Facts, Insn, Pc, Program, SubprogFacts, SubprogIdx};
use ebpf_patch::{Cursor, Landing, Patch, PatchError, PatchInsn, Target, remove_unreached};

#[test]
fn without_edits_a_program_stays_as_it_is() {
    let program = program_with(
        &[branch(3), wide(7), goto(0), call(7), set(1), EXIT, set(2), EXIT],
        &[(0, "main"), (7, "sub")],
        &[(0, 10), (3, 11), (7, 20)],
    );
    assert_eq!(patched(&program, |_| {}).program, program);
}

#[test]
fn a_replacement_takes_the_instructions_place() {
    let program = program(&[set(1), set(2), EXIT]);
    let patched = patched(&program, |patch| {
        patch.replace(Pc(1), [set(20), set(21), set(22)]).unwrap();
    });
    assert_eq!(insns(&patched.program), [set(1), set(20), set(21), set(22), EXIT]);
}

#[test]
fn jumps_to_a_replaced_instruction_land_on_its_replacement() {
    let program = program(&[branch(2), set(1), set(2), branch(2), EXIT]);
    let patched = patched(&program, |patch| patch.replace(Pc(2), [set(20), set(21)]).unwrap());
    assert_eq!(insns(&patched.program), [branch(2), set(1), set(20), set(21), branch(2), EXIT]);
}

#[test]
fn jumps_over_a_grown_instruction_are_adjusted_in_both_directions() {
    let program = program(&[set(0), branch(4), set(2), may_goto(1), gotol(0)]);
    let patched = patched(&program, |patch| patch.replace(Pc(2), [wide(1), set(2)]).unwrap());
    let expected = [set(0), branch(6), wide(1), set(2), may_goto(1), gotol(0)];
    assert_eq!(insns(&patched.program), expected);
}

#[test]
fn a_wide_load_is_replaced_whole_and_moves_whole() {
    let program = program(&[wide(1), branch(5), wide(2), EXIT]);
    let patched = patched(&program, |patch| patch.replace(Pc(0), [set(1)]).unwrap());
    assert_eq!(insns(&patched.program), [set(1), branch(4), wide(2), EXIT]);
    assert_eq!(patched.map.insn(Pc(3)), Some(Pc(2)));
    assert_eq!(patched.map.insn(Pc(4)), None);
    assert_eq!(patched.map.landing(Pc(4)), None);
}

#[test]
fn jumps_run_prepended_code_if_they_land_on_it() {
    let program = program(&[set(1), branch(0), EXIT]);
    let patched =
        patched(&program, |patch| patch.prepend(Pc(0), [set(9)], Landing::Inserted).unwrap());
    assert_eq!(insns(&patched.program), [set(9), set(1), branch(0), EXIT]);
}

#[test]
fn loops_back_to_the_entry_go_past_a_prologue_but_calls_run_it() {
    let program = program(&[call(2), EXIT, set(1), branch(2), call(0), call(2), EXIT]);
    let patched = patched(&program, |patch| {
        patch.prepend(Pc(0), [set(8)], Landing::Insn).unwrap();
        patch.prepend(Pc(2), [set(9)], Landing::Insn).unwrap();
    });
    let main = [set(8), call(3), EXIT];
    let sub = [set(9), set(1), branch(4), call(0), call(3), EXIT];
    assert_eq!(insns(&patched.program), [&main[..], &sub].concat());
}

#[test]
fn the_layout_at_an_instruction_does_not_depend_on_the_order_of_edits() {
    let program = program(&[set(0), branch(0), EXIT]);
    let past = |patch: &mut Patch<'_>| patch.prepend(Pc(0), [set(1)], Landing::Insn).unwrap();
    let run = |patch: &mut Patch<'_>| patch.prepend(Pc(0), [set(2)], Landing::Inserted).unwrap();
    let instead = |patch: &mut Patch<'_>| patch.replace(Pc(0), [set(3)]).unwrap();
    let behind = |patch: &mut Patch<'_>| patch.append(Pc(0), [set(4)]).unwrap();
    let edits: [&dyn Fn(&mut Patch<'_>); 4] = [&past, &run, &instead, &behind];
    for order in [[0, 1, 2, 3], [3, 2, 1, 0], [2, 0, 3, 1], [1, 3, 0, 2]] {
        let patched = patched(&program, |patch| order.iter().for_each(|&at| edits[at](patch)));
        let expected = [set(1), set(2), set(3), set(4), branch(1), EXIT];
        assert_eq!(insns(&patched.program), expected, "{order:?}");
    }
}

#[test]
fn sequences_of_one_kind_keep_the_order_they_were_given_in() {
    let program = program(&[set(0), set(1), EXIT]);
    let patched = patched(&program, |patch| {
        patch.append(Pc(1), [set(15)]).unwrap();
        for value in [10, 11] {
            patch.prepend(Pc(0), [set(value)], Landing::Inserted).unwrap();
            patch.append(Pc(0), [set(value + 2)]).unwrap();
        }
        patch.append(Pc(1), [set(16)]).unwrap();
    });
    let expected = [10, 11, 0, 12, 13, 1, 15, 16].map(set);
    assert_eq!(insns(&patched.program)[..8], expected);
}

#[test]
fn an_empty_sequence_in_front_or_behind_changes_nothing() {
    let program = program(&[set(0), EXIT]);
    let nothing: [Insn; 0] = [];
    let patched = patched(&program, |patch| {
        patch.prepend(Pc(0), nothing, Landing::Insn).unwrap();
        patch.append(Pc(0), nothing).unwrap();
    });
    assert_eq!(patched.program, program);
}

#[test]
fn jumps_inside_a_sequence_count_its_slots() {
    let program = program(&[set(0), set(1), EXIT]);
    let seq: [PatchInsn; 4] = [
        PatchInsn::jump(branch(0), Target::Local(3)),
        wide(5).into(),
        PatchInsn::jump(branch(0), Target::Local(0)),
        PatchInsn::jump(may_goto(0), Target::Next),
    ];
    let patched = patched(&program, |patch| patch.replace(Pc(1), seq).unwrap());
    let expected = [set(0), branch(4), wide(5), branch(1), may_goto(6), EXIT];
    assert_eq!(insns(&patched.program), expected);
}

#[test]
fn what_is_next_to_a_sequence_may_be_another_sequence() {
    let program = program(&[set(0), EXIT]);
    let skip = PatchInsn::jump(branch(0), Target::Next);
    let patched = patched(&program, |patch| {
        patch.prepend(Pc(0), [skip, set(1).into()], Landing::Inserted).unwrap();
        patch.prepend(Pc(0), [set(2)], Landing::Inserted).unwrap();
        patch.append(Pc(0), [skip, set(3).into()]).unwrap();
    });
    let expected = [branch(2), set(1), set(2), set(0), branch(6), set(3), EXIT];
    assert_eq!(insns(&patched.program), expected);
}

#[test]
fn jumps_and_calls_out_of_a_sequence_follow_original_instructions() {
    let program = program(&[set(0), set(1), call(4), EXIT, set(2), EXIT]);
    let to_exit = PatchInsn::jump(branch(0), Target::Pc(Pc(3)));
    let patched = patched(&program, |patch| {
        patch.replace(Pc(0), [to_exit, branch(1).into(), call(4).into(), func(4).into()]).unwrap();
        patch.prepend(Pc(1), [set(9)], Landing::Inserted).unwrap();
    });
    let main = [branch(8), branch(5), call(9), func(9), set(9), set(1), call(9), EXIT];
    assert_eq!(insns(&patched.program), [&main[..], &[set(2), EXIT]].concat());
}

#[test]
fn a_jump_to_a_deleted_instruction_lands_on_the_next_that_is_left() {
    let program = program(&[branch(2), set(1), set(2), wide(3), set(4), EXIT]);
    let patched = patched(&program, |patch| {
        patch.delete(Pc(2)).unwrap();
        patch.delete(Pc(3)).unwrap();
    });
    assert_eq!(insns(&patched.program), [branch(2), set(1), set(4), EXIT]);
    assert_eq!(patched.map.landing(Pc(3)), Some(Pc(2)));
    assert_eq!(patched.map.insn(Pc(3)), None);
    assert_eq!(patched.map.insn(Pc(5)), Some(Pc(2)));
}

#[test]
fn the_next_instruction_decides_where_jumps_to_a_deleted_one_land() {
    let program = program(&[set(0), set(1), branch(0), EXIT]);
    for (landing, target) in [(Landing::Insn, 1), (Landing::Inserted, 0)] {
        let patched = patched(&program, |patch| {
            patch.delete(Pc(0)).unwrap();
            patch.prepend(Pc(1), [set(9)], landing).unwrap();
        });
        assert_eq!(insns(&patched.program), [set(9), set(1), branch(target), EXIT]);
    }
}

#[test]
fn code_at_a_deleted_instruction_stays_and_is_jumped_to() {
    let program = program(&[set(0), set(1), branch(0), EXIT]);
    let behind = patched(&program, |patch| {
        patch.append(Pc(0), [set(8)]).unwrap();
        patch.prepend(Pc(0), [set(9)], Landing::Insn).unwrap();
        patch.delete(Pc(0)).unwrap();
    });
    assert_eq!(insns(&behind.program), [set(9), set(8), set(1), branch(1), EXIT]);
    let prologue = patched(&program, |patch| {
        patch.prepend(Pc(0), [set(9)], Landing::Insn).unwrap();
        patch.delete(Pc(0)).unwrap();
    });
    assert_eq!(insns(&prologue.program), [set(9), set(1), branch(1), EXIT]);
}

#[test]
fn a_subprogram_without_its_first_instruction_is_called_where_it_begins_now() {
    let all = [call(4), func(4), EXIT, set(1), set(2), EXIT];
    let program = program_with(&all, &[(0, "main"), (4, "sub")], &[]);
    let patched = patched(&program, |patch| {
        patch.delete(Pc(4)).unwrap();
        patch.append(Pc(0), [set(9)]).unwrap();
    });
    assert_eq!(insns(&patched.program), [call(5), set(9), func(5), EXIT, set(2), EXIT]);
    assert_eq!(names(&patched.program), [(0, "main"), (5, "sub")]);
}

/// Three subprograms: `main` at 0 calls `a` at 3 and `b` at 5.
fn three_subprogs() -> Program {
    let insns = [call(3), call(5), EXIT, set(1), EXIT, set(2), EXIT];
    program_with(&insns, &[(0, "main"), (3, "a"), (5, "b")], &[(0, 1), (3, 10), (5, 20)])
}

fn depths(depths: &[u16]) -> Facts {
    let facts = |&stack_depth| SubprogFacts { stack_depth };
    Facts { subprogs: depths.iter().map(facts).collect() }
}

#[test]
fn a_deleted_subprogram_takes_its_name_lines_and_facts_along() {
    let program = three_subprogs();
    let patched = patched(&program, |patch| {
        patch.delete(Pc(0)).unwrap();
        patch.delete_range(Pc(3)..Pc(5)).unwrap();
    });
    assert_eq!(insns(&patched.program), [call(2), EXIT, set(2), EXIT]);
    assert_eq!(names(&patched.program), [(0, "main"), (2, "b")]);
    assert_eq!(lines(&patched.program), [(0, 1), (2, 20)]);
    assert_eq!(patched.map.facts(&depths(&[8, 16, 24])), Some(depths(&[8, 24])));
    assert_eq!(patched.map.subprog(SubprogIdx(1)), None);
    assert_eq!(patched.map.subprog(SubprogIdx(2)), Some(SubprogIdx(1)));
}

#[test]
fn a_subprogram_nobody_calls_joins_the_one_before_it() {
    let program = three_subprogs();
    let patched = patched(&program, |patch| patch.delete(Pc(1)).unwrap());
    assert_eq!(names(&patched.program), [(0, "main"), (2, "a")]);
    assert_eq!(patched.program.subprogs()[1].end, Pc(6));
    assert_eq!(patched.map.subprog(SubprogIdx(2)), Some(SubprogIdx(1)));
    assert_eq!(patched.map.facts(&depths(&[8, 16, 24])), Some(depths(&[8, 24])));
    assert_eq!(patched.map.facts(&depths(&[8, 24, 16])), Some(depths(&[8, 24])));
}

#[test]
fn facts_about_another_program_are_not_taken() {
    let patched = patched(&three_subprogs(), |_| {});
    assert_eq!(patched.map.facts(&depths(&[8, 16])), None);
}

#[test]
fn positions_are_known_both_ways() {
    let program = program(&[set(0), wide(1), set(2), set(3), EXIT]);
    let patched = patched(&program, |patch| {
        patch.prepend(Pc(0), [set(9)], Landing::Insn).unwrap();
        patch.replace(Pc(1), [set(10), set(11)]).unwrap();
        patch.delete(Pc(3)).unwrap();
        patch.append(Pc(4), [set(12)]).unwrap();
    });
    let map = &patched.map;
    assert_eq!(insns(&patched.program), [set(9), set(0), set(10), set(11), set(3), set(12), EXIT]);
    let olds: Vec<_> = (0..8).map(|new| map.old(Pc(new)).map(|pc| pc.0)).collect();
    assert_eq!(olds, [None, Some(0), Some(1), None, Some(4), None, Some(5), None]);
    let origins: Vec<_> = (0..8).map(|new| map.origin(Pc(new)).map(|pc| pc.0)).collect();
    assert_eq!(origins, [Some(0), Some(0), Some(1), Some(1), Some(4), Some(4), Some(5), None]);
    assert_eq!((map.landing(Pc(6)), map.insn(Pc(6))), (None, None));
}

#[test]
fn data_travels_with_its_instruction() {
    let program = program(&[set(0), set(1), set(2), EXIT]);
    let patched = patched(&program, |patch| {
        patch.prepend(Pc(0), [set(9)], Landing::Inserted).unwrap();
        patch.replace(Pc(1), [set(10), set(11)]).unwrap();
        patch.delete(Pc(2)).unwrap();
    });
    let aux = vec![String::from("a"), "b".into(), "c".into(), "d".into()];
    let text: Vec<_> = patched.map.carry(aux.iter()).iter().map(|a| a.map(|a| &a[..])).collect();
    assert_eq!(text, [None, Some("a"), Some("b"), None, Some("d")]);
    assert_eq!(patched.map.carry(aux)[4].as_deref(), Some("d"));
}

#[test]
fn walks_skip_what_is_replaced_or_deleted() {
    let program = program(&[set(0), wide(1), set(2), EXIT]);
    let mut patch = Patch::new(&program);
    let mut cursor = Cursor::new();
    let mut seen = Vec::new();
    while let Some((pc, insn)) = cursor.next(&patch) {
        seen.push((pc, insn));
        if insn == set(0) {
            patch.replace(pc, [set(5)]).unwrap();
            patch.delete(Pc(3)).unwrap();
        }
    }
    assert_eq!(seen, [(Pc(0), set(0)), (Pc(1), wide(1)), (Pc(4), EXIT)]);
    assert_eq!(patch.insns().collect::<Vec<_>>(), seen[1..]);
    assert_eq!(patch.get(Pc(0)), None);
    assert_eq!(patch.get(Pc(1)), Some(wide(1)));
}

#[test]
fn unreached_code_is_removed() {
    let program = program(&[set(0), goto(4), set(1), set(2), EXIT]);
    let patched = patched(&program, |patch| {
        remove_unreached(patch, &[true, true, false, false]);
    });
    assert_eq!(insns(&patched.program), [set(0), goto(2), EXIT]);
}

/// Asserts that an edit is refused, and that it has left no trace.
#[track_caller]
fn refused(
    program: &Program,
    before: impl Fn(&mut Patch<'_>),
    edit: impl Fn(&mut Patch<'_>) -> Result<(), PatchError>,
    expected: PatchError,
) {
    let mut patch = Patch::with_limit(program, 8);
    before(&mut patch);
    let untouched = patch.clone().linearize();
    assert_eq!(edit(&mut patch), Err(expected));
    assert_eq!(patch.linearize(), untouched);
}

#[test]
fn edits_must_name_an_instruction() {
    let program = program(&[wide(1), EXIT]);
    let seq = [set(1)];
    for (pc, error) in [
        (Pc(1), PatchError::InWideLoad { pc: Pc(1) }),
        (Pc(3), PatchError::OutOfRange { pc: Pc(3) }),
        (Pc(u32::MAX), PatchError::OutOfRange { pc: Pc(u32::MAX) }),
    ] {
        refused(&program, |_| {}, |patch| patch.replace(pc, seq), error);
        refused(&program, |_| {}, |patch| patch.prepend(pc, seq, Landing::Insn), error);
        refused(&program, |_| {}, |patch| patch.append(pc, seq), error);
        refused(&program, |_| {}, |patch| patch.delete(pc), error);
    }
}

#[test]
fn a_range_must_be_whole_instructions_that_are_left() {
    let program = program(&[set(0), wide(1), set(2), EXIT]);
    let nothing = |_: &mut Patch<'_>| {};
    let delete = |from, to| move |patch: &mut Patch<'_>| patch.delete_range(Pc(from)..Pc(to));
    let inside = PatchError::InWideLoad { pc: Pc(2) };
    refused(&program, nothing, delete(2, 3), inside);
    refused(&program, nothing, delete(0, 2), inside);
    refused(&program, nothing, delete(3, 6), PatchError::OutOfRange { pc: Pc(6) });
    let deleted = |patch: &mut Patch<'_>| patch.delete(Pc(1)).unwrap();
    refused(&program, deleted, delete(0, 4), PatchError::Deleted { pc: Pc(1) });
    let whole = patched(&program, |patch| {
        patch.delete_range(Pc(0)..Pc(3)).unwrap();
        patch.delete_range(Pc(3)..Pc(3)).unwrap();
    });
    assert_eq!(insns(&whole.program), [set(2), EXIT]);
}

#[test]
fn an_instruction_is_replaced_or_deleted_once() {
    let program = program(&[set(0), EXIT]);
    let at = Pc(0);
    let replaced = |patch: &mut Patch<'_>| patch.replace(at, [set(1)]).unwrap();
    let error = PatchError::Replaced { pc: at };
    refused(&program, replaced, |patch| patch.replace(at, [set(1)]), error);
    refused(&program, replaced, |patch| patch.delete(at), error);
    let deleted = |patch: &mut Patch<'_>| patch.delete(at).unwrap();
    let error = PatchError::Deleted { pc: at };
    refused(&program, deleted, |patch| patch.replace(at, [set(1)]), error);
    refused(&program, deleted, |patch| patch.prepend(at, [set(1)], Landing::Insn), error);
    refused(&program, deleted, |patch| patch.append(at, [set(1)]), error);
    refused(&program, deleted, |patch| patch.delete(at), error);
}

#[test]
fn a_replacement_is_not_empty() {
    let nothing: [Insn; 0] = [];
    let program = program(&[set(0), EXIT]);
    let error = PatchError::EmptySequence { pc: Pc(0) };
    refused(&program, |_| {}, |patch| patch.replace(Pc(0), nothing), error);
}

#[test]
fn targets_of_inserted_code_are_checked() {
    let program = program(&[wide(0), call(4), EXIT, set(1), EXIT]);
    let at = Pc(0);
    let replace = |insn: PatchInsn| {
        move |patch: &mut Patch<'_>| patch.replace(at, [PatchInsn::from(wide(3)), insn])
    };
    let jump = |target| PatchInsn::jump(goto(0), target);
    let check = |insn: PatchInsn, error| refused(&program, |_| {}, replace(insn), error);
    // The sequence's slots are: wide load, its second half, jump.
    check(jump(Target::Local(1)), PatchError::NoSuchLocal { pc: at, target: 1 });
    check(jump(Target::Local(3)), PatchError::NoSuchLocal { pc: at, target: 3 });
    let PatchError::NoSuchLocal { .. } =
        Patch::new(&program).replace(at, [jump(Target::Local(u32::MAX))]).unwrap_err()
    else {
        panic!("an offset beyond any sequence");
    };
    check(jump(Target::Pc(Pc(1))), PatchError::InWideLoad { pc: Pc(1) });
    check(goto(6).into(), PatchError::OutOfRange { pc: Pc(6) });
    check(goto(0x8000_0000).into(), PatchError::OutOfRange { pc: Pc(0x8000_0000) });
    check(goto(4).into(), PatchError::JumpLeavesSubprog { pc: at, target: Pc(4) });
    check(call(2).into(), PatchError::NotASubprog { pc: at, target: Pc(2) });
    check(call(9).into(), PatchError::OutOfRange { pc: Pc(9) });
    check(func(5).into(), PatchError::NotASubprog { pc: at, target: Pc(5) });
    let not_a_jump = PatchError::NotAJump { pc: at, slot: 2 };
    check(PatchInsn::jump(set(1), Target::Next), not_a_jump);
    check(PatchInsn::jump(call(4), Target::Local(0)), not_a_jump);
}

#[test]
fn growth_stops_at_the_limit() {
    let program = program(&[set(0), set(1), EXIT]);
    let five = [set(9); 5];
    let mut patch = Patch::with_limit(&program, 8);
    patch.append(Pc(0), five).unwrap();
    let error = Err(PatchError::TooLong { pc: Pc(1), limit: 8 });
    assert_eq!(patch.append(Pc(1), [set(2)]), error);
    assert_eq!(patch.replace(Pc(1), [wide(2)]), error);
    patch.replace(Pc(1), [set(2)]).unwrap();
    patch.delete(Pc(0)).unwrap();
    patch.append(Pc(1), [set(3)]).unwrap();
    assert_eq!(patch.linearize().unwrap().program.len(), 8);

    let mut endless = Patch::new(&program);
    let error = PatchError::TooLong { pc: Pc(0), limit: Patch::DEFAULT_LIMIT };
    assert_eq!(endless.append(Pc(0), core::iter::repeat(set(1))), Err(error));
    let most = Patch::DEFAULT_LIMIT as usize - 3;
    endless.append(Pc(0), core::iter::repeat_n(set(1), most)).unwrap();
    assert_eq!(endless.linearize().unwrap().program.len(), Patch::DEFAULT_LIMIT);
}

#[test]
fn a_deleted_wide_load_makes_room_for_two() {
    let program = program(&[wide(0), set(1), EXIT]);
    for by_range in [false, true] {
        let mut patch = Patch::with_limit(&program, 4);
        if by_range {
            patch.delete_range(Pc(0)..Pc(2)).unwrap();
        } else {
            patch.delete(Pc(0)).unwrap();
        }
        patch.append(Pc(2), [set(2), set(3)]).unwrap();
        let error = PatchError::TooLong { pc: Pc(2), limit: 4 };
        assert_eq!(patch.append(Pc(2), [set(4)]), Err(error));
        assert_eq!(patch.get(Pc(0)), None);
    }
}

#[test]
fn a_program_beyond_the_limit_may_be_edited_but_not_grow() {
    let program = program(&[set(0), set(1), EXIT]);
    let mut patch = Patch::with_limit(&program, 2);
    patch.replace(Pc(0), [set(5)]).unwrap();
    let error = PatchError::TooLong { pc: Pc(1), limit: 2 };
    assert_eq!(patch.replace(Pc(1), [set(5), set(6)]), Err(error));
    patch.delete(Pc(1)).unwrap();
    assert_eq!(insns(&patch.linearize().unwrap().program), [set(5), EXIT]);
}

#[track_caller]
fn fails(program: &Program, edit: impl FnOnce(&mut Patch<'_>), expected: PatchError) {
    assert_eq!(linearized(program, edit), Err(expected));
}

#[test]
fn control_must_not_run_past_a_subprogram() {
    let program = three_subprogs();
    fails(&program, |patch| patch.delete(Pc(2)).unwrap(), PatchError::FallsThrough { pc: Pc(1) });
    fails(&program, |patch| patch.delete(Pc(6)).unwrap(), PatchError::FallsThrough { pc: Pc(5) });
    let behind = |patch: &mut Patch<'_>| patch.append(Pc(4), [set(9)]).unwrap();
    fails(&program, behind, PatchError::FallsThrough { pc: Pc(4) });
    let next = [PatchInsn::jump(goto(0), Target::Next)];
    let past = |patch: &mut Patch<'_>| patch.replace(Pc(4), next).unwrap();
    fails(&program, past, PatchError::FallsThrough { pc: Pc(4) });
    // Not even into a subprogram that is none any more.
    let joined = |patch: &mut Patch<'_>| {
        patch.delete(Pc(1)).unwrap();
        patch.delete(Pc(4)).unwrap();
    };
    fails(&program, joined, PatchError::FallsThrough { pc: Pc(3) });
    let replaced = patched(&program, |patch| patch.replace(Pc(4), [goto(3)]).unwrap());
    assert_eq!(insns(&replaced.program)[3..5], [set(1), goto(3)]);
}

#[test]
fn a_jump_to_a_deleted_tail_is_refused() {
    let program = program(&[branch(2), EXIT, set(1), EXIT]);
    let edit = |patch: &mut Patch<'_>| patch.delete_range(Pc(2)..Pc(4)).unwrap();
    fails(&program, edit, PatchError::TargetDeleted { pc: Pc(0), target: Pc(2) });
    // Nor does it go on into the next subprogram.
    let program = common::program(&[branch(3), call(5), EXIT, set(1), EXIT, set(2), EXIT]);
    let edit = |patch: &mut Patch<'_>| patch.delete_range(Pc(3)..Pc(5)).unwrap();
    fails(&program, edit, PatchError::TargetDeleted { pc: Pc(0), target: Pc(3) });
}

#[test]
fn a_subprogram_that_is_referred_to_stays() {
    let program = three_subprogs();
    let edit = |patch: &mut Patch<'_>| patch.delete_range(Pc(3)..Pc(5)).unwrap();
    fails(&program, edit, PatchError::SubprogDeleted { pc: Pc(0), target: Pc(3) });
    let edit = |patch: &mut Patch<'_>| patch.delete_range(Pc(0)..Pc(3)).unwrap();
    fails(&program, edit, PatchError::MainDeleted);
    let edit = |patch: &mut Patch<'_>| patch.delete_range(Pc(0)..Pc(7)).unwrap();
    fails(&program, edit, PatchError::MainDeleted);
}

/// A program that begins with `jump` over, or ends in `jump` back over, `by` inserted slots.
fn grown(jump: fn(u32) -> Insn, back: bool, by: usize, relax: bool) -> Result<Program, PatchError> {
    let program = match back {
        false => program(&[jump(2), set(0), EXIT]),
        true => program(&[set(0), jump(0), EXIT]),
    };
    let mut patch = Patch::new(&program);
    if !relax {
        patch.forbid_relaxation();
    }
    patch.append(Pc(u32::from(!back)), vec![set(1); by])?;
    patch.linearize().map(|patched| patched.program)
}

#[test]
fn a_short_jump_reaches_as_far_as_its_offset_field_allows() {
    for jump in [goto, branch, may_goto] {
        for relax in [false, true] {
            let there = grown(jump, false, 0x7fff - 1, relax).unwrap();
            assert_eq!(there.get(Pc(0)), Some(jump(0x8000)));
            let back = grown(jump, true, 0x8000 - 2, relax).unwrap();
            assert_eq!(back.get(Pc(0x7fff)), Some(jump(0)));
        }
    }
}

#[test]
fn a_jump_beyond_its_offset_field_is_refused_where_relaxation_is_forbidden() {
    for jump in [goto, branch, may_goto] {
        let error = PatchError::JumpTooFar { pc: Pc(0), offset: 0x8000 };
        assert_eq!(grown(jump, false, 0x7fff, false), Err(error));
        let error = PatchError::JumpTooFar { pc: Pc(1), offset: -0x8001 };
        assert_eq!(grown(jump, true, 0x8000 - 1, false), Err(error));
    }
    assert!(grown(gotol, false, 0x1_0000, false).is_ok());
}

#[test]
fn a_jump_beyond_its_offset_field_takes_a_longer_form() {
    let there = |jump| insns(&grown(jump, false, 0x7fff, true).unwrap());
    assert_eq!(there(goto)[..2], [gotol(0x8001), set(0)]);
    assert_eq!(there(branch)[..3], [branch_unless(2), gotol(0x8002), set(0)]);
    assert_eq!(there(may_goto)[..4], [may_goto(2), goto(3), gotol(0x8003), set(0)]);
    assert_eq!(there(branch_set)[..4], [branch_set(2), goto(3), gotol(0x8003), set(0)]);
    assert_eq!(there(gotol)[..2], [gotol(0x8001), set(0)]);

    let back = |jump| insns(&grown(jump, true, 0x7fff, true).unwrap())[0x8000..].to_vec();
    assert_eq!(back(goto), [gotol(0), EXIT]);
    assert_eq!(back(branch), [branch_unless(0x8002), gotol(0), EXIT]);
    assert_eq!(back(may_goto), [may_goto(0x8002), goto(0x8003), gotol(0), EXIT]);
}

#[test]
fn jumps_of_inserted_code_are_relaxed_too_and_its_local_jumps_follow() {
    let program = program(&[set(0), set(1), EXIT]);
    let patched = patched(&program, |patch| {
        let seq = [
            PatchInsn::jump(branch(0), Target::Local(2)),
            branch(2).into(),
            wide(7).into(),
            PatchInsn::jump(goto(0), Target::Next),
        ];
        patch.replace(Pc(0), seq).unwrap();
        patch.append(Pc(1), vec![set(2); 0x8000]).unwrap();
    });
    let expected = [branch(3), branch_unless(3), gotol(0x8007), wide(7), goto(6), set(1)];
    assert_eq!(insns(&patched.program)[..6], expected);
}

#[test]
fn a_relaxed_program_keeps_to_the_limit() {
    let program = program(&[branch(2), set(0), EXIT]);
    let edited = |limit| {
        let mut patch = Patch::with_limit(&program, limit);
        patch.append(Pc(1), vec![set(1); 0x7fff]).unwrap();
        patch.linearize().map(|patched| patched.program.len())
    };
    assert_eq!(edited(0x8003), Ok(0x8003));
    assert_eq!(edited(0x8002), Err(PatchError::TooLong { pc: Pc(0), limit: 0x8002 }));
}

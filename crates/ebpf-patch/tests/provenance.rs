//! Which pass inserted what.

mod common;

use common::*;
use ebpf_isa::Pc;
use ebpf_patch::{Landing, Patch, Patched};

/// Start, end and pass of all inserted code.
fn inserted(patched: &Patched) -> Vec<(u32, u32, u8)> {
    let code = patched.inserted.code(&patched.map);
    code.map(|code| (code.slots.start.0, code.slots.end.0, code.pass)).collect()
}

#[test]
fn code_is_found_where_it_went() {
    let program = program(&[set(0), wide(1), set(2), EXIT]);
    let done = patched(&program, |patch| {
        patch.begin_pass(1);
        patch.prepend(Pc(0), [set(10), set(11)], Landing::Insn).unwrap();
        patch.begin_pass(2);
        patch.prepend(Pc(0), [set(12)], Landing::Inserted).unwrap();
        patch.replace(Pc(3), [set(13), set(14)]).unwrap();
        patch.begin_pass(Patch::MAX_PASS);
        patch.append(Pc(1), [wide(15)]).unwrap();
    });
    // 10 11 12 | 0 | 1 1 | 15 15 | 13 14 | exit
    let expected = [(0, 2, 1), (2, 3, 2), (6, 8, Patch::MAX_PASS), (8, 10, 2)];
    assert_eq!(inserted(&done), expected);
}

#[test]
fn code_at_a_deleted_instruction_stays_what_it_is() {
    let program = program(&[set(0), set(1), EXIT]);
    let done = patched(&program, |patch| {
        patch.prepend(Pc(0), [set(10)], Landing::Inserted).unwrap();
        patch.append(Pc(0), [set(11), set(12)]).unwrap();
        patch.begin_pass(3);
        patch.append(Pc(0), [set(13)]).unwrap();
        patch.delete(Pc(0)).unwrap();
    });
    assert_eq!(inserted(&done), [(0, 1, Patch::NO_PASS), (1, 3, Patch::NO_PASS), (3, 4, 3)]);
}

#[test]
fn edits_from_the_end_to_the_start_are_told_apart_too() {
    let program = program(&[set(0), set(1), EXIT]);
    let done = patched(&program, |patch| {
        patch.begin_pass(4);
        patch.append(Pc(1), [set(10)]).unwrap();
        patch.begin_pass(2);
        patch.append(Pc(1), [set(11)]).unwrap();
        patch.append(Pc(0), [set(12)]).unwrap();
    });
    assert_eq!(inserted(&done), [(1, 2, 2), (3, 4, 4), (4, 5, 2)]);
    assert_eq!(insns(&done.program)[3..5], [set(10), set(11)]);
}

#[test]
fn what_a_later_pass_makes_of_inserted_code_is_still_the_first_ones() {
    let program = program(&[set(0), EXIT]);
    let done = patched(&program, |patch| {
        patch.begin_pass(1);
        patch.append(Pc(0), [set(10)]).unwrap();
        patch.begin_pass(2);
        patch.replace_inserted(|_, insn| Some([insn, insn])).unwrap();
    });
    assert_eq!(inserted(&done), [(1, 3, 1)]);
}

#[test]
fn longer_forms_of_jumps_are_of_no_pass() {
    let far = 40_000;
    let mut all = vec![branch(far)];
    all.extend((1..far as i32).map(set));
    all.push(EXIT);
    let program = program(&all);
    let done = patched(&program, |patch| {
        patch.begin_pass(1);
        patch.append(Pc(1), [set(10)]).unwrap();
    });
    assert_eq!(inserted(&done), [(0, 2, Patch::NO_PASS), (3, 4, 1)]);
}

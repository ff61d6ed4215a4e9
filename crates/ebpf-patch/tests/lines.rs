//! Source lines after insertion and deletion.

mod common;

use common::*;
use ebpf_isa::{Insn, Pc, Program};
use ebpf_patch::{Landing, Patch};

/// Three lines of two instructions each, and an `exit` that belongs to the third.
fn three_lines() -> Program {
    let insns = [set(0), set(1), set(2), set(3), set(4), set(5), EXIT];
    program_with(&insns, &[], &[(0, 10), (2, 20), (4, 30)])
}

#[track_caller]
fn check(edit: impl FnOnce(&mut Patch<'_>), expected: &[(u32, u32)]) {
    assert_eq!(lines(&patched(&three_lines(), edit).program), expected);
}

#[test]
fn inserted_code_belongs_to_the_line_of_its_instruction() {
    let two = [set(9), set(9)];
    check(|patch| patch.replace(Pc(2), two).unwrap(), &[(0, 10), (2, 20), (5, 30)]);
    check(|patch| patch.replace(Pc(3), two).unwrap(), &[(0, 10), (2, 20), (5, 30)]);
    check(|patch| patch.append(Pc(1), two).unwrap(), &[(0, 10), (4, 20), (6, 30)]);
    for landing in [Landing::Inserted, Landing::Insn] {
        let prepend = |patch: &mut Patch<'_>| patch.prepend(Pc(2), two, landing).unwrap();
        check(prepend, &[(0, 10), (2, 20), (6, 30)]);
    }
}

#[test]
fn the_next_instruction_inherits_the_line_whose_first_one_is_deleted() {
    check(|patch| patch.delete(Pc(2)).unwrap(), &[(0, 10), (2, 20), (3, 30)]);
    check(|patch| patch.delete(Pc(0)).unwrap(), &[(0, 10), (1, 20), (3, 30)]);
}

#[test]
fn a_line_that_loses_a_later_instruction_begins_where_it_did() {
    check(|patch| patch.delete(Pc(3)).unwrap(), &[(0, 10), (2, 20), (3, 30)]);
}

#[test]
fn a_line_of_which_nothing_is_left_vanishes() {
    check(|patch| patch.delete_range(Pc(2)..Pc(4)).unwrap(), &[(0, 10), (2, 30)]);
    check(|patch| patch.delete_range(Pc(0)..Pc(4)).unwrap(), &[(0, 30)]);
}

#[test]
fn the_last_removed_line_is_the_one_inherited() {
    // All of line 20 and the start of line 30: what is left begins line 30.
    check(|patch| patch.delete_range(Pc(1)..Pc(5)).unwrap(), &[(0, 10), (1, 30)]);
}

#[test]
fn lines_of_a_deleted_tail_vanish() {
    let edit = |patch: &mut Patch<'_>| {
        patch.replace(Pc(3), [EXIT]).unwrap();
        patch.delete_range(Pc(4)..Pc(7)).unwrap();
    };
    check(edit, &[(0, 10), (2, 20)]);
}

#[test]
fn code_inserted_at_a_deleted_instruction_keeps_its_line() {
    let edit = |patch: &mut Patch<'_>| {
        patch.append(Pc(2), [set(9)]).unwrap();
        patch.delete_range(Pc(2)..Pc(4)).unwrap();
    };
    check(edit, &[(0, 10), (2, 20), (3, 30)]);
}

#[test]
fn instructions_before_the_first_line_stay_without_one() {
    let program = program_with(&[set(0), wide(1), set(2), EXIT], &[], &[(3, 10)]);
    let patched = patched(&program, |patch| {
        patch.delete(Pc(1)).unwrap();
        patch.append(Pc(0), [set(9)]).unwrap();
    });
    assert_eq!(lines(&patched.program), [(2, 10)]);
    assert_eq!(patched.program.lines().at(Pc(1)), None);
}

#[test]
fn a_load_that_becomes_four_instructions_keeps_its_line() {
    let load = [set(40), set(41), set(42), set(43)];
    let program =
        program_with(&[set(0), branch(3), set(2), set(3), EXIT], &[], &[(0, 1), (2, 2), (3, 3)]);
    let patched = patched(&program, |patch| patch.replace(Pc(2), load).unwrap());
    let expected: Vec<Insn> = [&[set(0), branch(6)][..], &load, &[set(3), EXIT]].concat();
    assert_eq!(insns(&patched.program), expected);
    let numbers: Vec<_> =
        (0..8).map(|pc| patched.program.lines().at(Pc(pc)).map(|line| line.line)).collect();
    assert_eq!(numbers, [1, 1, 2, 2, 2, 2, 3, 3].map(Some));
    assert_eq!(patched.program.lines().at(Pc(5)).unwrap().text, "line 2");
}

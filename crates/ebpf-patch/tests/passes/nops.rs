//! Which jumps are removed, and which are not although they look alike.

use ebpf_isa::{Insn, Pc};
use ebpf_patch::{Landing, Patch, remove_nops};

use crate::common::*;
use crate::{listing, program};

/// The instructions of `asm` without nops, after `edit`.
fn without_nops(asm: &str, edit: impl FnOnce(&mut Patch<'_>)) -> Vec<String> {
    let program = program(asm);
    let mut patch = Patch::new(&program);
    edit(&mut patch);
    remove_nops(&mut patch);
    let patched = patch.linearize().expect("a sound program").program;
    listing(&patched).lines().map(String::from).collect()
}

fn nothing(_: &mut Patch<'_>) {}

#[test]
fn jumps_to_the_next_instruction_go() {
    for jump in ["goto", "gotol", "may_goto", "if r1 == 0 goto", "if w1 s< w2 goto"] {
        assert_eq!(without_nops(&format!("{jump} +0\nexit"), nothing), ["exit"]);
        let kept = without_nops(&format!("{jump} +1\nr0 = 1\nexit"), nothing);
        assert_eq!(kept.len(), 3, "{jump}");
    }
    // Wide loads take two slots.
    assert_eq!(without_nops("goto +0\nr1 = 5 ll\nexit", nothing), ["r1 = 0x5 ll", "exit"]);
    assert_eq!(without_nops("goto +2\nr1 = 5 ll\nexit", nothing).len(), 3);
}

#[test]
fn a_loop_is_no_nop() {
    assert_eq!(without_nops("goto pc-1", nothing), ["goto pc-1"]);
    assert_eq!(without_nops("may_goto pc-1\nexit", nothing).len(), 2);
}

#[test]
fn jumps_over_what_is_deleted_go() {
    let asm = "if r1 == 0 goto out\nr1 = 5 ll\nr0 = 1\nout:\nexit";
    let delete = |patch: &mut Patch<'_>| patch.delete_range(Pc(1)..Pc(4)).expect("they are there");
    assert_eq!(without_nops(asm, delete), ["exit"]);
    let delete_some = |patch: &mut Patch<'_>| patch.delete(Pc(1)).expect("it is there");
    assert_eq!(without_nops(asm, delete_some).len(), 3);
    // Also where the target itself is gone.
    let asm = "goto +1\nr1 = 1\nr2 = 2\nexit";
    let delete = |patch: &mut Patch<'_>| patch.delete_range(Pc(1)..Pc(3)).expect("they are there");
    assert_eq!(without_nops(asm, delete), ["exit"]);
}

#[test]
fn jumps_over_jumps_that_go_go_too() {
    let asm = "if r1 == 0 goto a\nif r2 == 0 goto a\ngoto a\na:\nexit";
    assert_eq!(without_nops(asm, nothing), ["exit"]);
}

fn insert(patch: &mut Patch<'_>, pc: u32, landing: Landing) {
    patch.prepend(Pc(pc), [set(9)], landing).expect("a sound edit");
}

#[test]
fn inserted_code_that_only_one_way_runs_keeps_the_jump() {
    let asm = "if r1 == 0 goto +0\nexit";
    let prologue = |patch: &mut Patch<'_>| insert(patch, 1, Landing::Insn);
    assert_eq!(without_nops(asm, prologue), ["if r1 == 0x0 goto pc+1", "r0 = 9", "exit"]);
    let behind = |patch: &mut Patch<'_>| patch.append(Pc(0), [set(9)]).expect("a sound edit");
    assert_eq!(without_nops(asm, behind), ["if r1 == 0x0 goto pc+1", "r0 = 9", "exit"]);
    // At an instruction that is gone.
    let asm = "if r1 == 0 goto +1\nr0 = 1\nexit";
    let between = |patch: &mut Patch<'_>| {
        insert(patch, 1, Landing::Inserted);
        patch.delete(Pc(1)).expect("it is there");
    };
    assert_eq!(without_nops(asm, between), ["if r1 == 0x0 goto pc+1", "r0 = 9", "exit"]);
}

#[test]
fn inserted_code_that_both_ways_run_does_not() {
    let asm = "if r1 == 0 goto +0\nr0 = 1\nexit";
    let at_target = |patch: &mut Patch<'_>| insert(patch, 1, Landing::Inserted);
    assert_eq!(without_nops(asm, at_target), ["r0 = 9", "r0 = 1", "exit"]);
    let before = |patch: &mut Patch<'_>| insert(patch, 0, Landing::Insn);
    assert_eq!(without_nops(asm, before), ["r0 = 9", "r0 = 1", "exit"]);
    let replaced = |patch: &mut Patch<'_>| patch.replace(Pc(1), [set(8)]).expect("a sound edit");
    assert_eq!(without_nops(asm, replaced), ["r0 = 8", "exit"]);
    let target_is_inserted_code = |patch: &mut Patch<'_>| {
        insert(patch, 1, Landing::Inserted);
        patch.delete(Pc(1)).expect("it is there");
    };
    assert_eq!(without_nops(asm, target_is_inserted_code), ["r0 = 9", "exit"]);
}

/// A replacement is the business of whoever made it.
#[test]
fn replaced_jumps_stay() {
    let asm = "r0 = 1\nexit";
    let replace = |patch: &mut Patch<'_>| {
        patch.replace(Pc(0), [Insn::Jump { target: Pc(1), long: false }]).expect("a sound edit");
    };
    assert_eq!(without_nops(asm, replace), ["goto pc+0", "exit"]);
}

/// Without the jump, control would fall into the next subprogram, which may have lost its start too.
#[test]
fn a_jump_to_where_nothing_is_left_stays_for_linearisation_to_refuse() {
    let program = program("call f\ngoto +0\nexit\nf:\nr0 = 1\nexit");
    for deleted in [&[2][..], &[2, 3]] {
        let mut patch = Patch::new(&program);
        for &pc in deleted {
            patch.delete(Pc(pc)).expect("it is there");
        }
        remove_nops(&mut patch);
        assert!(patch.get(Pc(1)).is_some());
        patch.linearize().expect_err("nothing of the subprogram is left to jump to");
    }
}

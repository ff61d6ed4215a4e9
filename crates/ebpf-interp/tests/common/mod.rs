//! Runs of programs given as text, in both modes.
#![allow(dead_code, reason = "each test file uses some of it")]

use ebpf_interp::{Links, Memory, Vm};
use ebpf_isa::abi::{ExecEnv, Trap};
use ebpf_isa::text::assemble;
use ebpf_isa::{Insn, Program};

/// Links a program given as text.
#[track_caller]
pub(crate) fn link(asm: &str, links: &Links) -> Vm {
    Vm::new(&assemble(asm).unwrap(), None, links).unwrap()
}

/// A program of instructions for which there is no text.
pub(crate) fn program(insns: &[Insn]) -> Program {
    let slots = |&insn: &Insn| [Some(insn), None].into_iter().take(insn.slots() as usize);
    let slots = insns.iter().flat_map(slots).collect();
    Program::new(slots, Default::default(), Default::default()).unwrap()
}

/// How a program ended, and the environment afterwards.
pub(crate) struct Ran {
    pub(crate) result: Result<u64, Trap>,
    pub(crate) env: ExecEnv,
}

/// Runs a program that touches only its stack and a context of 16 bytes, with values in `env` that
/// `prepare` puts there: checked and unchecked, with equal results.
#[track_caller]
pub(crate) fn run_with(vm: &Vm, prepare: impl Fn(&mut ExecEnv)) -> Ran {
    let checked = {
        let mut context = [0_u64; 2];
        let bytes = bytes_of(&mut context);
        let mut memory = Memory::new();
        let ctx = memory.add_mut(bytes);
        let mut env = ExecEnv::new();
        prepare(&mut env);
        Ran { result: vm.run(ctx, &memory, &mut env), env }
    };
    let mut context = [0_u64; 2];
    let mut env = ExecEnv::new();
    prepare(&mut env);
    // SAFETY: the checked run of the same program did not end at an access.
    let result = unsafe { vm.run_unchecked((&raw mut context).cast(), &mut env) };
    // Each run has a stack of its own, so addresses differ.
    let end = |result: Result<u64, Trap>| result.map_err(|trap| (trap.kind, trap.pc));
    assert_eq!(end(result), end(checked.result), "unchecked and checked");
    assert_eq!(env.may_goto, checked.env.may_goto, "unchecked and checked");
    assert_eq!(env.tail_calls, checked.env.tail_calls, "unchecked and checked");
    checked
}

/// Runs a program without links in both modes.
#[track_caller]
pub(crate) fn run(asm: &str) -> Result<u64, Trap> {
    run_with(&link(asm, &Links::default()), |_| {}).result
}

/// The words as bytes that start at a multiple of 8.
pub(crate) fn bytes_of(words: &mut [u64; 2]) -> &mut [u8] {
    // SAFETY: any bytes are words and the reverse; the borrow goes on.
    unsafe { std::slice::from_raw_parts_mut(words.as_mut_ptr().cast(), 16) }
}

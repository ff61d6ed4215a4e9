//! Helpers, tail calls, and how they end a run, in both modes.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::{Ran, link, run_with};
use ebpf_interp::{Dispatcher, Helpers, LinkError, Links, Memory, Options, Runs, TailTarget, Vm};
use ebpf_isa::abi::{ExecEnv, Trap, TrapKind};
use ebpf_isa::text::assemble;
use ebpf_isa::uapi::HelperId;
use ebpf_isa::{Facts, Pc, SubprogFacts};

/// 1 + r1 + 2 × r2 + 3 × r3 + 4 × r4 + 5 × r5, so that each argument counts.
unsafe extern "sysv64" fn weigh(a: u64, b: u64, c: u64, d: u64, e: u64, _: *mut ExecEnv) -> u64 {
    let weighed =
        [b, c, d, e].into_iter().zip(2..).map(|(value, weight)| value.wrapping_mul(weight));
    weighed.fold(a.wrapping_add(1), u64::wrapping_add)
}

/// Ends the program with `r1`, if that is not 0; otherwise gives 99.
unsafe extern "sysv64" fn end(a: u64, _: u64, _: u64, _: u64, _: u64, env: *mut ExecEnv) -> u64 {
    if a == 0 {
        return 99;
    }
    // SAFETY: engines pass the environment of the run.
    unsafe { (*env).ended = 1 };
    a
}

/// Notes that it failed.
unsafe extern "sysv64" fn fail(_: u64, _: u64, _: u64, _: u64, _: u64, env: *mut ExecEnv) -> u64 {
    let trap = Trap { kind: TrapKind::Helper, pc: Pc::ENTRY, addr: 0 };
    // SAFETY: engines pass the environment of the run.
    unsafe { (*env).trap = trap.into() };
    0
}

fn links() -> Links {
    let mut helpers = Helpers::new();
    // SAFETY: the functions are sound for all arguments.
    unsafe {
        helpers.register(HelperId(1), weigh);
        helpers.register_ending(HelperId(2), end);
        helpers.register(HelperId(3), fail);
        helpers.register(HelperId(4), end);
    }
    Links { helpers, ..Links::default() }
}

#[track_caller]
fn run(asm: &str) -> Ran {
    run_with(&link(asm, &links()), |_| {})
}

#[test]
fn helpers_get_five_arguments_and_give_r0() {
    let ran = run("r1 = 1\nr2 = 10\nr3 = 100\nr4 = 1000\nr5 = 10000\ncall 1\nexit");
    assert_eq!(ran.result, Ok(54_322));
}

#[test]
fn a_failed_helper_is_a_trap_at_the_end() {
    let ran = run("call 3\nr0 += 7\nexit");
    assert_eq!(ran.result.unwrap_err().kind, TrapKind::Helper);
}

#[test]
fn a_helper_can_end_the_program() {
    let ran = run("r1 = 5\ncall 2\nr0 = 7\nexit");
    assert_eq!((ran.result, ran.env.ended), (Ok(5), 1));
    assert_eq!(run("r1 = 0\ncall 2\nr0 += 1\nexit").result, Ok(100));
}

#[test]
fn a_helper_can_end_the_program_from_depth_3() {
    let asm = "call f\nr0 = 1\nexit\nf:\ncall g\nr0 = 2\nexit\ng:\ncall h\nr0 = 3\nexit\n\
               h:\nr1 = 42\ncall 2\nr0 = 4\nexit";
    assert_eq!(run(asm).result, Ok(42));
}

#[test]
fn only_helpers_registered_for_it_end_the_program() {
    assert_eq!(run("r1 = 5\ncall 4\nr0 += 1\nexit").result, Ok(6));
}

/// Gives the program whose `Vm::as_tail_target` the handle is, for index 1, and nothing else.
unsafe extern "sysv64" fn by_handle(map: u64, index: u64, _: *mut ExecEnv) -> u64 {
    if index == 1 { map } else { 0 }
}

/// Gives the program that `env.user` points to, for any map and index.
unsafe extern "sysv64" fn by_user(_: u64, _: u64, env: *mut ExecEnv) -> u64 {
    // SAFETY: engines pass the environment of the run.
    unsafe { (*env).user as u64 }
}

/// Links by which map 0 leads to `target` at index 1.
fn links_to(target: &Vm) -> Links {
    // SAFETY: the programs below pass the handle of their map or 0, and targets outlive the runs.
    let tail_target = unsafe { TailTarget::new(by_handle) };
    Links { maps: vec![target.as_tail_target()], tail_target: Some(tail_target), ..links() }
}

#[track_caller]
fn run_to(target: &str, asm: &str) -> Ran {
    let target = link(target, &links());
    run_with(&link(asm, &links_to(&target)), |_| {})
}

const TO_MAP: &str = "r2 = map[0] ll\nr3 = 1\ncall 12";

#[test]
fn a_tail_call_of_the_main_program_ends_with_the_targets_result() {
    let ran = run_to("r0 = 5\nexit", &format!("{TO_MAP}\nr0 = 7\nexit"));
    assert_eq!((ran.result, ran.env.tail_calls), (Ok(5), 1));
}

#[test]
fn a_tail_call_without_target_falls_through() {
    for index in ["0", "2", "-1"] {
        let asm = format!("r2 = map[0] ll\nr3 = {index}\ncall 12\nr0 = 7\nexit");
        let ran = run_to("r0 = 5\nexit", &asm);
        assert_eq!((ran.result, ran.env.tail_calls), (Ok(7), 0), "index {index}");
    }
}

#[test]
fn the_index_of_a_tail_call_has_32_bits() {
    let asm = "r2 = map[0] ll\nr3 = 0x700000001 ll\ncall 12\nr0 = 7\nexit";
    assert_eq!(run_to("r0 = 5\nexit", asm).result, Ok(5));
}

#[test]
fn the_target_gets_the_context_that_was_passed() {
    let target = "r0 = *(u64 *)(r1 +0)\nexit";
    let ran = run_to(target, &format!("*(u64 *)(r1 +8) = 77\nr1 += 8\n{TO_MAP}\nr0 = 7\nexit"));
    assert_eq!(ran.result, Ok(77));
}

#[test]
fn the_target_has_a_new_frame_in_the_same_place() {
    let target = "r0 = *(u64 *)(r10 -8)\nr1 = r10\nr2 = *(u64 *)(r1 -512)\nr0 |= r2\nexit";
    let asm = format!("*(u64 *)(r10 -8) = 3\n*(u64 *)(r10 -512) = 4\n{TO_MAP}\nr0 = 7\nexit");
    assert_eq!(run_to(target, &asm).result, Ok(0));
    let ran = run_to("r0 = *(u64 *)(r1 +0)\nr1 = r10\nr0 -= r1\nexit", &{
        format!("*(u64 *)(r1 +0) = r10\n{TO_MAP}\nr0 = 7\nexit")
    });
    assert_eq!(ran.result, Ok(0));
}

#[test]
fn a_tail_call_in_a_subprogram_returns_to_its_caller() {
    let target = "r6 = 1\nr7 = 2\nr8 = 3\nr9 = 4\n*(u64 *)(r10 -8) = 9\nr0 = 5\nexit";
    let asm = format!(
        "r6 = 10\nr7 = 20\nr8 = 30\nr9 = 40\n*(u64 *)(r10 -8) = 100\ncall f\n\
         r0 += r6\nr0 += r7\nr0 += r8\nr0 += r9\nr1 = *(u64 *)(r10 -8)\nr0 += r1\nexit\n\
         f:\n{TO_MAP}\nr0 = 7\nexit"
    );
    assert_eq!(run_to(target, &asm).result, Ok(205));
}

#[test]
fn the_target_of_a_subprogram_may_end_the_run() {
    let asm = format!("call f\nr0 = 7\nexit\nf:\n{TO_MAP}\nr0 = 8\nexit");
    assert_eq!(run_to("r1 = 6\ncall 2\nr0 = 9\nexit", &asm).result, Ok(6));
}

#[test]
fn the_target_calls_its_own_subprograms() {
    let target = "r6 = 1\ncall f\nr0 += r6\nexit\nf:\nr6 = 2\nr0 = 20\nexit";
    let asm = format!("call f\nr0 += 300\nexit\nf:\n{TO_MAP}\nr0 = 7\nexit");
    assert_eq!(run_to(target, &asm).result, Ok(321));
}

#[test]
fn programs_that_other_dispatchers_run_may_be_called() {
    let ready = |asm: &str, links: &Links, dispatcher, runs| {
        let mut options = Options::default();
        (options.dispatcher, options.runs) = (Some(dispatcher), runs);
        Vm::with_options(&assemble(asm).unwrap(), None, links, &options).unwrap()
    };
    let asm = format!("r6 = 300\ncall f\nr0 += r6\nexit\nf:\n{TO_MAP}\nr0 = 7\nexit");
    let (dispatchers, kinds) =
        ([Dispatcher::Loop, Dispatcher::Threaded], [Runs::All, Runs::Checked]);
    for (from, to) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
        for runs in kinds {
            let target = ready("r6 = 2\nr0 = 20\nr0 += r6\nexit", &links(), dispatchers[to], runs);
            let vm = ready(&asm, &links_to(&target), dispatchers[from], Runs::All);
            assert_eq!(run_with(&vm, |_| {}).result, Ok(322), "{:?}", (from, to, runs));
        }
    }
}

#[test]
fn traps_of_the_target_have_its_positions() {
    let target = link("r0 = 0\nr0 = 0\nr0 = 0\nr2 = 0\nr0 = *(u8 *)(r2 +6)\nexit", &links());
    let vm = link(&format!("{TO_MAP}\nexit"), &links_to(&target));
    let trap = vm.run(0, &Memory::new(), &mut ExecEnv::new()).unwrap_err();
    assert_eq!(trap, Trap { kind: TrapKind::OutOfBounds, pc: Pc(4), addr: 6 });
}

/// A program that counts in the context's first word, calls itself, and gives that number at last.
fn chain() -> Vm {
    // SAFETY: the user data below is the program, which outlives the run.
    let tail_target = Some(unsafe { TailTarget::new(by_user) });
    let asm = "r6 = r1\nr2 = *(u64 *)(r1 +0)\nr2 += 1\n*(u64 *)(r1 +0) = r2\nr2 = 0\nr3 = 0\ncall 12\n\
               r0 = *(u64 *)(r6 +0)\nexit";
    link(asm, &Links { tail_target, ..links() })
}

#[test]
fn a_chain_of_tail_calls_stops_after_33() {
    let vm = chain();
    let ran = run_with(&vm, |env| env.user = vm.as_tail_target() as *mut _);
    assert_eq!((ran.result, ran.env.tail_calls), (Ok(34), 33));
}

#[test]
fn tail_calls_of_all_frames_count_together() {
    let target = chain();
    // SAFETY: the user data below is the program, which outlives the run.
    let tail_target = Some(unsafe { TailTarget::new(by_user) });
    let asm = "r6 = r1\ncall f\nr1 = r6\ncall f\nexit\nf:\nr2 = 0\nr3 = 0\ncall 12\nr0 = 7\nexit";
    let vm = link(asm, &Links { tail_target, ..links() });
    let ran = run_with(&vm, |env| env.user = target.as_tail_target() as *mut _);
    // The first call of `f` uses all 33 up, so the second one falls through.
    assert_eq!((ran.result, ran.env.tail_calls), (Ok(7), 33));
}

#[test]
fn a_tail_call_makes_no_frame() {
    // At the eighth frame, the target of a tail call still runs; a call from it does not.
    let asm = format!(
        "r1 = 7\ncall f\nexit\nf:\nif r1 == 1 goto tail\nr1 += -1\ncall f\nexit\n\
         tail:\n{TO_MAP}\nr0 = 7\nexit"
    );
    assert_eq!(run_to("r0 = 5\nexit", &asm).result, Ok(5));
    let trap = run_to("r0 = 0\ncall f\nexit\nf:\nexit", &asm).result.unwrap_err();
    assert_eq!(trap, Trap { kind: TrapKind::CallDepth, pc: Pc(1), addr: 0 });
}

#[test]
fn fuel_counts_the_instructions_of_all_targets() {
    let vm = chain();
    let mut ran = run_with(&vm, |env| env.user = vm.as_tail_target() as *mut _);
    // Seven up to each of 34 calls, of which the last falls through to two more.
    assert_eq!(i64::MAX - *ran.env.fuel.get_mut(), 34 * 7 + 2);
}

#[test]
fn the_target_finds_no_registers_but_the_context() {
    let target =
        "r0 += r2\nr0 += r3\nr0 += r4\nr0 += r5\nr0 += r6\nr0 += r7\nr0 += r8\nr0 += r9\nexit";
    let registers = "r0 = 1\nr4 = 2\nr5 = 3\nr6 = 4\nr7 = 5\nr8 = 6\nr9 = 7";
    let ran = run_to(target, &format!("{registers}\n{TO_MAP}\nr0 = 7\nexit"));
    assert_eq!(ran.result, Ok(0));
}

#[test]
fn frames_as_small_as_the_facts_say_lie_in_one_piece() {
    let frames = |sizes: &[u16]| Facts {
        subprogs: sizes.iter().map(|&stack_depth| SubprogFacts { stack_depth }).collect(),
    };
    // How far the callee's frame pointer is below the caller's; 13 bytes take 16.
    let asm = "r1 = r10\ncall f\nexit\nf:\nr0 = r1\nr1 = r10\nr0 -= r1\nexit";
    let program = assemble(asm).unwrap();
    for (size, distance) in [(0, 0), (13, 16), (512, 512), (560, 560), (600, 560)] {
        let vm = Vm::new(&program, Some(&frames(&[size, 8])), &Links::default()).unwrap();
        assert_eq!(run_with(&vm, |_| {}).result, Ok(distance), "{size}");
    }
}

#[test]
fn a_moved_frame_pointer_moves_no_frame() {
    let far = "r10 = 8\ncall f\nr0 -= r10\nexit\nf:\n*(u64 *)(r10 -8) = 1\nr0 = *(u64 *)(r10 -8)\n\
               r0 += 8\nr10 = 0\nexit";
    assert_eq!(run(far).result, Ok(1));
    // What lies below the frame stays out of reach, also after a call.
    let vm = link("r10 += -2048\ncall f\nr0 = *(u8 *)(r10 +0)\nexit\nf:\nexit", &links());
    let trap = vm.run(0, &Memory::new(), &mut ExecEnv::new()).unwrap_err();
    assert_eq!((trap.kind, trap.pc), (TrapKind::OutOfBounds, Pc(2)));
}

#[test]
fn a_tail_call_needs_a_tail_target() {
    let error = Vm::new(&assemble("call 12\nexit").unwrap(), None, &links()).unwrap_err();
    assert_eq!(error, LinkError::UnknownHelper { pc: Pc::ENTRY, id: HelperId::TAIL_CALL });
}

#[test]
fn callers_find_their_registers_as_they_left_them() {
    // Functions that write none of `r6` to `r9`, some, or all, directly or further below; and main
    // programs in which other registers are the most used ones.
    for writes in ["r1 = 7", "r8 = 7", "r6 = 7\nr9 = 7", "r6 = 7\nr7 = 8\nr8 = 9\nr9 = 10"] {
        for busy in ["r0", "r6", "r9", "r10", "r3"] {
            let uses = format!("r2 = {busy}\nr2 += {busy}\n").repeat(9);
            let asm = format!(
                "r6 = 1\nr7 = 20\nr8 = 300\nr9 = 4000\n*(u64 *)(r10 -8) = 50000\nr0 = 0\nr3 = 0\n\
                 {uses}r4 = 600000\ncall f\nr0 += r6\nr0 += r7\nr0 += r8\nr0 += r9\n\
                 r1 = *(u64 *)(r10 -8)\nr0 += r1\nexit\n\
                 f:\nr5 = r4\n*(u64 *)(r10 -8) = 1\ncall g\nr0 += r5\nexit\n\
                 g:\n{writes}\n*(u64 *)(r10 -8) = 2\nr0 = 0\nexit"
            );
            assert_eq!(run(&asm).result, Ok(654_321), "{writes} {busy}");
        }
    }
}

//! Both sides of every limit. The numbers are those of Linux 6.18.44, found by loading these
//! programs; the limit of maps is that of its headers.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use ebpf_isa::text::assemble;
use ebpf_isa::uapi::{MapDesc, MapType};
use ebpf_verifier::{
    Environment, ErrorCode, KernelProfile, MapInfo, Options, Payload, Rejection, Stats,
    program_types, verify,
};
use support::Subject;

fn judge(asm: &str, maps: usize) -> Result<Stats, Box<Rejection>> {
    let program = assemble(asm).unwrap();
    let mut env = Environment::new(program_types::xdp());
    let desc =
        MapDesc { map_type: MapType::Array, key_size: 4, value_size: 8, max_entries: 1, flags: 0 };
    env.maps = vec![MapInfo::new("map", desc); maps];
    verify(&program, &env, &Options::default()).map(|verified| *verified.stats())
}

fn rejected(asm: &str, maps: usize) -> (ErrorCode, i32, String) {
    let rejection = judge(asm, maps).unwrap_err();
    (rejection.code, rejection.errno, rejection.message)
}

fn loop_of(rounds: u32) -> String {
    format!("r0 = 0\nagain:\nr0 += 1\nif r0 < {rounds} goto again\nexit\n")
}

#[test]
fn a_million_processed_instructions() {
    assert_eq!(judge(&loop_of(499_999), 0).unwrap().processed, 1_000_000);
    let message = "BPF program is too large. Processed 1000001 insn".to_owned();
    assert_eq!(rejected(&loop_of(500_000), 0), (ErrorCode::LimitProcessed, 7, message));
}

#[test]
fn a_million_slots() {
    let with_dead_code = |slots: usize| {
        let dead = "r0 = 1\n".repeat(slots - 5);
        format!("r0 = 0\nif r0 == 0 goto on\ngotol out\non:\nexit\nout:\n{dead}exit")
    };
    assert!(judge(&with_dead_code(1_000_000), 0).is_ok());
    let (code, errno, _) = rejected(&with_dead_code(1_000_001), 0);
    assert_eq!((code, errno), (ErrorCode::LimitSlots, 7));
}

#[test]
fn a_lower_limit_can_be_asked_for() {
    let program = assemble(&loop_of(100)).unwrap();
    let env = Environment::new(program_types::xdp());
    let mut options = Options::default();
    options.max_processed = Some(202);
    assert!(verify(&program, &env, &options).is_ok());
    options.max_processed = Some(201);
    let rejection = verify(&program, &env, &options).unwrap_err();
    assert_eq!(rejection.code, ErrorCode::LimitProcessed);
}

#[test]
fn states_take_so_much_memory_and_no_more() {
    // Each fork leaves a state in which r0 is another number: a frame of a kilobyte.
    let forks: String = (0..1000).map(|n| format!("if r0 == {n} goto out\n")).collect();
    let asm = format!("call bpf_get_prandom_u32#7\n{forks}out:\nr0 = 0\nexit");
    let program = assemble(&asm).unwrap();
    let env = Environment::new(program_types::xdp());
    let mut options = Options::default();
    options.max_state_bytes = Some(4 << 20);
    assert!(verify(&program, &env, &options).is_ok());
    options.max_state_bytes = Some(500 << 10);
    let rejection = verify(&program, &env, &options).unwrap_err();
    assert_eq!((rejection.code, rejection.errno), (ErrorCode::LimitMemory, 12));
    let Payload::LimitMemory { bytes, max } = rejection.payload else {
        panic!("another limit");
    };
    assert_eq!(max, 500 << 10);
    assert!((max..2 * max).contains(&bytes), "{bytes}");
}

#[test]
fn eight_thousand_waiting_branches() {
    let forks = |count: u32| {
        let branches: String = (1..=count).map(|k| format!("if r0 == {k} goto out\n")).collect();
        format!("call bpf_get_prandom_u32#7\n{branches}out:\nr0 = 0\nexit\n")
    };
    let stats = judge(&forks(8192), 0).unwrap();
    assert_eq!((stats.peak_pending, stats.paths), (8192, 8193));
    let message = "The sequence of 8193 jumps is too complex.".to_owned();
    assert_eq!(rejected(&forks(8193), 0), (ErrorCode::LimitPending, 14, message));
}

/// The kernel's answers to the same programs.
#[test]
fn eight_thousand_waiting_functions_of_timers() {
    let judge = |count| {
        let Subject { program, env, .. } = support::timers_set(count);
        verify(&program, &env, &Options::default())
    };
    judge(8192).unwrap();
    let rejection = judge(8193).unwrap_err();
    let message = "The sequence of 8193 jumps is too complex for async cb.";
    assert_eq!((rejection.code, &*rejection.message), (ErrorCode::LimitLater, message));
}

#[test]
fn two_hundred_and_fifty_six_subprograms() {
    let functions = |count: u32| {
        let calls: String = (1..count).map(|k| format!("call f{k}\n")).collect();
        let bodies: String = (1..count).map(|k| format!("f{k}:\nr0 = 0\nexit\n")).collect();
        format!("{calls}r0 = 0\nexit\n{bodies}")
    };
    assert!(judge(&functions(256), 0).is_ok());
    let message = "too many subprograms".to_owned();
    assert_eq!(rejected(&functions(257), 0), (ErrorCode::LimitSubprograms, 7, message));
}

#[test]
fn sixty_four_maps() {
    let loads = |count: usize| {
        let loads: String = (0..count).map(|map| format!("r1 = map[{map}] ll\n")).collect();
        format!("{loads}r0 = 0\nexit\n")
    };
    assert!(judge(&loads(64), 65).is_ok());
    let (code, errno, _) = rejected(&loads(65), 65);
    assert_eq!((code, errno), (ErrorCode::LimitMaps, 7));
}

#[test]
fn every_call_chain_has_an_end_even_if_many_lead_there() {
    // Eight levels of functions that call the next one 30 times each: 30^7 chains.
    let level = |at: u32| match at {
        8 => "f8:\nr0 = 0\nexit\n".to_owned(),
        _ => format!("f{at}:\n{}exit\n", format!("call f{}\n", at + 1).repeat(30)),
    };
    let bodies: String = (1..=8).map(level).collect();
    let program = format!("r0 = 0\nif r0 == 0 goto out\ncall f1\nout:\nexit\n{bodies}");
    let (code, errno, message) = rejected(&program, 0);
    assert_eq!((code, errno), (ErrorCode::LimitCallDepth, 7));
    assert_eq!(message, "the call stack of 8 frames is too deep !");
}

/// A function that calls itself is refused, also where no path leads to it and the profile allows any
/// number of frames.
#[test]
fn a_chain_of_calls_ends_whatever_the_profile_allows() {
    let dead = "r0 = 0\nif r0 == 0 goto out\ncall f\nout:\nexit\nf:\ncall f\nexit";
    for (text, explored) in [(dead, false), ("call f\nexit\nf:\ncall f\nexit", true)] {
        let mut env = Environment::new(program_types::xdp());
        env.profile.max_frames = u32::MAX;
        env.profile.max_stack = u32::MAX;
        let verdict = verify(&assemble(text).unwrap(), &env, &Options::default());
        let expected = match explored {
            true => Payload::LimitFrames { frames: 9 },
            false => Payload::LimitCallChain { frames: 8 },
        };
        assert_eq!(verdict.unwrap_err().payload, expected);
    }
}

#[test]
fn the_profile_names_its_limits() {
    let profile = KernelProfile::default();
    assert_eq!(profile.name, "linux-6.18");
    assert_eq!((profile.max_processed, profile.max_pending), (1_000_000, 8192));
}

/// A jump over `passed` loads from the context, each of which the kernel may turn into 16
/// instructions.
fn jump_over(passed: usize) -> Result<(), ErrorCode> {
    let loads = "r2 = *(u32 *)(r6 +12)\n".repeat(passed);
    let text = format!(
        "r6 = r1\ncall bpf_get_prandom_u32#7\nif r0 == 0 goto out\n{loads}out:\nr0 = 0\nexit"
    );
    let env = Environment::new(program_types::xdp());
    verify(&assemble(&text).unwrap(), &env, &Options::default()).map(drop).map_err(|r| r.code)
}

#[test]
fn jumps_keep_within_16_bits_after_rewriting() {
    // 1 + 2047 * 16 = 32753 is below 2^15 - 1, 1 + 2048 * 16 is not.
    assert_eq!(jump_over(2047), Ok(()));
    assert_eq!(jump_over(2048), Err(ErrorCode::Unsupported));
}

//! Every engine runs every program of `fixtures/exec`, and all come to the result that is written
//! there.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use ebpf_runtime::flat::{Block, FlatContext, FlatEngine, FlatProgram, with_entry};
use ebpf_runtime::image::Symbol;
use ebpf_runtime::interp::{Links, Vm};
use ebpf_runtime::isa::Program;
use ebpf_runtime::isa::abi::{EntryFn, ExecEnv, Trap};
use ebpf_runtime::isa::text::assemble;
use ebpf_runtime::jit;
use ebpf_runtime::pack::{Pack, PackOptions};
use ebpf_testkit::{Fixture, RunResult, for_each_fixture};

/// More than any fixture needs.
const FUEL: i64 = 1_000_000;

fn env() -> ExecEnv {
    let mut env = ExecEnv::new();
    *env.fuel.get_mut() = FUEL;
    env
}

/// An environment whose packet is the block, which [`FlatProgram`] sees to by itself.
fn env_with_packet(block: &mut Block) -> ExecEnv {
    let packet = block.bytes_mut();
    ExecEnv { packet: packet.as_ptr(), packet_len: packet.len() as u64, ..env() }
}

fn parts(fixture: &Fixture) -> Result<(Program, Block, &RunResult), String> {
    let asm = fixture.section("asm").ok_or("no section `asm`")?;
    let program = assemble(asm).map_err(|error| error.to_string())?;
    let result = fixture.result().ok_or("no section `result`")?;
    Ok((program, Block::new(fixture.mem().unwrap_or_default()), result))
}

fn compare(engine: &str, got: u64, want: u64) -> Result<(), String> {
    if got == want { Ok(()) } else { Err(format!("{engine} gives {got:#x}, expected {want:#x}")) }
}

/// `trap out-of-bounds @3`: the kind in words joined by dashes, and the position.
fn describe(trap: Trap) -> String {
    let kind: String = format!("{:?}", trap.kind)
        .chars()
        .flat_map(|c| {
            let dash = c.is_ascii_uppercase().then_some('-');
            dash.into_iter().chain([c.to_ascii_lowercase()])
        })
        .collect();
    format!("{} @{}", kind.trim_start_matches('-'), trap.pc)
}

/// What a checked engine gives is what is expected, be it a value or a trap.
fn compare_checked(
    engine: &str,
    got: Result<u64, Trap>,
    expected: &RunResult,
) -> Result<(), String> {
    match (got, expected) {
        (Ok(got), RunResult::Value(want)) => compare(engine, got, *want),
        (Err(trap), RunResult::Trap(want)) if describe(trap) == *want => Ok(()),
        (Err(trap), _) => Err(format!("{engine}: {trap} ({})", describe(trap))),
        (Ok(got), RunResult::Trap(want)) => Err(format!("{got:#x} instead of trap {want}")),
    }
}

fn flat(program: &Program, engine: FlatEngine<'_>) -> Result<FlatProgram, String> {
    FlatProgram::new(program, engine, &[]).map_err(|error| error.to_string())
}

#[test]
fn checked_interpreter() {
    for_each_fixture("exec", |fixture| {
        let (program, mut memory, expected) = parts(fixture)?;
        let got = flat(&program, FlatEngine::Interp)?.run(&mut memory, &mut env());
        compare_checked("the interpreter", got, expected)
    });
}

/// Also, it leaves the same memory and the same fuel as the interpreter.
#[test]
fn compiled_checked() {
    let pack = Pack::new(PackOptions::default()).unwrap();
    for_each_fixture("exec", |fixture| {
        let (program, mut memory, expected) = parts(fixture)?;
        // One block for both, as programs may store its address.
        let before = memory.bytes_mut().to_vec();
        let (mut model_env, mut env) = (env(), env());
        flat(&program, FlatEngine::Interp)?.run(&mut memory, &mut model_env).ok();
        let after = memory.bytes_mut().to_vec();
        memory.bytes_mut().copy_from_slice(&before);
        let got = flat(&program, FlatEngine::Jit(&pack))?.run(&mut memory, &mut env);
        compare_checked("the compiled program", got, expected)?;
        if memory.bytes_mut() != after {
            return Err(format!("{:x?} in memory", memory.bytes_mut()));
        }
        let [left, wanted] = [env, model_env].map(|env| env.fuel.into_inner());
        compare("fuel", left as u64, wanted as u64)
    });
}

/// Ends that fixtures do not reach: with little fuel, and at addresses that only atomic accesses
/// care about.
#[test]
fn both_checked_engines_trap_alike() {
    let cases = [
        ("goto pc-1", "out-of-fuel @0"),
        ("r0 = 0\nr0 += 1\nif r0 != 0x7fffffff goto pc-2\nexit", "out-of-fuel @2"),
        ("r2 = 1\nlock *(u64 *)(r1 +4) += r2\nexit", "misaligned @1"),
        ("r0 = load_acquire((u32 *)(r1 +2))\nexit", "misaligned @0"),
        ("r0 = 1\nstore_release((u16 *)(r1 +1), r0)\nexit", "misaligned @1"),
        ("lock *(u64 *)(r1 +12) += r1\nexit", "out-of-bounds @0"),
    ];
    let pack = Pack::new(PackOptions::default()).unwrap();
    for (text, expected) in cases {
        let program = assemble(text).unwrap();
        let mut block = Block::new(&[0; 16]);
        let (mut interpreted, mut compiled) = (env(), env());
        let mut check = |engine, env: &mut ExecEnv| {
            let got = flat(&program, engine).unwrap().run(&mut block, env);
            assert_eq!(got.map_err(describe), Err(expected.into()), "{engine:?}");
        };
        check(FlatEngine::Interp, &mut interpreted);
        check(FlatEngine::Jit(&pack), &mut compiled);
        assert_eq!(compiled.fuel.into_inner(), interpreted.fuel.into_inner(), "{text}");
    }
}

/// Programs that end in a trap are for checked engines only.
fn value(expected: &RunResult) -> Option<u64> {
    match expected {
        RunResult::Value(value) => Some(*value),
        RunResult::Trap(_) => None,
    }
}

#[test]
fn unchecked_interpreter() {
    for_each_fixture("exec", |fixture| {
        let (program, mut memory, expected) = parts(fixture)?;
        let Some(want) = value(expected) else { return Ok(()) };
        let entry = with_entry(&program).map_err(|error| error.to_string())?;
        let vm = Vm::new(&entry.program, None, &Links::default()).map_err(|e| e.to_string())?;
        let mut env = env_with_packet(&mut memory);
        let mut context = context(&mut memory);
        // SAFETY: the checked interpreter runs the same program without a trap.
        let got = unsafe { vm.run_unchecked((&raw mut context).cast(), &mut env) };
        compare("the unchecked interpreter", got.map_err(|trap| trap.to_string())?, want)
    });
}

#[test]
fn compiled() {
    let pack = Pack::new(PackOptions::default()).unwrap();
    for_each_fixture("exec", |fixture| {
        let (program, mut memory, expected) = parts(fixture)?;
        let Some(want) = value(expected) else { return Ok(()) };
        let entry = with_entry(&program).map_err(|error| error.to_string())?;
        let image = jit::compile(&entry.program, None, &jit::Options::default())
            .map_err(|error| error.to_string())?;
        let no_symbols = |_: Symbol| None;
        let placed = pack.place(&image, &no_symbols).map_err(|error| error.to_string())?;
        let mut env = env_with_packet(&mut memory);
        let mut context = context(&mut memory);
        // SAFETY: this is the entry of compiled code, which `placed` keeps.
        let run: EntryFn = unsafe { std::mem::transmute(placed.entry_ptr()) };
        // SAFETY: the checked interpreter runs the same program without a trap.
        let got = unsafe { run((&raw mut context).cast(), &mut env) };
        compare("the compiled program", got, want)
    });
}

fn context(block: &mut Block) -> FlatContext {
    let memory = block.bytes_mut();
    let len = memory.len() as u64;
    FlatContext { memory: memory.as_mut_ptr().expose_provenance() as u64, len }
}

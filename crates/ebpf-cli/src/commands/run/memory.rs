//! Unverified programs on flat memory.

use std::io::Write;
use std::path::Path;
use std::sync::atomic::{AtomicI64, Ordering};

use ebpf_runtime::Engine;
use ebpf_runtime::flat::{Block, FlatEngine, FlatError, FlatProgram};
use ebpf_runtime::isa::Program;
use ebpf_runtime::isa::abi::{ExecEnv, Trap};
use ebpf_runtime::pack::{Pack, PackOptions};
use serde_json::json;

use crate::console::{Console, Status};
use crate::error::{CliError, InFile};
use crate::read::{self, MAX_PROGRAM_BYTES};

use super::RunArgs;

/// Runs the program once on `mem` and prints `r0`, or the trap that ended it.
pub(super) fn run(
    args: &RunArgs,
    mem: &str,
    engine: Engine,
    console: &mut Console,
) -> Result<Status, CliError> {
    let file = args.program.name();
    let input = args.program.read()?;
    let subject = input.only(args.program.choice.prog.as_deref()).in_file(&file)?;
    let mut memory = Block::new(&bytes(mem)?);
    let mut env = ExecEnv { fuel: AtomicI64::new(args.fuel), ..ExecEnv::new() };
    let program = prepare(subject.program(), engine).in_file(&file)?;
    let outcome = program.run(&mut memory, &mut env);
    let executed = args.fuel.saturating_sub(env.fuel.load(Ordering::Relaxed));
    if args.json {
        let trap = |trap: Trap| json!({ "reason": trap.kind.describe(), "pc": trap.pc.0 });
        let object = json!({
            "file": file,
            "prog": subject.name(),
            "engine": engine.name(),
            "r0": outcome.ok().map(|r0| format!("{r0:#x}")),
            "trap": outcome.err().map(trap),
            "executed": executed,
            "mem": hex::encode(memory.bytes_mut()),
        });
        writeln!(console.out, "{object}")?;
    } else if let Ok(r0) = outcome {
        writeln!(console.out, "r0 = {r0:#x}")?;
    }
    match outcome {
        Ok(_) => Ok(Status::Fine),
        Err(trap) => {
            console.complain(&format!("error: {file}: {trap}"));
            Ok(Status::Refused)
        }
    }
}

/// The program on an engine that checks each of its accesses.
fn prepare(program: &Program, engine: Engine) -> Result<FlatProgram, FlatError> {
    match engine {
        Engine::Interp => FlatProgram::new(program, FlatEngine::Interp, &[]),
        Engine::Jit => {
            let pack = Pack::new(PackOptions::default())?;
            FlatProgram::new(program, FlatEngine::Jit(&pack), &[])
        }
    }
}

/// What `--mem` gives: bytes in hex, or those of a file.
fn bytes(mem: &str) -> Result<Vec<u8>, CliError> {
    match mem.strip_prefix('@') {
        Some(file) => read::bytes(Path::new(file), MAX_PROGRAM_BYTES).in_file(file),
        None => Ok(hex::decode(mem)?),
    }
}

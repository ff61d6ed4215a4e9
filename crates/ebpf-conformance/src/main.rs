//! `ebpf-conformance`: the plugin that the public bpf_conformance suite runs programs through.
//!
//! It reads a program as hex from standard input, runs it on the memory given as hex on the command
//! line, and prints `r0` in hex. Programs are not verified (the suite has some that Linux itself
//! refuses); each of their memory accesses is checked instead. `r1` is the address of the memory,
//! `r2` its length. Helper 5 is `unwind`: it returns its argument, and where that is 0 the program
//! ends at once with 0.

#![forbid(unsafe_code)]

use std::io::{Read, Write};
use std::process::ExitCode;

use clap::Parser;
use ebpf_runtime::flat::{Block, FlatEngine, FlatError, FlatProgram, UNWIND};
use ebpf_runtime::isa::abi::{ExecEnv, Trap};
use ebpf_runtime::isa::{Program, ProgramError, RawInsn, SlotBytesError};
use ebpf_runtime::object::{ObjectError, text_section};
use ebpf_runtime::pack::{Pack, PackError, PackOptions};

use hex::FromHexError;

/// Instructions that a program may run: far above what any test needs.
const FUEL: i64 = 10_000_000;

/// Bytes of standard input that are read: the text of the longest program there can be.
const MAX_INPUT: u64 = 64 << 20;

/// Runs a BPF program, given as hex on standard input, and prints r0 in hex.
#[derive(Debug, Parser)]
#[command(name = "ebpf-conformance")]
struct Arguments {
    /// The memory that r1 points to, as hex; none if omitted
    memory: Option<String>,
    /// Run in the interpreter
    #[arg(long, conflicts_with = "jit")]
    interp: bool,
    /// Run as machine code, which is the default
    #[arg(long)]
    jit: bool,
    /// The program is an ELF file whose `.text` section holds the instructions
    #[arg(long)]
    elf: bool,
    /// The program itself, instead of standard input
    #[arg(long, value_name = "HEX")]
    program: Option<String>,
    /// Print the program to standard error first
    #[arg(long)]
    debug: bool,
}

/// Why there is no result.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("memory: {0}")]
    Memory(#[source] FromHexError),
    #[error("program: {0}")]
    Program(#[source] FromHexError),
    #[error("standard input: {0}")]
    Input(#[source] std::io::Error),
    #[error("standard output: {0}")]
    Output(#[source] std::io::Error),
    #[error(transparent)]
    Slots(#[from] SlotBytesError),
    #[error(transparent)]
    Object(#[from] ObjectError),
    #[error(transparent)]
    Unsound(#[from] ProgramError),
    #[error(transparent)]
    Pack(#[from] PackError),
    #[error(transparent)]
    Prepare(#[from] FlatError),
    #[error(transparent)]
    Trap(#[from] Trap),
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            // Nothing can be done where even the error output is gone.
            let _ = writeln!(std::io::stderr(), "error: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<(), Failure> {
    let memory = bytes(arguments.memory.as_deref().unwrap_or("")).map_err(Failure::Memory)?;
    let program = program(arguments)?;
    if arguments.debug {
        let _ = write!(std::io::stderr(), "{}", program.listing());
    }
    let pack;
    let engine = if arguments.interp {
        FlatEngine::Interp
    } else {
        pack = Pack::new(PackOptions::default())?;
        FlatEngine::Jit(&pack)
    };
    let mut env = ExecEnv::new();
    *env.fuel.get_mut() = FUEL;
    let loaded = FlatProgram::new(&program, engine, &[UNWIND])?;
    let r0 = loaded.run(&mut Block::new(&memory), &mut env)?;
    writeln!(std::io::stdout(), "{r0:x}").map_err(Failure::Output)
}

/// Bytes as hex, between which blanks and line ends are ignored.
fn bytes(text: &str) -> Result<Vec<u8>, FromHexError> {
    hex::decode(text.split_whitespace().collect::<String>())
}

fn program(arguments: &Arguments) -> Result<Program, Failure> {
    let text = match &arguments.program {
        Some(text) => text.clone(),
        None => {
            let mut text = String::new();
            let read = std::io::stdin().take(MAX_INPUT).read_to_string(&mut text);
            read.map_err(Failure::Input)?;
            text
        }
    };
    let bytes = bytes(&text).map_err(Failure::Program)?;
    let slots = if arguments.elf { text_section(&bytes)? } else { RawInsn::slots(&bytes)? };
    Ok(Program::from_slots(&slots)?)
}

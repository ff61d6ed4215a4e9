//! The `ebpf` command: run, verify, disassemble, rewrite and compile BPF programs, and convert classic
//! filters to them, without root and without a kernel.
//!
//! Everything it does is a call of `ebpf_runtime`, but for `profile probe`, which asks the running
//! kernel through `ebpf_runtime::kernel`. A command reads files (`input`, `capture`,
//! `map_args`), asks the runtime, and prints the answer (`render`). Results go to standard
//! output, errors to standard error, one line each: `error: FILE: reason`.
//!
//! Exit codes: 0 accepted or ran, 1 rejected or trapped, 2 wrong usage or unreadable input; 141 where
//! the reader of standard output went away first, as for a program that SIGPIPE ended.
#![forbid(unsafe_code)]

mod capture;
mod commands;
mod console;
mod error;
mod input;
mod loading;
mod map_args;
mod packets;
mod profile;
mod progress;
mod read;
mod render;
mod verdict;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use commands::{asm, disasm, filter, jited, pack_info, run, verify, xlated};
use console::Console;
use input::ProgramArgs;

/// BPF programs as Linux sees them: verified, rewritten, compiled and run, without root and without
/// a kernel.
#[derive(Debug, Parser)]
#[command(name = "ebpf", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a program on the packets of a capture, or an unverified one on plain memory
    Run(run::RunArgs),
    /// Say whether Linux would accept programs, and why not
    Verify(verify::VerifyArgs),
    /// Print programs as text
    Disasm(disasm::DisasmArgs),
    /// Turn text into instructions: hex, or bytes with --output
    Asm(asm::AsmArgs),
    /// Print a verified program as it runs, after rewriting
    Xlated(ProgramArgs),
    /// Print a verified program's machine code beside the instructions it came from
    Jited(ProgramArgs),
    /// Convert, explain and run classic filters of packets and system calls
    Filter(filter::FilterArgs),
    /// Say what executable memory compiled programs get here, and what those of a file take of it
    PackInfo(pack_info::PackInfoArgs),
    /// Kernels whose verdicts can be asked for
    Profile(commands::profile::ProfileArgs),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let mut console = Console::new();
    let result = match &cli.command {
        Command::Run(args) => run::run(args, &mut console),
        Command::Verify(args) => verify::run(args, &mut console),
        Command::Disasm(args) => disasm::run(args, &mut console),
        Command::Asm(args) => asm::run(args, &mut console),
        Command::Xlated(args) => xlated::run(args, &mut console),
        Command::Jited(args) => jited::run(args, &mut console),
        Command::Filter(args) => filter::run(args, &mut console),
        Command::PackInfo(args) => pack_info::run(args, &mut console),
        Command::Profile(args) => commands::profile::run(args, &mut console),
    };
    ExitCode::from(console.finish(result))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_arguments_do_not_contradict_each_other() {
        Cli::command().debug_assert();
    }
}

//! `ebpf run`: verified programs on packets, unverified ones on flat memory.

mod memory;
mod packets;

use std::path::PathBuf;

use clap::{ArgGroup, Args, ValueEnum};
use ebpf_runtime::Engine;

use crate::console::{Console, Status};
use crate::error::CliError;
use crate::input::ProgramArgs;
use crate::packets::RepeatArg;

/// Instructions that an unverified program may run, where `--fuel` does not say: about a second.
const DEFAULT_FUEL: i64 = 100_000_000;

/// What is timed, for `ebpf run --help`.
const ABOUT_TIMES: &str = "\
Times: `ns per packet` is the time of the program alone, with its call and its context. Packets are \
copied in batches, and the clock runs only while the program does.

Exit codes: 0 the program ran, 1 it was rejected or ended by a trap, 2 wrong usage or bad input.";

/// Arguments of `ebpf run`.
#[derive(Debug, Args)]
#[command(after_long_help = ABOUT_TIMES)]
#[command(group(ArgGroup::new("on").required(true).args(["pcap", "mem"])))]
pub(crate) struct RunArgs {
    #[command(flatten)]
    program: ProgramArgs,
    /// Run on each packet of this capture (pcap or pcapng, Ethernet), in its order; `-` is standard
    /// input
    ///
    /// Packets come in on interface 1, receive queue 0. A packet that was cut when it was captured
    /// is run as it was captured.
    #[arg(long, value_name = "FILE")]
    pcap: Option<PathBuf>,
    /// Run once on these bytes, given as hex, or as they are in a file; needs --unverified
    ///
    /// The program gets the address of the bytes in r1 and their number in r2.
    #[arg(long, value_name = "HEX|@FILE", conflicts_with = "repeat")]
    mem: Option<String>,
    /// What runs the program [default: jit; with --coverage, interp]
    #[arg(long, value_enum)]
    engine: Option<EngineArg>,
    /// Put an element into a map first: KEYHEX:VALHEX, or a file with one of them a line
    #[arg(long = "map", value_name = "NAME=KEYHEX:VALHEX|NAME=@FILE", conflicts_with = "mem")]
    maps: Vec<String>,
    #[command(flatten)]
    repeat: RepeatArg,
    /// Write how often each source line was run to this file, in the format of lcov
    ///
    /// Counts are of all packets, and a line counts as often as its instruction that was run most
    /// often. They are of the interpreter, which takes more time when it counts; the program must
    /// have line information (clang -g).
    #[arg(long, value_name = "OUT", conflicts_with = "mem")]
    coverage: Option<PathBuf>,
    /// End an unverified program after about so many instructions
    #[arg(
        long,
        value_name = "N",
        default_value_t = DEFAULT_FUEL,
        value_parser = clap::value_parser!(i64).range(1..),
        conflicts_with = "pcap"
    )]
    fuel: i64,
    /// Do not verify the program: each of its memory accesses is checked instead
    #[arg(long)]
    unverified: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// What runs a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum EngineArg {
    /// Machine code
    Jit,
    /// The interpreter
    Interp,
}

/// Runs a program and prints what it did.
pub(crate) fn run(args: &RunArgs, console: &mut Console) -> Result<Status, CliError> {
    let engine = match (args.engine, &args.coverage) {
        (Some(EngineArg::Jit), Some(_)) => {
            let text = "--coverage needs --engine interp: machine code does not count";
            return Err(CliError::Usage(text));
        }
        (Some(EngineArg::Interp), _) | (None, Some(_)) => Engine::Interp,
        (Some(EngineArg::Jit) | None, None) => Engine::Jit,
    };
    match (&args.pcap, &args.mem) {
        (_, Some(mem)) => {
            if !args.unverified {
                let text = "--mem needs --unverified: no program type has plain memory as context";
                return Err(CliError::Usage(text));
            }
            memory::run(args, mem, engine, console)
        }
        (Some(pcap), None) => {
            if args.unverified {
                let text = "--unverified programs run on --mem only, not on packets";
                return Err(CliError::Usage(text));
            }
            packets::run(args, pcap, engine, console)
        }
        (None, None) => Err(CliError::Usage("give a capture with --pcap, or bytes with --mem")),
    }
}

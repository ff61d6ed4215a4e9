//! `ebpf filter`: classic filters of packets and system calls.

mod calls;
mod explained;
mod listing;
mod packets;
mod source;

use std::io::Write;
use std::path::PathBuf;

use clap::{ArgGroup, Args, ValueEnum};
use ebpf_runtime::classic::seccomp::{SeccompError, SeccompFilter};
use ebpf_runtime::classic::{
    CheckError, ClassicPc, ConvertError, Filter, Options, Target, convert,
};
use ebpf_runtime::filter::FilterError;
use serde_json::json;

use crate::console::{Console, Status};
use crate::error::CliError;
use crate::packets::RepeatArg;

/// What is said about forms, engines and times, for `ebpf filter --help`.
const ABOUT: &str = "\
Without --pcap, --explain and --syscall, the filter is printed beside the eBPF program that it is \
converted to.

Forms: what `tcpdump -d`, `-dd` and `-ddd` print (the last one also with commas), and the assembly of \
bpf_asm. Which one it is is found out; -d, -dd and -ddd insist on one.

Engines: `classic` interprets the filter itself; `interp` and `jit` run the eBPF program, which is \
verified first; but for flat, each access is checked.

Exit codes: 0 the filter was printed or ran, 1 it was rejected, 2 wrong usage or bad input.";

/// Arguments of `ebpf filter`.
#[derive(Debug, Args)]
#[command(after_long_help = ABOUT)]
#[command(group(ArgGroup::new("judged").args(["pcap", "syscall"])))]
pub(crate) struct FilterArgs {
    #[command(flatten)]
    source: source::SourceArgs,
    /// Judge each packet of this capture (pcap or pcapng, Ethernet); `-` is standard input
    ///
    /// A packet that was cut when it was captured is judged as it was captured.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["explain", "seccomp"])]
    pcap: Option<PathBuf>,
    #[command(flatten)]
    repeat: RepeatArg,
    /// What judges [default: all of them, which must agree]
    #[arg(long, value_enum, requires = "judged")]
    engine: Option<EngineArg>,
    /// The kind of eBPF program that the filter is converted to
    #[arg(long = "as", visible_alias = "target", value_enum, default_value_t = TargetArg::SchedCls, conflicts_with = "seccomp")]
    target: TargetArg,
    /// Print what the filter accepts, as conditions
    #[arg(long)]
    explain: bool,
    /// It is a filter of system calls
    #[arg(long)]
    seccomp: bool,
    #[command(flatten)]
    call: calls::CallArgs,
    /// Print JSON objects, one a line
    #[arg(long)]
    json: bool,
}

/// What judges.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum EngineArg {
    /// The classic interpreter
    Classic,
    /// The eBPF interpreter
    Interp,
    /// Machine code
    Jit,
}

impl EngineArg {
    const fn name(self) -> &'static str {
        match self {
            Self::Classic => "classic",
            Self::Interp => "interp",
            Self::Jit => "jit",
        }
    }
}

/// What a filter of packets is converted to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
enum TargetArg {
    /// A traffic control classifier
    SchedCls,
    /// An XDP program
    Xdp,
    /// A socket filter, which reads the packet by packet load instructions
    SocketFilter,
    /// A program on a block of memory
    Flat,
}

impl From<TargetArg> for Target {
    fn from(target: TargetArg) -> Self {
        match target {
            TargetArg::SchedCls => Self::SchedCls,
            TargetArg::Xdp => Self::Xdp,
            TargetArg::SocketFilter => Self::SocketFilter,
            TargetArg::Flat => Self::Flat,
        }
    }
}

impl FilterArgs {
    /// The engines that are meant.
    fn engines(&self) -> Vec<EngineArg> {
        self.engine.map_or_else(|| EngineArg::value_variants().to_vec(), |engine| vec![engine])
    }
}

/// Why a filter that can be read is not run: exit code 1.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error(transparent)]
    Check(#[from] CheckError),
    #[error(transparent)]
    Seccomp(#[from] SeccompError),
    #[error(transparent)]
    Convert(#[from] ConvertError),
    #[error(transparent)]
    Filter(#[from] FilterError),
    /// Two engines do not agree: one of them is wrong.
    #[error("{engine} gives {value}, {} gives {expected}", EngineArg::Classic.name())]
    Disagreement { engine: &'static str, value: u32, expected: u32 },
}

impl Refusal {
    /// The instruction that it is about.
    fn pc(&self) -> Option<ClassicPc> {
        match self {
            Self::Check(error) => error.pc(),
            Self::Seccomp(error) => Some(error.pc()),
            Self::Convert(error) => error.pc(),
            Self::Filter(FilterError::Convert(error)) => error.pc(),
            Self::Filter(FilterError::Header { pc }) => Some(*pc),
            Self::Filter(_) | Self::Disagreement { .. } => None,
        }
    }
}

/// How a command ends early.
enum Stop {
    Error(CliError),
    Refused(Refusal),
}

impl From<CliError> for Stop {
    fn from(error: CliError) -> Self {
        Self::Error(error)
    }
}

impl From<std::io::Error> for Stop {
    fn from(error: std::io::Error) -> Self {
        Self::Error(error.into())
    }
}

/// Says that a failure is a refusal.
trait OrRefuse<T> {
    fn or_refuse(self) -> Result<T, Stop>;
}

impl<T, E: Into<Refusal>> OrRefuse<T> for Result<T, E> {
    fn or_refuse(self) -> Result<T, Stop> {
        self.map_err(|error| Stop::Refused(error.into()))
    }
}

/// Prints a filter, explains it, or lets it judge.
pub(crate) fn run(args: &FilterArgs, console: &mut Console) -> Result<Status, CliError> {
    let name = args.source.name();
    match filter(args, &name, console) {
        Ok(()) => Ok(Status::Fine),
        Err(Stop::Error(error)) => Err(error),
        Err(Stop::Refused(refusal)) => {
            if args.json {
                let pc = refusal.pc().map(|pc| pc.0);
                let object = json!({
                    "file": name,
                    "verdict": "reject",
                    "msg": refusal.to_string(),
                    "pc": pc,
                });
                writeln!(console.out, "{object}")?;
            } else {
                console.complain(&format!("error: {name}: {refusal}"));
            }
            Ok(Status::Refused)
        }
    }
}

fn filter(args: &FilterArgs, name: &str, console: &mut Console) -> Result<(), Stop> {
    let filter = Filter::new(args.source.read()?).or_refuse()?;
    if args.seccomp {
        let filter = SeccompFilter::new(filter).or_refuse()?;
        return match args.call.data() {
            Some(data) => calls::judge(args, name, &filter, &data, console),
            None if args.explain => explained::write(args, name, filter.filter(), console),
            None => {
                let converted = filter.convert().or_refuse()?;
                Ok(listing::write(args, name, &converted, Target::Seccomp, console)?)
            }
        };
    }
    if args.explain {
        return explained::write(args, name, &filter, console);
    }
    match &args.pcap {
        Some(pcap) => packets::judge(args, name, &filter, pcap, console),
        None => {
            let options = Options { target: args.target.into(), ..Options::default() };
            let converted = convert(&filter, &options).or_refuse()?;
            Ok(listing::write(args, name, &converted, options.target, console)?)
        }
    }
}

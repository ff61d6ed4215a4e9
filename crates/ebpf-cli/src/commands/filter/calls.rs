//! What a filter says of a system call.

use std::io::Write;

use clap::Args;
use ebpf_runtime::classic::seccomp::{AUDIT_ARCH_X86_64, Action, SeccompData, SeccompFilter};
use ebpf_runtime::filter::FilterError;
use ebpf_runtime::isa::abi::ExecEnv;
use ebpf_runtime::seccomp::SeccompProgram;
use ebpf_runtime::{Engine, Runtime};
use serde_json::json;

use super::{EngineArg, FilterArgs, OrRefuse, Refusal, Stop};
use crate::console::Console;
use crate::error::CliError;

/// The most arguments that a system call has.
const ARGS_MAX: usize = 6;

/// A system call.
#[derive(Debug, Args)]
pub(super) struct CallArgs {
    /// Print what happens to the system call with this number, in decimal or with 0x
    #[arg(
        long,
        value_name = "NR",
        requires = "seccomp",
        conflicts_with = "explain",
        allow_negative_numbers = true,
        value_parser = parse_nr
    )]
    syscall: Option<i32>,
    /// Its arguments, up to six, in decimal or with 0x
    #[arg(long, value_name = "A,B,...", requires = "syscall", value_parser = parse_args)]
    args: Option<CallArguments>,
    /// Its calling convention, a number of `AUDIT_ARCH_*` [default: 0xc000003e, x86-64]
    #[arg(long, value_name = "NUMBER", requires = "syscall", value_parser = parse_arch)]
    arch: Option<u32>,
}

/// The arguments of a system call; those that are not given are 0.
#[derive(Debug, Clone, Copy, Default)]
struct CallArguments([u64; ARGS_MAX]);

fn parse_args(text: &str) -> Result<CallArguments, String> {
    let mut args = CallArguments::default();
    for (index, word) in text.split(',').enumerate() {
        let place = args.0.get_mut(index).ok_or("a system call has at most 6 arguments")?;
        *place = parse_number(word.trim())?;
    }
    Ok(args)
}

/// A number of 32 bits, with a sign or without: those of x32 begin with 0x4.
fn parse_nr(text: &str) -> Result<i32, String> {
    text.parse().or_else(|_| parse_arch(text).map(u32::cast_signed))
}

fn parse_arch(text: &str) -> Result<u32, String> {
    u32::try_from(parse_number(text)?).map_err(|_| format!("{text} has more than 32 bits"))
}

fn parse_number(text: &str) -> Result<u64, String> {
    let number = match text.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16),
        None => text.parse(),
    };
    number.map_err(|error| format!("`{text}`: {error}"))
}

impl CallArgs {
    /// The call, if one is asked about.
    pub(super) fn data(&self) -> Option<SeccompData> {
        let CallArguments(args) = self.args.unwrap_or_default();
        let arch = self.arch.unwrap_or(AUDIT_ARCH_X86_64);
        self.syscall.map(|nr| SeccompData { nr, arch, args, ..SeccompData::default() })
    }
}

/// Prints the action, on which all engines must agree.
pub(super) fn judge(
    args: &FilterArgs,
    name: &str,
    filter: &SeccompFilter,
    data: &SeccompData,
    console: &mut Console,
) -> Result<(), Stop> {
    let runtime = Runtime::new().map_err(CliError::from)?;
    let expected = filter.run(data);
    for engine in args.engines() {
        let value = value(&runtime, filter, data, engine).or_refuse()?;
        if value != expected {
            let engine = engine.name();
            return Err(Stop::Refused(Refusal::Disagreement { engine, value, expected }));
        }
    }
    let action = Action::of(expected);
    if !args.json {
        writeln!(console.out, "{action}")?;
        return Ok(());
    }
    let object = json!({
        "file": name,
        "syscall": data.nr,
        "args": data.args,
        "arch": data.arch,
        "action": action.to_string(),
        "value": expected,
        "engines": args.engines().iter().map(|engine| engine.name()).collect::<Vec<_>>(),
    });
    Ok(writeln!(console.out, "{object}")?)
}

fn value(
    runtime: &Runtime,
    filter: &SeccompFilter,
    data: &SeccompData,
    engine: EngineArg,
) -> Result<u32, FilterError> {
    let engine = match engine {
        EngineArg::Classic => return Ok(filter.run(data)),
        EngineArg::Interp => Engine::Interp,
        EngineArg::Jit => Engine::Jit,
    };
    let program = SeccompProgram::load(runtime, filter, engine)?;
    Ok(program.run(data, &mut ExecEnv::new()).expect("invariant: it calls nothing"))
}

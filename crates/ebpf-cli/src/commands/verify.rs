//! `ebpf verify`: verdicts.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::{Args, ValueEnum};
use ebpf_runtime::btf::core_relo::CoreError;
use ebpf_runtime::kernel;
use ebpf_runtime::object::{CoreProblem, ObjectError, RelocationProblem};
use ebpf_runtime::verifier::{KernelProfile, KernelTypes, LogLevel};

use crate::commands::cases;
use crate::console::{Console, Status};
use crate::error::{CliError, InFile};
use crate::input::{ChoiceArgs, Input};
use crate::profile;
use crate::render::{self, diagnostic, json};
use crate::verdict::Verdict;

/// Arguments of `ebpf verify`.
#[derive(Debug, Args)]
pub(crate) struct VerifyArgs {
    /// ELF objects, or text assembly (.bpf, .s); `-` is standard input
    ///
    /// Text assembly may be a fixture file, whose `-- asm` section is taken. Text and raw
    /// instructions are judged as XDP programs without maps, under a GPL-compatible licence.
    #[arg(value_name = "FILE", required_unless_present = "cases")]
    files: Vec<PathBuf>,
    /// Programs as JSON lines: one JSON object out for each line in, with its id
    ///
    /// The types of the kernel are those of the running one, unless --btf names others.
    #[arg(long, value_name = "FILE.jsonl", conflicts_with_all = ["files", "prog", "raw", "format"])]
    cases: Option<PathBuf>,
    /// Kernel to judge as: linux-6.18, or a file that `ebpf profile probe` wrote
    #[arg(long, value_name = "PROFILE")]
    kernel: Option<String>,
    #[command(flatten)]
    choice: ChoiceArgs,
    /// How verdicts are printed
    #[arg(long, value_enum, default_value_t = Format::Human)]
    format: Format,
    /// Print the kernel's log: 1 the last path, 2 all paths, 4 statistics, or a sum of these
    #[arg(long, value_name = "LEVEL", value_parser = log_level, conflicts_with_all = ["cases", "format"])]
    log_level: Option<LogLevel>,
}

/// A level of the kernel's log.
fn log_level(text: &str) -> Result<LogLevel, String> {
    let level = text.parse().ok().and_then(LogLevel::new);
    level.ok_or_else(|| "a level is 0, or a sum of 1, 2 and 4".to_owned())
}

/// How verdicts are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// With the source code around what is wrong
    Human,
    /// As the kernel's log
    Kernel,
    /// An object a line
    Json,
}

/// Judges each program of each file. A file that cannot be read does not hide the verdicts on the
/// others; the worst outcome of all decides the exit code.
pub(crate) fn run(args: &VerifyArgs, console: &mut Console) -> Result<Status, CliError> {
    let profile = profile::named(args.kernel.as_deref())?;
    let types = args.choice.types()?;
    if let Some(path) = &args.cases {
        let types = types.or_else(|| kernel::types().ok().map(Arc::new));
        return cases::run(path, types.as_ref(), &profile, console);
    }
    let mut status = Status::Fine;
    for file in &args.files {
        let of_file = verify_file(file, args, types.clone(), &profile, console);
        status = status.max(report(of_file, console)?);
    }
    Ok(status)
}

/// Takes an error as an outcome like others, unless nothing more can be written.
fn report(result: Result<Status, CliError>, console: &mut Console) -> Result<Status, CliError> {
    match result {
        Err(CliError::Output(error)) => Err(CliError::Output(error)),
        Err(error) => {
            console.error(&error);
            Ok(Status::Unusable)
        }
        Ok(status) => Ok(status),
    }
}

fn verify_file(
    path: &Path,
    args: &VerifyArgs,
    types: Option<Arc<KernelTypes>>,
    profile: &KernelProfile,
    console: &mut Console,
) -> Result<Status, CliError> {
    let file = path.display().to_string();
    let input = Input::read(path, args.choice.raw, types).in_file(&file)?;
    let names = input.names(args.choice.prog.as_deref()).in_file(&file)?;
    let mut status = Status::Fine;
    for name in names {
        let of_program = verify_program(&file, &input, name, (args, profile), console);
        status = status.max(report(of_program, console)?);
    }
    Ok(status)
}

fn verify_program(
    file: &str,
    input: &Input,
    name: Option<&str>,
    (args, profile): (&VerifyArgs, &KernelProfile),
    console: &mut Console,
) -> Result<Status, CliError> {
    let subject = input.subject(name);
    let verdict = match &subject {
        Ok(subject) => Verdict::of(file, subject, profile, args.log_level),
        Err(error) => match unsupported(error) {
            Some(why) => Verdict::unsupported(file, name, input.section(name), profile, why),
            None => return Err(error.clone()).in_file(file),
        },
    };
    let format = if args.log_level.is_some() { Format::Kernel } else { args.format };
    match format {
        Format::Human => {
            let text = diagnostic::verdict(&verdict, console.out_has_colours());
            write!(console.out, "{text}")?;
        }
        Format::Kernel => {
            writeln!(console.out, "; {}", verdict.title())?;
            write!(console.out, "{}", render::kernel::verdict(&verdict, profile))?;
        }
        Format::Json => writeln!(console.out, "{}", json::verdict(&verdict))?,
    }
    Ok(if verdict.is_accept() { Status::Fine } else { Status::Refused })
}

/// What the linker does not have, if the object is sound and only asks for that.
fn unsupported(error: &ObjectError) -> Option<String> {
    use RelocationProblem::{Extern, RelocatedData};
    match error {
        ObjectError::CoreRelocation { problem: CoreProblem::Types(CoreError::NoTypes), .. } => {
            Some(format!("{error}; give them with --btf"))
        }
        ObjectError::Relocation { problem: Extern { .. } | RelocatedData { .. }, .. } => {
            Some(error.to_string())
        }
        _ => None,
    }
}

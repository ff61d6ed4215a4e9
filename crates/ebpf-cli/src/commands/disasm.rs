//! `ebpf disasm`: programs as text.

use std::io::Write;

use clap::{Args, ValueEnum};

use crate::console::{Console, Status, one_line};
use crate::error::{CliError, InFile};
use crate::input::ProgramArgs;

/// Arguments of `ebpf disasm`.
#[derive(Debug, Args)]
pub(crate) struct DisasmArgs {
    #[command(flatten)]
    program: ProgramArgs,
    /// How instructions are written
    #[arg(long, value_enum, default_value_t = Format::Canonical)]
    format: Format,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// What `ebpf asm` reads back, with names and source lines where the file has them
    Canonical,
    /// Byte for byte as the kernel's verifier prints them
    Kernel,
}

/// Prints programs as text.
pub(crate) fn run(args: &DisasmArgs, console: &mut Console) -> Result<Status, CliError> {
    let file = args.program.name();
    let input = args.program.read()?;
    let names = input.names(args.program.choice.prog.as_deref()).in_file(&file)?;
    let several = names.len() > 1;
    for name in names {
        let subject = input.subject(name).in_file(&file)?;
        if let (true, Some(name), Some(section)) = (several, subject.name(), subject.section()) {
            writeln!(console.out, "; {}, section {}", one_line(name), one_line(section))?;
        }
        let listing = subject.program().listing();
        match args.format {
            Format::Canonical => write!(console.out, "{listing}")?,
            Format::Kernel => write!(console.out, "{}", listing.kernel())?,
        }
    }
    Ok(Status::Fine)
}

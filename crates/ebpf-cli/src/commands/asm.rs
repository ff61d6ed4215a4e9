//! `ebpf asm`: text to instructions.

use std::fs;
use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use ebpf_runtime::isa::{Program, RawInsn};

use crate::console::{Console, Status};
use crate::error::{CliError, FileError, InFile};
use crate::input::read_text;

/// Arguments of `ebpf asm`.
#[derive(Debug, Args)]
pub(crate) struct AsmArgs {
    /// Text assembly, or a fixture file with an `-- asm` section; `-` is standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Write the bytes of the instructions to this file
    #[arg(short, long, value_name = "OUT")]
    output: Option<PathBuf>,
}

/// Assembles a program: to a file as bytes, to standard output as hex, an instruction slot a line.
pub(crate) fn run(args: &AsmArgs, console: &mut Console) -> Result<Status, CliError> {
    let file = args.file.display().to_string();
    let slots = read_text(&args.file).and_then(|program| slots(&program));
    let slots = slots.in_file(&file)?;
    match &args.output {
        Some(path) => {
            let written = fs::write(path, slots.concat()).map_err(FileError::Write);
            written.in_file(&path.display().to_string())?;
        }
        None => {
            for slot in slots {
                writeln!(console.out, "{}", hex::encode(slot))?;
            }
        }
    }
    Ok(Status::Fine)
}

fn slots(program: &Program) -> Result<Vec<[u8; 8]>, FileError> {
    Ok(program.to_slots()?.into_iter().map(RawInsn::to_bytes).collect())
}

//! `ebpf xlated`: the program as it runs.

use std::io::Write;

use ebpf_runtime::Engine;

use crate::console::{Console, Status};
use crate::error::CliError;
use crate::input::ProgramArgs;
use crate::loading::load_only;

/// Verifies a program and prints what rewriting made of it, with the pass that inserted an instruction
/// behind it (`; ctx`).
pub(crate) fn run(args: &ProgramArgs, console: &mut Console) -> Result<Status, CliError> {
    let Some(loaded) = load_only(args, Engine::Interp, console)? else {
        return Ok(Status::Refused);
    };
    let rewritten = loaded.rewritten();
    let marks = rewritten.marks();
    write!(console.out, "{}", rewritten.program.listing().with_marks(&marks))?;
    Ok(Status::Fine)
}

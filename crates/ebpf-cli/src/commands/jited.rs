//! `ebpf jited`: machine code.

use std::io::Write;

use ebpf_runtime::{Engine, jit};

use crate::console::{Console, Status};
use crate::error::CliError;
use crate::input::ProgramArgs;
use crate::loading::load_only;

/// Verifies and compiles a program, and prints its machine code below the instructions it came
/// from. Addresses print as what they are addresses of, so the text is the same in every run.
pub(crate) fn run(args: &ProgramArgs, console: &mut Console) -> Result<Status, CliError> {
    let Some(loaded) = load_only(args, Engine::Jit, console)? else {
        return Ok(Status::Refused);
    };
    let code = loaded.machine_code().expect("the program was loaded for the compiler");
    let listing = jit::Listing::new(&loaded.rewritten().program, code.image);
    write!(console.out, "{listing}")?;
    Ok(Status::Fine)
}

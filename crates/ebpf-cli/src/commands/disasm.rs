//! `ebpf disasm`: programs as text.

use std::io::Write;

use crate::console::{Console, Status, one_line};
use crate::error::{CliError, InFile};
use crate::input::ProgramArgs;

/// Prints programs as text, with their source lines where the file has them.
pub(crate) fn run(args: &ProgramArgs, console: &mut Console) -> Result<Status, CliError> {
    let file = args.name();
    let input = args.read()?;
    let names = input.names(args.choice.prog.as_deref()).in_file(&file)?;
    let several = names.len() > 1;
    for name in names {
        let subject = input.subject(name).in_file(&file)?;
        if let (true, Some(name), Some(section)) = (several, subject.name(), subject.section()) {
            writeln!(console.out, "; {}, section {}", one_line(name), one_line(section))?;
        }
        write!(console.out, "{}", subject.program().listing())?;
    }
    Ok(Status::Fine)
}

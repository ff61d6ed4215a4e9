//! `ebpf profile`: kernels as data.

use std::io::Write;

use clap::{Args, Subcommand};

use crate::console::{Console, Status};
use crate::error::CliError;
use crate::profile;

/// Arguments of `ebpf profile`.
#[derive(Debug, Args)]
pub(crate) struct ProfileArgs {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Find out what the running kernel is like, by loading tiny programs, and print its profile
    ///
    /// Needs the right to load programs. Nothing is attached, and nothing stays loaded. The output
    /// is what `ebpf verify --kernel` reads.
    Probe,
}

pub(crate) fn run(args: &ProfileArgs, console: &mut Console) -> Result<Status, CliError> {
    match args.action {
        Action::Probe => {
            let probe = ebpf_runtime::kernel::probe()?;
            writeln!(console.out, "{:#}", profile::print(&probe))?;
            Ok(Status::Fine)
        }
    }
}

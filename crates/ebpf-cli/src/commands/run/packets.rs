//! Verified programs on the packets of a capture.

use std::io::Write;
use std::path::Path;

use ebpf_runtime::Engine;
use ebpf_runtime::verifier::KernelProfile;
use ebpf_runtime::xdp::XdpProgram;

use crate::capture::Capture;
use crate::console::{Console, Status};
use crate::error::{CliError, FileError, InFile};
use crate::loading::{Load, load};
use crate::map_args;
use crate::packets;
use crate::read::{self, MAX_CAPTURE_BYTES};
use crate::render::run::Report;
use crate::render::{diagnostic, json};

use super::RunArgs;

/// Runs the program on each packet and prints actions, maps, times, and what was loaded.
///
/// The capture is read before the program is verified, so that a mistake in either is found
/// before anything runs.
pub(super) fn run(
    args: &RunArgs,
    pcap: &Path,
    engine: Engine,
    console: &mut Console,
) -> Result<Status, CliError> {
    let file = args.program.name();
    let input = args.program.read()?;
    let subject = input.only(args.program.choice.prog.as_deref()).in_file(&file)?;
    let bindings = subject.bindings(&KernelProfile::default()).in_file(&file)?;
    for argument in &args.maps {
        map_args::apply(argument, &bindings.maps)
            .map_err(|source| CliError::Map { argument: argument.clone(), source })?;
    }
    let pcap_name = pcap.display().to_string();
    let bytes = read::bytes(pcap, MAX_CAPTURE_BYTES).in_file(&pcap_name)?;
    let capture = Capture::parse(&bytes).in_file(&pcap_name)?;
    let (loaded, elapsed) = match load(&file, &subject, bindings, engine)? {
        Load::Done { loaded, elapsed } => (loaded, elapsed),
        Load::Rejected(verdict) => {
            if args.json {
                writeln!(console.out, "{}", json::verdict(&verdict))?;
            } else {
                let text = diagnostic::verdict(&verdict, console.err_has_colours());
                console.complain(&text);
            }
            return Ok(Status::Refused);
        }
    };
    let program = XdpProgram::new(*loaded).map_err(|_| FileError::NotXdp).in_file(&file)?;
    let runs = match packets::run(&program, &capture, args.repeat) {
        Ok(runs) => runs,
        Err(trapped) => {
            console.complain(&format!("error: {file}: {trapped}"));
            return Ok(Status::Refused);
        }
    };
    let report = Report { file: &file, subject: &subject, loaded: program.loaded(), elapsed, runs };
    if args.json {
        writeln!(console.out, "{}", report.json())?;
    } else {
        report.write(&mut console.out)?;
    }
    Ok(Status::Fine)
}

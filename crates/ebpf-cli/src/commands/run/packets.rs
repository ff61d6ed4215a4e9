//! Verified programs on the packets of a capture.

use std::fs;
use std::io::Write;
use std::ops::Range;
use std::path::Path;

use ebpf_runtime::Engine;
use ebpf_runtime::interp::Coverage;
use ebpf_runtime::isa::abi::ExecEnv;
use ebpf_runtime::verifier::KernelProfile;
use ebpf_runtime::xdp::XdpProgram;

use crate::capture::Capture;
use crate::console::{Console, Status};
use crate::error::{CliError, FileError, InFile};
use crate::loading::{Load, load};
use crate::map_args;
use crate::packets::{self, INGRESS, Runs, Trapped};
use crate::read::{self, MAX_CAPTURE_BYTES};
use crate::render::run::Report;
use crate::render::{diagnostic, json, lcov};

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
    if args.coverage.is_some() {
        lcov::require_lines(subject.program()).in_file(&file)?;
    }
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
    let run = |room: &mut [u8], packet: &mut Range<usize>, env: &mut ExecEnv| {
        program.run_in_room(room, packet, INGRESS, env)
    };
    let outcome = match &args.coverage {
        None => packets::run(run, &capture, args.repeat.times),
        Some(out) => covered(&program, &capture, args.repeat.times, out)?,
    };
    let runs = match outcome {
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

/// Interprets the program on each packet and writes which lines were run to `out`, also if a run ends
/// early: then it tells where.
fn covered(
    program: &XdpProgram,
    capture: &Capture<'_>,
    repeat: u64,
    out: &Path,
) -> Result<Result<Runs, Trapped>, CliError> {
    let loaded = program.loaded();
    let vm = loaded.vm().expect("coverage chooses the interpreter");
    let mut coverage = Coverage::new(vm, &loaded.rewritten().program);
    let run = |room: &mut [u8], packet: &mut Range<usize>, env: &mut ExecEnv| {
        let end = program.observe(room, packet, INGRESS, env, &mut coverage);
        end.expect("an interpreted program can be observed")
    };
    let outcome = packets::run(run, capture, repeat);
    let text = lcov::text(loaded.verified().program(), &coverage);
    fs::write(out, text).map_err(FileError::Write).in_file(&out.display().to_string())?;
    Ok(outcome)
}

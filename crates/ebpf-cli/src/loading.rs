//! Loading a program of a file, for the commands that need it loaded.

use std::time::{Duration, Instant};

use ebpf_runtime::verifier::{KernelProfile, Options};
use ebpf_runtime::{Bindings, Engine, LoadError, Loaded, Runtime};

use crate::console::Console;
use crate::error::{CliError, InFile};
use crate::input::{ProgramArgs, Subject};
use crate::render::diagnostic;
use crate::verdict::{Outcome, Verdict};

/// What became of a program.
pub(crate) enum Load<'a> {
    /// It can run.
    Done {
        /// The program, boxed since it is much larger than a verdict.
        loaded: Box<Loaded>,
        /// Time of all steps from verification to placement.
        elapsed: Duration,
    },
    /// It was rejected.
    Rejected(Box<Verdict<'a>>),
}

/// Verifies a program of `file` and makes it ready to run.
pub(crate) fn load<'a>(
    file: &'a str,
    subject: &'a Subject<'a>,
    bindings: Bindings,
    engine: Engine,
) -> Result<Load<'a>, CliError> {
    let program_type = bindings.kind.rules().program_type();
    let profile = bindings.profile.name.to_string();
    let runtime = Runtime::new()?;
    let start = Instant::now();
    let result = runtime.load(subject.program(), bindings, &Options::default(), engine);
    let elapsed = start.elapsed();
    match result {
        Ok(loaded) => Ok(Load::Done { loaded: Box::new(loaded), elapsed }),
        Err(LoadError::Rejected(rejection)) => Ok(Load::Rejected(Box::new(Verdict {
            file,
            prog: subject.name(),
            section: subject.section(),
            program_type: Some(program_type),
            program: Some(subject.program()),
            profile,
            elapsed,
            outcome: Outcome::Reject(rejection),
            missing: subject.missing(),
            log: None,
        }))),
        Err(error) => Err(error).in_file(file),
    }
}

/// Loads the one program that `args` name for `engine`. `None`, after the reason went to standard
/// error, where it is rejected.
pub(crate) fn load_only(
    args: &ProgramArgs,
    engine: Engine,
    console: &mut Console,
) -> Result<Option<Box<Loaded>>, CliError> {
    let file = args.name();
    let input = args.read()?;
    let subject = input.only(args.choice.prog.as_deref()).in_file(&file)?;
    let bindings = subject.bindings(&KernelProfile::default()).in_file(&file)?;
    match load(&file, &subject, bindings, engine)? {
        Load::Done { loaded, .. } => Ok(Some(loaded)),
        Load::Rejected(verdict) => {
            let text = diagnostic::verdict(&verdict, console.err_has_colours());
            console.complain(&text);
            Ok(None)
        }
    }
}

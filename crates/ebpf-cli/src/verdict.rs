//! Verdicts on programs, before they become text or data.

use std::time::{Duration, Instant};

use ebpf_runtime::isa::uapi::ProgramType;
use ebpf_runtime::isa::{Facts, Program};
use ebpf_runtime::object::MissingType;
use ebpf_runtime::open::OpenError;
use ebpf_runtime::verifier::{
    KernelProfile, Log, LogLevel, Options, Rejection, Stats, verify, verify_logged,
};

use crate::console::one_line;
use crate::input::Subject;

/// What a program was found to be.
#[derive(Debug)]
pub(crate) struct Verdict<'a> {
    /// The file as it was named.
    pub(crate) file: &'a str,
    /// The program's name, where it has one.
    pub(crate) prog: Option<&'a str>,
    /// The section, where the program comes from an object.
    pub(crate) section: Option<&'a str>,
    /// What it was judged as; `None` where that is not known.
    pub(crate) program_type: Option<ProgramType>,
    /// What was judged; `None` where the program could not be linked.
    pub(crate) program: Option<&'a Program>,
    /// By which kernel's rules.
    pub(crate) profile: String,
    /// Time of verification.
    pub(crate) elapsed: Duration,
    /// Yes or no.
    pub(crate) outcome: Outcome,
    /// What the kernel's types do not have of what the program asks for.
    pub(crate) missing: &'a [MissingType],
    /// The verifier's log, where it was asked for.
    pub(crate) log: Option<Log>,
}

/// Yes or no, and why.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// The kernel would load the program.
    Accept {
        /// What verification took.
        stats: Stats,
        /// What was proved.
        facts: Facts,
    },
    /// The kernel would refuse the program.
    Reject(Box<Rejection>),
    /// Something before verification does not know the program's type or one of its references,
    /// so that it was not verified. The kernel may accept the program.
    Unsupported(String),
}

impl<'a> Verdict<'a> {
    /// A verdict on what was not even linked.
    pub(crate) fn unsupported(
        file: &'a str,
        prog: Option<&'a str>,
        section: Option<&'a str>,
        profile: &KernelProfile,
        why: String,
    ) -> Self {
        Self {
            file,
            prog,
            section,
            program_type: None,
            program: None,
            profile: profile.name.to_string(),
            elapsed: Duration::ZERO,
            outcome: Outcome::Unsupported(why),
            missing: &[],
            log: None,
        }
    }

    /// Verifies a program of `file`, with a log at a level if there is one.
    pub(crate) fn of(
        file: &'a str,
        subject: &'a Subject<'a>,
        profile: &KernelProfile,
        level: Option<LogLevel>,
    ) -> Self {
        let environment = match subject.environment(profile) {
            Ok(environment) => environment,
            Err(error) => {
                let (prog, section) = (subject.name(), subject.section());
                return Self {
                    program_type: program_type_of(&error),
                    program: Some(subject.program()),
                    ..Self::unsupported(file, prog, section, profile, error.to_string())
                };
            }
        };
        let start = Instant::now();
        let (program, options) = (subject.program(), Options::default());
        let (result, log) = match level {
            None => (verify(program, &environment, &options), None),
            Some(level) => {
                let (result, log) = verify_logged(program, &environment, &options, level);
                (result, Some(log))
            }
        };
        Self {
            file,
            prog: subject.name(),
            section: subject.section(),
            program_type: Some(environment.program_type.program_type()),
            program: Some(subject.program()),
            profile: profile.name.to_string(),
            elapsed: start.elapsed(),
            outcome: match result {
                Ok(verified) => {
                    Outcome::Accept { stats: *verified.stats(), facts: verified.facts().clone() }
                }
                Err(rejection) => Outcome::Reject(rejection),
            },
            missing: subject.missing(),
            log,
        }
    }

    /// What the kernel's types do not have, if the program was rejected for it.
    pub(crate) fn missing_type(&self) -> Option<&'a MissingType> {
        let Outcome::Reject(rejection) = &self.outcome else { return None };
        self.missing.iter().find(|missing| Some(missing.pc) == rejection.pc)
    }

    /// Whether the answer is yes.
    pub(crate) fn is_accept(&self) -> bool {
        matches!(self.outcome, Outcome::Accept { .. })
    }

    /// File and program on one line, for people.
    pub(crate) fn title(&self) -> String {
        let prog = self.prog.map(|prog| format!(": {prog}")).unwrap_or_default();
        one_line(&format!("{}{prog}", self.file))
    }
}

/// The type that has no rules, where it is known.
fn program_type_of(error: &OpenError) -> Option<ProgramType> {
    match *error {
        OpenError::NoRules { program_type } => Some(program_type),
        _ => None,
    }
}

//! `cargo xtask conformance [--suite DIR] [--engine interp|jit]`: drives the plugin process over
//! `fixtures/exec`, or over the `.data` files of the public bpf_conformance suite.
//!
//! The plugin runs programs that nobody verified, so both of its engines check each access to
//! memory. (The engines without checks run the same fixtures in the tests of ebpf-runtime.)

mod case;
mod plugin;

use std::collections::BTreeMap;
use std::path::PathBuf;

use ebpf_isa::ConformanceGroup;

use crate::error::TaskError;
use crate::say;
use case::Outcome;
use plugin::Plugin;

/// The engines of the plugin, by the flag that chooses them.
const ENGINES: [&str; 2] = ["interp", "jit"];

struct Options {
    suite: Option<PathBuf>,
    engines: Vec<&'static str>,
}

fn options(arguments: &[String]) -> Result<Options, TaskError> {
    let mut options = Options { suite: None, engines: ENGINES.to_vec() };
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        let mut value = || {
            let missing = || TaskError::Usage(format!("{argument} takes a value"));
            arguments.next().ok_or_else(missing)
        };
        match argument.as_str() {
            "--suite" => options.suite = Some(value()?.into()),
            "--engine" => {
                let name = value()?;
                let engine = ENGINES.into_iter().find(|engine| {
                    // Machine code of the plugin is always checked.
                    engine == name || (*engine == "jit" && name == "jit-checked")
                });
                let known = "conformance runs on interp and jit, both with checked memory";
                options.engines = vec![engine.ok_or_else(|| TaskError::Usage(known.into()))?];
            }
            other => return Err(TaskError::Usage(format!("conformance: unexpected `{other}`"))),
        }
    }
    Ok(options)
}

/// Runs every case on every engine, and prints a table by group.
pub(crate) fn run(arguments: &[String]) -> Result<(), TaskError> {
    let options = options(arguments)?;
    let cases = match &options.suite {
        Some(directory) => case::suite(directory)?,
        None => case::fixtures()?,
    };
    let plugin = Plugin::build()?;
    let mut table = Table::default();
    let mut failures = Vec::new();
    for case in &cases {
        for &engine in &options.engines {
            let failure = match &case.program {
                Ok(bytes) => {
                    let outcome = plugin.run(engine, &case.memory, bytes)?;
                    mismatch(&case.expected, &outcome)
                }
                Err(reason) => Some(format!("does not assemble: {reason}")),
            };
            table.count(case.group, engine, failure.is_none());
            failures.extend(failure.map(|why| format!("{}: {engine}: {why}", case.name)));
        }
    }
    say(&table.print(&options.engines));
    for failure in &failures {
        say(failure);
    }
    if failures.is_empty() {
        return Ok(());
    }
    let runs = cases.len() * options.engines.len();
    Err(TaskError::Failed(format!("{} of {runs} runs fail", failures.len())))
}

fn mismatch(expected: &Outcome, got: &Outcome) -> Option<String> {
    match (expected, got) {
        (Outcome::Value(want), Outcome::Value(got)) if want == got => None,
        (Outcome::Failure(_), Outcome::Failure(_)) => None,
        _ => Some(format!("expected {expected}, got {got}")),
    }
}

/// Passed and all runs, by group and engine.
#[derive(Default)]
struct Table(BTreeMap<(ConformanceGroup, &'static str), (u32, u32)>);

impl Table {
    fn count(&mut self, group: ConformanceGroup, engine: &'static str, passed: bool) {
        let cell = self.0.entry((group, engine)).or_default();
        cell.0 += u32::from(passed);
        cell.1 += 1;
    }

    fn print(&self, engines: &[&'static str]) -> String {
        let mut text = format!("{:<10}", "group");
        for engine in engines {
            text.push_str(&format!("{engine:>12}"));
        }
        for group in ConformanceGroup::ALL {
            let cells: Vec<_> =
                engines.iter().filter_map(|&engine| self.0.get(&(group, engine))).collect();
            if cells.is_empty() {
                continue;
            }
            text.push_str(&format!("\n{:<10}", group.label()));
            for (passed, all) in cells {
                text.push_str(&format!("{:>12}", format!("{passed}/{all}")));
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arguments;

    #[test]
    fn arguments_are_checked() {
        let parse = |words: &[&str]| options(&arguments(words));
        assert_eq!(parse(&[]).unwrap().engines, ["interp", "jit"]);
        assert_eq!(parse(&["--engine", "jit-checked"]).unwrap().engines, ["jit"]);
        assert!(parse(&["--engine", "kernel"]).is_err());
        assert!(parse(&["--suite"]).is_err());
        assert!(parse(&["now"]).is_err());
    }

    #[test]
    fn only_the_expected_outcome_passes() {
        let (one, two) = (Outcome::Value(1), Outcome::Value(2));
        let failure = Outcome::Failure("no".into());
        assert_eq!(mismatch(&one, &one), None);
        assert!(mismatch(&one, &two).is_some());
        assert!(mismatch(&one, &failure).is_some());
        assert!(mismatch(&failure, &one).is_some());
        assert_eq!(mismatch(&failure, &Outcome::Failure("never".into())), None);
    }
}

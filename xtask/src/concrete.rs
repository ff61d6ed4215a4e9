//! `cargo xtask concrete [--cases N] [--corpus DIR]`: runs of programs beside the states that the
//! verifier explored, for longer than the tests do.
//!
//! The programs are the fixtures, N that are generated, and those of a corpus that
//! `cargo xtask corpus --build` made, if there is one.

use std::path::PathBuf;

use crate::ci::cargo;
use crate::corpus;
use crate::error::TaskError;

#[derive(Debug, PartialEq)]
struct Options {
    cases: u64,
    corpus: PathBuf,
}

fn options(arguments: &[String]) -> Result<Options, TaskError> {
    let mut options = Options { cases: 10_000, corpus: corpus::default_directory() };
    for argument in arguments.chunks(2) {
        let [name, value] = argument else {
            return Err(TaskError::Usage(format!("concrete: `{}` needs a value", argument[0])));
        };
        match name.as_str() {
            "--cases" => {
                let number = || TaskError::Usage(format!("concrete: `{value}` is no number"));
                options.cases = value.parse().map_err(|_| number())?;
            }
            "--corpus" => options.corpus = value.into(),
            _ => return Err(TaskError::Usage(format!("concrete: unexpected `{name}`"))),
        }
    }
    Ok(options)
}

/// Runs the test of that name.
pub(crate) fn run(arguments: &[String]) -> Result<(), TaskError> {
    let Options { cases, corpus } = options(arguments)?;
    let mut tests = cargo();
    tests
        .args(["test", "--package", "ebpf-runtime", "--features", "cases", "--test", "concrete"])
        .args(["--", "--nocapture"])
        .env("CONCRETE_CASES", cases.to_string());
    if corpus::is_built(&corpus) {
        tests.env("CONCRETE_CORPUS", corpus);
    }
    let status = tests.status().map_err(|error| TaskError::Failed(format!("cargo: {error}")))?;
    match status.success() {
        true => Ok(()),
        false => Err(TaskError::Failed("a run is not what was explored".into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arguments;

    #[test]
    fn arguments_are_checked() {
        let parse = |words: &[&str]| options(&arguments(words));
        let parsed = parse(&["--cases", "7", "--corpus", "x"]).unwrap();
        assert_eq!(parsed, Options { cases: 7, corpus: "x".into() });
        for wrong in [&["--cases"][..], &["--cases", "x"], &["--nonsense", "1"]] {
            assert!(matches!(parse(wrong), Err(TaskError::Usage(_))), "{wrong:?}");
        }
    }
}

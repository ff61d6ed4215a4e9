//! The solver z3, where it is installed.

use std::io::{Read as _, Write as _};
use std::process::{Command, Stdio};

/// What the solver says of a goal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    Proved,
    /// There is a counterexample.
    Refuted,
    /// The effort was not enough.
    Unknown,
}

/// The solver's version; `None` if there is none to ask.
pub(super) fn version() -> Option<String> {
    let output = Command::new("z3").arg("--version").output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    text.split(' ').nth(2).map(str::to_owned)
}

/// Asks whether each script is without a model, with at most this effort for each: a count of the
/// solver's steps (`rlimit`), so that the answer does not depend on the machine.
pub(super) fn ask(scripts: &[String], effort: u32) -> Vec<Answer> {
    let mut solver = Command::new("z3")
        .arg("-in")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the solver is installed");
    let mut input = solver.stdin.take().unwrap();
    let text: String = scripts.iter().map(|script| in_frame(script, effort)).collect();
    let writer = std::thread::spawn(move || input.write_all(text.as_bytes()));
    let mut output = String::new();
    solver.stdout.take().unwrap().read_to_string(&mut output).unwrap();
    writer.join().unwrap().unwrap();
    solver.wait().unwrap();
    let answers: Vec<Answer> = output
        .lines()
        .map(|line| match line {
            "unsat" => Answer::Proved,
            "sat" => Answer::Refuted,
            "unknown" => Answer::Unknown,
            _ => panic!("the solver says: {line}"),
        })
        .collect();
    assert_eq!(answers.len(), scripts.len());
    answers
}

fn in_frame(script: &str, effort: u32) -> String {
    format!("(reset)\n(set-option :rlimit {effort})\n(set-logic QF_BV)\n{script}(check-sat)\n")
}

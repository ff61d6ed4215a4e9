//! The solver z3, where it is installed.

use std::io::{Read as _, Write as _};
use std::process::{Command, Stdio};

/// What the solver says of a goal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    Proved,
    /// There is a counterexample.
    Refuted,
    /// It ran out of time.
    Unknown,
}

/// Whether there is a solver to ask.
pub(super) fn is_installed() -> bool {
    let version = Command::new("z3").arg("--version").stdout(Stdio::null()).status();
    version.is_ok_and(|status| status.success())
}

/// Asks whether each script is without a model. They take `seconds` each at most.
pub(super) fn ask(scripts: &[String], seconds: u32) -> Vec<Answer> {
    let mut solver = Command::new("z3")
        .arg("-in")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the solver is installed");
    let mut input = solver.stdin.take().unwrap();
    let text: String = scripts.iter().map(|script| in_frame(script, seconds)).collect();
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
            "unknown" | "timeout" => Answer::Unknown,
            _ => panic!("the solver says: {line}"),
        })
        .collect();
    assert_eq!(answers.len(), scripts.len());
    answers
}

fn in_frame(script: &str, seconds: u32) -> String {
    let timeout = 1000 * seconds;
    format!("(reset)\n(set-option :timeout {timeout})\n(set-logic QF_BV)\n{script}(check-sat)\n")
}

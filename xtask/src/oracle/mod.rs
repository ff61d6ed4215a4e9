//! `cargo xtask oracle [FILE.jsonl…] [--log-level N]`: what the running kernel says about cases.
//!
//! Cases are read from files or standard input, in the format of `ebpf_runtime::object::cases`. One
//! JSON object a line goes to standard output for each: `id`, `verdict` (`accept`, `reject`,
//! `error` where the verifier did not come to see the program, `timeout`, `crash`), `errno`, `msg`,
//! the log's statistics, and for accepted programs `xlated` (the rewritten instructions in
//! hexadecimal) and `runs`. With `--log-level` there is the `log`, too. A line that is no case gets
//! an object with its number, and lets the task fail in the end.
//!
//! Programs are loaded and run on test packets, never attached or pinned. That happens in a child
//! process, so that a kernel which kills it or does not come back costs one case; a new child takes
//! over from time to time, which takes everything with it that may have been left.

mod answer;
mod pool;

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};

use ebpf_runtime::kernel::Oracle;
use ebpf_runtime::object::cases;
use serde_json::json;

use crate::error::TaskError;
use crate::say;
pub(crate) use pool::Pool;

/// The flag that makes this program the child.
const WORKER: &str = "--worker";

#[derive(Debug, PartialEq)]
struct Options {
    files: Vec<PathBuf>,
    log_level: u32,
    /// The directory of the cases that a child is given.
    worker: Option<PathBuf>,
}

fn options(arguments: &[String]) -> Result<Options, TaskError> {
    let mut options = Options { files: Vec::new(), log_level: 0, worker: None };
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        let mut value = || {
            let missing = || TaskError::Usage(format!("oracle: {argument} takes a value"));
            arguments.next().ok_or_else(missing)
        };
        match argument.as_str() {
            "--log-level" => {
                let level = value()?;
                let known = ["0", "1", "2", "4"].contains(&level.as_str());
                let usage = || TaskError::Usage("oracle: --log-level is 0, 1, 2 or 4".into());
                let number = level.parse().ok().filter(|_| known);
                options.log_level = number.ok_or_else(usage)?;
            }
            WORKER => options.worker = Some(value()?.into()),
            flag if flag.starts_with("--") => {
                return Err(TaskError::Usage(format!("oracle: unexpected `{flag}`")));
            }
            file => options.files.push(file.into()),
        }
    }
    Ok(options)
}

/// Asks the kernel about each case of each file.
pub(crate) fn run(arguments: &[String]) -> Result<(), TaskError> {
    let options = options(arguments)?;
    if let Some(directory) = &options.worker {
        return work(directory, options.log_level);
    }
    Oracle::new()?;
    let mut bad = 0;
    if options.files.is_empty() {
        let name = Path::new("standard input");
        bad += ask_all(name, std::io::stdin().lock(), Path::new("."), options.log_level)?;
    }
    for path in &options.files {
        let file = File::open(path).map_err(|error| TaskError::file(path, error))?;
        let directory = path.parent().unwrap_or(Path::new("."));
        bad += ask_all(path, BufReader::new(file), directory, options.log_level)?;
    }
    if bad == 0 { Ok(()) } else { Err(TaskError::Failed(format!("{bad} lines are no cases"))) }
}

/// Asks about the cases of one file; gives the number of lines that are none.
fn ask_all(
    name: &Path,
    from: impl BufRead,
    directory: &Path,
    log_level: u32,
) -> Result<u64, TaskError> {
    let mut pool = Pool::new(directory, log_level);
    let mut out = std::io::stdout().lock();
    let mut bad = 0;
    for line in cases::read(from) {
        let line = line.map_err(|error| TaskError::file(name, error))?;
        let answer = match &line.case {
            Ok(case) => pool.ask(&case.id, &line.text)?,
            Err(error) => {
                bad += 1;
                say(&format!("{}:{}: {error}", name.display(), line.number));
                let msg = error.to_string();
                json!({"id": error.id, "line": line.number, "verdict": "error", "msg": msg})
            }
        };
        writeln!(out, "{answer}").map_err(|error| TaskError::file(Path::new("stdout"), error))?;
    }
    Ok(bad)
}

/// The child: a case a line in, an answer a line out.
fn work(directory: &Path, log_level: u32) -> Result<(), TaskError> {
    let mut oracle = Oracle::new()?;
    let failed = |error| TaskError::file(Path::new("the parent"), error);
    let mut out = std::io::stdout().lock();
    for line in cases::read(std::io::stdin().lock()) {
        let line = line.map_err(failed)?;
        let answer = match &line.case {
            Ok(case) => answer::of(&case.id, &oracle.judge(case, directory, log_level)),
            Err(error) => json!({"id": error.id, "verdict": "error", "msg": error.to_string()}),
        };
        writeln!(out, "{answer}").and_then(|()| out.flush()).map_err(failed)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arguments;

    #[test]
    fn arguments_are_checked() {
        let parse = |words: &[&str]| options(&arguments(words));
        let parsed = parse(&["a.jsonl", "--log-level", "2"]).unwrap();
        let files = vec!["a.jsonl".into()];
        assert_eq!(parsed, Options { files, log_level: 2, worker: None });
        for wrong in [&["--log-level"][..], &["--log-level", "3"], &["--nonsense"]] {
            assert!(matches!(parse(wrong), Err(TaskError::Usage(_))), "{wrong:?}");
        }
    }
}

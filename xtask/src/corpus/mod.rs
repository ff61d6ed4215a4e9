//! `cargo xtask corpus [--build] [--record] [--dir DIR] [--differences]`: the kernel's own test
//! programs, judged by the running kernel and by us, and how far the two agree.
//!
//! `--build` makes the programs from the distribution's kernel sources, in `target/corpus` or `DIR`;
//! they are never committed. What the kernel says comes from the kernel, or where that cannot be
//! asked from the table of facts in `fixtures/corpus`, which `--record` writes. `--differences`
//! lists each case that differs.
//!
//! A program that we accept and the kernel rejects is a false accept: these come first, and one is
//! enough to fail. `Unsupported` is agreement with nothing.

mod build;
mod compare;
mod facts;
mod kernel;
mod ours;
mod stages;

use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};

use ebpf_runtime::kernel::Oracle;
use ebpf_runtime::object::cases::{self, Case};
use ebpf_testkit::workspace_root;

use crate::error::TaskError;
use crate::say;

/// The files of a built corpus.
const FILES: [&str; 2] = ["arrays.jsonl", "objects.jsonl"];

#[derive(Debug, Default, PartialEq)]
struct Options {
    build: bool,
    record: bool,
    differences: bool,
    directory: Option<PathBuf>,
}

fn options(arguments: &[String]) -> Result<Options, TaskError> {
    let mut options = Options::default();
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--build" => options.build = true,
            "--record" => options.record = true,
            "--differences" => options.differences = true,
            "--dir" => {
                let missing = || TaskError::Usage("corpus: --dir takes a value".into());
                options.directory = Some(arguments.next().ok_or_else(missing)?.into());
            }
            other => return Err(TaskError::Usage(format!("corpus: unexpected `{other}`"))),
        }
    }
    Ok(options)
}

/// A program of the corpus.
struct Entry {
    case: Case,
    /// The case as it stands in its file.
    line: String,
}

/// Builds the corpus if asked to, and compares.
pub(crate) fn run(arguments: &[String]) -> Result<(), TaskError> {
    let options = options(arguments)?;
    let directory = options.directory.clone().unwrap_or_else(default_directory);
    if options.build {
        build::build(&directory)?;
    }
    if !is_built(&directory) {
        let directory = directory.display();
        say(&format!(
            "skipped: no corpus in {directory} (cargo xtask corpus --build): not measured"
        ));
        return Ok(());
    }
    let entries = read(&directory)?;
    let judged = match Oracle::new() {
        Ok(_) => {
            let judged = kernel::ask(&entries, &directory)?;
            if options.record {
                facts::write(&entries, &judged)?;
            }
            judged
        }
        Err(error) if options.record => return Err(error.into()),
        Err(error) => {
            say(&format!("skipped: live verdicts, {error}: compared with the recorded ones"));
            facts::read(&entries)?
        }
    };
    let ours = ours::judge(&entries, &directory)?;
    let report = compare::compare(&entries, &judged, &ours);
    say(&report.print(options.differences));
    report.result()
}

/// Whether a corpus is there.
pub(crate) fn is_built(directory: &Path) -> bool {
    FILES.iter().all(|file| directory.join(file).exists())
}

/// Beside what cargo builds.
pub(crate) fn default_directory() -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    target.unwrap_or_else(|| workspace_root().join("target")).join("corpus")
}

/// The programs of a built corpus.
pub(crate) fn cases(directory: &Path) -> Result<Vec<Case>, TaskError> {
    Ok(read(directory)?.into_iter().map(|entry| entry.case).collect())
}

fn read(directory: &Path) -> Result<Vec<Entry>, TaskError> {
    let mut entries = Vec::new();
    for file in FILES {
        let path = directory.join(file);
        let from = File::open(&path).map_err(|error| TaskError::file(&path, error))?;
        for line in cases::read(BufReader::new(from)) {
            let line = line.map_err(|error| TaskError::file(&path, error))?;
            let case = line.case.map_err(|error| {
                TaskError::file(&path, format!("line {}: {error}", line.number))
            })?;
            entries.push(Entry { case, line: line.text });
        }
    }
    Ok(entries)
}

impl Entry {
    /// The file of the selftests that the program is from: of `ctx_skb/3` and `ctx_skb.o:f`.
    fn file(&self) -> &str {
        self.split_id().0
    }

    /// File, and program or number in it.
    fn split_id(&self) -> (&str, &str) {
        let id = &self.case.id;
        id.split_once(".o:").or_else(|| id.split_once('/')).unwrap_or((id, ""))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arguments;

    #[test]
    fn arguments_are_checked() {
        let parse = |words: &[&str]| options(&arguments(words));
        assert_eq!(parse(&[]).unwrap(), Options::default());
        assert_eq!(parse(&["--dir", "x"]).unwrap().directory, Some("x".into()));
        for wrong in [&["--dir"][..], &["--nonsense"]] {
            assert!(matches!(parse(wrong), Err(TaskError::Usage(_))), "{wrong:?}");
        }
    }

    #[test]
    fn a_corpus_that_is_not_built_is_not_measured() {
        let arguments = ["--dir".to_owned(), "no/such/directory".to_owned()];
        assert_eq!(run(&arguments), Ok(()));
    }
}

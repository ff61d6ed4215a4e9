//! Running a check over all fixtures of a directory.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use crate::fixture::Fixture;
use crate::{fixtures_dir, skip};

/// Runs `check` on each fixture below `dir`, a directory relative to the workspace's `fixtures`,
/// in the order of their paths. `FIXTURE=substring` in the environment keeps those whose path
/// (relative to `fixtures`) contains it.
///
/// All fixtures are run, whichever fail; a check that panics has failed.
///
/// # Panics
///
/// With a report of all failures, if there are any. If there is no fixture to run: a test that runs
/// nothing must not pass. Only where the filter names fixtures of other directories is it a skip.
#[track_caller]
pub fn for_each_fixture(dir: impl AsRef<Path>, check: impl FnMut(&Fixture) -> Result<(), String>) {
    let filter = std::env::var("FIXTURE").unwrap_or_default();
    match run(&fixtures_dir(), dir.as_ref(), &filter, check) {
        Ok(Outcome::Passed) => {}
        Ok(Outcome::FilteredOut) => {
            skip(&format!("FIXTURE={filter} names nothing in {}", dir.as_ref().display()));
        }
        Err(report) => panic!("{report}"),
    }
}

/// All `.bpf` files below `dir`, sorted; none where there is no such directory.
///
/// # Errors
///
/// A directory that cannot be read.
pub fn fixture_paths(dir: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    let mut pending = vec![dir.to_path_buf()];
    while let Some(dir) = pending.pop() {
        if !dir.is_dir() {
            continue;
        }
        for entry in std::fs::read_dir(&dir)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                pending.push(entry.path());
            } else if entry.path().extension().is_some_and(|suffix| suffix == "bpf") {
                paths.push(entry.path());
            }
        }
    }
    paths.sort();
    Ok(paths)
}

/// How a suite ended that did not fail.
#[derive(Debug, PartialEq)]
enum Outcome {
    Passed,
    /// The filter names fixtures, but none of this directory.
    FilteredOut,
}

fn run(
    root: &Path,
    dir: &Path,
    filter: &str,
    mut check: impl FnMut(&Fixture) -> Result<(), String>,
) -> Result<Outcome, String> {
    let named = |path: &Path| path.strip_prefix(root).unwrap_or(path).display().to_string();
    let all =
        |dir: &Path| fixture_paths(dir).map_err(|error| format!("{}: {error}", dir.display()));
    let matches = |path: &PathBuf| named(path).contains(filter);
    let place = root.join(dir);
    let mut paths = all(&place)?;
    if paths.is_empty() {
        return Err(format!("no fixture (*.bpf) in {}", place.display()));
    }
    paths.retain(matches);
    if paths.is_empty() {
        return if all(root)?.iter().any(matches) {
            Ok(Outcome::FilteredOut)
        } else {
            Err(format!("no fixture (*.bpf) has a path that contains `{filter}`"))
        };
    }
    let failures: Vec<String> = paths
        .iter()
        .filter_map(|path| run_one(path, &mut check).err().map(|report| (path, report)))
        .map(|(path, report)| format!("== fixtures/{}\n{}\n", named(path), report.trim_end()))
        .collect();
    if failures.is_empty() {
        return Ok(Outcome::Passed);
    }
    Err(format!(
        "{} of {} fixtures failed (FIXTURE=substring runs some alone)\n\n{}",
        failures.len(),
        paths.len(),
        failures.join("\n")
    ))
}

fn run_one(
    path: &Path,
    check: &mut impl FnMut(&Fixture) -> Result<(), String>,
) -> Result<(), String> {
    let text = std::fs::read_to_string(path).map_err(|error| error.to_string())?;
    let fixture = Fixture::parse(path, &text).map_err(|error| error.to_string())?;
    // Broken state after a panic cannot hide: the suite has failed by then.
    catch_unwind(AssertUnwindSafe(|| check(&fixture))).unwrap_or_else(|panic| {
        let text = panic
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| panic.downcast_ref::<&str>().copied())
            .unwrap_or("no message");
        Err(format!("panicked: {text}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A directory of fixtures that goes away with the test.
    struct Corpus(PathBuf);

    impl Corpus {
        fn new(name: &str, files: &[(&str, &str)]) -> Self {
            let root = std::env::temp_dir().join(format!("suite-{}-{name}", std::process::id()));
            for (path, text) in files {
                let path = root.join(path);
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                std::fs::write(path, text).unwrap();
            }
            Self(root)
        }

        fn run(
            &self,
            dir: &str,
            filter: &str,
            check: impl FnMut(&Fixture) -> Result<(), String>,
        ) -> Result<Outcome, String> {
            run(&self.0, Path::new(dir), filter, check)
        }
    }

    impl Drop for Corpus {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn runs_every_fixture_in_order() {
        let corpus = Corpus::new(
            "all",
            &[
                ("exec/sub/c.bpf", "# c\n"),
                ("exec/b.bpf", "# b\n"),
                ("exec/note.txt", "not a fixture"),
                ("other/a.bpf", "# a\n"),
            ],
        );
        let mut seen = Vec::new();
        let outcome = corpus.run("exec", "", |fixture| {
            seen.push(fixture.purpose().to_string());
            Ok(())
        });
        assert_eq!(outcome, Ok(Outcome::Passed));
        assert_eq!(seen, ["b", "c"]);
    }

    #[test]
    fn nothing_to_run_fails() {
        let corpus = Corpus::new("none", &[("exec/x.txt", "")]);
        assert!(corpus.run("exec", "", |_| Ok(())).unwrap_err().contains("no fixture"));
        assert!(corpus.run("gone", "", |_| Ok(())).unwrap_err().contains("no fixture"));
    }

    #[test]
    fn the_filter_narrows_and_must_name_something() {
        let corpus = Corpus::new(
            "filter",
            &[
                ("exec/add.bpf", "# add\n"),
                ("exec/sub.bpf", "# sub\n"),
                ("verify/mul.bpf", "# mul\n"),
            ],
        );
        let mut seen = Vec::new();
        let mut record = |fixture: &Fixture| {
            seen.push(fixture.purpose().to_string());
            Ok(())
        };
        assert_eq!(corpus.run("exec", "ec/ad", &mut record), Ok(Outcome::Passed));
        assert_eq!(corpus.run("exec", "mul", &mut record), Ok(Outcome::FilteredOut));
        assert!(corpus.run("exec", "typo", &mut record).unwrap_err().contains("`typo`"));
        assert_eq!(seen, ["add"]);
    }

    #[test]
    fn all_failures_are_reported() {
        let corpus = Corpus::new(
            "failures",
            &[
                ("exec/a.bpf", "# fails\n-- asm\nexit\n"),
                ("exec/b.bpf", "# panics\n"),
                ("exec/c.bpf", "no fixture"),
                ("exec/d.bpf", "# passes\n"),
            ],
        );
        let report = corpus
            .run("exec", "", |fixture| match fixture.purpose() {
                "fails" => fixture.expect_section("asm", "r0 = 0"),
                "panics" => panic!("at {}", 7),
                _ => Ok(()),
            })
            .unwrap_err();
        assert!(report.contains("3 of 4 fixtures failed"), "{report}");
        assert!(report.contains("== fixtures/exec/a.bpf\nsection `asm` differs"), "{report}");
        assert!(report.contains("- exit\n+ r0 = 0\n"), "{report}");
        assert!(report.contains("== fixtures/exec/b.bpf\npanicked: at 7\n"), "{report}");
        assert!(report.contains("c.bpf:1: `no fixture` belongs to no section"), "{report}");
    }

    #[test]
    #[should_panic(expected = "no fixture (*.bpf)")]
    fn the_public_face_panics() {
        for_each_fixture("no such directory", |_| Ok(()));
    }
}

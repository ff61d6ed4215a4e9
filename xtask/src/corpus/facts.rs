//! The table of what a kernel said about the corpus: facts, without any program.
//!
//! A line that does not begin with a tab names a file of the selftests; those below it are its
//! programs: name or number, errno (0 for an accept), instructions processed (`-` if not counted).

use std::collections::HashMap;
use std::fmt::Write as _;
use std::path::PathBuf;

use ebpf_runtime::object::cases::Judged;
use ebpf_testkit::workspace_root;

use super::Entry;
use crate::error::TaskError;

fn path() -> PathBuf {
    workspace_root().join("fixtures/corpus/verdicts.tsv")
}

const HEAD: &str = "\
# What Linux said about the programs of its selftests. Made by `cargo xtask corpus --record`.
# A file; below it its programs: name or number, errno (0: accepted), instructions processed.
";

/// Writes what was judged.
pub(super) fn write(entries: &[Entry], judged: &[Option<Judged>]) -> Result<(), TaskError> {
    let path = path();
    let failed = |error| TaskError::file(&path, error);
    std::fs::create_dir_all(path.parent().expect("the table is in a directory")).map_err(failed)?;
    std::fs::write(&path, print(entries, judged)).map_err(failed)
}

fn print(entries: &[Entry], judged: &[Option<Judged>]) -> String {
    let mut text = HEAD.to_owned();
    let mut last = "";
    for (entry, judged) in entries.iter().zip(judged) {
        let Some(judged) = judged else { continue };
        let (file, program) = entry.split_id();
        if file != last {
            text.push_str(file);
            text.push('\n');
            last = file;
        }
        let processed = judged.processed.map_or("-".to_owned(), |number| number.to_string());
        writeln!(text, "\t{program}\t{}\t{processed}", judged.errno)
            .expect("writing to a string does not fail");
    }
    text
}

/// What was recorded about each program, without messages.
pub(super) fn read(entries: &[Entry]) -> Result<Vec<Option<Judged>>, TaskError> {
    let path = path();
    let text = std::fs::read_to_string(&path).map_err(|error| TaskError::file(&path, error))?;
    let facts = parse(&text).map_err(|line| TaskError::file(&path, format!("bad line {line}")))?;
    Ok(entries.iter().map(|entry| facts.get(&entry.split_id()).cloned()).collect())
}

/// What was recorded, by file and program. The error is the number of a line that is none.
fn parse(text: &str) -> Result<HashMap<(&str, &str), Judged>, usize> {
    let mut facts = HashMap::new();
    let mut file = "";
    for (number, line) in (1_usize..).zip(text.lines()) {
        if line.starts_with('#') {
            continue;
        }
        let Some(row) = line.strip_prefix('\t') else {
            file = line;
            continue;
        };
        let (program, judged) = parse_row(row).ok_or(number)?;
        facts.insert((file, program), judged);
    }
    Ok(facts)
}

fn parse_row(row: &str) -> Option<(&str, Judged)> {
    let mut cells = row.split('\t');
    let (program, errno, processed) = (cells.next()?, cells.next()?, cells.next()?);
    let errno: i32 = errno.parse().ok()?;
    let processed = match processed {
        "-" => None,
        number => Some(number.parse().ok()?),
    };
    let judged = Judged { accepted: errno == 0, errno, processed, states: None, message: None };
    cells.next().is_none().then_some((program, judged))
}

#[cfg(test)]
mod tests {
    use ebpf_runtime::object::cases::Case;

    use super::*;

    fn entry(id: &str) -> Entry {
        let case = Case::parse(&format!(r#"{{"id":"{id}","insns":""}}"#)).unwrap();
        Entry { case, line: String::new() }
    }

    #[test]
    fn what_is_written_is_read() {
        let judged = |errno, processed| {
            Some(Judged { accepted: errno == 0, errno, processed, states: None, message: None })
        };
        let entries = ["a/0", "b.o:f", "b.o:g", "b.o:h"].map(entry);
        let verdicts = [judged(0, Some(3)), judged(13, None), None, judged(22, Some(0))];
        let text = print(&entries, &verdicts);
        assert_eq!(text, format!("{HEAD}a\n\t0\t0\t3\nb\n\tf\t13\t-\n\th\t22\t0\n"));
        let facts = parse(&text).unwrap();
        for (entry, verdict) in entries.iter().zip(&verdicts) {
            assert_eq!(facts.get(&entry.split_id()), verdict.as_ref());
        }
    }

    #[test]
    fn bad_lines_are_told() {
        for row in ["\tf", "\tf\t1", "\tf\tx\t1", "\tf\t1\tx", "\tf\t1\t1\t1"] {
            assert_eq!(parse(&format!("file\n{row}\n")), Err(2), "{row}");
        }
    }

    #[test]
    fn the_committed_table_is_sound() {
        let text = std::fs::read_to_string(path()).unwrap();
        assert!(text.len() < 300_000);
        let facts = parse(&text).unwrap();
        assert!(facts.len() > 3000);
        assert!(facts.values().any(|judged| judged.accepted));
    }
}

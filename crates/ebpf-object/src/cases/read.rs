//! Files of cases, line by line.

use std::fs::File;
use std::io::{self, BufRead, Read as _};
use std::path::Path;

use super::{Case, CaseError, CaseProblem, MAX_BTF_BYTES};

/// The longest line, in bytes: room for the longest program that the kernel takes, and more.
pub const MAX_LINE_BYTES: usize = 64 << 20;

/// A line of a file of cases.
#[derive(Debug, Clone, PartialEq)]
pub struct CaseLine {
    /// Its number, from 1.
    pub number: u64,
    /// The line itself; empty where it is not text or too long.
    pub text: String,
    /// What it says.
    pub case: Result<Case, CaseError>,
}

/// The cases of a file, one after the other; empty lines are left out. A line that is no case does
/// not end them, one that cannot be read does. Cases without id get the number of their line.
pub fn read(mut from: impl BufRead) -> impl Iterator<Item = io::Result<CaseLine>> {
    let mut number = 0;
    let mut failed = false;
    std::iter::from_fn(move || {
        while !failed {
            let line = next_line(&mut from).transpose()?;
            number += 1;
            match line {
                Ok(Ok(text)) if text.trim().is_empty() => {}
                Ok(line) => return Some(Ok(case_line(number, line))),
                Err(error) => {
                    failed = true;
                    return Some(Err(error));
                }
            }
        }
        None
    })
}

fn case_line(number: u64, line: Result<String, CaseProblem>) -> CaseLine {
    match line {
        Ok(text) => {
            let case = Case::parse(&text).map(|mut case| {
                if case.id.is_empty() {
                    case.id = number.to_string();
                }
                case
            });
            CaseLine { number, text, case }
        }
        Err(problem) => {
            CaseLine { number, text: String::new(), case: Err(CaseError { id: None, problem }) }
        }
    }
}

/// The next line; `None` at the end. A line that is too long is read to its end and dropped.
fn next_line(from: &mut impl BufRead) -> io::Result<Option<Result<String, CaseProblem>>> {
    let mut line = Vec::new();
    if from.by_ref().take(MAX_LINE_BYTES as u64).read_until(b'\n', &mut line)? == 0 {
        return Ok(None);
    }
    if line.len() == MAX_LINE_BYTES && !line.ends_with(b"\n") {
        skip_line(from)?;
        return Ok(Some(Err(CaseProblem::LineTooLong)));
    }
    Ok(Some(String::from_utf8(line).map_err(|_| CaseProblem::NotText)))
}

fn skip_line(from: &mut impl BufRead) -> io::Result<()> {
    loop {
        let buffer = from.fill_buf()?;
        let end = buffer.iter().position(|&byte| byte == b'\n');
        let (used, done) = (end.map_or(buffer.len(), |end| end + 1), end.is_some());
        let at_end = buffer.is_empty();
        from.consume(used);
        if done || at_end {
            return Ok(());
        }
    }
}

/// A file that a case names.
pub(super) fn file(path: &Path) -> Result<Vec<u8>, CaseProblem> {
    let problem = |reason: String| CaseProblem::File { path: path.to_owned(), reason };
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(|error| problem(error.to_string()))?;
    file.take(MAX_BTF_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| problem(error.to_string()))?;
    if bytes.len() as u64 > MAX_BTF_BYTES {
        return Err(problem(format!("larger than the limit of {MAX_BTF_BYTES} bytes")));
    }
    Ok(bytes)
}

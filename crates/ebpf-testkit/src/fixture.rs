//! The fixture file: comment lines that say what it is for, then sections.

use std::ops::Range;
use std::path::{Path, PathBuf};

use crate::expected::{BodyError, RunResult, Verdict, parse_mem, parse_result, parse_verdict};

/// A text program with what is expected of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fixture {
    path: PathBuf,
    purpose: String,
    sections: Vec<Section>,
    mem: Option<Vec<u8>>,
    result: Option<RunResult>,
    verdict: Option<Verdict>,
}

/// One section of a fixture: a line `-- name [argument]` and the lines below it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Section {
    /// The word after the dashes.
    pub name: String,
    /// What follows the name on its line; empty where nothing does.
    pub argument: String,
    /// The lines below the header. Blank lines at the end are not part of it.
    pub body: String,
    /// Number of the header's line, from 1.
    pub line: usize,
}

/// A fixture file that cannot be read as one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}:{line}: {kind}", path.display())]
#[non_exhaustive]
pub struct FixtureError {
    /// The file.
    pub path: PathBuf,
    /// The line, from 1.
    pub line: usize,
    /// What is wrong there.
    pub kind: FixtureErrorKind,
}

/// What is wrong with a line of a fixture file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FixtureErrorKind {
    /// The file does not begin with a comment.
    #[error("no purpose: begin the file with a `#` comment that says what it is for")]
    NoPurpose,
    /// Text before the first section that is not a comment.
    #[error("`{0}` belongs to no section: comments start with `#`, sections with `-- name`")]
    OutsideSections(String),
    /// A header that is not `-- name [argument]`.
    #[error("bad section header `{0}`: write `-- name` or `-- name argument`")]
    BadHeader(String),
    /// A second section of the same name and argument.
    #[error("section `{header}` again, first seen in line {first}")]
    DuplicateSection {
        /// Name and argument.
        header: String,
        /// The line of the first.
        first: usize,
    },
    /// A character in `-- mem` that is no hex digit.
    #[error("`{0}` is not a hex digit")]
    BadHex(char),
    /// An odd number of hex digits in `-- mem`.
    #[error("half a byte: the number of hex digits is odd")]
    HalfByte,
    /// A `-- result` that is neither a number nor a trap.
    #[error("bad result `{0}`: write a u64 in decimal or 0x hex, or `trap: text`")]
    BadResult(String),
    /// A `-- verdict` that is neither an accept nor a reject.
    #[error("bad verdict `{0}`: write `accept` or `reject ERRNO: message`")]
    BadVerdict(String),
}

impl Section {
    /// Name and argument, as they stand after the dashes.
    pub fn header(&self) -> String {
        if self.argument.is_empty() {
            self.name.clone()
        } else {
            format!("{} {}", self.name, self.argument)
        }
    }

    /// Whether `wanted` (`name`, or `name argument`) means this section.
    pub(crate) fn answers_to(&self, wanted: &str) -> bool {
        self.name == wanted || self.header() == wanted
    }

    /// The body's lines, numbered from 0 in the file.
    pub(crate) fn body_lines(&self) -> Range<usize> {
        self.line..self.line + self.body.lines().count()
    }
}

impl Fixture {
    /// Reads a fixture from its text; `path` is for messages, and for blessing.
    ///
    /// # Errors
    ///
    /// Text that is not in the format, or a `mem`, `result` or `verdict` section that does not
    /// read as one.
    pub fn parse(path: impl Into<PathBuf>, text: &str) -> Result<Self, FixtureError> {
        let path = path.into();
        match parse_file(text) {
            Ok(parts) => Ok(Self {
                path,
                purpose: parts.purpose,
                mem: parts.mem,
                result: parts.result,
                verdict: parts.verdict,
                sections: parts.sections,
            }),
            Err((line, kind)) => Err(FixtureError { path, line, kind }),
        }
    }

    /// The file this fixture was read from.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The comment at the head of the file, without its `#` marks.
    pub fn purpose(&self) -> &str {
        &self.purpose
    }

    /// All sections, in the order of the file.
    pub fn sections(&self) -> &[Section] {
        &self.sections
    }

    /// The body of a section. `name` alone means the first of that name; `name argument` means
    /// that very one.
    pub fn section(&self, name: &str) -> Option<&str> {
        self.sections
            .iter()
            .find(|section| section.answers_to(name))
            .map(|section| section.body.as_str())
    }

    /// The bytes of `-- mem`.
    pub fn mem(&self) -> Option<&[u8]> {
        self.mem.as_deref()
    }

    /// The value of `-- result`.
    pub fn result(&self) -> Option<&RunResult> {
        self.result.as_ref()
    }

    /// The value of `-- verdict`.
    pub fn verdict(&self) -> Option<&Verdict> {
        self.verdict.as_ref()
    }
}

/// A fixture before it has a path.
struct Parts {
    purpose: String,
    sections: Vec<Section>,
    mem: Option<Vec<u8>>,
    result: Option<RunResult>,
    verdict: Option<Verdict>,
}

/// Line from 1, and what is wrong there.
type LineError = (usize, FixtureErrorKind);

fn parse_file(text: &str) -> Result<Parts, LineError> {
    let lines: Vec<&str> = text.lines().collect();
    let first = lines.iter().position(|line| is_header(line)).unwrap_or(lines.len());
    let purpose = parse_purpose(&lines[..first])?;
    let sections = parse_sections(&lines, first)?;
    Ok(Parts {
        mem: typed(&sections, "mem", parse_mem)?,
        result: typed(&sections, "result", parse_result)?,
        verdict: typed(&sections, "verdict", parse_verdict)?,
        purpose,
        sections,
    })
}

/// Whether a line of a file opens a section.
pub(crate) fn is_header(line: &str) -> bool {
    line == "--" || line.starts_with("-- ")
}

fn parse_purpose(lines: &[&str]) -> Result<String, LineError> {
    let mut purpose = Vec::new();
    for (index, line) in lines.iter().enumerate() {
        match line.strip_prefix('#') {
            Some(comment) => purpose.push(comment.trim()),
            None if line.trim().is_empty() => {}
            None => {
                let text = (*line).to_string();
                return Err((index + 1, FixtureErrorKind::OutsideSections(text)));
            }
        }
    }
    if purpose.iter().all(|line| line.is_empty()) {
        return Err((1, FixtureErrorKind::NoPurpose));
    }
    Ok(purpose.join("\n"))
}

fn parse_sections(lines: &[&str], first: usize) -> Result<Vec<Section>, LineError> {
    let mut sections: Vec<Section> = Vec::new();
    for (index, line) in lines.iter().enumerate().skip(first) {
        if is_header(line) {
            let section = parse_header(line, index + 1)?;
            if let Some(earlier) =
                sections.iter().find(|earlier| earlier.header() == section.header())
            {
                let duplicate = FixtureErrorKind::DuplicateSection {
                    header: section.header(),
                    first: earlier.line,
                };
                return Err((index + 1, duplicate));
            }
            sections.push(section);
        } else if let Some(section) = sections.last_mut() {
            section.body.push_str(line);
            section.body.push('\n');
        }
    }
    for section in &mut sections {
        section.body = trim_end_lines(&section.body);
    }
    Ok(sections)
}

fn parse_header(line: &str, number: usize) -> Result<Section, LineError> {
    let rest = line.trim_start_matches("--").trim();
    let (name, argument) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
    let is_name_char = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if name.is_empty() || !name.chars().all(is_name_char) {
        return Err((number, FixtureErrorKind::BadHeader(line.to_string())));
    }
    Ok(Section {
        name: name.to_string(),
        argument: argument.trim().to_string(),
        body: String::new(),
        line: number,
    })
}

/// Reads the section of that name, where there is one.
fn typed<T>(
    sections: &[Section],
    name: &str,
    parse: fn(&str) -> Result<T, BodyError>,
) -> Result<Option<T>, LineError> {
    sections
        .iter()
        .find(|section| section.name == name)
        .map(|section| parse(&section.body).map_err(|(line, kind)| (section.line + 1 + line, kind)))
        .transpose()
}

/// A body in its normal form: no blank lines at the end, and a newline after the last line.
pub(crate) fn trim_end_lines(body: &str) -> String {
    let trimmed = body.trim_end();
    if trimmed.is_empty() { String::new() } else { format!("{trimmed}\n") }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADD: &str = "\
# Adds two numbers.
#
# And says so.

-- asm
r0 = 1
r0 += 2
exit

-- mem
00 01
-- result
3
-- state @1
R0=1
-- state @2
R0=3
-- verdict
accept
";

    fn kind_of(text: &str) -> (usize, FixtureErrorKind) {
        let error = Fixture::parse("bad.bpf", text).unwrap_err();
        (error.line, error.kind)
    }

    #[test]
    fn reads_sections() {
        let fixture = Fixture::parse("add.bpf", ADD).unwrap();
        assert_eq!(fixture.path(), Path::new("add.bpf"));
        assert_eq!(fixture.purpose(), "Adds two numbers.\n\nAnd says so.");
        assert_eq!(fixture.section("asm"), Some("r0 = 1\nr0 += 2\nexit\n"));
        assert_eq!(fixture.section("state"), Some("R0=1\n"));
        assert_eq!(fixture.section("state @2"), Some("R0=3\n"));
        assert_eq!(fixture.section("state @3"), None);
        assert_eq!(fixture.mem(), Some(&[0, 1][..]));
        assert_eq!(fixture.result(), Some(&RunResult::Value(3)));
        assert_eq!(fixture.verdict(), Some(&Verdict::Accept));
        assert_eq!(fixture.sections().len(), 6);
        assert_eq!(fixture.sections()[0].line, 5);
        assert_eq!(fixture.sections()[0].body_lines(), 5..8);
    }

    #[test]
    fn missing_sections_are_none() {
        let fixture = Fixture::parse("x.bpf", "# Nothing.\n").unwrap();
        assert_eq!(fixture.mem(), None);
        assert_eq!(fixture.result(), None);
        assert_eq!(fixture.verdict(), None);
        assert_eq!(fixture.section("asm"), None);
    }

    #[test]
    fn purpose_is_required() {
        assert_eq!(kind_of(""), (1, FixtureErrorKind::NoPurpose));
        assert_eq!(kind_of("#\n-- asm\n"), (1, FixtureErrorKind::NoPurpose));
    }

    #[test]
    fn errors_say_the_line() {
        let outside = FixtureErrorKind::OutsideSections("exit".into());
        assert_eq!(kind_of("# x\nexit\n-- asm\n"), (2, outside));
        let header = FixtureErrorKind::BadHeader("-- Asm".into());
        assert_eq!(kind_of("# x\n-- Asm\n"), (2, header));
        let header = FixtureErrorKind::BadHeader("--".into());
        assert_eq!(kind_of("# x\n--\n"), (2, header));
        let hex = FixtureErrorKind::BadHex('z');
        assert_eq!(kind_of("# x\n-- mem\n00\n0z\n"), (4, hex));
        let result = FixtureErrorKind::BadResult("many".into());
        assert_eq!(kind_of("# x\n-- result\nmany\n"), (3, result));
    }

    #[test]
    fn the_same_section_twice_is_refused() {
        let duplicate = FixtureErrorKind::DuplicateSection { header: "state @1".into(), first: 2 };
        assert_eq!(kind_of("# x\n-- state @1\n-- state @2\n-- state  @1\n"), (4, duplicate));
    }

    #[test]
    fn messages_name_file_and_line() {
        let error = Fixture::parse("a/b.bpf", "# x\n-- mem\n0\n").unwrap_err();
        assert_eq!(error.to_string(), "a/b.bpf:3: half a byte: the number of hex digits is odd");
    }
}

//! What is run: a program as bytes, its memory, and what must come out.

use std::fmt;
use std::path::{Path, PathBuf};

use ebpf_isa::text::assemble;
use ebpf_isa::{ConformanceGroup, Program, RawInsn};
use ebpf_testkit::{Fixture, RunResult, fixture_paths, fixtures_dir};

use crate::error::TaskError;

/// How a run ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    /// With this in `r0`.
    Value(u64),
    /// With this reason, which is not compared.
    Failure(String),
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Value(value) => write!(f, "{value:#x}"),
            Self::Failure(reason) => write!(f, "failure ({reason})"),
        }
    }
}

/// A program with what is expected of it.
pub(super) struct Case {
    pub(super) name: String,
    /// The greatest group that one of its instructions belongs to.
    pub(super) group: ConformanceGroup,
    /// Its bytes, or why there are none.
    pub(super) program: Result<Vec<u8>, String>,
    pub(super) memory: Vec<u8>,
    pub(super) expected: Outcome,
}

impl Case {
    fn new(
        name: String,
        slots: Result<Vec<RawInsn>, String>,
        memory: Vec<u8>,
        expected: Outcome,
    ) -> Self {
        let program = slots.as_deref().ok().and_then(|slots| Program::from_slots(slots).ok());
        let groups = program.iter().flat_map(Program::insns).map(|(_, i)| i.conformance_group());
        Self {
            name,
            group: groups.max().unwrap_or(ConformanceGroup::Base32),
            program: slots.map(|slots| slots.into_iter().flat_map(RawInsn::to_bytes).collect()),
            memory,
            expected,
        }
    }
}

fn slots(asm: &str) -> Result<Vec<RawInsn>, String> {
    let program = assemble(asm).map_err(|error| error.to_string())?;
    program.to_slots().map_err(|error| error.to_string())
}

/// The cases of `fixtures/exec`.
pub(super) fn fixtures() -> Result<Vec<Case>, TaskError> {
    let mut cases = Vec::new();
    let directory = fixtures_dir().join("exec");
    for path in fixture_paths(&directory).map_err(|error| TaskError::file(&directory, error))? {
        let text = read(&path)?;
        let fixture =
            Fixture::parse(&path, &text).map_err(|error| TaskError::Failed(error.to_string()))?;
        let lacks = |what| TaskError::file(&path, format!("no section `{what}`"));
        let expected = match fixture.result().ok_or_else(|| lacks("result"))? {
            RunResult::Value(value) => Outcome::Value(*value),
            RunResult::Trap(trap) => Outcome::Failure(trap.clone()),
        };
        let asm = fixture.section("asm").ok_or_else(|| lacks("asm"))?;
        let memory = fixture.mem().unwrap_or_default().to_vec();
        let name = path.strip_prefix(fixtures_dir()).unwrap_or(&path).display().to_string();
        cases.push(Case::new(name, slots(asm), memory, expected));
    }
    Ok(cases)
}

/// The cases of a directory with `.data` files, as the public suite has them.
pub(super) fn suite(directory: &Path) -> Result<Vec<Case>, TaskError> {
    let entries = std::fs::read_dir(directory).map_err(|e| TaskError::file(directory, e))?;
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "data"));
    paths.sort();
    if paths.is_empty() {
        return Err(TaskError::file(directory, "there are no .data files"));
    }
    paths.iter().map(|path| data_file(path, &read(path)?)).collect()
}

fn read(path: &Path) -> Result<String, TaskError> {
    std::fs::read_to_string(path).map_err(|error| TaskError::file(path, error))
}

/// Reads a file of sections `-- asm` or `-- raw`, `-- mem`, `-- result` or `-- error`.
fn data_file(path: &Path, text: &str) -> Result<Case, TaskError> {
    let sections = Sections::split(text);
    let bad = |what: &str| TaskError::file(path, what);
    let slots = match (sections.get("asm"), sections.get("raw")) {
        (_, Some(raw)) => raw_slots(&raw).ok_or_else(|| bad("bad section `raw`")).map(Ok)?,
        (Some(asm), None) => slots(&asm),
        (None, None) => return Err(bad("neither `asm` nor `raw`")),
    };
    let memory = match sections.get("mem") {
        Some(mem) => hex::decode(mem.split_whitespace().collect::<String>())
            .map_err(|error| bad(&format!("section `mem`: {error}")))?,
        None => Vec::new(),
    };
    let expected = match (sections.get("result"), sections.get("error")) {
        (Some(value), _) => {
            Outcome::Value(number(value.trim()).ok_or_else(|| bad("bad section `result`"))?)
        }
        (None, Some(reason)) => Outcome::Failure(reason.trim().into()),
        (None, None) => return Err(bad("neither `result` nor `error`")),
    };
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    Ok(Case::new(name, slots, memory, expected))
}

/// Lines under their `-- name` headings, without comment lines.
struct Sections<'a>(Vec<(&'a str, Vec<&'a str>)>);

impl<'a> Sections<'a> {
    fn split(text: &'a str) -> Self {
        let mut sections: Vec<(&str, Vec<&str>)> = Vec::new();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            if let Some(name) = line.strip_prefix("-- ") {
                sections.push((name.trim(), Vec::new()));
            } else if let Some((_, lines)) = sections.last_mut() {
                lines.push(line);
            }
        }
        Self(sections)
    }

    fn get(&self, name: &str) -> Option<String> {
        let section = self.0.iter().find(|(other, _)| *other == name)?;
        Some(section.1.join("\n"))
    }
}

/// A slot a word, as 64-bit numbers.
fn raw_slots(text: &str) -> Option<Vec<RawInsn>> {
    let slot = |word: &str| number(word).map(|n| RawInsn::from_bytes(n.to_le_bytes()));
    text.split_whitespace().map(slot).collect()
}

fn number(text: &str) -> Option<u64> {
    match text.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16).ok(),
        None => text.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_data_file_is_read() {
        let text = "# words\n-- asm\nr0 = *(u8 *)(r1 +0)\nexit\n-- mem\n2a 00\n-- result\n0x2a\n";
        let case = data_file(Path::new("x/load.data"), text).unwrap();
        assert_eq!(case.name, "load.data");
        assert_eq!(case.memory, [0x2a, 0]);
        assert_eq!(case.expected, Outcome::Value(42));
        let bytes = [0x71, 0x10, 0, 0, 0, 0, 0, 0, 0x95, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(case.program, Ok(bytes.to_vec()));
    }

    #[test]
    fn raw_words_are_slots() {
        let text = "-- raw\n0x00000001000000b7\n0x0000000000000095\n-- error\nnever mind\n";
        let case = data_file(Path::new("raw.data"), text).unwrap();
        assert_eq!(case.program.unwrap()[..8], [0xb7, 0, 0, 0, 1, 0, 0, 0]);
        assert_eq!(case.expected, Outcome::Failure("never mind".into()));
    }

    #[test]
    fn what_lacks_a_section_is_refused() {
        for text in ["", "-- asm\nexit", "-- result\n0x1", "-- asm\nexit\n-- result\nx"] {
            assert!(data_file(Path::new("bad.data"), text).is_err(), "{text}");
        }
        let unknown = data_file(Path::new("a.data"), "-- asm\nfly\n-- result\n0").unwrap();
        assert!(unknown.program.is_err());
    }
}

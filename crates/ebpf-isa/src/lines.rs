//! Source lines of a program.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::Pc;

/// A string of a [`LineTable`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StrIdx(u32);

/// One entry: the instructions from `pc` to the next entry come from this line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LineInfo {
    /// First instruction of the line.
    pub pc: Pc,
    /// Source file.
    pub file: StrIdx,
    /// Text of the line.
    pub text: StrIdx,
    /// Line number, from 1.
    pub line: u32,
    /// Column, from 1; 0 where it is not known.
    pub col: u32,
}

/// A source line with its strings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SourceLine<'a> {
    /// Source file, as the compiler was given it.
    pub file: &'a str,
    /// Text of the line.
    pub text: &'a str,
    /// Line number, from 1.
    pub line: u32,
    /// Column, from 1; 0 where it is not known.
    pub col: u32,
}

/// Source lines by position, and the strings they share.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LineTable {
    /// Shared between the tables of a program and of those made from it by rewriting.
    strings: Arc<Strings>,
    lines: Vec<LineInfo>,
}

/// Each string once.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Strings {
    by_index: Vec<String>,
    numbers: BTreeMap<String, StrIdx>,
}

impl Strings {
    fn intern(&mut self, string: &str) -> StrIdx {
        if let Some(&index) = self.numbers.get(string) {
            return index;
        }
        let index = StrIdx(self.by_index.len() as u32);
        self.by_index.push(string.into());
        self.numbers.insert(string.into(), index);
        index
    }
}

impl LineTable {
    /// A table without lines.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a line at the end. [`crate::Program::new`] checks that positions ascend.
    pub fn push(&mut self, pc: Pc, line: SourceLine<'_>) {
        let strings = Arc::make_mut(&mut self.strings);
        let (file, text) = (strings.intern(line.file), strings.intern(line.text));
        self.lines.push(LineInfo { pc, file, text, line: line.line, col: line.col });
    }

    /// The same strings with other entries, as rewriting gives them.
    #[must_use]
    pub fn with_entries(&self, lines: Vec<LineInfo>) -> Self {
        Self { strings: Arc::clone(&self.strings), lines }
    }

    /// The line of the instruction at `pc`.
    #[must_use]
    pub fn at(&self, pc: Pc) -> Option<SourceLine<'_>> {
        let after = self.lines.partition_point(|line| line.pc <= pc);
        let info = self.lines.get(after.checked_sub(1)?)?;
        Some(self.resolve(info))
    }

    /// The line that starts exactly at `pc`, if one does.
    #[must_use]
    pub fn starting_at(&self, pc: Pc) -> Option<SourceLine<'_>> {
        let index = self.lines.binary_search_by_key(&pc, |line| line.pc).ok()?;
        Some(self.resolve(&self.lines[index]))
    }

    /// The entries, by position.
    #[must_use]
    pub fn entries(&self) -> &[LineInfo] {
        &self.lines
    }

    /// An entry with its strings.
    #[must_use]
    pub fn resolve(&self, info: &LineInfo) -> SourceLine<'_> {
        let strings = &self.strings.by_index;
        let string = |index: StrIdx| strings.get(index.0 as usize).map_or("", String::as_str);
        SourceLine {
            file: string(info.file),
            text: string(info.text),
            line: info.line,
            col: info.col,
        }
    }
}

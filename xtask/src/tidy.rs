//! `cargo xtask tidy`: what the workspace promises about itself, checked.
//!
//! [`Workspace::load`] reads manifests and files once; each rule is a function from that view to
//! complaints. Rules that need no view of their own are tested with hand-made bad input, and the
//! whole with the workspace as it is, so that `cargo test` fails where `tidy` does.

mod arrows;
mod fixtures;
mod licences;
mod manifests;
mod sources;
mod workspace;

use std::fmt;
use std::path::PathBuf;

use crate::error::TaskError;
use workspace::Workspace;

/// Something that breaks a rule.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Complaint {
    /// The file, relative to the workspace.
    path: PathBuf,
    /// The line, from 1.
    line: usize,
    rule: &'static str,
    text: String,
}

impl fmt::Display for Complaint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, line, rule, text } = self;
        write!(f, "{}:{line}: {text} [{rule}]", path.display())
    }
}

/// A rule: its name, and what breaks it in a workspace (place and text).
struct Rule {
    name: &'static str,
    check: fn(&Workspace) -> Vec<Finding>,
}

/// What a rule has found, before the rule's name is put to it.
#[derive(Debug, Clone, PartialEq)]
struct Finding {
    path: PathBuf,
    line: usize,
    text: String,
}

impl Finding {
    fn new(path: impl Into<PathBuf>, line: usize, text: impl Into<String>) -> Self {
        Self { path: path.into(), line, text: text.into() }
    }
}

const RULES: [Rule; 13] = [
    Rule { name: "known-crates", check: arrows::known_crates },
    Rule { name: "arrows", check: arrows::arrows },
    Rule { name: "forbid-unsafe", check: sources::forbid_unsafe },
    Rule { name: "no-std", check: sources::no_std },
    Rule { name: "module-doc", check: sources::module_doc },
    Rule { name: "file-length", check: sources::file_length },
    Rule { name: "blanks", check: sources::blanks },
    Rule { name: "left-overs", check: sources::left_overs },
    Rule { name: "inherited-fields", check: manifests::inherited_fields },
    Rule { name: "inherited-lints", check: manifests::inherited_lints },
    Rule { name: "inherited-dependencies", check: manifests::inherited_dependencies },
    Rule { name: "licences", check: licences::licences },
    Rule { name: "fixtures", check: fixtures::fixtures },
];

/// Checks the workspace, and fails with all complaints.
pub(crate) fn run(arguments: &[String]) -> Result<(), TaskError> {
    if !arguments.is_empty() {
        return Err(TaskError::Usage("tidy takes no arguments".into()));
    }
    let complaints = complaints(&Workspace::load()?);
    if complaints.is_empty() {
        return Ok(());
    }
    let lines: Vec<String> = complaints.iter().map(ToString::to_string).collect();
    Err(TaskError::Failed(format!("{} complaints\n{}", lines.len(), lines.join("\n"))))
}

fn complaints(workspace: &Workspace) -> Vec<Complaint> {
    let of_rule = |rule: &Rule| {
        let name = rule.name;
        let findings = (rule.check)(workspace).into_iter();
        findings.map(move |Finding { path, line, text }| Complaint { path, line, rule: name, text })
    };
    RULES.iter().flat_map(of_rule).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_workspace_is_tidy() {
        let workspace = Workspace::load().unwrap();
        let complaints = complaints(&workspace);
        let lines: Vec<String> = complaints.iter().map(ToString::to_string).collect();
        assert!(lines.is_empty(), "\n{}", lines.join("\n"));
    }

    #[test]
    fn a_complaint_names_its_rule() {
        let workspace = Workspace::of_file("crates/ebpf-isa/src/lib.rs", "fn main() {} \n");
        let lines: Vec<String> = complaints(&workspace).iter().map(ToString::to_string).collect();
        let expected = "crates/ebpf-isa/src/lib.rs:1: blanks at the end of the line [blanks]";
        assert!(lines.iter().any(|line| line == expected), "{lines:?}");
    }
}

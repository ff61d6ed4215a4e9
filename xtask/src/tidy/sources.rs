//! Rules about Rust files.

use std::path::Path;

use super::Finding;
use super::workspace::{File, Package, Workspace};
use crate::policy::{self, CratePolicy};

/// The most lines a file may have.
const LINES_MAX: usize = 800;
/// The most lines of a table, of which nobody reads more than the row that he looks for.
const ROWS_MAX: usize = 1_600;
/// The tables that one file would have no room for, and that cannot be split.
const TABLES: [&str; 1] = ["crates/ebpf-verifier/src/error/payload.rs"];

/// What must not be left in a file. Split, so that this file does not break its own rule.
const LEFT_OVERS: [&str; 5] = [
    concat!("todo", "!("),
    concat!("unimplemented", "!("),
    concat!("#[ig", "nore"),
    concat!("FIX", "ME"),
    concat!("XX", "X"),
];

const FORBID_UNSAFE: &str = "#![forbid(unsafe_code)]";

/// Both mean it: the second keeps the standard library for unit tests.
const NO_STD: [&str; 2] = ["#![no_std]", "#![cfg_attr(not(test), no_std)]"];

/// Crates that need no `unsafe` forbid it.
pub(super) fn forbid_unsafe(workspace: &Workspace) -> Vec<Finding> {
    let applies = |policy: &CratePolicy| !policy.may_be_unsafe;
    let text = format!("the crate root lacks {FORBID_UNSAFE}");
    roots_without(workspace, applies, &[FORBID_UNSAFE], &text)
}

/// Crates that promise to build without the standard library say so.
pub(super) fn no_std(workspace: &Workspace) -> Vec<Finding> {
    let text = format!("the crate root lacks {}", NO_STD[0]);
    roots_without(workspace, |policy| policy.no_std, &NO_STD, &text)
}

/// Roots of the crates that the rule applies to, in which none of the lines stands.
fn roots_without(
    workspace: &Workspace,
    applies: impl Fn(&CratePolicy) -> bool,
    lines: &[&str],
    text: &str,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    for Package { name, roots, .. } in &workspace.packages {
        if !policy::of(name).is_none_or(&applies) {
            continue;
        }
        for root in roots {
            let file = workspace.file(root);
            if !file.is_some_and(|file| file.text.lines().any(|line| lines.contains(&line))) {
                findings.push(Finding::new(root, 1, text));
            }
        }
    }
    findings
}

/// A file begins with what it is about.
pub(super) fn module_doc(workspace: &Workspace) -> Vec<Finding> {
    let lacks = |file: &&File| !file.text.starts_with("//! ");
    let files = workspace.sources().filter(lacks);
    files
        .map(|file| Finding::new(&file.path, 1, "no `//!` line at the top that says what is here"))
        .collect()
}

/// A file has a size one can hold.
pub(super) fn file_length(workspace: &Workspace) -> Vec<Finding> {
    let findings = workspace.sources().filter_map(|file| {
        let is_table = TABLES.iter().any(|table| file.path == Path::new(table));
        let most = if is_table { ROWS_MAX } else { LINES_MAX };
        let lines = file.text.lines().count();
        let text = || format!("{lines} lines, more than {most}: split it");
        (lines > most).then(|| Finding::new(&file.path, most + 1, text()))
    });
    findings.collect()
}

/// No blanks at the ends of lines, and one newline at the end of the file.
pub(super) fn blanks(workspace: &Workspace) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in workspace.sources() {
        let text = "blanks at the end of the line";
        // Unlike `str::lines`, this leaves carriage returns where they are.
        let lines = (1..).zip(file.text.split('\n'));
        let lines = lines.filter(|(_, line)| line.ends_with([' ', '\t', '\r']));
        findings.extend(lines.map(|(line, _)| Finding::new(&file.path, line, text)));
        if !file.text.ends_with('\n') || file.text.ends_with("\n\n") {
            let last = file.text.lines().count();
            let text = "the file does not end with one newline";
            findings.push(Finding::new(&file.path, last, text));
        }
    }
    findings
}

/// Nothing unfinished, nothing switched off.
pub(super) fn left_overs(workspace: &Workspace) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in workspace.sources() {
        for (number, line) in file.lines() {
            let found = LEFT_OVERS.iter().filter(|mark| line.contains(**mark));
            findings
                .extend(found.map(|mark| {
                    Finding::new(&file.path, number, format!("`{mark}` is left over"))
                }));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root_of(name: &str, text: &str) -> Workspace {
        Workspace::of_file(&format!("crates/{name}/src/lib.rs"), text)
    }

    #[test]
    fn unsafe_is_forbidden_but_where_it_may_be() {
        let forbids = "//! x\n#![forbid(unsafe_code)]\n";
        assert_eq!(forbid_unsafe(&root_of("ebpf-isa", forbids)), []);
        assert_eq!(forbid_unsafe(&root_of("ebpf-pack", "//! x\n")), []);
        assert_eq!(forbid_unsafe(&root_of("ebpf-isa", "//! x\n")).len(), 1);
        let comment = "// #![forbid(unsafe_code)]\n";
        assert_eq!(forbid_unsafe(&root_of("ebpf-isa", comment)).len(), 1);
        assert_eq!(forbid_unsafe(&root_of("ebpf-new", "//! x\n")).len(), 1);
    }

    #[test]
    fn no_std_crates_say_so() {
        for line in NO_STD {
            assert_eq!(no_std(&root_of("ebpf-isa", &format!("//! x\n{line}\n"))), []);
        }
        assert_eq!(no_std(&root_of("ebpf-isa", "//! x\n")).len(), 1);
        assert_eq!(no_std(&root_of("ebpf-pack", "//! x\n")), []);
    }

    #[test]
    fn a_root_that_was_not_read_is_told() {
        let mut workspace = root_of("ebpf-isa", "//! x\n");
        workspace.files.clear();
        assert_eq!(forbid_unsafe(&workspace).len(), 1);
    }

    #[test]
    fn files_say_what_they_are_about() {
        assert_eq!(module_doc(&root_of("ebpf-isa", "//! Instructions.\n")), []);
        assert_eq!(module_doc(&root_of("ebpf-isa", "// Copyright\n//! x\n")).len(), 1);
        assert_eq!(module_doc(&root_of("ebpf-isa", "")).len(), 1);
    }

    #[test]
    fn long_files_are_told() {
        assert_eq!(file_length(&root_of("ebpf-isa", &"x\n".repeat(LINES_MAX))), []);
        let findings = file_length(&root_of("ebpf-isa", &"x\n".repeat(LINES_MAX + 1)));
        assert_eq!(findings[0].line, LINES_MAX + 1);
    }

    #[test]
    fn blanks_and_missing_newlines_are_told() {
        assert_eq!(blanks(&root_of("ebpf-isa", "a\n\n b\n")), []);
        for (text, line) in [("a\nb \n", 2), ("a\t\n", 1), ("a\r\n", 1), ("a\nb", 2), ("a\n\n", 2)]
        {
            let findings = blanks(&root_of("ebpf-isa", text));
            assert_eq!(findings.len(), 1, "{text:?}");
            assert_eq!(findings[0].line, line, "{text:?}");
        }
    }

    #[test]
    fn left_overs_are_told() {
        for mark in LEFT_OVERS {
            let text = format!("a\n    {mark} b\n");
            let findings = left_overs(&root_of("ebpf-isa", &text));
            assert_eq!(findings.len(), 1, "{mark}");
            assert_eq!(findings[0].line, 2);
        }
        assert_eq!(left_overs(&root_of("ebpf-isa", "a\n")), []);
    }
}

//! `cargo xtask bench GROUP [--quick] [--json] [--record]`: the benchmarks, built for speed.

use std::process::Stdio;

use ebpf_testkit::workspace_root;

use crate::ci::cargo;
use crate::error::TaskError;

/// Writes the table into the documentation instead of standard output.
const RECORD: &str = "--record";

/// Where it is written, relative to the workspace.
const DOCUMENT: &str = "docs/benchmarks.md";

/// Runs a group of benchmarks. What it measures goes to standard output, or into [`DOCUMENT`].
pub(crate) fn run(arguments: &[String]) -> Result<(), TaskError> {
    let Some(group) = arguments.first().filter(|group| !group.starts_with('-')) else {
        return Err(TaskError::Usage("bench takes a group".into()));
    };
    let record = arguments.iter().any(|argument| argument == RECORD);
    let mut command = cargo();
    command
        .args(["run", "--quiet", "--release", "--package", "ebpf-benches", "--"])
        .args(arguments.iter().filter(|argument| *argument != RECORD));
    if record {
        command.stdout(Stdio::piped());
    }
    let output = command
        .stderr(Stdio::inherit())
        .stdin(Stdio::inherit())
        .spawn()
        .and_then(std::process::Child::wait_with_output)
        .map_err(|error| TaskError::Failed(format!("cargo: {error}")))?;
    match output.status.code() {
        Some(0) if record => write(group, &String::from_utf8_lossy(&output.stdout)),
        Some(0) => Ok(()),
        Some(2) => Err(TaskError::Usage("see above".into())),
        _ => Err(TaskError::Failed("the benchmark failed".into())),
    }
}

/// Puts a table into the document.
fn write(group: &str, table: &str) -> Result<(), TaskError> {
    let path = workspace_root().join(DOCUMENT);
    let text = std::fs::read_to_string(&path).map_err(|error| TaskError::file(&path, error))?;
    let text = with_table(&text, group, table)
        .ok_or_else(|| TaskError::Failed(format!("{DOCUMENT} has no place for `{group}`")))?;
    std::fs::write(&path, text).map_err(|error| TaskError::file(&path, error))
}

/// `text` with `table` in the code block of `group`: the first one below the line
/// `<!-- bench GROUP -->`.
fn with_table(text: &str, group: &str, table: &str) -> Option<String> {
    const FENCE: &str = "```\n";
    let place = format!("<!-- bench {group} -->\n");
    let begin = text.find(&place)? + place.len();
    let begin = begin + text[begin..].find(FENCE)? + FENCE.len();
    let end = begin + text[begin..].find(FENCE)?;
    Some(format!("{}{}\n{}", &text[..begin], table.trim_end(), &text[end..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_takes_the_place_of_the_old_one_in_its_group() {
        let text = "# x\n<!-- bench a -->\n```\nold\n```\n<!-- bench b -->\n```\n```\nend\n";
        let expected =
            "# x\n<!-- bench a -->\n```\nold\n```\n<!-- bench b -->\n```\nnew\n```\nend\n";
        assert_eq!(with_table(text, "b", "new\n\n").as_deref(), Some(expected));
        let expected = "# x\n<!-- bench a -->\n```\nnew\n```\n<!-- bench b -->\n```\n```\nend\n";
        assert_eq!(with_table(text, "a", "new").as_deref(), Some(expected));
        assert_eq!(with_table(text, "c", "new"), None);
    }

    #[test]
    fn the_document_has_a_place_for_the_groups_it_shows() {
        let text = std::fs::read_to_string(workspace_root().join(DOCUMENT)).unwrap();
        for group in ["interp", "jit", "patch", "verifier", "rewrite", "classic"] {
            assert!(with_table(&text, group, "").is_some(), "{group}");
        }
    }
}

//! Rules about `Cargo.toml` files: what can be inherited from the workspace is.

use super::Finding;
use super::workspace::{File, Workspace};

/// Package fields that every crate has from the workspace.
const FIELDS: [&str; 4] = ["version", "edition", "rust-version", "license"];

/// A `key = value` line of a manifest.
struct Entry<'a> {
    line: usize,
    /// The table it stands in, without brackets.
    table: &'a str,
    text: &'a str,
}

/// The entries of a manifest. Tables and keys stand alone on their lines in ours; lines that go on
/// with a value are no entries, since keys begin in the first column.
fn entries(manifest: &File) -> Vec<Entry<'_>> {
    let mut table = "";
    let mut entries = Vec::new();
    for (line, text) in manifest.lines() {
        if let Some(header) = text.strip_prefix('[') {
            table = header.trim_end().trim_matches(['[', ']']);
        } else if text.starts_with(|c: char| c.is_ascii_alphanumeric()) && text.contains('=') {
            entries.push(Entry { line, table, text });
        }
    }
    entries
}

/// The fields of a package come from the workspace.
pub(super) fn inherited_fields(workspace: &Workspace) -> Vec<Finding> {
    let mut findings = Vec::new();
    for package in &workspace.packages {
        let entries = entries(&package.manifest);
        for field in FIELDS {
            let line = format!("{field}.workspace = true");
            if !entries.iter().any(|entry| entry.table == "package" && entry.text == line) {
                let text = format!("`{line}` is missing from [package]");
                findings.push(Finding::new(&package.manifest.path, 1, text));
            }
        }
    }
    findings
}

/// The lints come from the workspace.
pub(super) fn inherited_lints(workspace: &Workspace) -> Vec<Finding> {
    let inherits = |manifest: &File| {
        let entries = entries(manifest);
        entries.iter().any(|entry| entry.table == "lints" && entry.text == "workspace = true")
    };
    let manifests = workspace.packages.iter().map(|package| &package.manifest);
    manifests
        .filter(|manifest| !inherits(manifest))
        .map(|manifest| Finding::new(&manifest.path, 1, "[lints] lacks `workspace = true`"))
        .collect()
}

/// The version of each dependency stands in one place, the workspace's manifest.
pub(super) fn inherited_dependencies(workspace: &Workspace) -> Vec<Finding> {
    let mut findings = Vec::new();
    for package in &workspace.packages {
        let manifest = &package.manifest;
        for (line, text) in manifest.lines() {
            if text.starts_with('[') && text.contains("dependencies.") {
                let text = format!("`{text}`: write `name = {{ workspace = true, … }}` instead");
                findings.push(Finding::new(&manifest.path, line, text));
            }
        }
        for Entry { line, table, text } in entries(manifest) {
            let name = text.split(['.', '=', ' ']).next().unwrap_or_default();
            let is_itself = name == package.name;
            let inherits = text.contains("workspace = true");
            if table.ends_with("dependencies") && !inherits && !is_itself {
                let text = format!("{name} is not taken from [workspace.dependencies]");
                findings.push(Finding::new(&manifest.path, line, text));
            }
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "\
[package]
name = \"x\"
version.workspace = true
edition.workspace = true
rust-version.workspace = true
license.workspace = true

[lints]
workspace = true

[dependencies]
a.workspace = true
b = { workspace = true, features = [
    \"c\",
] }

[target.'cfg(unix)'.dev-dependencies]
d.workspace = true
ebpf-isa = { path = \".\", features = [\"e\"] }
";

    fn without(line: &str) -> Workspace {
        let text = GOOD.replacen(line, "", 1);
        assert_ne!(text, GOOD);
        Workspace::of_manifest(&text)
    }

    #[test]
    fn a_good_manifest_passes() {
        let workspace = Workspace::of_manifest(GOOD);
        assert_eq!(inherited_fields(&workspace), []);
        assert_eq!(inherited_lints(&workspace), []);
        assert_eq!(inherited_dependencies(&workspace), []);
    }

    #[test]
    fn missing_fields_are_told() {
        for field in FIELDS {
            let workspace = without(&format!("\n{field}.workspace = true"));
            let findings = inherited_fields(&workspace);
            assert_eq!(findings.len(), 1, "{field}");
            assert!(findings[0].text.contains(field));
        }
    }

    #[test]
    fn missing_lints_are_told() {
        assert_eq!(inherited_lints(&without("[lints]\nworkspace = true\n")).len(), 1);
    }

    #[test]
    fn versions_outside_the_workspace_manifest_are_told() {
        for bad in [
            GOOD.replace("a.workspace = true", "a = \"1\""),
            GOOD.replace("d.workspace = true", "d = { path = \"../d\" }"),
            GOOD.replace("a.workspace = true", "[dependencies.a]\nworkspace = true"),
        ] {
            assert_eq!(inherited_dependencies(&Workspace::of_manifest(&bad)).len(), 1, "{bad}");
        }
    }
}

//! The layers: which crates there are, and which may use which.

use super::Finding;
use super::workspace::{Arrow, Package, Workspace};
use crate::policy::{self, MayUse, TEST_CRATE};

/// Every crate has its place in the table.
pub(super) fn known_crates(workspace: &Workspace) -> Vec<Finding> {
    let unknown = |package: &&Package| policy::of(&package.name).is_none();
    let packages = workspace.packages.iter().filter(unknown);
    packages
        .map(|Package { name, manifest, .. }| {
            let text =
                format!("{name} has no place among the layers: add it to the table of crates");
            Finding::new(&manifest.path, 1, text)
        })
        .collect()
}

/// A crate depends on those that the table allows it.
pub(super) fn arrows(workspace: &Workspace) -> Vec<Finding> {
    let mut findings = Vec::new();
    for Package { name, manifest, arrows, .. } in &workspace.packages {
        for Arrow { to, dev } in arrows {
            if !is_allowed(name, to, *dev) {
                let kind = if *dev { "in its tests " } else { "" };
                let line = manifest.lines().find(|(_, line)| line.starts_with(to.as_str()));
                let line = line.map_or(1, |(number, _)| number);
                let text = format!("{name} must not depend {kind}on {to}");
                findings.push(Finding::new(&manifest.path, line, text));
            }
        }
    }
    findings
}

fn is_allowed(from: &str, to: &str, dev: bool) -> bool {
    if from == to {
        // A crate that turns on its own features for its tests.
        return dev;
    }
    match policy::of(from).map(|policy| &policy.may_use) {
        // The other rule tells of crates that are not in the table.
        None | Some(MayUse::Anything) => true,
        Some(MayUse::Only(names)) => names.contains(&to) || dev && to == TEST_CRATE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_arrow(from: &str, to: &str, dev: bool) -> Workspace {
        let manifest = format!("[dependencies]\n{to}.workspace = true\n");
        let mut workspace = Workspace::of_manifest(&manifest);
        workspace.packages[0].name = from.to_string();
        workspace.packages[0].arrows = vec![Arrow { to: to.to_string(), dev }];
        workspace
    }

    #[test]
    fn arrows_of_the_table_are_allowed() {
        for (from, to, dev) in [
            ("ebpf-patch", "ebpf-isa", false),
            ("ebpf-patch", "ebpf-isa", true),
            ("ebpf-isa", "ebpf-testkit", true),
            ("ebpf-runtime", "ebpf-pack", false),
            ("xtask", "ebpf-cli", false),
            ("ebpf-pack", "ebpf-pack", true),
        ] {
            assert_eq!(arrows(&with_arrow(from, to, dev)), []);
        }
    }

    #[test]
    fn other_arrows_name_both_crates() {
        for (from, to, dev) in [
            ("ebpf-isa", "ebpf-patch", false),
            ("ebpf-isa", "ebpf-testkit", false),
            ("ebpf-pack", "ebpf-isa", false),
            ("ebpf-cli", "ebpf-verifier", false),
            ("ebpf-interp", "ebpf-verifier", true),
        ] {
            let findings = arrows(&with_arrow(from, to, dev));
            assert_eq!(findings.len(), 1, "{from} {to}");
            assert_eq!(findings[0].line, 2);
            assert!(findings[0].text.contains(from) && findings[0].text.contains(to));
        }
    }

    #[test]
    fn a_crate_without_a_place_is_told() {
        let mut workspace = Workspace::of_manifest("");
        assert_eq!(known_crates(&workspace), []);
        workspace.packages[0].name = "ebpf-new".to_string();
        assert_eq!(known_crates(&workspace).len(), 1);
    }
}

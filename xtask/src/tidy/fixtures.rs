//! Fixture files read as such, whether a test runs them or not.

use ebpf_testkit::Fixture;

use super::Finding;
use super::workspace::Workspace;

/// Each `.bpf` file is a fixture.
pub(super) fn fixtures(workspace: &Workspace) -> Vec<Finding> {
    let files = workspace.files.iter().filter(|file| file.has_suffix("bpf"));
    files
        .filter_map(|file| Fixture::parse(&file.path, &file.text).err())
        .map(|error| Finding::new(error.path, error.line, error.kind.to_string()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bad_fixtures_are_told() {
        let good = Workspace::of_file("fixtures/exec/a.bpf", "# x\n-- mem\n00\n");
        assert_eq!(fixtures(&good), []);
        let bad = Workspace::of_file("fixtures/exec/a.bpf", "# x\n-- mem\n0x\n");
        let findings = fixtures(&bad);
        assert_eq!(findings.len(), 1);
        assert_eq!(findings[0].line, 3);
    }
}

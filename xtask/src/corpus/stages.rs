//! Which stage of the verifier a file of the selftests exercises.

const TABLE: &str = include_str!("stages.tsv");

/// Files that no stage is written down for: programs without expectations, most of which the kernel
/// is there to load.
pub(super) const OTHER: &str = "other";

/// The stage of a file.
pub(super) fn of(file: &str) -> &'static str {
    let mut rows = TABLE.lines().filter(|line| !line.starts_with('#'));
    let row = rows.find_map(|line| line.split_once('\t').filter(|&(_, name)| name == file));
    row.map_or(OTHER, |(stage, _)| stage)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_have_stages() {
        assert_eq!(of("verifier_cfg"), "S0");
        assert_eq!(of("verifier_bpf_fastcall"), "S7");
        assert_eq!(of("no_such_file"), OTHER);
        assert_eq!(of("file"), OTHER, "comments are no rows");
    }
}

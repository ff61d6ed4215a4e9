//! Comparing a section with what the code gives now, and rewriting it on demand.

use std::path::Path;
use std::sync::{Mutex, PoisonError};

use crate::diff::line_diff;
use crate::fixture::{Fixture, is_header, trim_end_lines};

/// Sections whose text is an expectation from outside (a specification, the kernel, arithmetic done
/// by hand). Blessing never writes them: an expected value that comes from the code under test
/// tests nothing.
pub const JUDGED_SECTIONS: [&str; 4] = ["result", "verdict", "counts", "log"];

/// Held while a file is read, changed and written: tests of one binary run in parallel.
static WRITING: Mutex<()> = Mutex::new(());

impl Fixture {
    /// Compares a section (`name`, or `name argument`) with `actual`; blank lines at the end do not
    /// count. With `BLESS=1` in the environment the section is rewritten instead, or added.
    ///
    /// # Errors
    ///
    /// A report with a line diff where the two differ, or where the section is missing. A section
    /// of [`JUDGED_SECTIONS`] that differs is an error with `BLESS=1` too.
    pub fn expect_section(&self, header: &str, actual: &str) -> Result<(), String> {
        self.compare_section(header, actual, blessing())
    }

    fn compare_section(&self, header: &str, actual: &str, bless: bool) -> Result<(), String> {
        let actual = trim_end_lines(actual);
        let expected = self.section(header);
        if expected == Some(&actual) {
            return Ok(());
        }
        let name = header.split_whitespace().next().unwrap_or_default();
        if JUDGED_SECTIONS.contains(&name) {
            let diff = line_diff(expected.unwrap_or_default(), &actual);
            return Err(format!(
                "section `{header}` differs (- expected, + actual); it is never blessed, \
                 expected values do not come from the code under test:\n{diff}"
            ));
        }
        if bless {
            return bless_file(self.path(), header, &actual);
        }
        let diff = line_diff(expected.unwrap_or_default(), &actual);
        let state = if expected.is_some() { "differs" } else { "is missing" };
        Err(format!(
            "section `{header}` {state} (- expected, + actual); if the change is right, \
             run `cargo xtask bless` and review its diff:\n{diff}"
        ))
    }
}

/// The one bless switch.
fn blessing() -> bool {
    std::env::var_os("BLESS").is_some_and(|value| value == "1")
}

/// Reads the file again, since another section of it may just have been blessed.
fn bless_file(path: &Path, header: &str, body: &str) -> Result<(), String> {
    let _writing = WRITING.lock().unwrap_or_else(PoisonError::into_inner);
    let told = |error: std::io::Error| format!("cannot bless {}: {error}", path.display());
    let text = std::fs::read_to_string(path).map_err(told)?;
    let text = with_section(path, &text, header, body)?;
    std::fs::write(path, text).map_err(told)
}

/// `text` with the section's body replaced by `body`, or the section added at the end. Everything
/// else stays as it is.
fn with_section(path: &Path, text: &str, header: &str, body: &str) -> Result<String, String> {
    if let Some(line) = body.lines().find(|line| is_header(line)) {
        return Err(format!("cannot bless `{header}`: `{line}` would open a section"));
    }
    let fixture = Fixture::parse(path, text).map_err(|error| error.to_string())?;
    let section = fixture.sections().iter().find(|section| section.answers_to(header));
    let Some(section) = section else {
        return Ok(format!("{}\n-- {header}\n{body}", trim_end_lines(text)));
    };
    let replaced = section.body_lines();
    let line_with_end = |line: &str| format!("{line}\n");
    let before: String = text.lines().take(replaced.start).map(line_with_end).collect();
    let after: String = text.lines().skip(replaced.end).map(line_with_end).collect();
    Ok(format!("{before}{body}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# Why.\n-- asm\nexit\n\n-- state @1\nold\nlines\n\n-- result\n3\n";

    fn fixture() -> Fixture {
        Fixture::parse("x.bpf", TEXT).unwrap()
    }

    fn blessed(header: &str, body: &str) -> Result<String, String> {
        with_section(Path::new("x.bpf"), TEXT, header, body)
    }

    #[test]
    fn equal_sections_pass() {
        assert_eq!(fixture().compare_section("asm", "exit\n\n", false), Ok(()));
        assert_eq!(fixture().compare_section("result", "3", true), Ok(()));
    }

    #[test]
    fn a_difference_is_shown_and_says_how_to_bless() {
        let report = fixture().compare_section("asm", "r0 = 0\nexit\n", false).unwrap_err();
        assert!(report.contains("+ r0 = 0\n  exit\n"), "{report}");
        assert!(report.contains("cargo xtask bless"), "{report}");
    }

    #[test]
    fn a_missing_section_fails() {
        let report = fixture().compare_section("disasm", "exit", false).unwrap_err();
        assert!(report.contains("`disasm` is missing"), "{report}");
    }

    #[test]
    fn results_and_verdicts_are_never_blessed() {
        for section in JUDGED_SECTIONS {
            let report = fixture().compare_section(section, "4", true).unwrap_err();
            assert!(report.contains("never blessed"), "{report}");
        }
    }

    #[test]
    fn only_the_section_is_rewritten() {
        assert_eq!(
            blessed("state @1", "new\n"),
            Ok("# Why.\n-- asm\nexit\n\n-- state @1\nnew\n\n-- result\n3\n".into())
        );
        assert_eq!(
            blessed("asm", ""),
            Ok("# Why.\n-- asm\n\n-- state @1\nold\nlines\n\n-- result\n3\n".into())
        );
    }

    #[test]
    fn a_new_section_goes_to_the_end() {
        assert_eq!(blessed("disasm", "0: exit\n"), Ok(format!("{TEXT}\n-- disasm\n0: exit\n")));
    }

    #[test]
    fn text_that_would_open_a_section_is_refused() {
        assert!(blessed("asm", "a\n-- result\n4\n").unwrap_err().contains("open a section"));
    }

    #[test]
    fn blessing_writes_the_file_and_then_it_passes() {
        let path = std::env::temp_dir().join(format!("bless-{}.bpf", std::process::id()));
        std::fs::write(&path, TEXT).unwrap();
        let before = Fixture::parse(&path, TEXT).unwrap();
        before.compare_section("asm", "r0 = 1\nexit", true).unwrap();
        before.compare_section("state @1", "R0=1", true).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        let after = Fixture::parse(&path, &text).unwrap();
        assert_eq!(after.compare_section("asm", "r0 = 1\nexit", false), Ok(()));
        assert_eq!(after.compare_section("state @1", "R0=1", false), Ok(()));
        assert_eq!(after.section("result"), Some("3\n"));
    }
}

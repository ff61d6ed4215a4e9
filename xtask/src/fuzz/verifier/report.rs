//! How often two verifiers agree, and what they differ in.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ebpf_runtime::object::cases::KeptStates;
use ebpf_runtime::verifier::Errno;
use ebpf_testkit::workspace_root;

use super::log::LineDifference;
use super::shrink::shrink;
use super::source::Source;
use super::verdict::{Difference, Judges, Ours, Verdict};
use super::{Judged, Outcome};
use crate::error::TaskError;
use crate::say;

/// How many differences of a kind are made small: each takes seconds.
const WRITTEN: usize = 8;

/// What was found so far.
#[derive(Default)]
pub(super) struct Tally {
    programs: u64,
    accepted: u64,
    refused: u64,
    not_judged: u64,
    /// By what is not known.
    unsupported: BTreeMap<String, u64>,
    /// By kind.
    differences: BTreeMap<&'static str, u64>,
    /// The first seed of each difference, by what is said about it.
    first: BTreeMap<(Difference, String), u64>,
}

impl Tally {
    pub(super) fn add(&mut self, outcome: &Outcome) {
        self.programs += 1;
        let Some(Judged { kernel, ours, difference }) = &outcome.judged else {
            self.not_judged += 1;
            return;
        };
        let said = match ours {
            Ours::Unsupported(what) => {
                *self.unsupported.entry(without_numbers(what)).or_default() += 1;
                return;
            }
            Ours::Verdict(ours) => {
                without_numbers(&format!("{} / {}", kernel.message, ours.message))
            }
            Ours::Panic => String::new(),
        };
        let Some(difference) = *difference else {
            let agreed = if kernel.errno == 0 { &mut self.accepted } else { &mut self.refused };
            *agreed += 1;
            return;
        };
        *self.differences.entry(difference.name()).or_default() += 1;
        if difference.is_grave() {
            say(&format!("{}: seed {}", difference.name(), outcome.seed));
        }
        if difference != Difference::Mistake {
            self.first.entry((difference, said)).or_insert(outcome.seed);
        }
    }

    /// Counts, a line each.
    pub(super) fn table(&self, seed: u64, took: Duration) -> String {
        let rate = self.programs as f64 / took.as_secs_f64();
        let programs = self.programs;
        let mut text =
            format!("verifier: {programs} programs from seed {seed} on, {rate:.0} a second\n");
        let mut line = |name: &str, count: u64| text.push_str(&format!("{count:>10}  {name}\n"));
        line("accepted by both", self.accepted);
        line("refused by both", self.refused);
        line("unsupported", self.unsupported.values().sum());
        line("not judged by the kernel", self.not_judged);
        for (name, &count) in &self.differences {
            line(name, count);
        }
        let mut unsupported: Vec<_> = self.unsupported.iter().collect();
        unsupported.sort_by_key(|&(_, count)| std::cmp::Reverse(count));
        for (what, count) in unsupported.into_iter().take(5) {
            text.push_str(&format!("{count:>10}  unsupported: {what}\n"));
        }
        text
    }

    /// Fails where something must not be.
    pub(super) fn result(&self) -> Result<(), TaskError> {
        let count = |difference: Difference| {
            self.differences.get(difference.name()).copied().unwrap_or_default()
        };
        match (count(Difference::FalseAccept), count(Difference::Panic)) {
            (0, 0) => Ok(()),
            (accepts, panics) => {
                Err(TaskError::Failed(format!("{accepts} false accepts, {panics} panics")))
            }
        }
    }

    /// Differences to be written, the gravest first.
    fn to_write(&self) -> Vec<(Difference, u64)> {
        let mut written: BTreeMap<&str, usize> = BTreeMap::new();
        let mut chosen = Vec::new();
        for (&(difference, _), &seed) in &self.first {
            let count = written.entry(difference.name()).or_default();
            *count += 1;
            if *count <= WRITTEN {
                chosen.push((difference, seed));
            }
        }
        chosen
    }
}

/// A message of which all numbers are the same.
fn without_numbers(message: &str) -> String {
    let mut text = String::new();
    for c in message.chars() {
        match c {
            '0'..='9' if text.ends_with('0') => {}
            '0'..='9' => text.push('0'),
            other => text.push(other),
        }
    }
    text
}

/// Writes what was found.
pub(super) struct Report<'a> {
    tally: &'a Tally,
    source: Source,
    judges: Judges,
    directory: PathBuf,
}

impl<'a> Report<'a> {
    pub(super) fn new(tally: &'a Tally, source: Source, judges: Judges) -> Self {
        let target = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
        let target = target.unwrap_or_else(|| workspace_root().join("target"));
        Self { tally, source, judges, directory: target.join("fuzz/verifier") }
    }

    /// Makes the first program of each difference small, and writes it down.
    pub(super) fn write(mut self) -> Result<(), TaskError> {
        for (difference, seed) in self.tally.to_write() {
            self.one(difference, seed)?;
        }
        Ok(())
    }

    fn one(&mut self, difference: Difference, seed: u64) -> Result<(), TaskError> {
        let subject = self.source.subject(seed)?;
        let (judges, logs) = (&mut self.judges, difference == Difference::Log);
        let small = shrink(subject, &mut |candidate| {
            let judged = judges.judge(candidate, logs)?;
            Ok(judged.and_then(|judged| judged.difference) == Some(difference))
        })?;
        let name = format!("{}-{seed}", difference.name());
        let Some(Judged { kernel, ours, .. }) = self.judges.judge(&small, false)? else {
            say(&format!("{name}: the kernel says something else the second time"));
            return Ok(());
        };
        let path = self.directory.join(name).with_extension("bpf");
        let line = self.judges.line_difference(&small)?;
        write(&path, &fixture(seed, &small.sections(), &kernel, &ours, line.as_ref()))?;
        say(&format!("{}: kernel {}; ours {}", path.display(), said(&kernel), of_ours(&ours)));
        Ok(())
    }
}

fn write(path: &Path, text: &str) -> Result<(), TaskError> {
    let directory = path.parent().unwrap_or(path);
    std::fs::create_dir_all(directory)
        .and_then(|()| std::fs::write(path, text))
        .map_err(|error| TaskError::file(path, error))
}

/// A fixture that expects what the kernel says.
fn fixture(
    seed: u64,
    sections: &str,
    kernel: &Verdict,
    ours: &Ours,
    line: Option<&LineDifference>,
) -> String {
    let ours = match ours {
        Ours::Verdict(verdict) => {
            format!("{}, {}", said(verdict), counts(verdict).unwrap_or_default())
        }
        other => of_ours(other),
    };
    let mut text = format!("# Found by fuzzing, seed {seed}. Ours: {ours}\n");
    let line = line.map(ToString::to_string).unwrap_or_default();
    line.lines().for_each(|line| text.push_str(&format!("# {line}\n")));
    text.push_str(sections);
    text.push_str(&format!("\n-- verdict\n{}\n", said(kernel)));
    if let Some(counts) = counts(kernel) {
        text.push_str(&format!("\n-- counts\n{counts}\n"));
    }
    text
}

/// As in the section `counts` of a fixture.
fn counts(verdict: &Verdict) -> Option<String> {
    let (processed, KeptStates { total, peak }) = verdict.processed.zip(verdict.states)?;
    Some(format!("processed {processed} total_states {total} peak_states {peak}"))
}

/// As in the section `verdict` of a fixture.
fn said(verdict: &Verdict) -> String {
    match verdict.errno {
        0 => "accept".into(),
        errno => format!("reject {}: {}", errno_name(errno), verdict.message),
    }
}

fn of_ours(ours: &Ours) -> String {
    match ours {
        Ours::Verdict(verdict) => said(verdict),
        Ours::Unsupported(what) => format!("unsupported: {what}"),
        Ours::Panic => "panic".into(),
    }
}

/// `EACCES`, or for those that no verdict has here, `E` and the number.
fn errno_name(errno: i32) -> String {
    Errno::from_number(errno).map_or_else(|| format!("E{errno}"), |known| known.name().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(errno: i32, message: &str) -> Verdict {
        let states = Some(KeptStates { total: 2, peak: 1 });
        Verdict { errno, message: message.into(), processed: Some(4), states }
    }

    fn outcome(seed: u64, kernel: Verdict, ours: Ours) -> Outcome {
        let difference = Difference::between(&kernel, &ours);
        Outcome { seed, judged: Some(Judged { kernel, ours, difference }) }
    }

    #[test]
    fn the_first_of_each_kind_is_kept() {
        let mut tally = Tally::default();
        let refused = |text: &str| Ours::Verdict(verdict(13, text));
        tally.add(&outcome(1, verdict(0, ""), refused("R1 !read_ok")));
        tally.add(&outcome(2, verdict(0, ""), refused("R12 !read_ok")));
        tally.add(&outcome(3, verdict(0, ""), refused("no")));
        tally.add(&outcome(4, verdict(0, ""), Ours::Verdict(verdict(0, ""))));
        tally.add(&outcome(5, verdict(0, ""), Ours::Unsupported("a map of type 7".into())));
        tally.add(&Outcome { seed: 6, judged: None });
        assert_eq!(tally.result(), Ok(()));
        let false_reject = Difference::FalseReject { ours: 13 };
        assert_eq!(tally.to_write(), [(false_reject, 1), (false_reject, 3)]);
        let table = tally.table(1, Duration::from_secs(2));
        for line in ["6 programs", "3 a second", "1  accepted by both", "3  false-reject"] {
            assert!(table.contains(line), "{line} in\n{table}");
        }
        tally.add(&outcome(7, verdict(13, "no"), Ours::Verdict(verdict(0, ""))));
        assert_eq!(tally.result(), Err(TaskError::Failed("1 false accepts, 0 panics".into())));
        assert_eq!(tally.to_write()[0], (Difference::FalseAccept, 7));
    }

    #[test]
    fn a_fixture_expects_what_the_kernel_says() {
        let ours = Ours::Verdict(verdict(0, ""));
        let line = crate::fuzz::verifier::log::first_difference("0: a\n", "0: b\n");
        let kernel = verdict(13, "R0 !read_ok");
        let text = fixture(9, "-- asm\nexit\n", &kernel, &ours, line.as_ref());
        assert!(
            text.contains("\n# line 1\n#   kernel: 0: a\n#   ours:   0: b\n-- asm\n"),
            "{text}"
        );
        let parsed = ebpf_testkit::Fixture::parse("x.bpf", &text).unwrap();
        let (errno, message) = ("EACCES".to_owned(), "R0 !read_ok".to_owned());
        assert_eq!(parsed.verdict(), Some(&ebpf_testkit::Verdict::Reject { errno, message }));
        let counts = "processed 4 total_states 2 peak_states 1";
        assert_eq!(parsed.section("counts").map(str::trim_end), Some(counts));
        assert!(
            text.starts_with("# Found by fuzzing, seed 9. Ours: accept, processed 4 "),
            "{text}"
        );
    }
}

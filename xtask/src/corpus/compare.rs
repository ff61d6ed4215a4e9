//! How far two verifiers agree.

use std::collections::BTreeMap;

use ebpf_runtime::object::cases::{Judged, KeptStates};

use super::ours::Ours;
use super::{Entry, stages};
use crate::error::TaskError;

/// How one program was judged, by us and by the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    /// We accept, the kernel rejects: what must never be.
    FalseAccept,
    /// Our verifier panicked.
    Panic,
    /// We reject, the kernel accepts.
    FalseReject,
    /// Both reject, with different error numbers.
    Errno,
    /// Both say the same, after another number of instructions.
    Processed,
    /// Both say the same, but kept other states.
    States,
    /// Both reject, in other words.
    Text,
    /// No difference.
    Agree,
    /// We do not know something in it.
    Unsupported,
    /// The kernel did not judge it.
    NotJudged,
}

impl Kind {
    const fn name(self) -> &'static str {
        match self {
            Self::FalseAccept => "FALSE ACCEPT",
            Self::Panic => "PANIC",
            Self::FalseReject => "false reject",
            Self::Errno => "errno",
            Self::Processed => "processed",
            Self::States => "states",
            Self::Text => "text",
            Self::Agree => "agree",
            Self::Unsupported => "unsupported",
            Self::NotJudged => "not judged",
        }
    }
}

/// Counts of one file or stage.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Counts {
    programs: u32,
    judged: u32,
    unsupported: u32,
    /// Same verdict; and of these the same error number, instructions processed, states kept, text.
    verdict: u32,
    errno: u32,
    processed: u32,
    states: u32,
    /// Both accept; and of these the same instructions processed.
    accepted: u32,
    accepted_processed: u32,
    /// Both reject, and both rejections have a text.
    with_text: u32,
    text: u32,
    false_accepts: u32,
    false_rejects: u32,
}

/// The comparison of all programs.
pub(super) struct Report {
    /// By stage, and by file in it.
    stages: BTreeMap<&'static str, BTreeMap<String, Counts>>,
    /// What differs: kind, and a line about it.
    differences: Vec<(Kind, String)>,
}

/// Compares what was said about each program.
pub(super) fn compare(entries: &[Entry], judged: &[Option<Judged>], ours: &[Ours]) -> Report {
    let mut report = Report { stages: BTreeMap::new(), differences: Vec::new() };
    for ((entry, judged), ours) in entries.iter().zip(judged).zip(ours) {
        let stage = stages::of(entry.file());
        // Files without a stage are too many for a row each.
        let file = if stage == stages::OTHER { "" } else { entry.file() };
        let files = report.stages.entry(stage).or_default();
        let counts = files.entry(file.to_owned()).or_default();
        let kind = counts.count(judged.as_ref(), ours);
        if !matches!(kind, Kind::Agree | Kind::NotJudged) {
            let line = format!("{}: {}", entry.case.id, difference(judged.as_ref(), ours));
            report.differences.push((kind, line));
        }
    }
    report.differences.sort();
    report
}

/// Both verdicts on a line.
fn difference(judged: Option<&Judged>, ours: &Ours) -> String {
    let verdict = |errno: i32, processed: Option<u32>, states: Option<KeptStates>, text: &str| {
        let processed = processed.map_or("-".to_owned(), |number| number.to_string());
        let verdict = if errno == 0 { "accept".to_owned() } else { format!("errno {errno}") };
        let states =
            states.map_or("-".to_owned(), |KeptStates { total, peak }| format!("{total}/{peak}"));
        format!("{verdict} after {processed}, states {states} `{text}`")
    };
    let kernel = judged.map_or("not judged".to_owned(), |judged| {
        let message = judged.message.as_deref().unwrap_or_default();
        verdict(judged.errno, judged.processed, judged.states, message)
    });
    let ours = match ours {
        Ours::Accept { work } => verdict(0, Some(work.processed), Some(work.states), ""),
        Ours::Reject { errno, work, message } => {
            verdict(*errno, Some(work.processed), Some(work.states), message)
        }
        Ours::Unsupported { message } => format!("unsupported `{message}`"),
        Ours::Panic => "panic".to_owned(),
    };
    format!("kernel: {kernel}; ours: {ours}")
}

impl Counts {
    /// Counts a program; says how its verdicts differ most.
    fn count(&mut self, judged: Option<&Judged>, ours: &Ours) -> Kind {
        self.programs += 1;
        if *ours == Ours::Panic {
            return Kind::Panic;
        }
        let Some(judged) = judged else {
            return Kind::NotJudged;
        };
        self.judged += 1;
        let (errno, work, message) = match ours {
            Ours::Unsupported { .. } | Ours::Panic => {
                self.unsupported += 1;
                return Kind::Unsupported;
            }
            Ours::Accept { work } => (0, work, None),
            Ours::Reject { errno, work, message } => (*errno, work, Some(message)),
        };
        match (errno == 0, judged.accepted) {
            (true, false) => {
                self.false_accepts += 1;
                return Kind::FalseAccept;
            }
            (false, true) => {
                self.false_rejects += 1;
                return Kind::FalseReject;
            }
            _ => self.verdict += 1,
        }
        let same_errno = errno == judged.errno;
        let same_processed = judged.processed.is_none_or(|kernel| kernel == work.processed);
        let same_states = judged.states.is_none_or(|kernel| kernel == work.states);
        let texts = message.zip(judged.message.as_ref());
        let same_text = texts.is_none_or(|(ours, kernel)| ours == kernel);
        self.errno += u32::from(same_errno);
        self.processed += u32::from(same_processed);
        self.states += u32::from(same_states);
        self.accepted += u32::from(errno == 0);
        self.accepted_processed += u32::from(errno == 0 && same_processed);
        self.with_text += u32::from(texts.is_some());
        self.text += u32::from(texts.is_some() && same_text);
        match (same_errno, same_processed, same_states, same_text) {
            (false, ..) => Kind::Errno,
            (_, false, ..) => Kind::Processed,
            (_, _, false, _) => Kind::States,
            (.., false) => Kind::Text,
            _ => Kind::Agree,
        }
    }

    fn add(&mut self, other: &Self) {
        self.programs += other.programs;
        self.judged += other.judged;
        self.unsupported += other.unsupported;
        self.verdict += other.verdict;
        self.errno += other.errno;
        self.processed += other.processed;
        self.states += other.states;
        self.accepted += other.accepted;
        self.accepted_processed += other.accepted_processed;
        self.with_text += other.with_text;
        self.text += other.text;
        self.false_accepts += other.false_accepts;
        self.false_rejects += other.false_rejects;
    }

    fn row(&self, name: &str) -> String {
        let Self { programs, judged, unsupported, verdict, false_accepts, false_rejects, .. } =
            self;
        let accepted = format!("{}/{}", self.accepted_processed, self.accepted);
        let text = match self.with_text {
            0 => "-".to_owned(),
            with_text => format!("{}/{with_text}", self.text),
        };
        format!(
            "{name:<40}{programs:>9}{judged:>8}{unsupported:>13}{verdict:>9}{:>8}{:>11}{:>8}\
             {accepted:>12}{text:>12}{false_rejects:>9}{false_accepts:>9}\n",
            self.errno, self.processed, self.states
        )
    }
}

impl Report {
    fn total(&self) -> Counts {
        let mut total = Counts::default();
        self.stages.values().flat_map(BTreeMap::values).for_each(|counts| total.add(counts));
        total
    }

    /// What must not be comes first; then the table; then, if wanted, every difference.
    pub(super) fn print(&self, differences: bool) -> String {
        let mut text = String::new();
        let lines = |wanted: &dyn Fn(Kind) -> bool| -> String {
            let found = self.differences.iter().filter(|(kind, _)| wanted(*kind));
            found.map(|(kind, line)| format!("{}: {line}\n", kind.name())).collect()
        };
        let grave = |kind| matches!(kind, Kind::FalseAccept | Kind::Panic);
        text.push_str(&lines(&grave));
        text.push_str(&format!(
            "{:<40}{:>9}{:>8}{:>13}{:>9}{:>8}{:>11}{:>8}{:>12}{:>12}{:>9}{:>9}\n",
            "",
            "programs",
            "judged",
            "unsupported",
            "verdict",
            "errno",
            "processed",
            "states",
            "accepted",
            "text",
            "f.reject",
            "f.accept"
        ));
        for (stage, files) in &self.stages {
            let mut sum = Counts::default();
            files.values().for_each(|counts| sum.add(counts));
            text.push_str(&sum.row(stage));
            for (file, counts) in files.iter().filter(|(file, _)| !file.is_empty()) {
                text.push_str(&counts.row(&format!("  {file}")));
            }
        }
        text.push_str(&self.total().row("all"));
        if self.total().with_text == 0 {
            text.push_str("text: not measured\n");
        }
        if differences {
            text.push_str(&lines(&|kind| !grave(kind)));
        }
        text
    }

    /// Fails where something must not be.
    pub(super) fn result(&self) -> Result<(), TaskError> {
        let count = |kind| self.differences.iter().filter(|(found, _)| *found == kind).count();
        let (accepts, panics) = (count(Kind::FalseAccept), count(Kind::Panic));
        if accepts + panics == 0 {
            return Ok(());
        }
        Err(TaskError::Failed(format!("{accepts} false accepts, {panics} panics")))
    }
}

#[cfg(test)]
mod tests {
    use ebpf_runtime::object::cases::Case;

    use super::*;
    use crate::corpus::ours::Work;

    fn kernel(errno: i32, processed: u32, message: &str) -> Judged {
        let message = (errno != 0).then(|| message.to_owned());
        let states = Some(KeptStates { total: 0, peak: 0 });
        Judged { accepted: errno == 0, errno, processed: Some(processed), states, message }
    }

    fn work(processed: u32, states: u32) -> Work {
        Work { processed, states: KeptStates { total: states, peak: states } }
    }

    fn reject(errno: i32, processed: u32, message: &str) -> Ours {
        Ours::Reject { errno, work: work(processed, 0), message: message.into() }
    }

    #[test]
    fn verdicts_are_compared_from_the_gravest_difference_down() {
        let kind =
            |judged: Option<Judged>, ours: &Ours| Counts::default().count(judged.as_ref(), ours);
        let (accept, rejected) = (Some(kernel(0, 3, "")), Some(kernel(13, 3, "no")));
        let ours = Ours::Accept { work: work(3, 0) };
        assert_eq!(kind(accept.clone(), &ours), Kind::Agree);
        assert_eq!(kind(accept.clone(), &Ours::Accept { work: work(4, 0) }), Kind::Processed);
        assert_eq!(kind(accept.clone(), &Ours::Accept { work: work(3, 1) }), Kind::States);
        assert_eq!(kind(rejected.clone(), &ours), Kind::FalseAccept);
        assert_eq!(kind(None, &ours), Kind::NotJudged);
        assert_eq!(kind(accept.clone(), &reject(13, 3, "no")), Kind::FalseReject);
        assert_eq!(kind(rejected.clone(), &reject(22, 3, "no")), Kind::Errno);
        assert_eq!(kind(rejected.clone(), &reject(13, 2, "no")), Kind::Processed);
        assert_eq!(kind(rejected.clone(), &reject(13, 3, "yes")), Kind::Text);
        assert_eq!(kind(rejected.clone(), &reject(13, 3, "no")), Kind::Agree);
        let unsupported = Ours::Unsupported { message: "a loop".into() };
        assert_eq!(kind(rejected, &unsupported), Kind::Unsupported);
        assert_eq!(kind(accept, &Ours::Panic), Kind::Panic);
    }

    fn report(ours: [Ours; 2]) -> Report {
        let entry = |id: &str| Entry {
            case: Case::parse(&format!(r#"{{"id":"{id}","insns":""}}"#)).unwrap(),
            line: String::new(),
        };
        let entries = ["verifier_cfg.o:f", "elsewhere.o:g"].map(entry);
        compare(&entries, &[Some(kernel(13, 3, "no")), Some(kernel(0, 1, ""))], &ours)
    }

    #[test]
    fn false_accepts_come_first_and_fail() {
        let accept = Ours::Accept { work: work(1, 0) };
        let report = report([accept.clone(), accept]);
        let text = report.print(false);
        assert!(text.starts_with("FALSE ACCEPT: verifier_cfg.o:f: kernel: errno 13"), "{text}");
        let failed = TaskError::Failed("1 false accepts, 0 panics".into());
        assert_eq!(report.result(), Err(failed));
    }

    #[test]
    fn differences_are_listed_on_request() {
        let report = report([reject(22, 3, "no"), Ours::Accept { work: work(1, 0) }]);
        assert_eq!(report.result(), Ok(()));
        assert!(!report.print(false).contains("errno: verifier_cfg.o:f"));
        assert!(report.print(true).contains("errno: verifier_cfg.o:f"));
        let rows: Vec<String> = report.print(false).lines().map(str::to_owned).collect();
        let cells = |row: &str| row.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(
            cells(&rows[1]),
            ["S0", "1", "1", "0", "1", "0", "1", "1", "0/0", "1/1", "0", "0"]
        );
        assert_eq!(cells(&rows[2])[0], "verifier_cfg");
        assert_eq!(
            cells(&rows[3]),
            ["other", "1", "1", "0", "1", "1", "1", "1", "1/1", "-", "0", "0"]
        );
        assert_eq!(cells(&rows[4])[..3], ["all", "2", "2"]);
    }
}

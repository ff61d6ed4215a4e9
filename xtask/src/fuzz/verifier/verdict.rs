//! What two verifiers say about a program, and how it differs.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use ebpf_runtime::cases::{CaseVerdict, Prepared};
use ebpf_runtime::object::cases::KeptStates;
use ebpf_runtime::verifier::{
    ErrorCode, LogLevel, Rejection, Stats, kernel_log, kernel_verdict, verify,
};
use serde_json::Value;

use super::Judged;
use super::log::{LineDifference, first_difference};
use super::subject::{Running, Subject};
use crate::error::TaskError;
use crate::oracle::Pool;

/// A verdict, and what it took.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Verdict {
    /// 0 for an accept.
    pub(super) errno: i32,
    /// Why not.
    pub(super) message: String,
    /// Instructions processed, where they were counted.
    pub(super) processed: Option<u32>,
    /// States kept, likewise.
    pub(super) states: Option<KeptStates>,
}

impl Verdict {
    fn new(errno: i32, message: String, stats: &Stats) -> Self {
        let states = KeptStates { total: stats.total_states, peak: stats.peak_states };
        Self { errno, message, processed: Some(stats.processed), states: Some(states) }
    }
}

/// What our verifier says.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Ours {
    Verdict(Verdict),
    /// It does not know something in the program.
    Unsupported(String),
    Panic,
}

/// How two verdicts differ most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Difference {
    /// We accept, the kernel refuses: what must never be.
    FalseAccept,
    /// Our verifier panicked.
    Panic,
    /// We refuse, the kernel accepts.
    FalseReject { ours: i32 },
    /// Both refuse, with different error numbers.
    Errno { kernel: i32, ours: i32 },
    /// The same verdict, after another number of instructions.
    Processed,
    /// The same, but other states were kept.
    States,
    /// The same, but the logs differ.
    Log,
    /// None, if we believe what the kernel believes wrongly.
    Mistake,
}

impl Difference {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::FalseAccept => "false-accept",
            Self::Panic => "panic",
            Self::FalseReject { .. } => "false-reject",
            Self::Errno { .. } => "errno",
            Self::Processed => "processed",
            Self::States => "states",
            Self::Log => "log",
            Self::Mistake => "mistake",
        }
    }

    /// Whether it must not be, whatever is being worked on.
    pub(super) const fn is_grave(self) -> bool {
        matches!(self, Self::FalseAccept | Self::Panic)
    }

    /// The difference between two verdicts; `None` if there is none, or one of them is no verdict.
    pub(super) fn between(kernel: &Verdict, ours: &Ours) -> Option<Self> {
        let ours = match ours {
            Ours::Verdict(verdict) => verdict,
            Ours::Unsupported(_) => return None,
            Ours::Panic => return Some(Self::Panic),
        };
        match (kernel.errno, ours.errno) {
            (0, 0) => {}
            (_, 0) => return Some(Self::FalseAccept),
            (0, errno) => return Some(Self::FalseReject { ours: errno }),
            (kernel, ours) if kernel != ours => return Some(Self::Errno { kernel, ours }),
            _ => {}
        }
        let differ = |(kernel, ours)| kernel != ours;
        if kernel.processed.zip(ours.processed).is_some_and(differ) {
            return Some(Self::Processed);
        }
        let differ = |(kernel, ours)| kernel != ours;
        kernel.states.zip(ours.states).is_some_and(differ).then_some(Self::States)
    }
}

/// The two that judge.
pub(super) struct Judges {
    kernel: Pool,
    /// The kernel with all of its log.
    logging: Pool,
    running: Arc<Running>,
}

/// How the kernel reports bounds that contradict each other.
const KERNEL_BUG: &str = "verifier bug: ";
/// All paths, with the state after each instruction.
const LOG_LEVEL: u32 = 2;
/// The depths of stacks: the kernel is always asked for them.
const STATISTICS: u32 = 4;

impl Judges {
    pub(super) fn new(running: Arc<Running>) -> Self {
        let pool = |level| Pool::new(".".as_ref(), level);
        Self { kernel: pool(0), logging: pool(LOG_LEVEL), running }
    }

    /// What both say, with their logs or without; `None` where the kernel comes to no verdict.
    pub(super) fn judge(
        &mut self,
        subject: &Subject,
        logs: bool,
    ) -> Result<Option<Judged>, TaskError> {
        let Some(kernel) = of_answer(&self.kernel.ask("", &subject.case().to_line())?) else {
            return Ok(None);
        };
        let prepared = subject.prepare(&self.running);
        let ours = Ours::of(&prepared, |prepared| {
            verify(&prepared.program, &prepared.environment, &prepared.options)
                .map(|verified| *verified.stats())
        });
        let mut difference = Difference::between(&kernel, &ours);
        if difference.is_some_and(|difference| !difference.is_grave()) {
            let as_kernel = Ours::of(&prepared, |prepared| {
                kernel_verdict(&prepared.program, &prepared.environment, &prepared.options)
            });
            if Difference::between(&kernel, &as_kernel).is_none() {
                difference = Some(Difference::Mistake);
            }
        }
        if logs && difference.is_none() && matches!(ours, Ours::Verdict(_)) {
            difference = self.line_difference(subject)?.map(|_| Difference::Log);
        }
        Ok(Some(Judged { kernel, ours, difference }))
    }

    /// The first line in which the logs of both differ, the kernel's mistakes shared; `None` where
    /// there is none, or one has no log, or one that is too long.
    pub(super) fn line_difference(
        &mut self,
        subject: &Subject,
    ) -> Result<Option<LineDifference>, TaskError> {
        let answer = self.logging.ask("", &subject.case().to_line())?;
        let prepared = subject.prepare(&self.running);
        let Some((kernel, prepared)) = answer["log"].as_str().zip(prepared.ok()) else {
            return Ok(None);
        };
        // A complaint of the kernel about itself, which it goes on after, and we do not make; or it
        // refuses the types, and tells nothing of them.
        if kernel.contains(KERNEL_BUG) || answer["without_types"] == true {
            return Ok(None);
        }
        let level = LogLevel::new(LOG_LEVEL | STATISTICS).expect("a level of the kernel");
        let Prepared { program, environment, options } = prepared;
        let ours = kernel_log(&program, &environment, &options, level);
        Ok(first_difference(kernel, &format!("{}{}", ours.text, ours.statistics)))
    }
}

impl Ours {
    /// What one of our verdicts is about a program.
    fn of(
        prepared: &Result<Prepared, CaseVerdict>,
        judge: impl FnOnce(&Prepared) -> Result<Stats, Box<Rejection>>,
    ) -> Self {
        let verdict = match prepared {
            // Nothing of a verification is looked at after it panicked.
            Ok(prepared) => match catch_unwind(AssertUnwindSafe(|| judge(prepared))) {
                Ok(verdict) => verdict,
                Err(_) => return Self::Panic,
            },
            Err(CaseVerdict::Reject(rejection)) => Err(rejection.clone()),
            Err(CaseVerdict::Unsupported(why)) => return Self::Unsupported(why.to_string()),
            Err(CaseVerdict::Accept(verified)) => Ok(*verified.stats()),
        };
        match verdict {
            Ok(stats) => Self::Verdict(Verdict::new(0, String::new(), &stats)),
            Err(rejection) if rejection.code == ErrorCode::Unsupported => {
                Self::Unsupported(rejection.message)
            }
            Err(rejection) => {
                Self::Verdict(Verdict::new(rejection.errno, rejection.message, &rejection.stats))
            }
        }
    }
}

/// The verdict in an answer of the oracle.
fn of_answer(answer: &Value) -> Option<Verdict> {
    let number = |field: &str| answer[field].as_u64().and_then(|number| number.try_into().ok());
    let errno = match answer["verdict"].as_str()? {
        "accept" => 0,
        "reject" => answer["errno"].as_i64()? as i32,
        _ => return None,
    };
    let states = number("total_states").zip(number("peak_states"));
    Some(Verdict {
        errno,
        message: answer["msg"].as_str().unwrap_or_default().to_owned(),
        processed: number("processed"),
        states: states.map(|(total, peak)| KeptStates { total, peak }),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn verdict(errno: i32, processed: u32) -> Verdict {
        Verdict { errno, processed: Some(processed), ..Verdict::default() }
    }

    #[test]
    fn the_gravest_difference_is_told() {
        let between = |kernel, ours| Difference::between(&kernel, &Ours::Verdict(ours));
        assert_eq!(between(verdict(0, 5), verdict(0, 5)), None);
        assert_eq!(between(verdict(13, 5), verdict(13, 5)), None);
        assert_eq!(between(verdict(0, 5), verdict(0, 6)), Some(Difference::Processed));
        assert_eq!(between(verdict(13, 5), verdict(13, 6)), Some(Difference::Processed));
        assert_eq!(between(verdict(13, 5), verdict(0, 5)), Some(Difference::FalseAccept));
        let false_reject = Difference::FalseReject { ours: 7 };
        assert_eq!(between(verdict(0, 5), verdict(7, 9)), Some(false_reject));
        let errno = Difference::Errno { kernel: 13, ours: 22 };
        assert_eq!(between(verdict(13, 5), verdict(22, 4)), Some(errno));
        let with = |peak| Verdict { states: Some(KeptStates { total: 3, peak }), ..verdict(0, 5) };
        assert_eq!(between(with(2), with(2)), None);
        assert_eq!(between(with(2), with(3)), Some(Difference::States));
        let uncounted = Verdict { processed: None, ..verdict(22, 0) };
        assert_eq!(between(uncounted, verdict(22, 4)), None);
    }

    #[test]
    fn what_is_not_known_is_no_verdict_and_a_panic_is_one() {
        let kernel = verdict(0, 5);
        assert_eq!(Difference::between(&kernel, &Ours::Unsupported(String::new())), None);
        assert_eq!(Difference::between(&kernel, &Ours::Panic), Some(Difference::Panic));
    }

    #[test]
    fn answers_are_read() {
        let accept = json!({"verdict": "accept", "errno": 0, "processed": 5});
        assert_eq!(of_answer(&accept), Some(verdict(0, 5)));
        let reject = json!({"verdict": "reject", "errno": 13, "msg": "no"});
        let expected = Verdict { errno: 13, message: "no".into(), ..Verdict::default() };
        assert_eq!(of_answer(&reject), Some(expected));
        for verdict in ["error", "timeout", "crash"] {
            assert_eq!(of_answer(&json!({"verdict": verdict})), None);
        }
    }
}

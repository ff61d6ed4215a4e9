//! What our verifier says about the corpus.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use ebpf_runtime::cases::{CaseTypes, CaseVerdict, judge as judge_case};
use ebpf_runtime::kernel;
use ebpf_runtime::object::cases::KeptStates;
use ebpf_runtime::verifier::{KernelProfile, KernelTypes, Options, Stats};

use super::Entry;
use crate::error::TaskError;
use crate::say;

/// How long a program may take. A verifier of which one takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(60);
/// How many programs are judged at a time.
const THREADS: usize = 2;

/// What our verifier says about a program.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Ours {
    Accept { work: Work },
    Reject { errno: i32, work: Work, message: String },
    Unsupported { message: String },
    Panic,
}

/// What a verdict took.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Work {
    pub(super) processed: u32,
    pub(super) states: KeptStates,
}

impl From<&Stats> for Work {
    fn from(stats: &Stats) -> Self {
        let states = KeptStates { total: stats.total_states, peak: stats.peak_states };
        Self { processed: stats.processed, states }
    }
}

/// Judges each program.
pub(super) fn judge(entries: &[Entry], directory: &Path) -> Result<Vec<Ours>, TaskError> {
    let types = kernel::types().map(Arc::new);
    if let Err(why) = &types {
        say(&format!("skipped: the kernel's types, {why}: programs that need them"));
    }
    let types = types.as_ref().ok();
    let next = AtomicUsize::new(0);
    let current: [Mutex<Option<(usize, Instant)>>; THREADS] = Default::default();
    let mut verdicts: Vec<Option<Ours>> = vec![None; entries.len()];
    thread::scope(|scope| {
        let (sender, receiver) = channel();
        for current in &current {
            let (sender, next) = (sender.clone(), &next);
            scope.spawn(move || {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    let Some(entry) = entries.get(index) else { break };
                    *lock(current) = Some((index, Instant::now()));
                    let verdict = one(entry, directory, types);
                    *lock(current) = None;
                    if sender.send((index, verdict)).is_err() {
                        break;
                    }
                }
            });
        }
        drop(sender);
        loop {
            match receiver.recv_timeout(Duration::from_secs(1)) {
                Ok((index, verdict)) => verdicts[index] = Some(verdict?),
                Err(RecvTimeoutError::Disconnected) => break Ok::<(), TaskError>(()),
                Err(RecvTimeoutError::Timeout) => {}
            }
            let started = current.iter().filter_map(|current| *lock(current));
            if let Some((index, _)) = started.into_iter().find(|(_, at)| at.elapsed() > PATIENCE) {
                // The thread cannot be ended, so the process is: nothing is half-written by it.
                let id = &entries[index].case.id;
                say(&format!("error: {id}: our verifier does not come to an end"));
                std::process::exit(1);
            }
        }
    })?;
    let verdicts = verdicts.into_iter();
    Ok(verdicts.map(|verdict| verdict.expect("every program was judged")).collect())
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().expect("no thread panics while it holds the lock")
}

fn one(
    entry: &Entry,
    directory: &Path,
    kernel: Option<&Arc<KernelTypes>>,
) -> Result<Ours, TaskError> {
    let case = &entry.case;
    let btf = case.btf_bytes(directory).map_err(|error| TaskError::file(directory, error))?;
    // Nothing of a verification is looked at after it panicked.
    let verdict = catch_unwind(AssertUnwindSafe(|| {
        let types = CaseTypes { program: btf.as_deref(), kernel };
        judge_case(case, types, &KernelProfile::default(), &Options::default())
    }));
    Ok(verdict.map_or(Ours::Panic, of))
}

fn of(verdict: CaseVerdict) -> Ours {
    let unsupported = verdict.is_unsupported();
    match verdict {
        CaseVerdict::Accept(verified) => Ours::Accept { work: verified.stats().into() },
        CaseVerdict::Reject(rejection) if unsupported => {
            Ours::Unsupported { message: rejection.message }
        }
        CaseVerdict::Reject(rejection) => Ours::Reject {
            errno: rejection.errno,
            work: (&rejection.stats).into(),
            message: rejection.message,
        },
        CaseVerdict::Unsupported(why) => Ours::Unsupported { message: why.to_string() },
    }
}

#[cfg(test)]
mod tests {
    use ebpf_runtime::object::cases::Case;

    use super::*;

    #[test]
    fn verdicts_stand_in_the_order_of_the_cases() {
        let entry = |fields: &str| {
            let case = Case::parse(&format!("{{\"prog_type\":6,{fields}}}")).unwrap();
            Entry { case, line: String::new() }
        };
        let accept = r#""insns":"b7000000000000009500000000000000""#;
        let reject = r#""insns":"bf100000000000009500000000000000""#;
        let entries =
            [accept, r#""insns":"9500000000000000""#, reject, r#""prog_type":2,"insns":"""#]
                .map(entry);
        let ours = judge(&entries, Path::new(".")).unwrap();
        let states = KeptStates { total: 0, peak: 0 };
        assert_eq!(ours[0], Ours::Accept { work: Work { processed: 2, states } });
        let message = "R0 !read_ok".to_owned();
        assert_eq!(
            ours[1],
            Ours::Reject { errno: 13, work: Work { processed: 1, states }, message }
        );
        assert!(matches!(ours[2], Ours::Accept { .. } | Ours::Reject { .. }), "{:?}", ours[2]);
    }
}

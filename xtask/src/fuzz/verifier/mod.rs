//! Generated and changed programs, judged by the running kernel and by us.
//!
//! The kernel loads each program in a process of its own ([`Pool`]), and attaches none. What is
//! compared is the verdict, the error number, the numbers of instructions processed and of states kept, and for one program
//! in [`LOGGED`] the whole log of level 2, line by line. The first
//! program of each kind of difference is made as small as it can be while the difference stays the
//! same, and written as a fixture of `fixtures/verify`, with what the kernel says as expectation, and
//! the first line in which the logs differ.
//!
//! `Unsupported` agrees with nothing. A program that we accept and the kernel refuses is one too
//! many.
//!
//! [`Pool`]: crate::oracle::Pool

mod changed;
mod log;
mod maps;
pub(super) mod programs;
mod report;
mod shrink;
mod source;
mod subject;
mod verdict;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::thread;
use std::time::Instant;

use ebpf_runtime::kernel::{self, probe};

use super::Plan;
use crate::error::TaskError;
use crate::say;
use changed::Originals;
use report::{Report, Tally};
use source::Source;
use subject::Running;
use verdict::{Difference, Judges, Ours, Verdict};

/// What was said about the program of a seed; `None` where the kernel came to no verdict.
struct Outcome {
    seed: u64,
    judged: Option<Judged>,
}

/// What both said, and how it differs.
struct Judged {
    kernel: Verdict,
    ours: Ours,
    difference: Option<Difference>,
}

/// Of so many programs, the logs of one are compared.
const LOGGED: u64 = 16;

/// Generates programs.
pub(super) fn run_generated(plan: Plan) -> Result<(), TaskError> {
    run(plan, |_| Ok(Source::Generated))
}

/// Changes programs that somebody wrote.
pub(super) fn run_changed(plan: Plan) -> Result<(), TaskError> {
    run(plan, |running| Ok(Source::Changed(Arc::new(Originals::read(running)?))))
}

/// Judges at least one program, and reports.
fn run(
    plan: Plan,
    source: impl FnOnce(&Running) -> Result<Source, TaskError>,
) -> Result<(), TaskError> {
    let profile = match probe() {
        Ok(probe) => probe.profile,
        Err(error) => {
            say("verifier: not measured");
            return Err(error.into());
        }
    };
    let types = kernel::types();
    if let Err(why) = &types {
        say(&format!("skipped: the kernel's types, {why}: programs that need them"));
    }
    let types = types.ok().map(Arc::new);
    let running = Arc::new(Running { profile, types });
    let source = source(&running)?;
    let begin = Instant::now();
    let tally = judge(plan, begin, &source, &running)?;
    say(&tally.table(plan.seed, begin.elapsed()));
    Report::new(&tally, source, Judges::new(running)).write()?;
    tally.result()
}

/// Judges programs on all processors until the time is over.
fn judge(
    plan: Plan,
    begin: Instant,
    source: &Source,
    running: &Arc<Running>,
) -> Result<Tally, TaskError> {
    let next = AtomicU64::new(0);
    // Each waits half of the time for the process that asks the kernel.
    let threads = 2 * thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        let (sender, receiver) = channel();
        for _ in 0..threads {
            let (sender, judges) = (sender.clone(), Judges::new(Arc::clone(running)));
            let seed = || {
                let number = next.fetch_add(1, Ordering::Relaxed);
                let goes_on = number == 0 || begin.elapsed() < plan.time;
                goes_on.then(|| plan.seed.wrapping_add(number))
            };
            scope.spawn(move || worker(source, judges, seed, &sender));
        }
        drop(sender);
        let mut tally = Tally::default();
        for outcome in receiver {
            tally.add(&outcome?);
        }
        Ok(tally)
    })
}

/// Judges the programs of these seeds.
fn worker(
    source: &Source,
    mut judges: Judges,
    next: impl Fn() -> Option<u64>,
    outcomes: &Sender<Result<Outcome, TaskError>>,
) {
    while let Some(seed) = next() {
        let judged = source
            .subject(seed)
            .and_then(|subject| judges.judge(&subject, seed.is_multiple_of(LOGGED)));
        if outcomes.send(judged.map(|judged| Outcome { seed, judged })).is_err() {
            break;
        }
    }
}

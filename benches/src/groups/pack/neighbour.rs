//! What a running program loses while others are placed and freed beside it.

use std::error::Error;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use ebpf_runtime::pack::{CHUNK_BYTES, Pack, PackOptions, Placed};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use rustix::time::{ClockId, clock_gettime};

use super::cell;
use super::native::{Callable, Constant, packed};
use crate::harness::Effort;
use crate::output::Report;

/// Length of a cache line, in bytes.
const LINE: usize = 64;

/// Least time of a turn: on a machine that others use too, a core is not there at once.
const TURN: Duration = Duration::from_millis(50);

/// What the other thread does while the neighbour runs.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Others {
    /// Nothing: it waits.
    None,
    /// It places and frees in lines of their own.
    OwnLines,
    /// It places and frees in the neighbour's line too.
    SameLine,
}

pub(super) fn measure(effort: Effort, report: &mut Report) -> Result<(), Box<dyn Error>> {
    let Some(other_core) = other_core()? else {
        report.notes.push("neighbour: not measured: there is one core only".into());
        return Ok(());
    };
    let ways =
        [("alone", Others::None), ("own line", Others::OwnLines), ("same line", Others::SameLine)];
    let mut best = [0.0_f64; 3];
    for _ in 0..effort.rounds {
        for ((_, others), best) in ways.into_iter().zip(&mut best) {
            *best = best.max(speed(others, other_core, effort.turn.max(TURN))?);
        }
    }
    for ((name, _), speed) in ways.into_iter().zip(best) {
        report.cells.push(cell("neighbour's speed", name, speed / best[0] * 100.0, "% of alone"));
    }
    Ok(())
}

/// A core that this thread is not kept on.
fn other_core() -> Result<Option<usize>, Box<dyn Error>> {
    let mine = sched_getaffinity(None)?;
    let count = std::fs::read_to_string("/proc/cpuinfo")?
        .lines()
        .filter(|line| line.starts_with("processor"))
        .count();
    Ok((0..count).find(|&core| !mine.is_set(core)))
}

/// How often the neighbour ran in a millisecond of its own processor time, on the other core, while this thread does what
/// `others` says. (Processor time, since other processes may use the core as well; interrupts count as the neighbour's.)
fn speed(others: Others, core: usize, turn: Duration) -> Result<f64, Box<dyn Error>> {
    let pack = Pack::new(PackOptions::default())?;
    let spin = Constant::spin(300);
    // A line starts the arena: chunks around the neighbour are free, or taken by programs that stay.
    let chunk = Constant::straight(0, CHUNK_BYTES);
    let before: Vec<Placed> =
        (0..LINE / CHUNK_BYTES).map(|_| chunk.place(&pack)).collect::<Result<_, _>>()?;
    let neighbour = packed(&pack, &[&spin])?;
    let after: Vec<Placed> =
        (1..LINE / CHUNK_BYTES).map(|_| chunk.place(&pack)).collect::<Result<_, _>>()?;
    let kept = match others {
        Others::SameLine => {
            drop(after);
            before
        }
        Others::None | Others::OwnLines => before.into_iter().chain(after).collect(),
    };
    let (started, done) = (AtomicBool::new(false), AtomicBool::new(false));
    let speed = std::thread::scope(|scope| -> Result<f64, Box<dyn Error>> {
        let runner = scope.spawn(|| run_on(core, &neighbour, &started, &done));
        while !started.load(Ordering::Relaxed) {
            std::thread::yield_now();
        }
        let result = disturb(others, &pack, &chunk, Instant::now() + turn);
        done.store(true, Ordering::Relaxed);
        let speed = runner.join().expect("the neighbour returns");
        result.map(|()| speed)
    })?;
    drop(kept);
    Ok(speed)
}

/// Runs the neighbour on a core until it is told to stop. Gives runs in a millisecond.
fn run_on(
    core: usize,
    neighbour: &Callable<Placed>,
    started: &AtomicBool,
    done: &AtomicBool,
) -> f64 {
    let mut cores = CpuSet::new();
    cores.set(core);
    // On the same core as the other thread the figures would say nothing; they show it.
    let _ = sched_setaffinity(None, &cores);
    started.store(true, Ordering::Relaxed);
    let (start, mut runs) = (processor_time_ns(), 0.0);
    while !done.load(Ordering::Relaxed) {
        neighbour.call(0);
        runs += 1.0;
    }
    runs / (processor_time_ns() - start) * 1e6
}

/// Time that this thread has run, in nanoseconds.
fn processor_time_ns() -> f64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as f64 * 1e9 + time.tv_nsec as f64
}

fn disturb(
    others: Others,
    pack: &Pack,
    chunk: &Constant,
    end: Instant,
) -> Result<(), Box<dyn Error>> {
    while Instant::now() < end {
        for _ in 0..64 {
            match others {
                Others::None => std::hint::spin_loop(),
                Others::OwnLines | Others::SameLine => drop(chunk.place(pack)?),
            }
        }
    }
    Ok(())
}

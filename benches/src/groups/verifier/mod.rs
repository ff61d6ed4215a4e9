//! Verification, beside that of the running kernel.
//!
//! The kernel tells how long its verifier took (`verification time`, in microseconds): checks,
//! exploration, and its rewriting, which it does in the same place. So `rewrite` is ours with our
//! rewriting, and what claims compare. The kernel's figure is taken, not the time of the system
//! call: that has the compilation, copies and descriptors in it, which `load` shows.
//!
//! Verifying takes longer than others leave a core to one process. So times are those that the
//! thread had the core for, and the kernel's figure is that of a round in which the thread had the
//! core for all of the system call, or nearly; if there was none, that of the round with the greatest
//! share, reduced by it. Both have memory at hand: the kernel keeps what it frees in its caches, and our
//! allocator is told to.

mod programs;

use std::time::{Duration, Instant};

use ebpf_runtime::isa::{Insn, RawInsn, WideSource};
use ebpf_runtime::kernel::{LoadedProgram, Map, MapSpec, Oracle, ProgramLoad};
use ebpf_runtime::verifier::{KernelProfile, MapInfo, Options, RewriteHooks, verify};
use ebpf_runtime::xdp;
use rustix::time::{ClockId, clock_gettime};

use super::GroupError;
use crate::allocated::{keep_freed, most_allocated};
use crate::harness::{Cell, Effort};
use crate::output::{Claim, Goal, Report, geomean};
use programs::{Shape, Subject};

type Error = Box<dyn std::error::Error>;

/// The kernel's own figure.
const KERNEL: &str = "kernel";
/// The whole system call, less that of a program of two instructions.
const LOAD: &str = "load";
/// Ours.
const VERIFY: &str = "verify";
/// Ours with rewriting.
const REWRITE: &str = "rewrite";

pub(super) fn run(effort: Effort) -> Result<Report, GroupError> {
    report(effort).map_err(GroupError::new("verifier"))
}

fn report(effort: Effort) -> Result<Report, Error> {
    keep_freed();
    let kernel = Oracle::new();
    let mut report = Report::default();
    if let Err(error) = &kernel {
        report.notes.push(format!("kernel: not measured: {error}"));
    }
    let mut ratios = Vec::new();
    let mut slowest = 0.0_f64;
    for subject in programs::all(&KernelProfile::default())? {
        let in_kernel = kernel.is_ok().then(|| InKernel::new(&subject)).transpose()?;
        let times = Times::measure(&subject, in_kernel.as_ref(), effort)?;
        if let Some(kernel) = times.kernel {
            ratios.push((subject.shape, kernel / times.rewrite));
        }
        if subject.shape != Shape::Other {
            slowest = slowest.max(times.rewrite * 1000.0 / f64::from(times.processed));
        }
        report.cells.extend(times.cells(subject.name));
        report.notes.extend(memory(&subject));
    }
    for (name, shape) in [
        ("kernel/verify-straight", Shape::Straight),
        ("kernel/verify-branchy", Shape::Branchy),
        ("kernel/verify-loop", Shape::Loop),
    ] {
        let of_shape: Vec<f64> =
            ratios.iter().filter(|(of, _)| *of == shape).map(|&(_, ratio)| ratio).collect();
        if !of_shape.is_empty() {
            let value = geomean(of_shape);
            report.claims.push(Claim { name, value, goal: Goal::AtLeast(3.0) });
        }
    }
    let goal = Goal::AtMost(250.0);
    report.claims.push(Claim { name: "ns-per-processed", value: slowest, goal });
    Ok(report)
}

/// A program as the kernel is given it, and its maps.
struct InKernel {
    slots: Vec<RawInsn>,
    _maps: Vec<Map>,
}

impl InKernel {
    fn new(subject: &Subject) -> Result<Self, Error> {
        let make = |map: &MapInfo| {
            Map::new(&MapSpec {
                map_type: map.desc.map_type.number(),
                key_size: map.desc.key_size,
                value_size: map.desc.value_size,
                max_entries: map.desc.max_entries,
                flags: map.desc.flags,
                ..MapSpec::default()
            })
        };
        let maps: Vec<Map> = subject.environment.maps.iter().map(make).collect::<Result<_, _>>()?;
        let mut slots = subject.program.to_slots()?;
        for (pc, insn) in subject.program.insns() {
            if let Insn::LoadWide {
                source: WideSource::Map(map, _) | WideSource::MapValue(map, ..),
                ..
            } = insn
            {
                slots[pc.index()].imm = maps[map.index()].number();
            }
        }
        Ok(Self { slots, _maps: maps })
    }

    fn load(&self, subject: &Subject) -> Result<LoadedProgram, Error> {
        let program_type = subject.environment.program_type.program_type().number();
        let slots = &self.slots;
        let load = ProgramLoad { program_type, license: "GPL", slots, ..ProgramLoad::default() };
        Ok(load.load().map_err(|refusal| format!("{}: {}", subject.name, refusal.message))?)
    }
}

/// The kernel's figure of a round.
#[derive(Clone, Copy)]
struct Figure {
    /// The share of the system call in which the thread had the core; 1 if that was nearly all of it.
    share: f64,
    micros: f64,
}

impl Figure {
    /// From such a share on, nobody is said to have disturbed the call.
    const NEARLY_ALL: f64 = 0.98;

    fn new(share: f64, micros: f64) -> Self {
        Self { share: if share < Self::NEARLY_ALL { share } else { 1.0 }, micros }
    }

    /// The one that is closer to what the verifier took: less disturbed, then faster.
    fn better(self, other: Option<Self>) -> Self {
        other.filter(|o| (-o.share, o.micros) < (-self.share, self.micros)).unwrap_or(self)
    }
}

/// The fastest of each, in microseconds.
struct Times {
    kernel: Option<f64>,
    load: Option<f64>,
    verify: f64,
    rewrite: f64,
    processed: u32,
}

impl Times {
    /// All take turns until each had its time.
    fn measure(
        subject: &Subject,
        in_kernel: Option<&InKernel>,
        effort: Effort,
    ) -> Result<Self, Error> {
        let kind = xdp::kind();
        let processed = verified(subject, None)?;
        let mut times =
            Self { kernel: None, load: None, verify: f64::MAX, rewrite: f64::MAX, processed };
        let mut figure = None;
        let begin = Instant::now();
        for round in 0.. {
            if round >= effort.rounds && begin.elapsed() > effort.turn * effort.rounds {
                break;
            }
            if let Some(in_kernel) = in_kernel {
                let begin = Instant::now();
                let (loaded, load) = timed(|| in_kernel.load(subject));
                let share = load / micros(begin.elapsed());
                let loaded = loaded?;
                let statistics = loaded.statistics.as_ref().ok_or("no statistics")?;
                least(&mut times.load, load);
                figure = Some(Figure::new(share, f64::from(statistics.usec)).better(figure));
                if statistics.processed != processed {
                    let counts = (statistics.processed, processed);
                    return Err(format!("{}: processed {counts:?}", subject.name).into());
                }
            }
            let (result, verify) = timed(|| verified(subject, None));
            result?;
            times.verify = times.verify.min(verify);
            let (result, rewrite) = timed(|| verified(subject, Some(kind.hooks())));
            result?;
            times.rewrite = times.rewrite.min(rewrite);
        }
        times.kernel = figure.map(|figure: Figure| figure.micros * figure.share);
        Ok(times)
    }

    fn cells(&self, workload: &str) -> Vec<Cell> {
        let columns = [
            (KERNEL, self.kernel),
            (LOAD, self.load),
            (VERIFY, Some(self.verify)),
            (REWRITE, Some(self.rewrite)),
        ];
        let cell = |(column, value): (&'static str, Option<f64>)| {
            let value = value?;
            Some(Cell { workload: workload.into(), column, value, unit: "µs" })
        };
        let mut cells: Vec<Cell> = columns.into_iter().filter_map(cell).collect();
        let per_insn = |cell: &Cell| Cell {
            workload: format!("{workload}, each"),
            value: cell.value * 1000.0 / f64::from(self.processed),
            unit: "ns/insn",
            ..cell.clone()
        };
        let each: Vec<Cell> = cells.iter().map(per_insn).collect();
        cells.extend(each);
        cells
    }
}

/// Verifies a program, and rewrites it with hooks; gives how many instructions were processed.
fn verified(subject: &Subject, hooks: Option<&dyn RewriteHooks>) -> Result<u32, Error> {
    let verified = verify(&subject.program, &subject.environment, &Options::default())
        .map_err(|rejection| format!("{}: {rejection}", subject.name))?;
    if let Some(hooks) = hooks {
        std::hint::black_box(verified.rewrite(hooks)?);
    }
    Ok(verified.stats().processed)
}

fn least(least: &mut Option<f64>, value: f64) {
    *least = Some(least.map_or(value, |least| least.min(value)));
}

/// Runs something; gives the microseconds that it had the core for.
fn timed<T>(run: impl FnOnce() -> T) -> (T, f64) {
    let now = || clock_gettime(ClockId::ThreadCPUTime);
    let begin = now();
    let result = run();
    let end = now();
    let nanos = (end.tv_sec - begin.tv_sec) * 1_000_000_000 + (end.tv_nsec - begin.tv_nsec);
    (result, nanos as f64 / 1e3)
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

/// The memory that verification takes, where there are states enough to speak of.
fn memory(subject: &Subject) -> Option<String> {
    const STATES: u32 = 100;
    let options = Options::default();
    let run = || verify(&subject.program, &subject.environment, &options);
    let (verified, bytes) = most_allocated(run);
    let states = verified.ok()?.stats().peak_states;
    let each = bytes / states.max(1) as usize;
    let enough = states >= STATES && bytes > 0;
    enough.then(|| format!("{}: {bytes} bytes, {states} states: {each} each", subject.name))
}

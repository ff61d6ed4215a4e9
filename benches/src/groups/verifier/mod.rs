//! Verification, beside that of the running kernel.
//!
//! The kernel tells how long its verifier took (`verification time`, in microseconds): checks,
//! exploration, and its rewriting, which it does in the same place. So `rewrite` is ours with our
//! rewriting, and what claims compare. The kernel's figure is taken, not the time of the system
//! call: that has the compilation, copies and descriptors in it, which `load` shows.

mod programs;

use std::time::{Duration, Instant};

use ebpf_runtime::isa::{Insn, RawInsn, WideSource};
use ebpf_runtime::kernel::{LoadedProgram, Map, MapSpec, Oracle, ProgramLoad};
use ebpf_runtime::verifier::{KernelProfile, MapInfo, Options, RewriteHooks, verify};
use ebpf_runtime::xdp;

use super::GroupError;
use crate::harness::{Cell, Effort};
use crate::memory::{resident_peak, resident_peak_from_now_on};
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
        let begin = Instant::now();
        for round in 0.. {
            if round >= effort.rounds && begin.elapsed() > effort.turn * effort.rounds {
                break;
            }
            if let Some(in_kernel) = in_kernel {
                let begin = Instant::now();
                let loaded = in_kernel.load(subject)?;
                least(&mut times.load, micros(begin.elapsed()));
                let statistics = loaded.statistics.as_ref().ok_or("no statistics")?;
                least(&mut times.kernel, statistics.usec.into());
                if statistics.processed != processed {
                    let counts = (statistics.processed, processed);
                    return Err(format!("{}: processed {counts:?}", subject.name).into());
                }
            }
            let begin = Instant::now();
            verified(subject, None)?;
            times.verify = times.verify.min(micros(begin.elapsed()));
            let begin = Instant::now();
            verified(subject, Some(kind.hooks()))?;
            times.rewrite = times.rewrite.min(micros(begin.elapsed()));
        }
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

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

/// The memory that verification takes.
fn memory(subject: &Subject) -> Option<String> {
    let before = resident_peak_from_now_on()?;
    let verified = verify(&subject.program, &subject.environment, &Options::default()).ok()?;
    let bytes = resident_peak()?.saturating_sub(before);
    let states = verified.stats().peak_states.max(1);
    let per_state = bytes / u64::from(states);
    Some(format!("{}: {bytes} bytes at most, {states} states, {per_state} a state", subject.name))
}

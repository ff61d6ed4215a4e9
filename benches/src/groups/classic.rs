//! The table of the mail that brought the extended interpreter to Linux (Alexei Starovoitov, 2014):
//! two filters of tcpdump, on the same packet again and again, and on ten thousand packets. Below it,
//! other filters on these packets.

use std::path::PathBuf;

use ebpf_runtime::classic::{Filter, Options, Packet, SockFilter, Target, convert, text};
use ebpf_runtime::filter::PacketFilter;
use ebpf_runtime::isa::abi::ExecEnv;
use ebpf_runtime::{Engine, Runtime, interp};

use super::GroupError;
use crate::counter::{Counter, Event};
use crate::harness::{Cell, Column, Effort, Workload, measure};
use crate::kernel::{Classifier, KernelError};
use crate::libpcap::{Libpcap, LibpcapFilter};
use crate::output::{Claim, Goal, Report, geomean};
use crate::packets;

type Error = Box<dyn std::error::Error>;

/// Our classic interpreter.
const CLASSIC: &str = "classic";
/// Converted, in our interpreter.
const INTERP: &str = "interp";
/// Converted and compiled.
const JIT: &str = "jit";
/// `bpf_filter()`.
const LIBPCAP: &str = "libpcap";
/// The running kernel's compiler, on what we converted.
const KERNEL: &str = "kernel";

/// What the mail measured, on a machine of its time: the old interpreter, the extended one, and the
/// compiler for classic programs. The compiler for extended ones was "TBD".
const MAIL: [&str; 3] = ["2014 old", "2014 ext", "2014 jit"];

/// A filter and the mail's numbers for it.
struct Fixture {
    name: &'static str,
    /// In `fixtures/classic`; `None` for the filter that accepts everything.
    file: Option<&'static str>,
    same: [f64; 3],
    many: [f64; 3],
}

const FIXTURES: [Fixture; 3] = [
    Fixture { name: "empty", file: None, same: [0.0; 3], many: [0.0; 3] },
    Fixture {
        name: "port 22",
        file: Some("port_22"),
        same: [90.0, 31.0, 12.0],
        many: [101.0, 71.0, 34.0],
    },
    Fixture {
        name: "ssh payload",
        file: Some("ssh_payload"),
        same: [192.0, 47.0, 17.0],
        many: [202.0, 97.0, 44.0],
    },
];

/// Other filters, one on each line: an expression of tcpdump, and what that makes of it.
const EXPRESSIONS: &str = include_str!("../../programs/filters.txt");

/// What the filters say of packets that they accept.
const ACCEPT: u32 = 262_144;
/// Runs of a filter on the same packet, which one measurement brings together, so that what is
/// around them hardly counts: our closure, and the kernel's system call.
const RUNS: u32 = 1000;
/// Times net of the empty filter are at least this, in nanoseconds: below it nothing is known.
const LEAST_NET: f64 = 0.1;
const PACKETS: usize = 10_000;
/// Packets of one flow that come one after another, at most.
const BURST: u64 = 32;

pub(super) fn run(effort: Effort) -> Result<Report, GroupError> {
    report(effort).map_err(GroupError::new("classic filters"))
}

fn report(effort: Effort) -> Result<Report, Error> {
    let libpcap = Libpcap::find();
    // Filters have no loops, and end without fuel.
    let mut options = interp::Options::default();
    options.fuel = false;
    let runtime = Runtime::new()?.with_interp(options);
    let same = packets::ssh_segment();
    let many =
        [("10k", packets::traffic(PACKETS, BURST)), ("10k mixed", packets::traffic(PACKETS, 1))];
    let mut report = Report::default();
    let mut kernel_error = None;
    for fixture in &FIXTURES {
        let filter = Filter::new(fixture.program()?)?;
        let engines = Engines::new(filter, &runtime, libpcap.as_ref().ok())?;
        if let Err(error) = &engines.kernel {
            kernel_error = Some(error.to_string());
        }
        let mut workload = engines.same(fixture, &same);
        report.cells.extend(measure(&mut workload, effort.finer()));
        drop(workload);
        if fixture.file.is_some() {
            for (name, packets) in &many {
                let mut workload = engines.many(fixture.workload(name), packets);
                report.cells.extend(measure(&mut workload, effort.finer()));
                branch_misses(&mut report, &mut workload);
            }
            remember(&mut report, fixture);
            converting(&mut report, fixture, &engines.filter, effort)?;
        }
    }
    claims(&mut report);
    for (expression, filter) in expressions()? {
        let engines = Engines::new(filter, &runtime, libpcap.as_ref().ok())?;
        let mut workload = engines.many(expression.into(), &many[0].1);
        report.cells.extend(measure(&mut workload, effort));
    }
    if let Err(error) = libpcap {
        report.notes.push(format!("libpcap: not measured: {error}"));
    }
    if let Some(error) = kernel_error {
        report.notes.push(format!("kernel: not measured: {error}"));
    }
    if let Err(error) = Counter::start(Event::BranchMisses) {
        report.notes.push(format!("branch misses: not measured: no counters: {error}"));
    }
    Ok(report)
}

/// The filters of [`EXPRESSIONS`].
fn expressions() -> Result<Vec<(&'static str, Filter)>, Error> {
    let lines = EXPRESSIONS.lines().filter(|line| !line.starts_with('#'));
    let filter = |line: &'static str| {
        let (expression, program) = line.rsplit_once(" = ").ok_or("a line has no filter")?;
        Ok((expression, Filter::new(text::parse(program)?)?))
    };
    lines.map(filter).collect()
}

/// A filter, made ready in every way.
struct Engines {
    filter: Filter,
    interp: PacketFilter,
    jit: PacketFilter,
    libpcap: Option<LibpcapFilter>,
    kernel: Result<Classifier, KernelError>,
}

impl Engines {
    fn new(filter: Filter, runtime: &Runtime, libpcap: Option<&Libpcap>) -> Result<Self, Error> {
        let load = |engine| PacketFilter::load(runtime, &filter, Target::SchedCls, engine);
        let (interp, jit) = (load(Engine::Interp)?, load(Engine::Jit)?);
        let slots = jit.converted().program.to_slots()?;
        Ok(Self {
            libpcap: libpcap.map(|libpcap| libpcap.filter(&filter)),
            kernel: Classifier::new(&slots),
            filter,
            interp,
            jit,
        })
    }

    /// The same packet again and again.
    fn same<'a>(&'a self, fixture: &Fixture, packet: &'a [u8]) -> Workload<'a> {
        let again = (0..RUNS).map(move |_| std::hint::black_box(packet));
        let mut columns = self.columns(again);
        if let Ok(kernel) = &self.kernel {
            let run = move || u64::from(kernel.run(packet, RUNS)) * u64::from(RUNS);
            columns.push(Column { name: KERNEL, run: Box::new(run), comparable: true });
        }
        let name = fixture.workload("same");
        Workload { name, units_per_run: RUNS.into(), unit: "ns", columns }
    }

    /// Packets one after another.
    fn many<'a>(&'a self, name: String, packets: &'a [Vec<u8>]) -> Workload<'a> {
        let columns = self.columns(packets.iter().map(Vec::as_slice));
        Workload { name, units_per_run: packets.len() as u64, unit: "ns", columns }
    }

    /// The ways of running the filter, each over these packets.
    fn columns<'a>(
        &'a self,
        packets: impl Iterator<Item = &'a [u8]> + Clone + 'a,
    ) -> Vec<Column<'a>> {
        let mut columns = vec![
            classic(&self.filter, packets.clone()),
            converted(INTERP, &self.interp, packets.clone()),
            converted(JIT, &self.jit, packets.clone()),
        ];
        columns.extend(self.libpcap.as_ref().map(|libpcap| {
            let run = move || packets.clone().map(|packet| u64::from(libpcap.run(packet))).sum();
            Column { name: LIBPCAP, run: Box::new(run), comparable: true }
        }));
        columns
    }
}

fn classic<'a>(
    filter: &'a Filter,
    packets: impl Iterator<Item = &'a [u8]> + Clone + 'a,
) -> Column<'a> {
    let run = move || {
        let mut packet = Packet::new(&[]);
        let judge = |bytes| {
            packet.bytes = bytes;
            u64::from(filter.run(&packet))
        };
        packets.clone().map(judge).sum()
    };
    Column { name: CLASSIC, run: Box::new(run), comparable: true }
}

fn converted<'a>(
    name: &'static str,
    filter: &'a PacketFilter,
    packets: impl Iterator<Item = &'a [u8]> + Clone + 'a,
) -> Column<'a> {
    let mut env = ExecEnv::new();
    let run = move || {
        let mut packet = Packet::new(&[]);
        let judge = |bytes| {
            packet.bytes = bytes;
            u64::from(filter.run(&packet, &mut env).expect("there is fuel for years"))
        };
        packets.clone().map(judge).sum()
    };
    Column { name, run: Box::new(run), comparable: true }
}

impl Fixture {
    fn program(&self) -> Result<Vec<SockFilter>, Error> {
        let Some(file) = self.file else {
            return Ok(text::parse(&format!("ret #{ACCEPT}"))?);
        };
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
            .join("../fixtures/classic")
            .join(file)
            .with_extension("dd");
        Ok(text::parse(&std::fs::read_to_string(path)?)?)
    }

    fn workload(&self, packets: &str) -> String {
        format!("{}, {packets}", self.name)
    }
}

/// The mail's numbers beside ours.
fn remember(report: &mut Report, fixture: &Fixture) {
    for (packets, numbers) in [("same", fixture.same), ("10k", fixture.many)] {
        let workload = fixture.workload(packets);
        report.cells.extend(MAIL.iter().zip(numbers).map(|(column, value)| Cell {
            workload: workload.clone(),
            column,
            value,
            unit: "ns",
        }));
    }
}

/// Branches that were not predicted, for each packet, where the system counts them.
fn branch_misses(report: &mut Report, workload: &mut Workload<'_>) {
    const ROUNDS: u64 = 10;
    for column in &mut workload.columns {
        let Ok(counter) = Counter::start(Event::BranchMisses) else { return };
        for _ in 0..ROUNDS {
            std::hint::black_box((column.run)());
        }
        let Ok(count) = counter.count() else { return };
        report.cells.push(Cell {
            workload: workload.name.clone(),
            column: column.name,
            value: count as f64 / (ROUNDS * workload.units_per_run) as f64,
            unit: "branch misses",
        });
    }
}

/// Converting, for each instruction of the filter.
fn converting(
    report: &mut Report,
    fixture: &Fixture,
    filter: &Filter,
    effort: Effort,
) -> Result<(), Error> {
    let options = Options::default();
    convert(filter, &options)?;
    let run = || convert(filter, &options).map_or(0, |converted| converted.program.len() as u64);
    let mut workload = Workload {
        name: fixture.workload("convert"),
        units_per_run: filter.insns().len() as u64,
        unit: "ns/insn",
        columns: vec![Column { name: CLASSIC, run: Box::new(run), comparable: true }],
    };
    report.cells.extend(measure(&mut workload, effort.finer()));
    Ok(())
}

/// The kernel's time is taken net of the empty filter, most of which is the test run itself; in the
/// claim, ours is too.
fn against_kernel(report: &Report) -> Option<f64> {
    let [empty, filters @ ..] = &FIXTURES;
    let net = |filter: &Fixture, column| {
        let overhead = report.value(&empty.workload("same"), column)?;
        Some((report.value(&filter.workload("same"), column)? - overhead).max(LEAST_NET))
    };
    let ratio = |filter| Some(net(filter, KERNEL)? / net(filter, JIT)?);
    Some(geomean(filters.iter().map(ratio).collect::<Option<Vec<_>>>()?))
}

fn claims(report: &mut Report) {
    let [_, filters @ ..] = &FIXTURES;
    let ratio = |over, under, packets| {
        let ratio = |filter: &Fixture| {
            let workload = filter.workload(packets);
            Some(report.value(&workload, over)? / report.value(&workload, under)?)
        };
        Some(geomean(filters.iter().map(ratio).collect::<Option<Vec<_>>>()?))
    };
    let ratios = [
        ("libpcap/jit-hit", ratio(LIBPCAP, JIT, "same"), 3.0),
        ("libpcap/jit-miss", ratio(LIBPCAP, JIT, "10k"), 3.0),
        ("kernel/jit-hit", against_kernel(report), 1.0),
        ("libpcap/interp-hit", ratio(LIBPCAP, INTERP, "same"), 1.0),
        ("libpcap/interp-miss", ratio(LIBPCAP, INTERP, "10k"), 1.0),
    ];
    for (name, value, goal) in ratios {
        match value {
            Some(value) => {
                report.claims.push(Claim { name, value, goal: Goal::AtLeast(goal) });
            }
            None => report.notes.push(format!("{name}: not measured")),
        }
    }
    let conversions = filters.iter().map(|filter| filter.workload("convert"));
    let slowest =
        conversions.filter_map(|workload| report.value(&workload, CLASSIC)).fold(0.0, f64::max);
    report.claims.push(Claim { name: "convert-ns", value: slowest, goal: Goal::AtMost(200.0) });
}

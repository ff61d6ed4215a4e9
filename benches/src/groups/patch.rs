//! Rewriting every instruction of a program into three, from 15,000 to a million instructions, in
//! nanoseconds an instruction.
//!
//! The floor is a copy of the result as the kernel's 8-byte slots. Memory is fresh on both sides
//! (`Group::fresh_memory`), so that a page that is written for the first time costs what it costs.

mod quadratic;

use std::collections::BTreeMap;
use std::fmt::Write;

use ebpf_runtime::isa::{
    CallTarget, CmpOp, Insn, LineTable, Operand, Pc, Program, RawInsn, Reg, SourceLine,
    SubprogInfo, Width,
};
use ebpf_runtime::patch::{Patch, Patched};

use super::GroupError;
use crate::harness::{Cell, Column, Effort, Workload, measure};
use crate::output::{Claim, Goal, Report};

/// Numbers of instructions, with the seconds that the mail of 2019 gives for the kernel's way.
const SIZES: [(u32, f64); 5] =
    [(15_000, 3.0), (45_000, 29.0), (95_000, 125.0), (195_000, 712.0), (1_000_000, 5100.0)];
/// The largest program that is patched the quadratic way.
const QUADRATIC_MOST: u32 = 45_000;
const MILLION: u32 = 1_000_000;

const KERNEL_2019: &str = "kernel 2019";
const UNIT: &str = "ns/insn";

pub(super) fn run(effort: Effort) -> Result<Report, GroupError> {
    patch(effort).map_err(GroupError::new("patch"))
}

fn patch(effort: Effort) -> Result<Report, Box<dyn std::error::Error>> {
    let mut report = Report::default();
    for (count, seconds) in SIZES {
        for kind in [Kind::Plain, Kind::Full] {
            let sites = Sites::new(kind, count)?;
            report.cells.extend(sites.measure(effort)?);
        }
        let workload = Kind::Plain.name(count);
        report.cells.push(Cell {
            workload: workload.clone(),
            column: KERNEL_2019,
            value: seconds * 1e9 / f64::from(count),
            unit: UNIT,
        });
        if count <= QUADRATIC_MOST && (count == SIZES[0].0 || effort == Effort::FULL) {
            report.cells.push(Sites::new(Kind::Plain, count)?.measure_quadratic(workload)?);
        }
    }
    let peak = Sites::new(Kind::Full, MILLION)?.peak()?;
    report.claims = claims(&report, peak);
    report.notes.push(plot(&report));
    Ok(report)
}

fn claims(report: &Report, peak: Option<f64>) -> Vec<Claim> {
    let ns =
        |kind: Kind, count, column| report.value(&kind.name(count), column).unwrap_or(f64::NAN);
    let (plain, full) = (Kind::Plain, Kind::Full);
    let claim = |name, value, most| Claim { name, value, goal: Goal::AtMost(most) };
    let million = ns(plain, MILLION, "patch");
    let mut claims = vec![
        claim("patch-1m/floor", million / ns(plain, MILLION, "fresh copy"), 6.0),
        claim(
            "patch-1m-full/floor",
            ns(full, MILLION, "patch") / ns(full, MILLION, "fresh copy"),
            10.0,
        ),
        claim("patch-1m/15k", million / ns(plain, SIZES[0].0, "patch"), 1.5),
        claim("patch-random/ordered", ns(plain, MILLION, "random") / million, 2.5),
    ];
    claims.extend(peak.map(|peak| claim("patch-peak/output", peak, 3.0)));
    claims
}

/// What a program has beside instructions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// A jump every eight instructions.
    Plain,
    /// Also subprograms of a thousand instructions, a line every four, and 32 bytes of the caller's
    /// data an instruction.
    Full,
}

impl Kind {
    fn name(self, count: u32) -> String {
        match self {
            Self::Plain => format!("{}k plain", count / 1000),
            Self::Full => format!("{}k full", count / 1000),
        }
    }
}

/// A program that is to be patched everywhere.
struct Sites {
    kind: Kind,
    program: Program,
    /// The caller's data.
    aux: Vec<[u64; 4]>,
    /// Every instruction with its position, in the order of the program and in another one.
    ordered: Vec<(Pc, Insn)>,
    shuffled: Vec<(Pc, Insn)>,
    /// What comes out, as slots.
    output: Vec<RawInsn>,
}

impl Sites {
    fn new(kind: Kind, count: u32) -> Result<Self, Box<dyn std::error::Error>> {
        let program = program(kind, count)?;
        let aux = match kind {
            Kind::Plain => Vec::new(),
            Kind::Full => (0..u64::from(count)).map(|pc| [pc; 4]).collect(),
        };
        let ordered: Vec<_> = program.insns().collect();
        let shuffled = shuffled(ordered.clone());
        let mut sites = Self { kind, program, aux, ordered, shuffled, output: Vec::new() };
        sites.output = sites.patched(false)?.program.to_slots()?;
        assert_eq!(sites.output.len(), 3 * count as usize);
        assert_eq!(sites.patched(true)?.program.to_slots()?, sites.output);
        Ok(sites)
    }

    /// Replaces each instruction by two others and itself.
    fn patched(&self, shuffled: bool) -> Result<Patched, Box<dyn std::error::Error>> {
        let mut patch = Patch::with_limit(&self.program, Program::MAX_SLOTS as u32);
        for &(pc, insn) in if shuffled { &self.shuffled } else { &self.ordered } {
            patch.replace(pc, [set(1), set(2), insn])?;
        }
        Ok(patch.linearize()?)
    }

    /// Patches, and looks up the caller's data of every line's first instruction.
    fn run(&self, shuffled: bool) -> u64 {
        let Ok(patched) = self.patched(shuffled) else { return 0 };
        let aux_of = |new: Pc| patched.map.origin(new).and_then(|old| self.aux.get(old.index()));
        let lines = patched.program.lines().entries();
        let aux: u64 = lines.iter().filter_map(|line| aux_of(line.pc)).map(|aux| aux[0]).sum();
        aux + u64::from(patched.program.len())
    }

    fn measure(&self, effort: Effort) -> Result<Vec<Cell>, Box<dyn std::error::Error>> {
        let mut warm = self.output.clone();
        let column = |name, comparable, run| Column { name, run, comparable };
        let mut workload = Workload {
            name: self.kind.name(self.program.len()),
            units_per_run: self.program.len().into(),
            unit: UNIT,
            columns: vec![
                column("fresh copy", false, Box::new(|| self.output.to_vec().len() as u64)),
                column(
                    "warm copy",
                    false,
                    Box::new(move || {
                        warm.copy_from_slice(&self.output);
                        warm.len() as u64
                    }),
                ),
                column("patch", true, Box::new(|| self.run(false))),
                column("random", true, Box::new(|| self.run(true))),
            ],
        };
        Ok(measure(&mut workload, effort))
    }

    /// One run the quadratic way: it takes seconds, so it is not worth while to take turns.
    fn measure_quadratic(&self, workload: String) -> Result<Cell, Box<dyn std::error::Error>> {
        let start = std::time::Instant::now();
        let slots = quadratic::patch(self.program.slots(), |insn| vec![set(1), set(2), insn]);
        let value = start.elapsed().as_nanos() as f64 / f64::from(self.program.len());
        let program = Program::new(slots, BTreeMap::new(), LineTable::new())?;
        assert_eq!(program.to_slots()?, self.output, "the quadratic way leads elsewhere");
        Ok(Cell { workload, column: "quadratic", value, unit: UNIT })
    }

    /// Memory that patching takes beside the input, over the size of the output in 8-byte slots;
    /// `None` where the system does not tell.
    fn peak(&self) -> Result<Option<f64>, Box<dyn std::error::Error>> {
        let Some(before) = resident_peak_from_now_on() else { return Ok(None) };
        let patched = self.patched(false)?;
        let after = resident_peak();
        drop(patched);
        let output = self.output.len() * size_of::<RawInsn>();
        Ok(after.map(|after| after.saturating_sub(before) as f64 / output as f64))
    }
}

/// Starts a new measurement of the most memory that the process has resident; gives what it has
/// now, in bytes. Linux only.
fn resident_peak_from_now_on() -> Option<u64> {
    std::fs::write("/proc/self/clear_refs", "5").ok()?;
    resident_peak()
}

/// The most bytes that the process had resident.
fn resident_peak() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().strip_suffix(" kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

fn set(value: i32) -> Insn {
    Insn::Mov { width: Width::W64, dst: Reg::R0, src: Operand::Imm(value) }
}

fn program(kind: Kind, count: u32) -> Result<Program, Box<dyn std::error::Error>> {
    let subprog_len = match kind {
        Kind::Plain => count,
        Kind::Full => 1000,
    };
    let mut insns = Vec::new();
    let (mut lines, mut infos) = (LineTable::new(), BTreeMap::new());
    for pc in 0..count {
        let start = pc - pc % subprog_len;
        let end = start + subprog_len;
        insns.push(Some(match pc - start {
            // Each subprogram calls the next one, or it would be none.
            0 if end < count => Insn::Call(CallTarget::Subprog(Pc(end))),
            _ if pc + 1 == end => Insn::Exit,
            inside if inside % 8 == 7 => Insn::Branch {
                op: CmpOp::Eq,
                width: Width::W64,
                lhs: Reg::R0,
                rhs: Operand::Imm(0),
                target: Pc((pc + 20).min(end - 1)),
            },
            _ => set(pc as i32),
        }));
        if kind == Kind::Full && pc % 4 == 0 {
            lines.push(Pc(pc), SourceLine { file: "a.c", text: "text", line: pc + 1, col: 1 });
        }
        if kind == Kind::Full && pc == start {
            infos.insert(Pc(pc), SubprogInfo { name: Some(format!("at_{pc}")), btf_id: Some(pc) });
        }
    }
    Ok(Program::new(insns, infos, lines)?)
}

/// The same in a random order, the same each time.
fn shuffled<T>(mut all: Vec<T>) -> Vec<T> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    for last in (1..all.len()).rev() {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        all.swap(last, (state % (last as u64 + 1)) as usize);
    }
    all
}

/// Total times on a logarithmic scale: a character is a quarter of a power of ten.
fn plot(report: &Report) -> String {
    let mut text = String::from("\ntotal time (each power of ten is four characters wide)\n");
    for (count, _) in SIZES {
        for column in [KERNEL_2019, "quadratic", "patch", "fresh copy"] {
            let Some(ns) = report.value(&Kind::Plain.name(count), column) else { continue };
            let seconds = ns * f64::from(count) / 1e9;
            let width = ((seconds.log10() + 6.0) * 4.0).round().max(1.0) as usize;
            let _ =
                writeln!(text, "{:>9} {column:<12} {} {seconds:.6} s", count, "#".repeat(width));
        }
    }
    text
}

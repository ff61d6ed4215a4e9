//! Interpreters: the benchmark programs, lowering, and the empty call.

use ebpf_runtime::flat::FlatEngine;
use ebpf_runtime::interp::Vm;

use super::run_time::{Times, add_claim};
use super::{GroupError, code};
use crate::harness::{Cell, Column, Effort, Workload, measure};
use crate::memory::Memory;
use crate::native::{Clang, Flavour, Native};
use crate::ours::{Checked, Trusted, links_for_lowering};
use crate::output::{Claim, Goal, Report};
use crate::peers::{self, Rbpf, Sbpf};
use crate::programs::{BenchProgram, EMPTY, PROGRAMS};

type Error = Box<dyn std::error::Error>;

/// Ours, unchecked; it always charges fuel.
const INTERP: &str = "interp";
/// Ours, checked.
const CHECKED: &str = "checked";
const RBPF: &str = "rbpf";
const SBPF: &str = "sbpf";
const O2: &str = "-O2";
const SCALAR: &str = "scalar";

pub(super) fn run(effort: Effort) -> Result<Report, GroupError> {
    report(effort).map_err(GroupError::new("interpreters"))
}

fn report(effort: Effort) -> Result<Report, Error> {
    let clang = Clang::find();
    let subjects =
        [EMPTY].into_iter().chain(PROGRAMS).map(Subject::new).collect::<Result<Vec<_>, _>>()?;
    let times = Times::measure(
        &subjects,
        |subject| subject.program,
        |subject| subject.columns(clang.as_ref().ok()),
        effort,
    )?;
    let mut report = Report { cells: times.cells.clone(), ..Report::default() };
    if let Err(error) = clang {
        report.notes.push(format!("native columns: not measured: {error}"));
    }
    let all = |_: &str| true;
    for (name, over, under, goal) in [
        ("interp/scalar", INTERP, SCALAR, Goal::AtMost(9.0)),
        ("rbpf/interp", RBPF, INTERP, Goal::AtLeast(8.0)),
        ("sbpf/interp", SBPF, INTERP, Goal::AtLeast(5.0)),
        ("rbpf/interp-checked", RBPF, CHECKED, Goal::AtLeast(6.0)),
    ] {
        add_claim(&mut report, times.ratio(over, under, all), name, goal);
    }
    if let Some(value) = times.gross(EMPTY.name, INTERP) {
        report.claims.push(Claim { name: "empty-call-ns", value, goal: Goal::AtMost(12.0) });
    }
    report.notes.push("fuel/interp: not measured: the interpreter always charges fuel".into());
    lowering(&mut report, effort)?;
    report.notes.push(times.plot(&[O2, SCALAR, INTERP, CHECKED, SBPF, RBPF], SCALAR));
    Ok(report)
}

/// A program with what columns borrow.
struct Subject {
    program: BenchProgram,
    trusted: Trusted,
    block: Vec<u8>,
    for_rbpf: Vec<u8>,
    for_sbpf: Vec<u8>,
}

impl Subject {
    fn new(program: BenchProgram) -> Result<Self, Error> {
        let flat = peers::with_length(&program.flat()?)?;
        Ok(Self {
            program,
            trusted: Trusted::new(&program)?,
            block: program.block(),
            for_rbpf: peers::bytes(&flat)?,
            for_sbpf: peers::bytes(&peers::zero_extended(&flat)?)?,
        })
    }

    fn columns(&self, clang: Option<&Clang>) -> Result<Vec<Column<'_>>, Error> {
        let column = |name, run| Column { name, run, comparable: true };
        let mut interp = self.trusted.interpreted()?;
        let mut checked = Checked::new(&self.program.flat()?, &self.block, FlatEngine::Interp)?;
        let mut rbpf = Rbpf::new(&self.for_rbpf, &self.block)?;
        let mut sbpf = Sbpf::new(&self.for_sbpf, &self.block)?;
        let mut columns = vec![
            column(INTERP, Box::new(move || interp.run())),
            column(CHECKED, Box::new(move || checked.run())),
            column(RBPF, Box::new(move || rbpf.interpret())),
            column(SBPF, Box::new(move || sbpf.interpret())),
        ];
        columns.extend(native_columns(&self.program, clang)?);
        Ok(columns)
    }
}

/// The two native columns, where there is a clang.
pub(super) fn native_columns<'a>(
    program: &BenchProgram,
    clang: Option<&Clang>,
) -> Result<Vec<Column<'a>>, Error> {
    let Some(clang) = clang else { return Ok(Vec::new()) };
    let column = |(name, flavour)| {
        let native = Native::new(clang, program, flavour)?;
        let mut memory = Memory::new(&program.block());
        Ok(Column { name, run: Box::new(move || native.run(&mut memory)), comparable: true })
    };
    [(O2, Flavour::O2), (SCALAR, Flavour::Scalar)].into_iter().map(column).collect()
}

/// Making a program ready to run, for each instruction of code of several lengths.
fn lowering(report: &mut Report, effort: Effort) -> Result<(), Error> {
    let mut worst: Option<f64> = None;
    for (name, slots) in code::SIZES {
        let program = code::of_length(slots)?;
        let links = links_for_lowering(&program);
        Vm::new(&program, None, &links)?;
        let lower = || Vm::new(&program, None, &links).map_or(0, |_| 1);
        let mut workload = Workload {
            name: format!("lower {name}"),
            units_per_run: program.insns().count() as u64,
            unit: "ns/insn",
            columns: vec![Column { name: INTERP, run: Box::new(lower), comparable: true }],
        };
        let cells = measure(&mut workload, effort);
        let most = cells.iter().map(|cell: &Cell| cell.value).fold(0.0, f64::max);
        worst = Some(worst.map_or(most, |worst| worst.max(most)));
        report.cells.extend(cells);
    }
    if let Some(value) = worst {
        report.claims.push(Claim { name: "lower-ns", value, goal: Goal::AtMost(60.0) });
    }
    Ok(())
}

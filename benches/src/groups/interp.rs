//! Interpreters: the benchmark programs, lowering, and the empty call.

use ebpf_runtime::flat::FlatEngine;
use ebpf_runtime::interp::{Options, Runs, Vm};

use super::run_time::{O2, SCALAR, Subject, Times, add_claim, native_columns};
use super::{GroupError, code};
use crate::harness::{Column, Effort, Workload, measure};
use crate::native::Clang;
use crate::ours::{Checked, links_for_lowering};
use crate::output::{Claim, Goal, Report};
use crate::peers::{Rbpf, Sbpf};
use crate::programs::EMPTY;

type Error = Box<dyn std::error::Error>;

/// Ours, unchecked and without fuel: verified programs end by themselves.
const INTERP: &str = "interp";
/// The same with fuel.
const FUEL: &str = "fuel";
/// Ours, checked and with fuel.
const CHECKED: &str = "checked";
const RBPF: &str = "rbpf";
const SBPF: &str = "sbpf";

pub(super) fn run(effort: Effort) -> Result<Report, GroupError> {
    report(effort).map_err(GroupError::new("interpreters"))
}

fn report(effort: Effort) -> Result<Report, Error> {
    let clang = Clang::find();
    let subjects = Subject::all()?;
    let times = Times::measure(&subjects, |subject| columns(subject, clang.as_ref().ok()), effort)?;
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
        ("fuel/interp", FUEL, INTERP, Goal::AtMost(1.06)),
    ] {
        add_claim(&mut report, times.ratio(over, under, all), name, goal);
    }
    if let Some(value) = times.gross(EMPTY.name, INTERP) {
        report.claims.push(Claim { name: "empty-call-ns", value, goal: Goal::AtMost(12.0) });
    }
    if let Some(subject) = subjects.first() {
        let dispatcher = subject.trusted.interpreted(&without_fuel())?.dispatcher();
        report.notes.push(format!("dispatcher of ours: {dispatcher:?}"));
    }
    lowering(&mut report, effort)?;
    report.notes.extend(times.plot(&[O2, SCALAR, INTERP, FUEL, CHECKED, SBPF, RBPF]));
    Ok(report)
}

/// The ways of interpreting a program.
fn columns<'a>(subject: &'a Subject, clang: Option<&Clang>) -> Result<Vec<Column<'a>>, Error> {
    let column = |name, run| Column { name, run, comparable: true };
    let Subject { program, trusted, block, for_rbpf, for_sbpf } = subject;
    let mut interp = trusted.interpreted(&without_fuel())?;
    let mut fuel = trusted.interpreted(&Options::default())?;
    let mut checked = Checked::new(&program.flat()?, block, FlatEngine::Interp)?;
    let mut rbpf = Rbpf::new(for_rbpf, block)?;
    let mut sbpf = Sbpf::new(for_sbpf, block)?;
    let mut columns = vec![
        column(INTERP, Box::new(move || interp.run())),
        column(FUEL, Box::new(move || fuel.run())),
        column(CHECKED, Box::new(move || checked.run())),
        column(RBPF, Box::new(move || rbpf.interpret())),
        column(SBPF, Box::new(move || sbpf.interpret())),
    ];
    columns.extend(native_columns(program, clang)?);
    Ok(columns)
}

fn without_fuel() -> Options {
    let mut options = Options::default();
    options.fuel = false;
    options
}

/// Making a verified program ready to run, for each instruction of code of several lengths.
fn lowering(report: &mut Report, effort: Effort) -> Result<(), Error> {
    let mut worst = 0.0_f64;
    for (name, slots) in code::SIZES {
        let program = code::of_length(slots)?;
        let links = links_for_lowering(&program);
        let mut options = Options::default();
        options.runs = Runs::Unchecked;
        Vm::with_options(&program, None, &links, &options)?;
        let lower = || u64::from(Vm::with_options(&program, None, &links, &options).is_ok());
        let mut workload = Workload {
            name: format!("lower {name}"),
            units_per_run: program.insns().count() as u64,
            unit: "ns/insn",
            columns: vec![Column { name: INTERP, run: Box::new(lower), comparable: true }],
        };
        let cells = measure(&mut workload, effort.finer());
        worst = cells.iter().map(|cell| cell.value).fold(worst, f64::max);
        report.cells.extend(cells);
    }
    report.claims.push(Claim { name: "lower-ns", value: worst, goal: Goal::AtMost(60.0) });
    Ok(())
}

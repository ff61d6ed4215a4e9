//! Compilers: the benchmark programs, compile time, code size, and the empty call.

use ebpf_runtime::flat::FlatEngine;
use ebpf_runtime::isa::Program;
use ebpf_runtime::jit::{self, Options};
use ebpf_runtime::pack::{Pack, PackOptions};

use super::run_time::{O2, SCALAR, Subject, Times, add_claim, native_columns};
use super::{GroupError, code};
use crate::harness::{Cell, Column, Effort, Workload, measure};
use crate::kernel::InKernel;
use crate::native::Clang;
use crate::ours::Checked;
use crate::output::{Claim, Goal, Report};
use crate::peers::{self, Rbpf, Sbpf};
use crate::programs::{CALLS, EMPTY};

type Error = Box<dyn std::error::Error>;

/// Ours, for verified programs.
const JIT: &str = "jit";
/// Ours, with fuel charged.
const FUEL: &str = "fuel";
/// Ours, with constants blinded.
const BLINDED: &str = "blinded";
/// Ours, with memory checked and fuel charged.
const CHECKED: &str = "checked";
const RBPF: &str = "rbpf";
const SBPF: &str = "sbpf";
/// The running kernel's.
const KERNEL: &str = "kernel";

/// Runs of a program in one test run of the kernel, so that the call of the kernel hardly counts.
const KERNEL_RUNS: u32 = 200;

/// Code lengths at which compiling is measured. rbpf's compiler writes into one page, which ends
/// before the second.
const COMPILED: [(&str, usize); 5] = {
    let [a, b, c, d] = code::SIZES;
    [("0.6k", 600), a, b, c, d]
};
const RBPF_SLOTS_MAX: usize = 600;

pub(super) fn run(effort: Effort) -> Result<Report, GroupError> {
    report(effort).map_err(GroupError::new("compilers"))
}

fn report(effort: Effort) -> Result<Report, Error> {
    let (clang, kernel) = (Clang::find(), InKernel::new(&EMPTY));
    let pack = Pack::new(PackOptions::default())?;
    let subjects = Subject::all()?;
    let mut times = Times::measure(
        &subjects,
        |subject| columns(subject, &pack, clang.as_ref().ok(), kernel.is_ok()),
        effort,
    )?;
    for cell in times.cells.iter_mut().filter(|cell| cell.column == KERNEL) {
        cell.value /= f64::from(KERNEL_RUNS);
    }
    let mut report = Report { cells: times.cells.clone(), ..Report::default() };
    if let Err(error) = clang {
        report.notes.push(format!("native columns: not measured: {error}"));
    }
    if let Err(error) = kernel {
        report.notes.push(format!("kernel: not measured: {error}"));
    }
    ratios(&mut report, &times);
    compiling(&mut report, effort)?;
    report.notes.extend(times.plot(&[O2, SCALAR, JIT, CHECKED, RBPF, KERNEL, SBPF]));
    Ok(report)
}

fn ratios(report: &mut Report, times: &Times) {
    let all = |_: &str| true;
    let without_calls = |name: &str| name != CALLS;
    let calls = |name: &str| name == CALLS;
    let mut add = |name, over, under, programs: &dyn Fn(&str) -> bool, goal| {
        add_claim(report, times.ratio(over, under, programs), name, goal);
    };
    add("jit/kernel", JIT, KERNEL, &without_calls, Goal::AtMost(1.0));
    add("jit/rbpf", JIT, RBPF, &without_calls, Goal::AtMost(1.0));
    add("jit/scalar", JIT, SCALAR, &all, Goal::AtMost(1.3));
    add("checked/jit", CHECKED, JIT, &all, Goal::AtMost(1.5));
    add("fuel/jit", FUEL, JIT, &all, Goal::AtMost(1.08));
    if untrained_returns() {
        add("kernel/calls", KERNEL, JIT, &calls, Goal::AtLeast(3.0));
    } else if let Some(ratio) = times.ratio(KERNEL, JIT, calls) {
        let value = ratio.geomean();
        let told = RETURNS.map(|name| format!("{name}: {}", mitigation(name))).join("; ");
        report.notes.push(format!(
            "kernel/calls: {value:.2}, no claim on this machine, as its kernel does not untrain the prediction of returns ({told})"
        ));
    }
    if let Some(value) = times.gross(EMPTY.name, JIT) {
        report.claims.push(Claim { name: "empty-call-ns", value, goal: Goal::AtMost(4.5) });
    }
}

/// Whether the kernel's compiler returns through a thunk that untrains the predictor of returns, so
/// that each return is mispredicted: the mitigations of Retbleed and of SRSO. (The aligned thunks
/// against ITS return as usual.)
fn untrained_returns() -> bool {
    mitigation("retbleed").contains("untrained return thunk")
        || mitigation("spec_rstack_overflow").contains("Safe RET")
}

/// What concerns returns in the kernel.
const RETURNS: [&str; 3] = ["retbleed", "spec_rstack_overflow", "indirect_target_selection"];

/// What the running kernel says it does about one of the processor's vulnerabilities.
fn mitigation(name: &str) -> String {
    let path = format!("/sys/devices/system/cpu/vulnerabilities/{name}");
    std::fs::read_to_string(path).map_or("not told".into(), |told| told.trim().into())
}

/// The ways of running a compiled program.
fn columns<'a>(
    subject: &'a Subject,
    pack: &Pack,
    clang: Option<&Clang>,
    kernel: bool,
) -> Result<Vec<Column<'a>>, Error> {
    let column = |name, run| Column { name, run, comparable: true };
    let Subject { program, trusted, block, for_rbpf, for_sbpf } = subject;
    let mut jit = trusted.compiled(&Options::default(), pack)?;
    let mut fuelled = trusted.compiled(&Options::default().with_fuel(true), pack)?;
    let mut blinded = trusted.compiled(&Options::default().with_blinding([1, 2]), pack)?;
    let mut checked = Checked::new(&program.flat()?, block, FlatEngine::Jit(pack))?;
    let mut rbpf = Rbpf::compiled(for_rbpf, block)?;
    let mut sbpf = Sbpf::compiled(for_sbpf, block)?;
    let mut columns = vec![
        column(JIT, Box::new(move || jit.run())),
        column(FUEL, Box::new(move || fuelled.run())),
        column(BLINDED, Box::new(move || blinded.run())),
        column(CHECKED, Box::new(move || checked.run())),
        column(RBPF, Box::new(move || rbpf.run_compiled())),
        column(SBPF, Box::new(move || sbpf.run_compiled())),
    ];
    if kernel {
        let loaded = InKernel::new(program)?;
        columns.push(column(KERNEL, Box::new(move || loaded.run(KERNEL_RUNS))));
    }
    columns.extend(native_columns(program, clang)?);
    Ok(columns)
}

/// From program to machine code, for each instruction of code of several lengths.
fn compiling(report: &mut Report, effort: Effort) -> Result<(), Error> {
    let options = Options::default();
    for (name, slots) in COMPILED {
        let program = code::of_length(slots)?;
        let insns = program.insns().count() as u64;
        let bytes = peers::bytes(&peers::without_atomics(&program)?)?;
        let mut workload = Workload {
            name: format!("compile {name}"),
            units_per_run: insns,
            unit: "ns/insn",
            columns: compilers(&program, &bytes, &options)?,
        };
        report.cells.extend(measure(&mut workload, effort.finer()));
        drop(workload);
        let image = jit::compile(&program, None, &options)?;
        report.cells.push(Cell {
            workload: format!("size {name}"),
            column: JIT,
            value: image.code().len() as f64 / insns as f64,
            unit: "bytes/insn",
        });
    }
    report.notes.push(format!(
        "compiling by rbpf is measured up to {RBPF_SLOTS_MAX} slots: its compiler has one page for the code"
    ));
    report
        .notes
        .push("code size of rbpf and solana-sbpf: not measured: they do not tell it".into());
    let value = |workload, report: &Report| report.value(workload, JIT);
    let (Some(long), Some(short), Some(size)) =
        (value("compile 1M", report), value("compile 10k", report), value("size 1M", report))
    else {
        return Ok(());
    };
    report.claims.extend([
        Claim { name: "compile-ns-1m", value: long, goal: Goal::AtMost(40.0) },
        Claim { name: "compile-1m/10k", value: long / short, goal: Goal::AtMost(1.3) },
        Claim { name: "bytes-per-insn", value: size, goal: Goal::AtMost(5.2) },
    ]);
    Ok(())
}

fn compilers<'a>(
    program: &'a Program,
    bytes: &'a [u8],
    options: &'a Options,
) -> Result<Vec<Column<'a>>, Error> {
    let column = |name, run| Column { name, run, comparable: false };
    let ours = || jit::compile(program, None, options).map_or(0, |image| image.code().len() as u64);
    let sbpf = peers::sbpf_executable(bytes)?;
    sbpf.jit_compile().map_err(|error| error.to_string())?;
    let sbpf = move || u64::from(sbpf.jit_compile().is_ok());
    let mut columns = vec![column(JIT, Box::new(ours)), column(SBPF, Box::new(sbpf))];
    if bytes.len() <= RBPF_SLOTS_MAX * 8 {
        let mut vm = peers::rbpf_for_compiling(program, bytes)?;
        vm.jit_compile()?;
        columns.push(column(RBPF, Box::new(move || u64::from(vm.jit_compile().is_ok()))));
    }
    Ok(columns)
}

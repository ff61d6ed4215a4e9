//! What a call at every exit costs when the program runs: a kernel function called by the epilogue, and the
//! same function called by the program itself, compiled.

#![allow(unsafe_code, reason = "the function and its program type are vouched for")]

use std::sync::Arc;

use ebpf_runtime::host::HostProgram;
use ebpf_runtime::isa::abi::ExecEnv;
use ebpf_runtime::isa::text::assemble;
use ebpf_runtime::isa::{Insn, Operand, Reg, Width};
use ebpf_runtime::kfuncs::{NativeModule, NativeModules};
use ebpf_runtime::verifier::{
    ContextAccessInsn, HookCode, HostField, KfuncProto, ModuleTable, Options, RewriteError,
    RewriteHooks, program_types,
};
use ebpf_runtime::{Bindings, Engine, ProgramKind, Runtime};

use super::Error;
use crate::harness::{Column, Effort, Workload, measure};
use crate::output::{Claim, Goal, Report};

const MODULE: &str = "bench";
const FUNCTION: &str = "bench_check";
/// Runs of a column's turn.
const RUNS: u64 = 1000;

const EMPTY: &str = "no call";
const DIRECT: &str = "direct call";
const EPILOGUE: &str = "epilogue";

pub(super) fn measure_into(report: &mut Report, effort: Effort) -> Result<(), Error> {
    let (runtime, table) = runtime()?;
    let function =
        format!("call kfunc#{FUNCTION_ID} module#{}\nr0 = 1\nexit", first_index(&table)?);
    let load = |asm: &str, hooks: Hooks| -> Result<HostProgram<u64>, Error> {
        // SAFETY: programs look at nothing of their context, and hooks hand over nothing.
        let kind = unsafe { ProgramKind::of_host::<u64>(program_types::xdp(), Arc::new(hooks)) };
        let bindings = Bindings { modules: table.clone(), ..Bindings::new(kind) };
        let loaded = runtime.load(&assemble(asm)?, bindings, &Options::default(), Engine::Jit)?;
        HostProgram::new(loaded).map_err(|_| "another context".into())
    };
    let columns = [
        (EMPTY, load("r0 = 1\nexit", Hooks { calls: false })?),
        (DIRECT, load(&function, Hooks { calls: false })?),
        (EPILOGUE, load("r0 = 1\nexit", Hooks { calls: true })?),
    ];
    let columns = columns.map(|(name, program)| {
        let mut env = ExecEnv::new();
        let runs = move || (0..RUNS).map(|_| program.run(&mut 0, &mut env).unwrap_or(0)).sum();
        Column { name, run: Box::new(runs), comparable: true }
    });
    let (workload, columns) = ("a run".to_string(), columns.into());
    let mut workload = Workload { name: workload, units_per_run: RUNS, unit: "ns", columns };
    report.cells.extend(measure(&mut workload, effort.finer()));
    let ns = |column| report.value(&workload.name, column).unwrap_or(f64::NAN);
    let value = ns(EPILOGUE) - ns(DIRECT);
    report.claims.push(Claim { name: "epilogue-ns", value, goal: Goal::AtMost(2.0) });
    Ok(())
}

const FUNCTION_ID: u32 = 1;

/// A runtime with the function, and the table of a program that calls it.
fn runtime() -> Result<(Runtime, ModuleTable), Error> {
    let proto = KfuncProto::new(FUNCTION_ID, FUNCTION);
    // SAFETY: it takes nothing and gives a number.
    let module = unsafe { NativeModule::new(MODULE, [(proto, check as _)]) }?;
    let mut modules = NativeModules::new();
    modules.register(module)?;
    let runtime = Runtime::new()?.with_modules(modules);
    let mut table = ModuleTable::new();
    table.call(runtime.modules(), MODULE, FUNCTION)?;
    Ok((runtime, table))
}

fn first_index(table: &ModuleTable) -> Result<i16, Error> {
    table.iter().next().map(|(index, _)| index).ok_or_else(|| "no module".into())
}

unsafe extern "sysv64" fn check(_: u64, _: u64, _: u64, _: u64, _: u64, _: *mut ExecEnv) -> u64 {
    0
}

/// An epilogue that calls the function, or none.
struct Hooks {
    calls: bool,
}

impl RewriteHooks for Hooks {
    fn context_field(&self, access: &ContextAccessInsn) -> Result<HostField, RewriteError> {
        Err(access.unsupported())
    }

    fn gen_epilogue(&self, code: &mut HookCode<'_>) {
        if self.calls {
            let mov = |dst, src| Insn::Mov { width: Width::W64, dst, src: Operand::Reg(src) };
            code.push(mov(Reg::R6, Reg::R0));
            code.call_kfunc(MODULE, FUNCTION);
            code.push(mov(Reg::R0, Reg::R6));
        }
    }
}

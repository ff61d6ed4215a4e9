//! From object file to placed code, stage by stage, in microseconds.

use ebpf_runtime::object::Object;
use ebpf_runtime::verifier::{KernelProfile, Options, verify};
use ebpf_runtime::{Engine, Runtime, jit, open};

use super::{FIREWALL, GroupError, firewall};
use crate::harness::{Column, Effort, Workload, measure};
use crate::output::Report;

pub(super) fn run(effort: Effort) -> Result<Report, GroupError> {
    stages(effort).map_err(GroupError::new(FIREWALL))
}

fn stages(effort: Effort) -> Result<Report, Box<dyn std::error::Error>> {
    let bytes = firewall()?;
    let object = Object::parse(&bytes)?;
    let linked = object.program(FIREWALL)?;
    let bindings = open::bindings(&object, &linked, &KernelProfile::default())?;
    let environment = bindings.environment();
    let options = Options::default();
    let runtime = Runtime::new()?;
    let load = |engine| runtime.load(&linked.program, bindings.clone(), &options, engine);
    let loaded = load(Engine::Jit)?;
    let (verified, rewritten) = (loaded.verified(), loaded.rewritten());
    let hooks = bindings.kind.hooks();
    let column = |name, run| Column { name, run, comparable: false };
    let mut workload = Workload {
        name: FIREWALL.into(),
        units_per_run: 1000,
        unit: "µs",
        columns: vec![
            column(
                "parse",
                Box::new(|| Object::parse(&bytes).map_or(0, |o| o.maps().len() as u64)),
            ),
            column(
                "link",
                Box::new(|| object.program(FIREWALL).map_or(0, |p| p.program.len().into())),
            ),
            column(
                "verify",
                Box::new(|| {
                    verify(&linked.program, &environment, &options)
                        .map_or(0, |verified| verified.stats().processed.into())
                }),
            ),
            column(
                "rewrite",
                Box::new(|| verified.rewrite(hooks).map_or(0, |r| r.program.len().into())),
            ),
            column(
                "compile",
                Box::new(|| {
                    jit::compile(&rewritten.program, Some(&rewritten.facts), &Default::default())
                        .map_or(0, |image| image.code().len() as u64)
                }),
            ),
            column("load jit", Box::new(|| load(Engine::Jit).map_or(0, |_| 1))),
            column("load interp", Box::new(|| load(Engine::Interp).map_or(0, |_| 1))),
        ],
    };
    Ok(measure(&mut workload, effort).into())
}

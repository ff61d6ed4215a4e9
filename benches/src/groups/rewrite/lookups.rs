//! What inlining saves of a lookup in an array when the program runs, compiled.

use std::sync::Arc;

use ebpf_runtime::isa::abi::ExecEnv;
use ebpf_runtime::isa::text::assemble;
use ebpf_runtime::isa::uapi::{MapDesc, MapType};
use ebpf_runtime::maps::{Map, UpdateMode};
use ebpf_runtime::verifier::Options;
use ebpf_runtime::xdp::{self, Ingress, XdpProgram};
use ebpf_runtime::{Bindings, Engine, Runtime};

use super::Error;
use crate::harness::{Cell, Column, Effort, Workload, measure};

/// Lookups in a run of the program.
const LOOKUPS: u32 = 64;
/// Runs of a column's turn.
const RUNS: u64 = 100;

const CALLED: &str = "called";
const INLINED: &str = "inlined";

/// Nanoseconds for a lookup of a number that the verifier does not know, and a load of the value.
pub(super) fn measured(effort: Effort) -> Result<Vec<Cell>, Error> {
    let map = map()?;
    let column = |name, runtime: Runtime| -> Result<Column<'_>, Error> {
        let maps = vec![Arc::clone(&map)];
        let bindings = Bindings { maps, ..Bindings::new(xdp::kind()) };
        let program = assemble(&asm())?;
        let loaded = runtime.load(&program, bindings, &Options::default(), Engine::Jit)?;
        let program = XdpProgram::new(loaded).map_err(|_| "another context")?;
        let (mut packet, mut env) = ([0; 64], ExecEnv::new());
        let mut run = move || program.run(&mut packet, Ingress::default(), &mut env);
        let runs = move || (0..RUNS).map(|_| run().map_or(0, |action| u64::from(action.0))).sum();
        Ok(Column { name, run: Box::new(runs), comparable: true })
    };
    let columns = vec![
        column(CALLED, Runtime::new()?.without_inlined_lookups())?,
        column(INLINED, Runtime::new()?)?,
    ];
    let (name, units_per_run) = ("a lookup".into(), RUNS * u64::from(LOOKUPS));
    let mut workload = Workload { name, units_per_run, unit: "ns", columns };
    Ok(measure(&mut workload, effort.finer()))
}

/// An array of numbers.
fn map() -> Result<Arc<Map>, Error> {
    let (map_type, max_entries) = (MapType::Array, LOOKUPS);
    let desc = MapDesc { map_type, key_size: 4, value_size: 8, max_entries, flags: 0 };
    let map = Map::new("numbers", desc)?;
    for index in 0..LOOKUPS {
        map.update(&index.to_le_bytes(), &u64::from(index).to_le_bytes(), UpdateMode::Any)?;
    }
    Ok(Arc::new(map))
}

/// Adds up the numbers, from that of the interface on, which is 0 here.
fn asm() -> String {
    let lookup = "*(u32 *)(r10 -4) = r7\nr7 += 1\nr2 = r10\nr2 += -4\nr1 = map[0] ll\n\
                  call bpf_map_lookup_elem#1\nif r0 == 0 goto out\nr0 = *(u64 *)(r0 +0)\nr6 += r0\n";
    let lookups = lookup.repeat(LOOKUPS as usize);
    format!("r6 = 0\nr7 = *(u32 *)(r1 +12)\n{lookups}out:\nr0 = r6\nexit")
}

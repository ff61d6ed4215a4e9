//! Programs that a verifier accepts, run: both engines return what `fixtures/run` says, which Linux returns,
//! too (`kernel_fixtures`).

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::sync::Arc;

use ebpf_runtime::isa::abi::ExecEnv;
use ebpf_runtime::maps::{Map, UpdateMode};
use ebpf_runtime::verifier::Options;
use ebpf_runtime::xdp::{HEADROOM, Ingress, TAILROOM, XdpAction, XdpProgram};
use ebpf_runtime::{Bindings, Blinding, Compiler, Engine, Runtime, xdp};
use ebpf_testkit::{Fixture, RunResult, for_each_fixture};

#[path = "../../ebpf-verifier/tests/support/mod.rs"]
mod support;

use support::{Subject, packet_of};

#[test]
fn programs_return_what_fixtures_say_on_every_engine() {
    let compilers = [
        Compiler::default(),
        Compiler {
            fuel: true,
            blinding: Blinding::On,
            frame_pointers: true,
            ..Compiler::default()
        },
    ];
    let runtimes = compilers.map(|compiler| Runtime::new().unwrap().with_compiler(compiler));
    for_each_fixture("run", |fixture| {
        let Some(&RunResult::Value(expected)) = fixture.result() else {
            return Err("no result".into());
        };
        for runtime in &runtimes {
            for engine in [Engine::Interp, Engine::Jit] {
                let result = run(fixture, runtime, engine)?;
                if u64::from(result.0) != expected {
                    return Err(format!("{} gives {}", engine.name(), result.0));
                }
            }
        }
        Ok(())
    });
}

fn run(fixture: &Fixture, runtime: &Runtime, engine: Engine) -> Result<XdpAction, String> {
    let subject = Subject::of(fixture)?;
    let program = subject.program.clone();
    let loaded = runtime.load(&program, bindings(subject)?, &Options::default(), engine);
    let program = XdpProgram::new(loaded.map_err(|error| error.to_string())?).unwrap();
    let packet = packet_of(fixture);
    let mut place = HEADROOM..HEADROOM + packet.len();
    let mut room = [vec![0; HEADROOM], packet, vec![0xff; TAILROOM]].concat();
    let (ingress, mut env) = (Ingress::default(), ExecEnv::new());
    let result = program.run_in_room(&mut room, &mut place, ingress, &mut env);
    result.map_err(|trap| trap.to_string())
}

fn bindings(subject: Subject) -> Result<Bindings, String> {
    let Subject { env, held, .. } = subject;
    let is_inner = |index: usize| {
        env.maps.iter().any(|map| map.inner.is_some_and(|inner| inner.index() == index))
    };
    let own = env.maps.iter().enumerate().filter(|&(index, _)| !is_inner(index));
    let mut maps = Vec::new();
    for (index, info) in own {
        let inner = info.inner.map(|inner| env.maps[inner.index()].desc);
        let map = match inner {
            Some(inner) => Map::of_maps("", info.desc, inner),
            None => Map::with_cpus("", info.desc, 2),
        };
        let map = map.map_err(|error| error.to_string())?;
        for (_, key) in held.iter().filter(|(outer, _)| *outer == index) {
            let inner = Arc::new(Map::new("", inner.unwrap()).unwrap());
            map.put(&key.to_ne_bytes(), inner, UpdateMode::Any).unwrap();
        }
        maps.push(Arc::new(map));
    }
    let bindings = Bindings::new(xdp::kind());
    Ok(Bindings { maps, btf: env.btf, gpl_compatible: env.license_gpl, ..bindings })
}

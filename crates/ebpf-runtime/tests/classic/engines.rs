//! What runs converted filters.

use std::sync::{Arc, LazyLock};

use ebpf_runtime::classic::{Converted, Filter, Options, Packet, Returns, Target, convert};
use ebpf_runtime::filter::{FilterError, PacketFilter};
use ebpf_runtime::isa::Program;
use ebpf_runtime::isa::abi::ExecEnv;
use ebpf_runtime::verifier::{self, Environment, verify};
use ebpf_runtime::{Engine, Runtime};

pub(crate) static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Runtime::new().unwrap());

/// What filters of packets are converted to.
pub(crate) const TARGETS: [Target; 4] =
    [Target::SchedCls, Target::Xdp, Target::SocketFilter, Target::Flat];

/// Converts for a target, where the filter's value is returned.
pub(crate) fn converted(filter: &Filter, target: Target) -> Converted {
    convert(filter, &Options { target, returns: Returns::Value }).unwrap()
}

/// The filter on every engine, for every kind of program that can run it.
pub(crate) struct Engines {
    filter: Filter,
    judges: Vec<(String, PacketFilter)>,
}

impl Engines {
    pub(crate) fn new(filter: &Filter) -> Self {
        Self::of(filter, &TARGETS)
    }

    /// For these kinds of programs alone. Socket filters are left out where they count from headers.
    pub(crate) fn of(filter: &Filter, targets: &[Target]) -> Self {
        let mut judges = Vec::new();
        for &target in targets {
            for engine in [Engine::Interp, Engine::Jit] {
                match PacketFilter::load(&RUNTIME, filter, target, engine) {
                    Ok(judge) => judges.push((format!("{target}, {}", engine.name()), judge)),
                    Err(FilterError::Header { .. }) => {}
                    Err(error) => {
                        panic!(
                            "{target}: {error}\n{}",
                            converted(filter, target).program.listing()
                        );
                    }
                }
            }
        }
        Self { filter: filter.clone(), judges }
    }

    /// Asserts that every engine says what the classic interpreter says, which is given back.
    pub(crate) fn assert_agree(&self, bytes: &[u8]) -> u32 {
        self.assert_agree_on(&Packet::new(bytes))
    }

    pub(crate) fn assert_agree_on(&self, packet: &Packet<'_>) -> u32 {
        let expected = self.filter.run(packet);
        for (name, judge) in &self.judges {
            let value = judge.run(packet, &mut ExecEnv::new());
            assert_eq!(value, Ok(expected), "{name}, {} bytes", packet.bytes.len());
        }
        expected
    }
}

/// Programs verified by an environment of their own.
pub(crate) fn accepted(program: &Program, rules: Arc<dyn verifier::ProgramTypeRules>) {
    let verified = verify(program, &Environment::new(rules), &verifier::Options::default());
    verified.unwrap_or_else(|error| panic!("{error}\n{}", program.listing()));
}

//! The firewall fixture, loaded as clang made it, on both engines.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;

use ebpf_runtime::isa::abi::ExecEnv;
use ebpf_runtime::maps::{Map, UpdateMode};
use ebpf_runtime::object::Object;
use ebpf_runtime::verifier::{ErrorCode, KernelProfile, Options};
use ebpf_runtime::xdp::{Ingress, XdpAction, XdpProgram};
use ebpf_runtime::{Blinding, Compiler, Engine, LoadError, Loaded, Runtime, open};
use ebpf_testkit::{Rng, fixtures_dir};

fn load(name: &str, engine: Engine) -> Result<Loaded, LoadError> {
    let bytes = std::fs::read(fixtures_dir().join(format!("xdp/{name}.o"))).unwrap();
    let object = Object::parse(&bytes).unwrap();
    let linked = object.program(name).unwrap();
    let bindings = open::bindings(&object, &linked, &KernelProfile::default()).unwrap();
    Runtime::new().unwrap().load(&linked.program, bindings, &Options::default(), engine)
}

struct Firewall(XdpProgram);

impl Firewall {
    fn new(engine: Engine) -> Self {
        Self(XdpProgram::new(load("xdp_firewall", engine).unwrap()).unwrap())
    }

    fn map(&self, name: &str) -> &Arc<Map> {
        let maps = &self.0.loaded().bindings().maps;
        maps.iter().find(|map| map.name() == name).unwrap()
    }

    fn run(&self, packet: &[u8]) -> (XdpAction, Vec<u8>) {
        let mut packet = packet.to_vec();
        let ingress = Ingress { ifindex: 1, rx_queue: 2 };
        let action = self.0.run(&mut packet, ingress, &mut ExecEnv::new()).unwrap();
        (action, packet)
    }

    /// The elements of all maps, as text.
    fn contents(&self) -> String {
        let maps = &self.0.loaded().bindings().maps;
        maps.iter().map(|map| format!("{}: {:?}\n", map.name(), map.elements())).collect()
    }
}

/// Ethernet, IPv4 without options, UDP.
fn udp(source: [u8; 4], port: u16) -> Vec<u8> {
    let mut packet = vec![0x11; 6];
    packet.extend([0x22; 6]);
    packet.extend([0x08, 0x00]);
    packet.extend([0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0]);
    packet.extend(source);
    packet.extend([192, 0, 2, 1]);
    packet.extend([0x12, 0x34]);
    packet.extend(port.to_be_bytes());
    packet.extend([0, 8, 0, 0]);
    packet
}

const ENGINES: [Engine; 2] = [Engine::Interp, Engine::Jit];

#[test]
fn packets_are_judged() {
    for engine in ENGINES {
        let firewall = Firewall::new(engine);
        let blocked = [198, 51, 100, 7];
        firewall.map("blocklist").update(&blocked, &[0; 8], UpdateMode::Any).unwrap();
        assert_eq!(firewall.run(&udp([10, 0, 0, 1], 53)).0, XdpAction::PASS);
        assert_eq!(firewall.run(&udp([10, 0, 0, 1], 23)).0, XdpAction::DROP, "blocked port");
        assert_eq!(firewall.run(&udp(blocked, 53)).0, XdpAction::DROP, "blocked source");
        assert_eq!(firewall.run(&udp([10, 0, 0, 1], 53)[..20]).0, XdpAction::DROP, "truncated");
        assert_eq!(firewall.run(&[]).0, XdpAction::DROP, "empty");

        let hits = firewall.map("blocklist").lookup(&blocked).unwrap();
        assert_eq!(hits, Some(1_u64.to_le_bytes().to_vec()));
        let drops = firewall.map("actions").lookup(&1_u32.to_le_bytes()).unwrap();
        assert_eq!(drops, Some(4_u64.to_le_bytes().to_vec()));
    }
}

#[test]
fn an_echo_request_is_turned_round() {
    for engine in ENGINES {
        let request = udp([10, 0, 0, 1], 7);
        let (action, reply) = Firewall::new(engine).run(&request);
        assert_eq!(action, XdpAction::TX);
        assert_eq!((&reply[..6], &reply[6..12]), (&request[6..12], &request[..6]));
        assert_eq!((&reply[26..30], &reply[30..34]), (&[192, 0, 2, 1][..], &[10, 0, 0, 1][..]));
        assert_eq!(reply[34..38], [0, 7, 0x12, 0x34]);
    }
}

/// The queue of the context is the first field of a flow's key.
#[test]
fn the_context_reaches_the_program() {
    for engine in ENGINES {
        let firewall = Firewall::new(engine);
        firewall.run(&udp([10, 0, 0, 1], 53));
        let flows = firewall.map("flows").elements();
        assert_eq!(flows, [(vec![2, 0, 0, 0, 53, 0, 17, 4], 1_u64.to_le_bytes().to_vec())]);
    }
}

#[test]
fn both_engines_do_the_same_with_anything() {
    let [interp, jit] = ENGINES.map(Firewall::new);
    let mut rng = Rng::seed(1);
    for _ in 0..20_000 {
        let port = rng.range(0..40) as u16;
        let mut packet = udp([10, 0, 0, rng.range(0..4) as u8], port);
        for _ in 0..rng.range(0..4) {
            let at = rng.range(0..packet.len() as u64) as usize;
            packet[at] = rng.next_u64() as u8;
        }
        packet.truncate(rng.range(0..packet.len() as u64 * 2) as usize);
        assert_eq!(interp.run(&packet), jit.run(&packet), "{packet:02x?}");
    }
    assert_eq!(interp.contents(), jit.contents());
}

#[test]
fn a_program_can_run_on_many_threads() {
    for engine in ENGINES {
        let firewall = Firewall::new(engine);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..1000 {
                        assert_eq!(firewall.run(&udp([10, 0, 0, 1], 53)).0, XdpAction::PASS);
                    }
                });
            }
        });
        let passed = firewall.map("actions").lookup(&2_u32.to_le_bytes()).unwrap();
        assert_eq!(passed, Some(4000_u64.to_le_bytes().to_vec()));
    }
}

#[test]
fn a_missing_bounds_check_is_found_at_its_line() {
    let Err(LoadError::Rejected(rejection)) = load("xdp_missing_check", Engine::Jit) else {
        panic!("accepted");
    };
    assert_eq!(rejection.code, ErrorCode::PacketBounds);
    assert_eq!(rejection.errno, 13);
    let line = rejection.line.as_ref().unwrap();
    assert_eq!(line.file, "./fixtures/xdp/xdp_missing_check.c");
    assert_eq!(line.text, "return udp->source == bpf_htons(DNS_PORT);");
    // What Linux 6.18 says, in two lines.
    assert_eq!(rejection.message, "R2 offset is outside of the packet");
    assert_eq!(
        rejection.detail.as_deref(),
        Some("invalid access to packet, off=34 size=2, R2(id=0,off=34,r=34)")
    );
}

fn assert_shared<T: Send + Sync>() {}

#[test]
fn what_is_loaded_can_be_shared() {
    assert_shared::<Loaded>();
    assert_shared::<XdpProgram>();
    assert_shared::<Map>();
    assert_shared::<Runtime>();
}

#[test]
fn every_way_to_compile_gives_the_same_verdicts() {
    let bytes = std::fs::read(fixtures_dir().join("xdp/xdp_firewall.o")).unwrap();
    let object = Object::parse(&bytes).unwrap();
    let linked = object.program("xdp_firewall").unwrap();
    let compilers = [false, true].into_iter().flat_map(|fuel| {
        [false, true].into_iter().flat_map(move |frame_pointers| {
            [Blinding::Off, Blinding::On].map(move |blinding| Compiler {
                fuel,
                frame_pointers,
                blinding,
                ..Compiler::default()
            })
        })
    });
    for compiler in compilers {
        let bindings = open::bindings(&object, &linked, &KernelProfile::default()).unwrap();
        let runtime = Runtime::new().unwrap().with_compiler(compiler);
        let loaded = runtime.load(&linked.program, bindings, &Options::default(), Engine::Jit);
        let compiled = Firewall(XdpProgram::new(loaded.unwrap()).unwrap());
        let model = Firewall::new(Engine::Interp);
        let mut rng = Rng::seed(7);
        for _ in 0..200 {
            let mut packet = udp([198, 51, 100, rng.range(0..8) as u8], rng.range(0..64) as u16);
            packet.truncate(rng.range(0..packet.len() as u64 + 20) as usize);
            assert_eq!(compiled.run(&packet), model.run(&packet), "{compiler:?}");
        }
        assert_eq!(compiled.contents(), model.contents(), "{compiler:?}");
    }
}

#[test]
fn the_functions_of_compiled_programs_are_listed_for_perf() {
    let bytes = std::fs::read(fixtures_dir().join("xdp/xdp_firewall.o")).unwrap();
    let object = Object::parse(&bytes).unwrap();
    let linked = object.program("xdp_firewall").unwrap();
    let bindings = open::bindings(&object, &linked, &KernelProfile::default()).unwrap();
    let compiler = Compiler { perf_map: true, ..Compiler::default() };
    let runtime = Runtime::new().unwrap().with_compiler(compiler);
    let loaded = runtime.load(&linked.program, bindings, &Options::default(), Engine::Jit).unwrap();
    let path = format!("/tmp/perf-{}.map", std::process::id());
    let lines = std::fs::read_to_string(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    let code = loaded.machine_code().unwrap();
    let start = format!("{:x} ", code.addresses.start);
    assert!(lines.lines().any(|line| line.starts_with(&start) && line.ends_with(" xdp_firewall")));
    assert_eq!(lines.lines().count(), code.image.entries().len());
}

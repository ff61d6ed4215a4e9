//! Callbacks and maps of maps as clang compiles them, and a host that changes maps meanwhile.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ebpf_runtime::isa::abi::ExecEnv;
use ebpf_runtime::maps::{Map, UpdateMode};
use ebpf_runtime::object::Object;
use ebpf_runtime::verifier::{KernelProfile, Options};
use ebpf_runtime::xdp::{Ingress, XdpAction, XdpProgram};
use ebpf_runtime::{Engine, Runtime, open};
use ebpf_testkit::fixtures_dir;

const ENGINES: [Engine; 2] = [Engine::Interp, Engine::Jit];
const PORT: u16 = 53;

struct Tenants(XdpProgram);

impl Tenants {
    fn new(engine: Engine) -> Self {
        let bytes = std::fs::read(fixtures_dir().join("xdp/xdp_callbacks.o")).unwrap();
        let object = Object::parse(&bytes).unwrap();
        let linked = object.program("xdp_callbacks").unwrap();
        let bindings = open::bindings(&object, &linked, &KernelProfile::default()).unwrap();
        let runtime = Runtime::new().unwrap();
        let loaded = runtime.load(&linked.program, bindings, &Options::default(), engine);
        Self(XdpProgram::new(loaded.unwrap()).unwrap())
    }

    fn map(&self, name: &str) -> Arc<Map> {
        let maps = &self.0.loaded().bindings().maps;
        Arc::clone(maps.iter().find(|map| map.name() == name).unwrap())
    }

    fn inner(&self, index: usize) -> Arc<Map> {
        Arc::clone(&self.map("tenants").inner_maps()[index].1)
    }

    fn run(&self, packet: &[u8]) -> XdpAction {
        let mut packet = packet.to_vec();
        self.0.run(&mut packet, Ingress::default(), &mut ExecEnv::new()).unwrap()
    }
}

/// Ethernet with so many VLAN tags, IPv4, UDP.
fn packet(tags: usize, port: u16) -> Vec<u8> {
    let mut packet = vec![0; 12];
    for _ in 0..tags {
        packet.extend([0x81, 0, 0, 1]);
    }
    packet.extend([8, 0, 0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
    packet.extend([0, 7]);
    packet.extend(port.to_be_bytes());
    packet.extend([0, 8, 0, 0]);
    packet
}

fn number(map: &Map, key: &[u8]) -> Option<u64> {
    map.lookup(key).unwrap().map(|value| u64::from_le_bytes(value.try_into().unwrap()))
}

#[test]
fn tenants_have_ports_of_their_own() {
    for engine in ENGINES {
        let tenants = Tenants::new(engine);
        let key = PORT.to_le_bytes();
        assert_eq!(tenants.inner(0).name(), "plain");
        tenants.inner(0).update(&key, &[0; 8], UpdateMode::Any).unwrap();
        assert_eq!(tenants.run(&packet(0, PORT)), XdpAction::PASS);
        assert_eq!(tenants.run(&packet(0, PORT + 1)), XdpAction::DROP);
        assert_eq!(tenants.run(&packet(1, PORT)), XdpAction::DROP, "the map of another tenant");
        tenants.inner(1).update(&key, &[0; 8], UpdateMode::Any).unwrap();
        assert_eq!(tenants.run(&packet(1, PORT)), XdpAction::PASS);
        assert_eq!(tenants.run(&packet(2, PORT)), XdpAction::DROP, "there is no third map");
        assert_eq!(tenants.run(&packet(9, PORT)), XdpAction::DROP);
        assert_eq!(number(&tenants.inner(0), &key), Some(1));
        assert_eq!(number(&tenants.inner(1), &key), Some(1));
        let tags = tenants.map("tags");
        let counts: Vec<_> =
            (0..7_u32).map(|tags_of| number(&tags, &tags_of.to_le_bytes()).unwrap()).collect();
        assert_eq!(counts, [2, 2, 1, 0, 0, 0, 1], "six tags are looked at");
    }
}

#[test]
fn counts_are_added_up_now_and_then() {
    for engine in ENGINES {
        let tenants = Tenants::new(engine);
        for port in [PORT, 80] {
            tenants.inner(0).update(&port.to_le_bytes(), &[0; 8], UpdateMode::Any).unwrap();
        }
        for _ in 0..128 {
            assert_eq!(tenants.run(&packet(0, PORT)), XdpAction::PASS);
            assert_eq!(tenants.run(&packet(0, 80)), XdpAction::PASS);
        }
        let bss = tenants.map(".bss").lookup(&[0; 4]).unwrap().unwrap();
        let mut words: Vec<_> =
            bss.chunks(8).map(|word| u64::from_le_bytes(word.try_into().unwrap())).collect();
        words.sort_unstable();
        assert_eq!(words, [255, 256], "the last packet is not counted yet");
    }
}

/// Threads run the program while the maps that it finds are replaced all the time.
#[test]
fn maps_that_are_replaced_live_as_long_as_runs_use_them() {
    for engine in ENGINES {
        let tenants = Tenants::new(engine);
        let outer = tenants.map("tenants");
        let desc = *outer.inner_desc().unwrap();
        let done = AtomicBool::new(false);
        tenants.inner(0).update(&PORT.to_le_bytes(), &[0; 8], UpdateMode::Any).unwrap();
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    while !done.load(Ordering::Relaxed) {
                        assert_eq!(tenants.run(&packet(0, PORT)), XdpAction::PASS);
                    }
                });
            }
            let fresh = || {
                let map = Arc::new(Map::new("fresh", desc).unwrap());
                map.update(&PORT.to_le_bytes(), &[0; 8], UpdateMode::Any).unwrap();
                map
            };
            for _ in 0..500 {
                outer.put(&[0; 4], fresh(), UpdateMode::Any).unwrap();
            }
            done.store(true, Ordering::Relaxed);
        });
        let last = Arc::downgrade(&tenants.inner(0));
        outer.delete(&[0; 4]).unwrap();
        assert!(last.upgrade().is_none(), "nobody runs any more");
    }
}

//! Verified programs after passes that no verifier lets through: what blinding makes names a register
//! that programs do not have. They must still do what the kernel does with the original.

use std::collections::BTreeMap;

use ebpf_isa::abi::ExecEnv;
use ebpf_isa::uapi::MapType;
use ebpf_object::Object;
use ebpf_patch::{Patch, Patched, blind_constants, insert_zero_extensions};
use ebpf_testkit::{Fixture, fixtures_dir};

use super::*;
use crate::maps::UpdateMode;
use crate::open;
use crate::xdp::{Ingress, XdpAction, XdpProgram};

/// What is done to the program before it is linked or compiled.
#[derive(Debug, Clone, Copy)]
enum Passes {
    None,
    Blinding,
    ZeroExtensionAndBlinding,
}

impl Passes {
    const ALL: [Self; 3] = [Self::None, Self::Blinding, Self::ZeroExtensionAndBlinding];

    fn apply(self, rewritten: &Rewritten) -> Rewritten {
        let mut patch = Patch::new(&rewritten.program);
        if matches!(self, Self::ZeroExtensionAndBlinding) {
            insert_zero_extensions(&mut patch, &[]).unwrap();
        }
        if !matches!(self, Self::None) {
            blind_constants(&mut patch, [0x5eed, 0xc0de]).unwrap();
        }
        let Patched { program, map, .. } = patch.linearize().unwrap();
        let facts = map.facts(&rewritten.facts).unwrap();
        Rewritten { program, facts, ..rewritten.clone() }
    }
}

fn load(name: &str, engine: Engine, passes: Passes) -> XdpProgram {
    let bytes = std::fs::read(fixtures_dir().join(format!("xdp/{name}.o"))).unwrap();
    let object = Object::parse(&bytes).unwrap();
    let linked = object.program(name).unwrap();
    let bindings = open::bindings(&object, &linked, &KernelProfile::default()).unwrap();
    let verified = verify(&linked.program, &bindings.environment(), &Options::default()).unwrap();
    let rewritten = passes.apply(&verified.rewrite(&*bindings.kind.hooks).unwrap());
    let code = Runtime::new().unwrap().code(&rewritten, &bindings, engine).unwrap();
    XdpProgram::new(Loaded::new(bindings, verified, rewritten, code)).unwrap()
}

/// The packets of a capture in the machine's byte order.
fn packets(name: &str) -> Vec<Vec<u8>> {
    let capture = std::fs::read(fixtures_dir().join("xdp").join(name)).unwrap();
    let mut rest = &capture[24..];
    let mut packets = Vec::new();
    while let Some((header, data)) = rest.split_at_checked(16) {
        let len = u32::from_le_bytes(header[8..12].try_into().unwrap()) as usize;
        packets.push(data[..len].to_vec());
        rest = &data[len..];
    }
    packets
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    let digits = |at| u8::from_str_radix(&text[at..at + 2], 16).unwrap();
    (0..text.len()).step_by(2).map(digits).collect()
}

/// `NAME count` a line, sorted.
fn sorted(lines: impl IntoIterator<Item = String>) -> Vec<String> {
    let mut lines: Vec<String> = lines.into_iter().collect();
    lines.sort();
    lines
}

/// Gives the program all packets that the kernel was given; tells how many ended in which action, and
/// what is in the maps.
fn judge(program: &XdpProgram, packets: &[Vec<u8>]) -> (Vec<String>, Vec<String>) {
    let mut actions: BTreeMap<u32, u32> = (0..=4).map(|action| (action, 0)).collect();
    for packet in packets.iter().filter(|packet| packet.len() >= 14) {
        let ingress = Ingress::default();
        let action = program.run(&mut packet.clone(), ingress, &mut ExecEnv::new()).unwrap();
        *actions.entry(action.0).or_default() += 1;
    }
    let actions =
        actions.into_iter().map(|(action, count)| format!("{} {count}", XdpAction(action)));
    let maps = program.loaded().bindings().maps.iter();
    // The arrays are the program's own constants, and `actions`, which the lines before have.
    let hashes = maps.filter(|map| map.desc().map_type == MapType::Hash);
    let elements = hashes.flat_map(|map| {
        let value = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().unwrap());
        map.elements()
            .into_iter()
            .map(move |(key, bytes)| format!("{} {} {}", map.name(), hex(&key), value(&bytes)))
    });
    (sorted(actions), sorted(elements))
}

#[test]
fn the_firewall_does_what_the_kernel_saw_it_do() {
    let path = fixtures_dir().join("xdp/kernel-actions.txt");
    let witness = Fixture::parse(&path, &std::fs::read_to_string(&path).unwrap()).unwrap();
    let lines = |section: String| {
        let text = witness.section(section.trim()).unwrap();
        sorted(text.lines().map(String::from))
    };
    let packets = packets("mixed.pcap");
    let blocked = [
        ("blocklist", "c6336407"),
        ("blocklist", "cb007142"),
        ("blocklist6", "20010db8000000000000000000000bad"),
    ];
    let mut runs = 0;
    for (lists, blocked) in [("", &[][..]), ("blocked", &blocked)] {
        for engine in [Engine::Interp, Engine::Jit] {
            for passes in Passes::ALL {
                let program = load("xdp_firewall", engine, passes);
                for &(name, key) in blocked {
                    let maps = &program.loaded().bindings().maps;
                    let map = maps.iter().find(|map| map.name() == name).unwrap();
                    map.update(&unhex(key), &[0; 8], UpdateMode::Any).unwrap();
                }
                let (actions, maps) = judge(&program, &packets);
                let mode = (engine, passes, lists);
                assert_eq!(actions, lines(format!("actions {lists}")), "{mode:?}");
                assert_eq!(maps, lines(format!("maps {lists}")), "{mode:?}");
                runs += 1;
            }
        }
    }
    assert_eq!(runs, 12);
}

#[test]
fn the_smallest_program_passes_every_packet() {
    for engine in [Engine::Interp, Engine::Jit] {
        for passes in Passes::ALL {
            let program = load("xdp_minimal", engine, passes);
            for packet in packets("mixed.pcap") {
                let action =
                    program.run(&mut packet.clone(), Ingress::default(), &mut ExecEnv::new());
                assert_eq!(action, Ok(XdpAction::PASS), "{engine:?} after {passes:?}");
            }
        }
    }
}

/// A host may name any processor for a run, whatever the profile says of the machine.
#[test]
fn processors_of_a_profile_bound_nothing_that_runs() {
    let text = "call bpf_get_smp_processor_id#8\nif r0 > 1 goto pc+1\nr9 = 0\nr0 = r9\nexit";
    let program = ebpf_isa::text::assemble(text).unwrap();
    let mut bindings = Bindings::new(crate::xdp::kind());
    bindings.profile.processors = Some(2);
    let options = Options::default();
    let mut environment = bindings.environment();
    assert!(verify(&program, &environment, &options).is_err());
    environment.profile.processors = Some(2);
    assert!(verify(&program, &environment, &options).is_ok());
}

//! Every helper that takes a map, with every kind of map.

use ebpf_isa::text;
use ebpf_isa::uapi::{AttachType, HelperId, MapDesc, MapType, ProgramType};
use ebpf_runtime::kernel::{Map, MapSpec};
use ebpf_verifier::rules::{ArgKind, HelperProto};
use ebpf_verifier::{Environment, MapInfo};

use super::helpers::{SETUP, fitting, known_helpers, others};
use super::{by_kernel, by_us, environment, is_linux_6_18, kinds, none};

/// Opcode of a wide load, whose first slot names the map.
const WIDE_LOAD: u8 = 0x18;

/// A small map of each type that is supported.
fn descriptions() -> impl Iterator<Item = MapDesc> {
    use MapType::{
        Array, BloomFilter, CgroupArray, CgroupStorage, Cpumap, Devmap, DevmapHash, Hash, LpmTrie,
        LruHash, LruPercpuHash, PercpuArray, PercpuCgroupStorage, PercpuHash, PerfEventArray,
        ProgArray, Queue, ReuseportSockarray, Ringbuf, Sockhash, Sockmap, Stack, StackTrace,
        Xskmap,
    };
    let types = [
        Array,
        BloomFilter,
        CgroupArray,
        CgroupStorage,
        Cpumap,
        Devmap,
        DevmapHash,
        Hash,
        LpmTrie,
        LruHash,
        LruPercpuHash,
        PercpuArray,
        PercpuCgroupStorage,
        PercpuHash,
        PerfEventArray,
        ProgArray,
        Queue,
        ReuseportSockarray,
        Ringbuf,
        Sockhash,
        Sockmap,
        Stack,
        StackTrace,
        Xskmap,
    ];
    types.into_iter().map(|map_type| {
        let (key_size, value_size, max_entries, flags) = match map_type {
            BloomFilter | Queue | Stack => (0, 8, 1, 0),
            CgroupArray | PerfEventArray | ProgArray | ReuseportSockarray | Sockmap | Sockhash
            | Xskmap => (4, 4, 1, 0),
            CgroupStorage | PercpuCgroupStorage => (8, 8, 0, 0),
            LpmTrie => (8, 8, 1, 1),
            Ringbuf => (0, 0, 4096, 0),
            _ => (4, 8, 1, 0),
        };
        MapDesc { map_type, key_size, value_size, max_entries, flags }
    })
}

fn argument(kind: ArgKind, n: usize) -> Option<String> {
    match kind {
        ArgKind::Map => Some(format!("r{n} = map[0] ll\n")),
        ArgKind::MapKey | ArgKind::MapValue | ArgKind::MapValueOutput => {
            fitting(ArgKind::Memory, n)
        }
        ArgKind::MapValueOrNull => fitting(ArgKind::Anything, n),
        other => fitting(other, n),
    }
}

/// Calls with fitting arguments, whose result is then used, and with each but the map replaced.
fn calls(proto: &HelperProto) -> Vec<String> {
    let args: Option<Vec<String>> =
        proto.args.iter().enumerate().map(|(index, &kind)| argument(kind, index + 1)).collect();
    let Some(args) = args.filter(|_| proto.args.contains(&ArgKind::Map)) else {
        return Vec::new();
    };
    let call = |args: &[String], after: &str| {
        format!("{SETUP}{}call {}\n{after}r0 = 1\nexit", args.concat(), proto.id)
    };
    let after = [
        "",
        "r1 = *(u64 *)(r10 -64)\nif r1 == 0 goto pc+1\nr0 = r9\n",
        "r1 = *(u8 *)(r0 +7)\n",
        "if r0 == 0 goto pc+1\nr1 = *(u8 *)(r0 +7)\n",
        "if r0 == 0 goto pc+1\nr1 = *(u64 *)(r0 +1)\n",
        "if r0 == 0 goto pc+1\n*(u8 *)(r0 +0) = 1\n",
    ];
    let fitting = after.iter().map(|after| call(&args, after));
    let changed =
        proto.args.iter().enumerate().filter(|&(_, &kind)| {
            !matches!(kind, ArgKind::Map | ArgKind::Unused | ArgKind::Anything)
        });
    let misfits = changed.flat_map(|(index, _)| {
        let args = &args;
        others(index + 1).into_iter().map(move |other| {
            let mut args = args.clone();
            args[index] = other;
            call(&args, "")
        })
    });
    fitting.chain(misfits).collect()
}

/// Compares both verdicts; gives how many of ours are known.
fn compare(
    kind: (ProgramType, AttachType),
    map: &Map,
    env: &Environment,
    proto: &HelperProto,
    differences: &mut Vec<String>,
) -> usize {
    let mut known = 0;
    for asm in calls(proto) {
        let program = text::assemble(&asm).unwrap();
        let Some(ours) = by_us(&program, env) else { continue };
        known += 1;
        let mut slots = program.to_slots().unwrap();
        slots.iter_mut().filter(|slot| slot.opcode == WIDE_LOAD).for_each(|slot| {
            slot.imm = map.number();
        });
        let kernel = by_kernel(&slots, kind);
        if ours != kernel {
            let (asm, map_type) = (asm.replace('\n', "; "), env.maps[0].desc.map_type);
            differences.push(format!(
                "{} {map_type}: {asm}: the kernel says {kernel:?}, we {ours:?}",
                kind.0
            ));
        }
    }
    known
}

#[test]
fn maps_are_given_to_helpers_as_by_the_kernel() {
    if !is_linux_6_18() {
        return;
    }
    let (mut differences, mut known) = (Vec::new(), 0);
    // One type of programs for each helper is enough.
    let mut seen: Vec<HelperId> = Vec::new();
    for kind in kinds() {
        let mut env = environment(kind);
        let rules = env.program_type.clone();
        let allowed = known_helpers().filter(|&id| rules.may_call(id, Some(kind.1)));
        let protos: Vec<&HelperProto> = allowed
            .filter(|id| !seen.contains(id))
            .filter_map(|id| rules.helper(id))
            .filter(|proto| proto.args.contains(&ArgKind::Map))
            .collect();
        seen.extend(protos.iter().map(|proto| proto.id));
        for desc in descriptions().filter(|_| !protos.is_empty()) {
            let MapDesc { map_type, key_size, value_size, max_entries, flags } = desc;
            let map_type = map_type.number();
            let spec = MapSpec {
                map_type,
                key_size,
                value_size,
                max_entries,
                flags,
                ..MapSpec::default()
            };
            let map = Map::new(&spec).unwrap();
            env.maps = vec![MapInfo::new("map", desc)];
            for proto in &protos {
                known += compare(kind, &map, &env, proto, &mut differences);
            }
        }
    }
    assert!(known > 3_000, "{known}");
    none(&differences);
}

//! A fixture as the kernel is asked about it.

use ebpf_isa::uapi::{AttachType, MapType, map_flags};
use ebpf_isa::{CallTarget, Insn, MapIdx, Program, WideSource};
use ebpf_object::cases::{Case, CaseBtf, CaseMap, MapTypes};
use ebpf_verifier::{Environment, MapInfo};

use super::support::{self, Subject};

/// `BPF_F_STRICT_ALIGNMENT`.
const STRICT_ALIGNMENT: u32 = 1;

/// `BPF_F_SLEEPABLE`.
const SLEEPABLE: u32 = 1 << 4;

/// The case that a fixture is.
pub(crate) fn case(Subject { program, env, btf, map_types, held, target }: Subject) -> Case {
    let map_refs = program.insns().filter_map(|(pc, insn)| match insn {
        Insn::LoadWide {
            source: WideSource::Map(map, _) | WideSource::MapValue(map, ..), ..
        } => Some((pc.0, map.0)),
        _ => None,
    });
    // The base's functions are the kernel's, by name.
    let kfunc_refs = program.insns().filter_map(|(pc, insn)| match insn {
        Insn::Call(CallTarget::Kfunc { btf_id, module: 0 }) => {
            let function = env.modules.function(0, btf_id).ok()?;
            Some((pc.0, function.name.clone().into_owned()))
        }
        _ => None,
    });
    Case {
        id: String::new(),
        program_type: env.program_type.program_type().number(),
        attach_type: env.attach_type.map_or(0, AttachType::number),
        flags: flags(&env),
        license: if env.license_gpl { "GPL" } else { "Proprietary" }.into(),
        slots: program.to_slots().expect("the program was assembled"),
        maps: maps(&env, &map_types, &held),
        map_refs: map_refs.collect(),
        kfunc_refs: kfunc_refs.collect(),
        func_info: func_info(&program),
        btf: btf.map(CaseBtf::Bytes),
        attach_func: target,
        runs: Vec::new(),
        judged: None,
    }
}

fn flags(env: &Environment) -> u32 {
    let all = [(env.strict_alignment, STRICT_ALIGNMENT), (env.sleepable, SLEEPABLE)];
    all.into_iter().filter(|flag| flag.0).map(|flag| flag.1).sum()
}

fn func_info(program: &Program) -> Vec<(u32, u32)> {
    let functions = program.subprogs().iter();
    functions.filter_map(|function| Some((function.start.0, function.info.btf_id?))).collect()
}

/// The maps without the descriptions of inner ones, which are put into theirs.
fn maps(
    env: &Environment,
    types: &[Option<support::MapTypes>],
    held: &[(usize, u32)],
) -> Vec<CaseMap> {
    let case_map = |index: usize| {
        let map = case_map(&env.maps[index]);
        match types[index].clone() {
            Some(support::MapTypes { btf, key, value }) => {
                CaseMap { types: MapTypes::Own { btf, key, value }, ..map }
            }
            None => map,
        }
    };
    let is_inner =
        |index: usize| env.maps.iter().any(|map| map.inner.map(MapIdx::index) == Some(index));
    let maps = env.maps.iter().enumerate().filter(|&(index, _)| !is_inner(index));
    maps.map(|(index, map)| {
        let inner = map.inner.map(|inner| Box::new(case_map(inner.index())));
        let held = held.iter().filter(|(outer, _)| *outer == index);
        let held = held.map(|(_, key)| key.to_le_bytes().to_vec()).collect();
        CaseMap { inner, held, ..case_map(index) }
    })
    .collect()
}

fn case_map(map: &MapInfo) -> CaseMap {
    let values = map.frozen.iter().flat_map(|all| all.chunks(map.desc.value_size as usize));
    let init = values.zip(0_u32..).map(|(value, key)| (key.to_le_bytes().to_vec(), value.to_vec()));
    // The kernel makes maps of storage only with types, and without elements.
    let is_storage = map.desc.map_type == MapType::SkStorage;
    let btf = is_storage
        .then(|| support::types::of_storage(map.desc.value_size).expect("a struct of that size"));
    let types = btf.map_or(MapTypes::None, |btf| MapTypes::Own { btf, key: 1, value: 2 });
    CaseMap {
        name: String::new(),
        map_type: map.desc.map_type.number(),
        key_size: map.desc.key_size,
        value_size: map.desc.value_size,
        max_entries: map.desc.max_entries,
        flags: map.desc.flags | if is_storage { map_flags::NO_PREALLOC } else { 0 },
        extra: 0,
        inner: None,
        held: Vec::new(),
        init: init.collect(),
        frozen: map.frozen.is_some(),
        types,
        programs: Vec::new(),
    }
}

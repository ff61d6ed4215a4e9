//! From an object file to something that can be verified or loaded.

use std::collections::BTreeMap;
use std::sync::Arc;

use ebpf_btf::TypeIndex;
use ebpf_isa::MapIdx;
use ebpf_isa::uapi::{MapType, ProgramType};
use ebpf_object::{KernelFunction, Object, ObjectError, ObjectMap, ObjectProgram};
use ebpf_verifier::{
    Environment, KernelProfile, KernelTypes, MapInfo, ModuleTable, Modules, ValueFields,
    program_types,
};

use crate::kind::ProgramKind;
use crate::load::Bindings;
use crate::maps::{CreateMapError, Map, MapError, UpdateMode};
use crate::xdp;

/// Why a program of an object cannot be verified or run here.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The object does not say what type the program has.
    #[error(transparent)]
    Object(#[from] ObjectError),
    /// The verifier has no rules for this type.
    #[error("programs of type {program_type} cannot be verified yet")]
    NoRules {
        /// The type.
        program_type: ProgramType,
    },
    /// The runtime has no context for this type.
    #[error("programs of type {program_type} can be verified, but not run here")]
    NotRunnable {
        /// The type.
        program_type: ProgramType,
    },
    /// A map's values have fields that the runtime does not know how to guard.
    #[error("map `{name}`: values with locks, timers or kernel pointers are not supported")]
    SpecialFields {
        /// The map.
        name: String,
    },
    /// A map cannot be made.
    #[error(transparent)]
    CreateMap(#[from] CreateMapError),
    /// The first contents of a data section's map do not fit it.
    #[error("map `{name}`: {source}")]
    FillMap {
        /// The map.
        name: String,
        /// What went wrong.
        source: MapError,
    },
}

/// Whether a licence lets a program use helpers that are for GPL-compatible programs: the strings
/// that the kernel's `license_is_gpl_compatible` knows.
#[must_use]
pub fn is_gpl_compatible(license: &str) -> bool {
    const COMPATIBLE: [&str; 6] = [
        "GPL",
        "GPL v2",
        "GPL and additional rights",
        "Dual BSD/GPL",
        "Dual MIT/GPL",
        "Dual MPL/GPL",
    ];
    COMPATIBLE.contains(&license)
}

/// Links a program of an object for a kernel with these types. Its calls of kernel functions are those
/// of the host's modules, by name; the first module that has one counts. Gives the table of the modules that it names, for its
/// [`Environment`] and [`Bindings`].
///
/// # Errors
/// As for [`Object::program_with`]. A function that no module has, or whose module the table has no room
/// for, is [extern](ebpf_object::RelocationProblem::Extern).
pub fn program(
    object: &Object,
    name: &str,
    types: Option<&TypeIndex>,
    modules: &Modules,
) -> Result<(ObjectProgram, ModuleTable), ObjectError> {
    let mut table = ModuleTable::new();
    let linked = object.program_with(name, types, |function| {
        let (module, function) = modules.find(function)?;
        let index = table.add(module).ok()?;
        Some(KernelFunction { btf_id: function.btf_id, module: index })
    })?;
    Ok((linked, table))
}

/// What a program of an object is verified against, for a kernel with these types. It calls no kernel functions but those
/// of the kernel itself, or the environment gets their table ([`program`]).
///
/// # Errors
/// The program's type is not known, or has no rules yet.
pub fn environment(
    object: &Object,
    linked: &ObjectProgram,
    kernel: Option<&Arc<KernelTypes>>,
    profile: &KernelProfile,
) -> Result<Environment, OpenError> {
    let section = linked.info.kind()?;
    let program_type = section.program_type;
    let rules = program_types::of(program_type).ok_or(OpenError::NoRules { program_type })?;
    let target = |name| kernel?.attach_target(section.attach_type, name);
    Ok(Environment {
        program_type: rules,
        attach_type: section.attach_type,
        kernel_types: kernel.cloned(),
        attach_target: linked.info.attach_name().and_then(target),
        maps: map_infos(object, linked),
        btf: object.btf().cloned().map(Arc::new),
        modules: kernel
            .map_or_else(ModuleTable::new, |types| ModuleTable::of_kernel(types, program_type)),
        license_gpl: object.license().is_some_and(is_gpl_compatible),
        sleepable: section.sleepable,
        strict_alignment: false,
        profile: profile.clone(),
    })
}

/// The program's maps, and behind them what maps of maps hold.
fn map_infos(object: &Object, linked: &ObjectProgram) -> Vec<MapInfo> {
    let maps = || linked.maps.iter().map(|&map| &object.maps()[map]);
    let mut infos: Vec<MapInfo> = maps().map(|map| map_info(object, map)).collect();
    for (at, map) in maps().enumerate() {
        if let Some(inner) = &map.inner {
            infos[at].inner = Some(MapIdx(infos.len() as u32));
            infos.push(map_info(object, inner));
        }
    }
    infos
}

fn map_info(object: &Object, map: &ObjectMap) -> MapInfo {
    let zeroes = || vec![0; map.desc.value_size as usize];
    let contents = || map.initial.as_deref().map_or_else(zeroes, <[u8]>::to_vec);
    MapInfo {
        frozen: map.frozen.then(contents),
        fields: value_fields(object, map),
        ..MapInfo::new(&*map.name, map.desc)
    }
}

fn value_fields(object: &Object, map: &ObjectMap) -> ValueFields {
    let value = object.btf().zip(map.value_type);
    value.map_or(ValueFields::Untyped, |(btf, id)| ValueFields::of(btf, id, map.desc.value_size))
}

/// What a program of an object is verified against and bound to: new maps, with the contents of
/// data sections filled in. It calls no kernel functions, or the bindings get their table
/// ([`program`]).
///
/// # Errors
/// The program's type cannot be run here, or a map cannot be made.
pub fn bindings(
    object: &Object,
    linked: &ObjectProgram,
    profile: &KernelProfile,
) -> Result<Bindings, OpenError> {
    let section = linked.info.kind()?;
    let program_type = section.program_type;
    let kind = runnable(program_type).ok_or(OpenError::NotRunnable { program_type })?;
    let kind = ProgramKind { attach_type: section.attach_type, ..kind };
    Ok(Bindings {
        kind,
        maps: Maps::new(object, profile).of(linked)?,
        btf: object.btf().cloned().map(Arc::new),
        modules: ModuleTable::new(),
        gpl_compatible: object.license().is_some_and(is_gpl_compatible),
        profile: profile.clone(),
    })
}

/// What a program type is here, if it can be run.
fn runnable(program_type: ProgramType) -> Option<ProgramKind> {
    match program_type {
        ProgramType::Xdp => Some(xdp::kind()),
        _ => None,
    }
}

/// The maps of an object, each made when it is first asked for.
struct Maps<'a> {
    object: &'a Object,
    /// Values of per-CPU maps.
    cpus: u32,
    made: BTreeMap<usize, Arc<Map>>,
}

impl<'a> Maps<'a> {
    fn new(object: &'a Object, profile: &KernelProfile) -> Self {
        Self { object, cpus: profile.processors.unwrap_or(1), made: BTreeMap::new() }
    }

    /// The maps of a program, in its order.
    fn of(&mut self, linked: &ObjectProgram) -> Result<Vec<Arc<Map>>, OpenError> {
        linked.maps.iter().map(|&map| self.get(map)).collect()
    }

    fn get(&mut self, index: usize) -> Result<Arc<Map>, OpenError> {
        if let Some(made) = self.made.get(&index) {
            return Ok(Arc::clone(made));
        }
        let declared = &self.object.maps()[index];
        let map = Arc::new(create(self.object, declared, self.cpus)?);
        self.made.insert(index, Arc::clone(&map));
        for &(key, inner) in &declared.held {
            // Maps of maps hold none of their own kind, so this goes no deeper.
            let is_plain = self.object.maps()[inner].inner.is_none();
            let inner = if is_plain { Ok(self.get(inner)?) } else { Err(MapError::OtherInner) };
            inner
                .and_then(|inner| map.put(&key.to_ne_bytes(), inner, UpdateMode::Any))
                .map_err(|source| OpenError::FillMap { name: declared.name.clone(), source })?;
        }
        Ok(map)
    }
}

fn create(object: &Object, declared: &ObjectMap, cpus: u32) -> Result<Map, OpenError> {
    let inner = declared.inner.as_deref();
    if [Some(declared), inner]
        .into_iter()
        .flatten()
        .any(|map| !value_fields(object, map).are_none())
    {
        return Err(OpenError::SpecialFields { name: declared.name.clone() });
    }
    let map = match inner {
        Some(inner) => Map::of_maps(&declared.name, declared.desc, inner.desc)?,
        None => {
            let mut desc = declared.desc;
            // As loaders do, where the program does not say for how many processors.
            if desc.map_type == MapType::PerfEventArray && desc.max_entries == 0 {
                desc.max_entries = cpus;
            }
            Map::with_cpus(&declared.name, desc, cpus)?
        }
    };
    if let Some(initial) = &declared.initial {
        map.update(&0_u32.to_ne_bytes(), initial, UpdateMode::Any)
            .map_err(|source| OpenError::FillMap { name: declared.name.clone(), source })?;
    }
    if declared.frozen {
        map.freeze();
    }
    Ok(map)
}

//! From a case ([`ebpf_object::cases`]) to what can be verified.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ebpf_btf::{Btf, BtfError, Kind, TypeId};
use ebpf_isa::uapi::{AttachType, MapDesc, MapType, ProgramType};
use ebpf_isa::{LineTable, MapIdx, Pc, Program, ProgramError, RawInsn, SubprogInfo, decode_all};
use ebpf_object::cases::{Case, CaseMap, MapTypes};
use ebpf_verifier::{
    Environment, ErrorCode, KernelProfile, KernelTypes, MapInfo, ModuleTable, Options, Rejection,
    ValueFields, Verified, check_slots, program_types, verify,
};

use crate::open::is_gpl_compatible;

/// `BPF_F_TEST_STATE_FREQ`: keep the state wherever paths may meet.
const TEST_STATE_FREQ: u32 = 1 << 3;

/// `BPF_F_STRICT_ALIGNMENT`: all accesses must be aligned; unless there is `BPF_F_ANY_ALIGNMENT`.
const STRICT_ALIGNMENT: u32 = 1 << 0;
const ANY_ALIGNMENT: u32 = 1 << 1;

/// `BPF_F_SLEEPABLE`.
const SLEEPABLE: u32 = 1 << 4;

/// Flags of `BPF_PROG_LOAD` that are known here: these, and `BPF_F_TEST_RND_HI32` and
/// `BPF_F_XDP_HAS_FRAGS`, which change no verdict.
const KNOWN_FLAGS: u32 =
    STRICT_ALIGNMENT | ANY_ALIGNMENT | 1 << 2 | TEST_STATE_FREQ | SLEEPABLE | 1 << 5;

/// The largest contents of a frozen map that are looked at, in bytes.
pub const MAX_FROZEN_BYTES: u64 = 64 << 20;

/// Why a case is not verified, and so neither accepted nor rejected. The kernel may accept it.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum CaseUnsupported {
    /// The verifier has no rules for the program type.
    #[error("programs of type {} cannot be verified yet", program_type(*.0))]
    ProgramType(u32),
    /// The ABI as it is known here has no such attach type.
    #[error("attach type {0} is not known")]
    AttachType(u32),
    /// Flags that change the verifier's rules in ways that are not known.
    #[error("program flags {0:#x} are not supported")]
    Flags(u32),
    /// The kernel has no such function, hook or tracepoint, or its types are not given.
    #[error("no type of the kernel says what `{0}` is, which the program is for")]
    AttachTarget(String),
    /// The ABI as it is known here has no such map type.
    #[error("map type {0} is not known")]
    MapType(u32),
    /// Frozen contents that are not looked at.
    #[error("map `{0}`: frozen contents are not an array of at most {MAX_FROZEN_BYTES} bytes")]
    Frozen(String),
    /// Types that cannot be read.
    #[error("the program's types: {0}")]
    Btf(#[from] BtfError),
    /// Types of functions that are not those of the program's subprograms.
    #[error("the function information does not match the subprograms")]
    FuncInfo,
}

fn program_type(number: u32) -> String {
    ProgramType::from_number(number).map_or_else(|| number.to_string(), |known| known.to_string())
}

/// What became of a case.
#[derive(Debug, Clone)]
pub enum CaseVerdict {
    /// The kernel would load the program.
    Accept(Box<Verified>),
    /// The kernel would refuse it, unless the code is [`ErrorCode::Unsupported`].
    Reject(Box<Rejection>),
    /// It was not verified. The kernel may accept it.
    Unsupported(CaseUnsupported),
}

impl CaseVerdict {
    /// Whether it says that something is not known here, so that it is no verdict.
    #[must_use]
    pub fn is_unsupported(&self) -> bool {
        match self {
            Self::Accept(_) => false,
            Self::Reject(rejection) => rejection.code == ErrorCode::Unsupported,
            Self::Unsupported(_) => true,
        }
    }
}

/// Types that a case refers to.
#[derive(Debug, Clone, Copy, Default)]
pub struct CaseTypes<'a> {
    /// The bytes of the program's own ([`Case::btf_bytes`]).
    pub program: Option<&'a [u8]>,
    /// The kernel's.
    pub kernel: Option<&'a Arc<KernelTypes>>,
}

/// Verifies a case.
#[must_use]
pub fn judge(
    case: &Case,
    types: CaseTypes<'_>,
    profile: &KernelProfile,
    options: &Options,
) -> CaseVerdict {
    match prepare(case, types, profile, options) {
        Ok(Prepared { program, environment, options }) => {
            match verify(&program, &environment, &options) {
                Ok(verified) => CaseVerdict::Accept(Box::new(verified)),
                Err(rejection) => CaseVerdict::Reject(rejection),
            }
        }
        Err(verdict) => verdict,
    }
}

/// What the verifier is given of a case.
#[derive(Debug, Clone)]
pub struct Prepared {
    /// The program.
    pub program: Program,
    /// What it is verified against.
    pub environment: Environment,
    /// With what the flags of the case ask for.
    pub options: Options,
}

/// A case for the verifier.
///
/// # Errors
/// The verdict, where it is known without verification.
pub fn prepare(
    case: &Case,
    types: CaseTypes<'_>,
    profile: &KernelProfile,
    options: &Options,
) -> Result<Prepared, CaseVerdict> {
    let environment = environment(case, types, profile).map_err(CaseVerdict::Unsupported)?;
    let case = &with_functions(case, types.kernel);
    let refs: BTreeMap<u32, u32> = case.map_refs.iter().copied().collect();
    let map_of = |pc: Pc| {
        let map = refs.get(&pc.0).filter(|&&map| case.maps.len() > map as usize);
        map.map(|&map| MapIdx(map))
    };
    check_slots(&case.slots, &map_of, &environment).map_err(CaseVerdict::Reject)?;
    let program = program(case).map_err(CaseVerdict::Unsupported)?;
    let program = program.map_err(|error| CaseVerdict::Reject(Rejection::malformed(&error)))?;
    let mut options = options.clone();
    options.exploration.keep_every_state |= case.flags & TEST_STATE_FREQ != 0;
    Ok(Prepared { program, environment, options })
}

/// What a case is verified against.
///
/// # Errors
/// It has something that is not known here.
pub fn environment(
    case: &Case,
    types: CaseTypes<'_>,
    profile: &KernelProfile,
) -> Result<Environment, CaseUnsupported> {
    let no_rules = CaseUnsupported::ProgramType(case.program_type);
    let rules = ProgramType::from_number(case.program_type).and_then(program_types::of);
    let attach_type = AttachType::from_number(case.attach_type)
        .ok_or(CaseUnsupported::AttachType(case.attach_type))?;
    let flags = case.flags & !KNOWN_FLAGS;
    if flags != 0 {
        return Err(CaseUnsupported::Flags(flags));
    }
    let btf = types.program.map(Btf::parse).transpose()?;
    let infos = |maps: &mut dyn Iterator<Item = &CaseMap>| -> Result<Vec<_>, _> {
        maps.map(|map| map_info(map, btf.as_ref())).collect()
    };
    let mut maps = infos(&mut case.maps.iter())?;
    let inner = infos(&mut case.maps.iter().filter_map(|map| map.inner.as_deref()))?;
    let outer = maps.iter_mut().zip(&case.maps).filter(|(_, map)| map.inner.is_some());
    for ((info, _), place) in outer.zip(case.maps.len() as u32..) {
        info.inner = Some(MapIdx(place));
    }
    maps.extend(inner);
    let attach_type = (case.attach_type != 0).then_some(attach_type);
    let target = |name: &String| {
        let found = types.kernel.and_then(|kernel| kernel.attach_target(attach_type, name));
        found.ok_or_else(|| CaseUnsupported::AttachTarget(name.clone()))
    };
    let rules = rules.ok_or(no_rules)?;
    let program_type = rules.program_type();
    let functions = |types: &Arc<KernelTypes>| ModuleTable::of_kernel(types, program_type);
    Ok(Environment {
        program_type: rules,
        attach_type,
        kernel_types: types.kernel.cloned(),
        attach_target: case.attach_func.as_ref().map(target).transpose()?,
        maps,
        btf: btf.map(Arc::new),
        modules: types.kernel.map_or_else(ModuleTable::new, functions),
        license_gpl: is_gpl_compatible(&case.license),
        sleepable: case.flags & SLEEPABLE != 0,
        strict_alignment: case.flags & (STRICT_ALIGNMENT | ANY_ALIGNMENT) == STRICT_ALIGNMENT,
        profile: profile.clone(),
    })
}

fn map_info(map: &CaseMap, btf: Option<&Btf>) -> Result<MapInfo, CaseUnsupported> {
    let map_type =
        MapType::from_number(map.map_type).ok_or(CaseUnsupported::MapType(map.map_type))?;
    let CaseMap { key_size, value_size, max_entries, flags, .. } = *map;
    let desc = MapDesc { map_type, key_size, value_size, max_entries, flags };
    let fields_of = |btf: &Btf, value: &u32| ValueFields::of(btf, TypeId(*value), value_size);
    let fields = match &map.types {
        MapTypes::None => ValueFields::Untyped,
        MapTypes::OfProgram { value, .. } => {
            btf.map_or(ValueFields::Unknown, |btf| fields_of(btf, value))
        }
        MapTypes::Own { btf, value, .. } => {
            Btf::parse(btf).map_or(ValueFields::Unknown, |btf| fields_of(&btf, value))
        }
    };
    let frozen = if map.frozen {
        let contents = frozen_contents(map).filter(|_| map_type == MapType::Array);
        Some(contents.ok_or_else(|| CaseUnsupported::Frozen(map.name.clone()))?)
    } else {
        None
    };
    Ok(MapInfo { frozen, fields, ..MapInfo::new(&*map.name, desc) })
}

/// All values of an array in order; `None` if they are too many or do not fit.
fn frozen_contents(map: &CaseMap) -> Option<Vec<u8>> {
    let size = u64::from(map.value_size) * u64::from(map.max_entries);
    if size > MAX_FROZEN_BYTES {
        return None;
    }
    let mut contents = vec![0; size as usize];
    for (key, value) in &map.init {
        let index = u32::from_le_bytes(key.as_slice().try_into().ok()?) as usize;
        let start = index.checked_mul(map.value_size as usize)?;
        let place = contents.get_mut(start..start.checked_add(value.len())?)?;
        if value.len() > map.value_size as usize {
            return None;
        }
        place.copy_from_slice(value);
    }
    Some(contents)
}

/// The program of a case, whose wide loads name maps by their place in the case; or why its slots are
/// no program.
///
/// # Errors
/// It has something that is not known here.
pub fn program(case: &Case) -> Result<Result<Program, ProgramError>, CaseUnsupported> {
    let insns = match decode_all(&with_maps(case)) {
        Ok(insns) => insns,
        Err(error) => return Ok(Err(error.into())),
    };
    let called = insns.iter().flatten().filter_map(|insn| insn.subprog_ref());
    let starts: BTreeSet<Pc> = called.chain([Pc::ENTRY]).collect();
    let info =
        |&(start, ty): &(u32, u32)| (Pc(start), SubprogInfo { name: None, btf_id: Some(ty) });
    let infos: BTreeMap<Pc, SubprogInfo> = case.func_info.iter().map(info).collect();
    let matches = infos.len() == case.func_info.len() && infos.keys().eq(&starts);
    if !infos.is_empty() && !matches {
        return Err(CaseUnsupported::FuncInfo);
    }
    Ok(Program::new(insns, infos, LineTable::new()))
}

/// The case with the types of the functions that its calls name, which are 0 where the kernel has none
/// or its types are not given.
fn with_functions<'a>(case: &'a Case, kernel: Option<&Arc<KernelTypes>>) -> Cow<'a, Case> {
    let mut case = Cow::Borrowed(case);
    for (slot, name) in case.kfunc_refs.clone() {
        let id = kernel.and_then(|types| types.index().find(Kind::Func, &name));
        case.to_mut().slots[slot as usize].imm = id.map_or(0, |id| id.0.cast_signed());
    }
    case
}

/// The slots with an index of a map in each wide load that names one. What names none has one that
/// is not there.
fn with_maps(case: &Case) -> Vec<RawInsn> {
    const WIDE_LOAD: u8 = 0x18;
    const MAP_KINDS: [u8; 4] = [1, 2, 5, 6];
    let refs: BTreeMap<u32, u32> = case.map_refs.iter().copied().collect();
    let mut slots = case.slots.clone();
    let mut at = 0;
    while let Some(slot) = slots.get_mut(at) {
        if slot.opcode == WIDE_LOAD {
            if MAP_KINDS.contains(&slot.src) {
                let map = refs.get(&(at as u32)).copied().unwrap_or(u32::from(u16::MAX));
                slot.imm = map.cast_signed();
            }
            at += 1;
        }
        at += 1;
    }
    slots
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(fields: &str) -> CaseVerdict {
        let case = Case::parse(&format!(r#"{{"prog_type":"xdp",{fields}}}"#)).unwrap();
        judge(&case, CaseTypes::default(), &KernelProfile::default(), &Options::default())
    }

    fn rejected(fields: &str) -> (ErrorCode, String) {
        match verdict(fields) {
            CaseVerdict::Reject(rejection) => (rejection.code, rejection.message),
            other => panic!("{fields}: {other:?}"),
        }
    }

    fn unsupported(fields: &str) -> String {
        match verdict(fields) {
            CaseVerdict::Unsupported(why) => why.to_string(),
            other => panic!("{fields}: {other:?}"),
        }
    }

    const RETURN_0: &str = r#""insns":"b700000000000000 9500000000000000""#;

    #[test]
    fn a_sound_case_is_accepted() {
        assert!(matches!(verdict(RETURN_0), CaseVerdict::Accept(_)));
    }

    #[test]
    fn slots_that_are_no_program_are_rejected() {
        let malformed = ErrorCode::ProgramMalformed;
        assert_eq!(rejected(r#""insns":"""#).0, ErrorCode::LimitSlots);
        let unknown = rejected(r#""insns":"ff00000000000000 9500000000000000""#);
        assert_eq!(unknown, (malformed, "unknown opcode ff".into()));
        // Calls through registers: LLVM 19's, for which there is an instruction, and an older one's.
        let callx = |call| rejected(&format!(r#""insns":"{call} 9500000000000000""#));
        let message = || "unknown opcode 8d".to_string();
        assert_eq!(callx("8d02000000000000"), (malformed, message()));
        assert_eq!(callx("8d00000002000000"), (malformed, message()));
        let open = rejected(r#""insns":"b700000000000000""#);
        assert_eq!(open, (malformed, "last insn is not an exit or jmp".into()));
    }

    /// The word at offset 12 of the packet, which counts as starting 2 bytes behind an aligned address.
    #[test]
    fn flags_ask_for_alignment() {
        let insns = "6112000000000000611304000000000007020000100000002d32020000000000\
                     6120fcff000000009500000000000000b7000000010000009500000000000000";
        let judged = |flags| verdict(&format!(r#""flags":{flags},"insns":"{insns}""#));
        for flags in [0, 2, 3] {
            assert!(matches!(judged(flags), CaseVerdict::Accept(_)), "{flags}");
        }
        let CaseVerdict::Reject(rejection) = judged(1) else { panic!("accepted") };
        assert_eq!(rejection.message, "misaligned packet access off 2+0+16+-4 size 4");
    }

    #[test]
    fn what_is_not_known_is_not_judged() {
        let with = |more: &str| unsupported(&format!("{RETURN_0},{more}"));
        assert_eq!(with(r#""attach_type":999"#), "attach type 999 is not known");
        assert_eq!(with(r#""flags":65"#), "program flags 0x40 are not supported");
        assert_eq!(with(r#""maps":[{"type":99}]"#), "map type 99 is not known");
        assert!(with(r#""func_info":[[1,1]]"#).contains("function information"));
        assert!(with(r#""maps":[{"type":1,"frozen":true}]"#).contains("frozen contents"));
        let large = r#""maps":[{"type":2,"key":4,"value":1048576,"max":65,"frozen":true}]"#;
        assert!(with(large).contains("frozen contents"));
        let key = r#""init":[{"key":"01000000","value":"00"}]"#;
        let map = format!(r#""maps":[{{"type":2,"key":4,"value":1,"max":1,"frozen":true,{key}}}]"#);
        assert!(with(&map).contains("frozen contents"));
        let lsm = Case::parse(&format!(r#"{{"prog_type":29,{RETURN_0}}}"#)).unwrap();
        let error = environment(&lsm, CaseTypes::default(), &KernelProfile::default()).unwrap_err();
        assert_eq!(error.to_string(), "programs of type lsm cannot be verified yet");
    }

    #[test]
    fn types_that_cannot_be_read_are_not_judged() {
        let case = Case::parse(&format!(r#"{{"prog_type":6,{RETURN_0}}}"#)).unwrap();
        let types = CaseTypes { program: Some(&[1, 2]), kernel: None };
        let error = environment(&case, types, &KernelProfile::default()).unwrap_err();
        assert!(matches!(error, CaseUnsupported::Btf(_)), "{error}");
    }

    /// Reads byte 1 of a frozen array's value, and where it is not 7 a register without value.
    #[test]
    fn frozen_values_are_constants() {
        let map = |value: &str| {
            let map = format!(
                r#"{{"type":2,"key":4,"value":2,"max":1,"flags":128,"frozen":true,
                    "init":[{{"key":"00000000","value":"{value}"}}]}}"#
            );
            let insns = "1821000000000000 0000000000000000 7110010000000000 \
                         1500010007000000 bf40000000000000 9500000000000000";
            format!(r#""maps":[{map}],"map_refs":[[0,0]],"insns":"{insns}""#)
        };
        let seven = verdict(&map("0007"));
        assert!(matches!(seven, CaseVerdict::Accept(_)), "{seven:?}");
        assert_eq!(rejected(&map("0702")).1, "R4 !read_ok");
    }

    #[test]
    fn a_wide_load_without_its_map_is_rejected() {
        let (code, _) =
            rejected(r#""insns":"18110000 00000000 0000000000000000 9500000000000000""#);
        assert_eq!(code, ErrorCode::MapReference);
    }
}

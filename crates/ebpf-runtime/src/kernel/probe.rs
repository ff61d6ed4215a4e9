//! What the running kernel is like, found out by loading tiny programs.

use std::borrow::Cow;

use ebpf_isa::text::assemble;
use ebpf_isa::uapi::{AttachType, HelperId, MapType, ProgramType};
use ebpf_isa::{Program, RawInsn};
use ebpf_verifier::{
    Feature, Features, KernelProfile, ProgramTypeRules, TypeHelpers, Version, program_types,
};

use super::error::{Errno, KernelError};
use super::map::{Map, MapSpec};
use super::oracle::Oracle;
use super::program::ProgramLoad;

/// Where the kernel says its version.
const RELEASE: &str = "/proc/sys/kernel/osrelease";
/// More processors than x86-64 can have.
const MAX_PROCESSORS: u32 = 1 << 14;

/// Where the arena of a probe would lie in user space: any address that can be mapped will do.
const ARENA_ADDRESS: u64 = 1 << 44;

/// What the running kernel is like.
#[derive(Debug, Clone)]
pub struct Probe {
    /// As verdicts need it. Limits that no tiny program can reach are those of the newest profile.
    pub profile: KernelProfile,
    /// Program types whose programs are verified here without more (an attach point, a target).
    pub program_types: Vec<ProgramType>,
    /// Map types that can be made here without more.
    pub map_types: Vec<MapType>,
}

/// Finds out what the running kernel is like. Nothing is left behind.
///
/// # Errors
/// The kernel cannot be asked, or does not say its version.
pub fn probe() -> Result<Probe, KernelError> {
    Oracle::new()?;
    let release = release()?;
    let version = Version::parse(&release).ok_or_else(|| KernelError::Refused {
        what: format!("a version in `{release}`"),
        errno: Errno(libc::EINVAL),
    })?;
    let newest = KernelProfile::default();
    let known = ProgramType::ALL.iter().copied();
    let profile = KernelProfile {
        name: Cow::Owned(format!("linux-{release}")),
        version,
        features: features(),
        helpers: known
            .clone()
            .filter_map(program_types::of)
            .map(|rules| helpers(&*rules))
            .collect(),
        processors: processors(),
        max_frames: greatest(1, 64, |n| accepts(&frames(n))).unwrap_or(newest.max_frames),
        max_stack: greatest(1, 512, |n| accepts(&stack(8 * n)))
            .map_or(newest.max_stack, |words| 8 * words),
        max_subprograms: greatest(1, 1024, |n| accepts(&subprograms(n)))
            .unwrap_or(newest.max_subprograms),
        max_maps: max_maps().unwrap_or(newest.max_maps),
        ..newest
    };
    let program_types = known.filter(|&ty| is_verified(ty)).collect();
    let map_types = MapType::ALL.iter().copied().filter(|&ty| can_be_made(ty)).collect();
    Ok(Probe { profile, program_types, map_types })
}

fn release() -> Result<String, KernelError> {
    let text = std::fs::read_to_string(RELEASE).map_err(|error| KernelError::Refused {
        what: format!("to show {RELEASE}"),
        errno: Errno(error.raw_os_error().unwrap_or(libc::EIO)),
    })?;
    Ok(text.trim().to_owned())
}

/// How the kernel takes a program: `None` if it loads it, else the last line of the log.
fn refusal(program_type: ProgramType, slots: &[RawInsn]) -> Option<String> {
    refusal_at(program_type, None, slots)
}

/// The same for a program that is to be attached somewhere.
fn refusal_at(
    program_type: ProgramType,
    attach_type: Option<AttachType>,
    slots: &[RawInsn],
) -> Option<String> {
    let load = ProgramLoad {
        program_type: program_type.number(),
        attach_type: attach_type.map_or(0, AttachType::number),
        license: "GPL",
        slots,
        ..ProgramLoad::default()
    };
    load.load().err().map(|refusal| refusal.message)
}

/// Whether the kernel loads a socket filter.
fn accepts(text: &str) -> bool {
    refusal(ProgramType::SocketFilter, &slots(text)).is_none()
}

fn slots(text: &str) -> Vec<RawInsn> {
    let program: Program = assemble(text).expect("the programs of this file assemble");
    program.to_slots().expect("assembled programs have an encoding")
}

/// The greatest number from `low` on for which `holds`, which is monotonic; `None` if it does not
/// hold for `low`, or still does for `high`.
fn greatest(low: u32, high: u32, holds: impl Fn(u32) -> bool) -> Option<u32> {
    if !holds(low) || holds(high) {
        return None;
    }
    let (mut good, mut bad) = (low, high);
    while bad - good > 1 {
        let middle = good.midpoint(bad);
        if holds(middle) {
            good = middle;
        } else {
            bad = middle;
        }
    }
    Some(good)
}

fn features() -> Features {
    let found = Feature::ALL.iter().filter(|&&feature| has_feature(feature));
    found.fold(Features::NONE, |features, &feature| features.with(feature))
}

fn has_feature(feature: Feature) -> bool {
    match feature {
        Feature::Jmp32 => accepts("r0 = 0\nif w0 == 0 goto pc+0\nexit"),
        Feature::Atomics => accepts(
            "*(u64 *)(r10 -8) = 0\nr1 = 1\nr1 = atomic64_xchg((u64 *)(r10 -8), r1)\nr0 = 0\nexit",
        ),
        Feature::CpuV4 => accepts(
            "*(u64 *)(r10 -8) = 0\nr1 = *(s8 *)(r10 -8)\nr1 s/= 3\nr1 = bswap64 r1\n\
             gotol pc+0\nr0 = 0\nexit",
        ),
        Feature::MayGoto => accepts("r0 = 0\nmay_goto pc+0\nexit"),
        Feature::LoadAcquire => {
            accepts("*(u64 *)(r10 -8) = 0\nr1 = load_acquire((u64 *)(r10 -8))\nr0 = 0\nexit")
        }
        Feature::AddrSpaceCast => accepts_with(
            &map_spec(MapType::Arena),
            "r1 = map[0] ll\nr2 = 0\nr2 = addr_space_cast(r2, 0, 1)\nr0 = 0\nexit",
        ),
        // The value is read without having been compared with null.
        Feature::ConstantKeys => accepts_with(
            &map_spec(MapType::Array),
            "*(u32 *)(r10 -4) = 0\nr2 = r10\nr2 += -4\nr1 = map[0] ll\n\
             call bpf_map_lookup_elem#1\nr0 = *(u8 *)(r0 +0)\nexit",
        ),
        _ => false,
    }
}

/// Whether the kernel loads a socket filter with this as its only map.
fn accepts_with(spec: &MapSpec<'_>, text: &str) -> bool {
    let Ok(map) = Map::new(spec) else {
        return false;
    };
    let mut slots = slots(text);
    for slot in slots.iter_mut().filter(|slot| slot.opcode == 0x18) {
        slot.imm = map.number();
    }
    refusal(ProgramType::SocketFilter, &slots).is_none()
}

/// The number that bounds what `bpf_get_smp_processor_id` returns.
fn processors() -> Option<u32> {
    // Where the result may exceed `last`, the program reads a register that it never wrote.
    let is_beyond = |last: u32| {
        !accepts(&format!(
            "call bpf_get_smp_processor_id#8\nif r0 > {last} goto pc+1\nr9 = 0\nr0 = r9\nexit"
        ))
    };
    let without = greatest(0, MAX_PROCESSORS, is_beyond);
    match without {
        // Of one processor more, at least one is number `last + 1`: there are `last + 2`.
        Some(last) => Some(last + 2),
        None if is_beyond(0) => None,
        None => Some(1),
    }
}

/// The helpers that the kernel lets programs of a type call.
fn helpers(rules: &dyn ProgramTypeRules) -> TypeHelpers {
    let program_type = rules.program_type();
    let attach_types = AttachType::ALL.iter().copied().map(Some);
    let attach_types: Vec<_> =
        [None].into_iter().chain(attach_types).filter(|&at| rules.may_attach(at)).collect();
    // No argument was written, so no call is good; the question is what is found wrong with it.
    let lets = |id: &HelperId| {
        let call = RawInsn { opcode: 0x85, imm: id.0.cast_signed(), ..RawInsn::default() };
        let [set, exit] = super::oracle::return_slots(0);
        // There are helpers that some attach types do not have.
        let attach_type = attach_types.iter().copied().find(|&at| rules.may_call(*id, at));
        let message = refusal_at(program_type, attach_type.flatten(), &[call, set, exit]);
        let message = message.unwrap_or_default();
        !["program of this type cannot use helper", "unknown func", "invalid func"]
            .iter()
            .any(|start| message.starts_with(start))
    };
    let known = (1..).map(HelperId).take_while(|id| id.name().is_some());
    TypeHelpers { program_type, helpers: known.filter(lets).collect() }
}

/// A program with a chain of calls of so many functions, the main one included.
fn frames(count: u32) -> String {
    let function = |index: u32| match index + 1 < count {
        true => format!("f{index}:\ncall f{}\nexit\n", index + 1),
        false => format!("f{index}:\nr0 = 0\nexit\n"),
    };
    (0..count).map(function).collect()
}

/// A program with so many functions, each called by the main one.
fn subprograms(count: u32) -> String {
    let calls: String = (1..count).map(|index| format!("call f{index}\n")).collect();
    let functions: String = (1..count).map(|index| format!("f{index}:\nr0 = 0\nexit\n")).collect();
    format!("{calls}r0 = 0\nexit\n{functions}")
}

/// A program that uses so many bytes of stack.
fn stack(bytes: u32) -> String {
    format!("*(u64 *)(r10 -{bytes}) = 0\nr0 = 0\nexit")
}

fn max_maps() -> Option<u32> {
    let maps: Vec<Map> =
        (0..1024).map_while(|_| Map::new(&map_spec(MapType::Array)).ok()).collect();
    let accepts = |count: u32| {
        let load = |map: &Map| {
            let wide = RawInsn { opcode: 0x18, dst: 1, src: 1, off: 0, imm: map.number() };
            [wide, RawInsn::default()]
        };
        let mut slots: Vec<RawInsn> = maps[..count as usize].iter().flat_map(load).collect();
        slots.extend(super::oracle::return_slots(0));
        refusal(ProgramType::SocketFilter, &slots).is_none()
    };
    greatest(1, u32::try_from(maps.len()).ok()?, accepts)
}

/// Whether programs of a type get to the verifier: the smallest one is loaded or gives a reason.
fn is_verified(program_type: ProgramType) -> bool {
    let message = refusal(program_type, &super::oracle::return_slots(0));
    message.is_none_or(|message| !message.is_empty())
}

fn can_be_made(map_type: MapType) -> bool {
    let inner = Map::new(&map_spec(MapType::Array)).ok();
    let of_maps = matches!(map_type, MapType::ArrayOfMaps | MapType::HashOfMaps);
    let spec = map_spec(map_type);
    Map::new(&MapSpec { inner: inner.as_ref().filter(|_| of_maps), ..spec }).is_ok()
}

/// A smallest map of a type.
fn map_spec(map_type: MapType) -> MapSpec<'static> {
    use MapType::{
        Arena, BloomFilter, CgroupStorage, LpmTrie, PercpuCgroupStorage, Queue, Ringbuf, Stack,
        StackTrace, UserRingbuf,
    };
    const NO_PREALLOC: u32 = 1;
    const MMAPABLE: u32 = 1 << 10;
    let (key_size, value_size, max_entries, flags) = match map_type {
        Arena => (0, 0, 1, MMAPABLE),
        Queue | Stack | BloomFilter => (0, 4, 1, 0),
        Ringbuf | UserRingbuf => (0, 0, 4096, 0),
        LpmTrie => (8, 4, 1, NO_PREALLOC),
        StackTrace => (4, 8, 1, 0),
        CgroupStorage | PercpuCgroupStorage => (8, 4, 0, 0),
        _ => (4, 4, 1, 0),
    };
    // Programs refer to an arena by its address in user space.
    let extra = if map_type == Arena { ARENA_ADDRESS } else { 0 };
    let map_type = map_type.number();
    MapSpec { map_type, key_size, value_size, max_entries, flags, extra, ..MapSpec::default() }
}

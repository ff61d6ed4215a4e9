//! Any program against any environment: a verdict, no panic, in bounded time and memory.
//!
//! Programs are random slots, generated ones with changes, and those of `hostile`, which are built to
//! make a verifier keep as much as it can. No kernel is needed.

mod hostile;

use ebpf_runtime::isa::text::assemble;
use ebpf_runtime::isa::uapi::{AttachType, MapDesc, MapType, ProgramType, map_flags};
use ebpf_runtime::isa::{Program, RawInsn, decode_all};
use ebpf_runtime::verifier::{
    Environment, Feature, Features, KernelProfile, MapInfo, Options, SpecialField, ValueField,
    ValueFields, Version, program_types, verify,
};
use ebpf_testkit::{Rng, wild_program};

use super::Case;
use super::verifier::programs;
use crate::error::TaskError;

/// No more memory than this may ever be in use, in KiB.
const MOST_MEMORY: u64 = 1 << 20;

const PROGRAM_TYPES: [ProgramType; 3] =
    [ProgramType::Xdp, ProgramType::SchedCls, ProgramType::SocketFilter];

pub(super) fn prepare() -> Result<Case, TaskError> {
    Ok(Box::new(case))
}

fn case(rng: &mut Rng) -> Result<(), String> {
    let program_type = *rng.pick(&PROGRAM_TYPES);
    let (name, program) = match rng.range(0..64) {
        0 => hostile::program(rng),
        1..20 => ("slots", random(rng)),
        20..30 => {
            let statements = rng.range(1..30);
            ("wild", Some(wild_program(rng, statements)))
        }
        _ => ("changed", changed(rng, program_type)),
    };
    let Some(program) = program else { return Ok(()) };
    let environment = environment(rng, program_type);
    let before = memory();
    let verdict = verify(&program, &environment, &Options::default());
    let after = memory();
    if after > before && after > Some(MOST_MEMORY) {
        let verdict = verdict.map_or_else(|rejection| rejection.message, |_| "accept".into());
        let kib = after.unwrap_or_default();
        return Err(format!("{name}: {kib} KiB for `{verdict}`, in\n{}", program.listing()));
    }
    Ok(())
}

/// The most memory that this process had so far, in KiB; `None` where the system does not tell.
fn memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}

/// Slots of which each decodes.
fn random(rng: &mut Rng) -> Option<Program> {
    let mut slots = Vec::new();
    for _ in 0..rng.range(1..24) {
        let slot = RawInsn {
            opcode: rng.next_u64() as u8,
            dst: rng.range(0..11) as u8,
            src: rng.range(0..11) as u8,
            off: *rng.pick(&[0, 0, 0, 1, -1, -8, 8, i16::MIN, i16::MAX]),
            imm: *rng.pick(&[0, 0, 1, -1, 3, 64, i32::MIN, i32::MAX]),
        };
        slots.extend(in_a_form(slot, rng));
    }
    slots.push(RawInsn { opcode: 0x95, ..RawInsn::default() });
    Program::from_slots(&slots).ok()
}

/// The slot, with its unused fields cleared until it decodes.
fn in_a_form(slot: RawInsn, rng: &mut Rng) -> Option<RawInsn> {
    let kept = |keep: u64| RawInsn {
        src: if keep & 1 == 0 { slot.src } else { 0 },
        off: if keep & 2 == 0 { slot.off } else { 0 },
        imm: if keep & 4 == 0 { slot.imm } else { 0 },
        dst: if keep & 8 == 0 { slot.dst } else { 0 },
        ..slot
    };
    let first = rng.range(0..2);
    (first..16).map(kept).find(|slot| decode_all(&[*slot]).is_ok())
}

/// A program that makes sense, with other fields in a few slots.
fn changed(rng: &mut Rng, program_type: ProgramType) -> Option<Program> {
    let mut slots =
        assemble(&programs::program(rng.next_u64(), program_type)).ok()?.to_slots().ok()?;
    for _ in 0..rng.range(0..6) {
        let at = rng.range(0..slots.len() as u64) as usize;
        let other = *rng.pick(&slots);
        let slot = &mut slots[at];
        match rng.range(0..5) {
            0 => slot.dst = rng.range(0..11) as u8,
            1 => slot.src = rng.range(0..11) as u8,
            2 => slot.off = rng.next_u64() as i16,
            3 => slot.imm = rng.next_u64() as i32,
            _ => *slot = other,
        }
    }
    Program::from_slots(&slots).ok()
}

fn environment(rng: &mut Rng, program_type: ProgramType) -> Environment {
    let rules = program_types::of(program_type).expect("there are rules of these types");
    let mut environment = Environment::new(rules);
    environment.attach_type = rng.chance(1, 8).then(|| *rng.pick(AttachType::ALL));
    environment.license_gpl = rng.chance(3, 4);
    environment.maps = (0..rng.range(0..6)).map(|index| map(rng, index)).collect();
    environment.profile = profile(rng);
    environment
}

fn map(rng: &mut Rng, index: u64) -> MapInfo {
    let mut size = || *rng.pick(&[0, 1, 4, 4, 7, 8, 16, 48, 512, 513, 1 << 20, 1 << 31, u32::MAX]);
    let (key_size, value_size, max_entries) = (size(), size(), size());
    let any = *rng.pick(MapType::ALL);
    let map_type = *rng.pick(&[MapType::Array, MapType::Hash, any]);
    let any = rng.next_u64() as u32;
    let flags = *rng.pick(&[0, 0, map_flags::RDONLY_PROG, map_flags::WRONLY_PROG, any]);
    let desc = MapDesc { map_type, key_size, value_size, max_entries, flags };
    let mut map = MapInfo::new(format!("map{index}"), desc);
    // Contents may be shorter or longer than they should be.
    let len = rng.range(0..64) as usize;
    map.frozen = rng.chance(1, 4).then(|| rng.bytes(len));
    map.fields = fields(rng);
    map
}

/// Any fields, also where there cannot be any.
fn fields(rng: &mut Rng) -> ValueFields {
    let kinds = [SpecialField::SpinLock, SpecialField::Timer, SpecialField::Pointer];
    match rng.range(0..8) {
        0 => ValueFields::Unknown,
        1 | 2 => {
            let mut field = || ValueField {
                off: *rng.pick(&[0, 4, 8, 16, 500, u32::MAX]),
                kind: *rng.pick(&kinds),
            };
            ValueFields::Known(vec![field(), field()])
        }
        _ => ValueFields::Untyped,
    }
}

fn profile(rng: &mut Rng) -> KernelProfile {
    let mut profile = KernelProfile::default();
    if rng.chance(1, 2) {
        return profile;
    }
    profile.version = Version::new(rng.range(0..8) as u16, rng.range(0..20) as u16);
    profile.features = Features::of(profile.version);
    for _ in 0..rng.range(0..4) {
        profile.features = profile.features.with(*rng.pick(Feature::ALL));
    }
    profile.processors = *rng.pick(&[None, Some(0), Some(1), Some(64), Some(u32::MAX)]);
    for _ in 0..rng.range(0..3) {
        let (name, limit) = *rng.pick(&profile.limits());
        let changed = *rng.pick(&[0, 1, 2, limit / 2, limit.saturating_sub(1)]);
        *profile.limit_mut(name).expect("the profile has its limits") = changed;
    }
    profile
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn random_slots_are_programs_often_enough() {
        let programs = (0..200).filter(|&seed| random(&mut Rng::seed(seed)).is_some());
        assert!(programs.count() > 20);
    }

    #[test]
    fn hostile_programs_are_bounded() {
        for seed in 0..hostile::SHAPES.len() as u64 {
            let (name, program) = hostile::shape(seed as usize, 64);
            let program = program.unwrap_or_else(|| panic!("{name} is no program"));
            let environment = Environment::new(program_types::xdp());
            let _ = verify(&program, &environment, &Options::default());
        }
    }
}

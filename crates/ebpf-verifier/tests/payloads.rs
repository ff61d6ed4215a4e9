//! A rejection says what is broken in numbers, not only in words; and there is no payload that no
//! rule makes.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::collections::BTreeSet;

use ebpf_isa::text::assemble;
use ebpf_isa::uapi::{AttachType, HelperId, MapType, ProgramType};
use ebpf_isa::{AluOp, DecodeError, MapIdx, Pc, ProgramError, RawInsn, Reg};
use ebpf_testkit::for_each_fixture;
use ebpf_verifier::domain::Tnum;
use ebpf_verifier::rules::ExitRange;
use ebpf_verifier::{
    ArithmeticRule, BadSize, Extreme, Feature, Features, Options, Payload, Region, Rejection,
    StackAccess, Unsupported, Version, check_slots, verify,
};
use support::Subject;

/// Why a program is rejected in an environment, in the form of `-- env` sections.
fn payload(env: &str, asm: &str) -> Payload {
    let env = support::parse_env(env).unwrap();
    verify(&assemble(asm).unwrap(), &env, &Options::default()).unwrap_err().payload
}

#[test]
fn a_packet_access_is_so_many_bytes_too_long() {
    // 14 bytes are there, and the four from 12 on are loaded.
    let asm = "r2 = *(u32 *)(r1 +0)\nr3 = *(u32 *)(r1 +4)\nr4 = r2\nr4 += 14\n\
        if r4 > r3 goto out\nr0 = *(u32 *)(r2 +12)\nout:\nr0 = 2\nexit";
    let Payload::PacketBounds { register, off, size, range, .. } = payload("type xdp", asm) else {
        panic!("another rule");
    };
    assert_eq!((register, off, size, range), (Reg::R2, 12, 4, 14));
    assert_eq!(off + size - i64::from(range), 2);
}

#[test]
fn an_index_may_be_too_large_for_the_value() {
    let asm = "*(u32 *)(r10 -4) = 0\nr2 = r10\nr2 += -4\nr1 = map[0] ll\n\
        call bpf_map_lookup_elem#1\nif r0 == 0 goto out\nr1 = *(u32 *)(r0 +0)\nr1 &= 63\n\
        r0 += r1\nr0 = *(u64 *)(r0 +0)\nout:\nr0 = 0\nexit";
    let region = Region::MapValue { map: MapIdx(0), value_size: 64 };
    let (register, extreme) = (Reg::R0, Extreme::Greatest);
    let expected = Payload::MemoryBounds { register, region, extreme, off: 63, size: 8 };
    assert_eq!(payload("map hash 4 64 1", asm), expected);
}

#[test]
fn an_access_lies_below_the_frame() {
    let Payload::StackBounds { access } = payload("", "*(u64 *)(r10 -520) = 1\nr0 = 0\nexit")
    else {
        panic!("another rule");
    };
    let StackAccess { register, write, lowest, size, .. } = access;
    assert_eq!((register, write, lowest, size), (Reg::FP, true, -520, 8));
}

/// Programs, and why they are rejected.
fn programs() -> Vec<(&'static str, &'static str, Payload)> {
    vec![
        (
            "type cgroup_skb",
            "r0 = 5\nexit",
            Payload::ExitValue { smin: 5, smax: 5, allowed: ExitRange { min: 0, max: 1 } },
        ),
        (
            "",
            "r1 *= 3\nr0 = 0\nexit",
            Payload::PointerArithmetic {
                register: Reg::R1,
                op: AluOp::Mul,
                kind: "ctx",
                rule: ArithmeticRule::Operator,
            },
        ),
        (
            "type xdp",
            "r1 = r10\nr2 = 0\ncall bpf_fib_lookup#69\nr0 = 0\nexit",
            Payload::HelperArgument { register: Reg::R1, kind: "fp", expected: &["ctx"] },
        ),
        (
            "type socket_filter",
            "r3 = r10\nr3 += -8\nr2 = 0\nr4 = -1\ncall bpf_skb_load_bytes#26\nr0 = 0\nexit",
            Payload::HelperSize { register: Reg::R4, bad: BadSize::Negative { min: -1 } },
        ),
        (
            "map inode_storage 4 4 0",
            "r1 = map[0] ll\nr0 = 0\nexit",
            Payload::Unsupported { what: Unsupported::Map(MapType::InodeStorage) },
        ),
        (
            "map array_of_maps 4 4 1",
            "r1 = map[0] ll\nr0 = 0\nexit",
            Payload::Unsupported { what: Unsupported::InnerMap },
        ),
        (
            "map array_of_maps 4 4 1\ninner hash_of_maps 4 4 1",
            "r1 = map[0] ll\nr0 = 0\nexit",
            Payload::Unsupported { what: Unsupported::Map(MapType::HashOfMaps) },
        ),
        (
            "map hash_of_maps 4 4 1\ninner array 4 4 1",
            "*(u32 *)(r10 -8) = 1\nr2 = r10\nr2 += -8\nr1 = map[0] ll\n\
             call bpf_map_lookup_elem#1\nr1 = map[0] ll\nif r1 == r0 goto out\nout:\nr0 = 0\nexit",
            Payload::Unsupported { what: Unsupported::ElementComparison },
        ),
        (
            "type xdp",
            "call bpf_bind#64\nr0 = 0\nexit",
            Payload::HelperNotAllowed { helper: HelperId(64) },
        ),
        ("", "r1 = map[3] ll\nr0 = 0\nexit", Payload::MapMissing { map: MapIdx(3) }),
        (
            "map array 4 8 1",
            "r1 = map[0][0]+536870912 ll\nr0 = 0\nexit",
            Payload::MapValueOffset { off: 1 << 29 },
        ),
        ("type cgroup_skb", "r0 = r1\nexit", Payload::ExitPointer { kind: "ctx" }),
        (
            "kfunc 1 1 f ctx",
            "r1 = r10\ncall kfunc#1 module#1\nr0 = 0\nexit",
            Payload::KfuncContext { argument: 0, kind: "fp" },
        ),
        (
            "kfunc 1 1 put object=o? release",
            "r1 = 0\ncall kfunc#1 module#1\nr0 = 0\nexit",
            Payload::KfuncNotAcquired { function: "put".into() },
        ),
        (
            "kfunc 1 1 find -> object=o\nkfunc 1 2 f object=o trusted_args",
            "call kfunc#1 module#1\nr1 = r0\ncall kfunc#2 module#1\nr0 = 0\nexit",
            Payload::KfuncUntrusted { register: Reg::R1 },
        ),
        ("", "callx r1\nr0 = 0\nexit", Payload::CallThroughRegister),
        (
            "type cgroup_skb\nattach xdp",
            "r0 = 0\nexit",
            Payload::AttachType {
                program_type: ProgramType::CgroupSkb,
                attach_type: Some(AttachType::Xdp),
            },
        ),
        (
            "",
            "call bpf_get_prandom_u32#7\nr0 &= 8\nr1 = r10\nr1 += -16\nr1 += r0\nr2 = 1\n\
             lock *(u64 *)(r1 +0) += r2\nr0 = 0\nexit",
            Payload::StackVariable { var_off: Tnum { value: 0, mask: 8 }, off: -16, size: 8 },
        ),
    ]
}

#[test]
fn rejections_have_the_numbers_of_the_program() {
    for (env, asm, expected) in programs() {
        assert_eq!(payload(env, asm), expected, "{asm}");
    }
}

/// Limits that a profile has lowered, and an instruction that it does not know.
#[test]
fn rejections_have_the_limits_of_the_profile() {
    for (asm, expected) in limits() {
        assert_eq!(limited(asm), expected, "{asm}");
    }
    assert_eq!(too_many_kfuncs(), Payload::LimitKfuncs { max: 256 });
}

fn limits() -> [(&'static str, Payload); 4] {
    [
        ("r1 = map[0] ll\nr1 = map[1] ll\nr0 = 0\nexit", Payload::LimitMaps { max: 1 }),
        ("call f\ncall g\nexit\nf:\nexit\ng:\nexit", Payload::LimitSubprograms { max: 2 }),
        (
            "r0 = 0\nif r0 == 0 goto out\ncall f\nout:\nexit\nf:\nr0 = 0\nexit",
            Payload::LimitCallChain { frames: 1 },
        ),
        ("r0 = 0\ngotol pc+0\nexit", Payload::InsnUnknown { feature: Feature::CpuV4 }),
    ]
}

/// The rejection of a program that calls 257 kernel functions.
fn too_many_kfuncs() -> Payload {
    let lines = |line: fn(u32) -> String| (1..=257).map(line).collect::<String>();
    let env = lines(|id| format!("kfunc 1 {id} f{id}\n"));
    payload(&env, &format!("{}exit", lines(|id| format!("call kfunc#{id} module#1\n"))))
}

/// The rejection of a program whose states take more than 10,000 bytes.
fn too_much_memory() -> Payload {
    let forks: String = (0..100).map(|n| format!("if r0 == {n} goto out\n")).collect();
    let asm = format!("call bpf_get_prandom_u32#7\n{forks}out:\nr0 = 0\nexit");
    let env = support::parse_env("type xdp").unwrap();
    let mut options = Options::default();
    options.max_state_bytes = Some(10_000);
    verify(&assemble(&asm).unwrap(), &env, &options).unwrap_err().payload
}

/// Why a kernel rejects a program that has less of everything.
fn limited(asm: &str) -> Payload {
    let mut env = support::parse_env("type xdp\nmap hash 4 4 1\nmap hash 4 4 1").unwrap();
    env.profile.max_maps = 1;
    env.profile.max_subprograms = 2;
    env.profile.max_frames = 1;
    env.profile.features = Features::of(Version::new(6, 5));
    verify(&assemble(asm).unwrap(), &env, &Options::default()).unwrap_err().payload
}

/// One slot: opcode, destination, source, offset, immediate.
const fn slot(opcode: u8, dst: u8, src: u8, off: i16, imm: i32) -> RawInsn {
    RawInsn { opcode, dst, src, off, imm }
}

/// Rejections of slots that are no program.
fn of_slots() -> Vec<Rejection> {
    let (mov, exit) = (slot(0xb7, 0, 0, 0, 0), slot(0x95, 0, 0, 0, 0));
    let wide = |src| slot(0x18, 1, src, 0, 0);
    let programs: [&[RawInsn]; 9] = [
        &[],
        &[slot(0xff, 0, 0, 0, 0), exit],
        &[slot(0x61, 0, 1, 0, 1), exit],
        &[wide(0), exit, exit],
        &[wide(7), RawInsn::default(), exit],
        &[wide(1), RawInsn::default(), exit],
        &[slot(0x05, 0, 0, 7, 0), exit],
        &[slot(0x15, 1, 0, 1, 0), wide(0), RawInsn::default(), exit],
        &[mov, slot(0x85, 0, 1, 0, 7), exit],
    ];
    let env = support::parse_env("type socket_filter").unwrap();
    let of_slots = programs.map(|slots| *check_slots(slots, &|_| None, &env).unwrap_err());
    let register = DecodeError::BadRegister { pc: Pc::ENTRY, number: 11 };
    let errors = [
        ProgramError::Decode(register),
        ProgramError::FallsThrough { pc: Pc::ENTRY },
        ProgramError::SplitWideLoad { pc: Pc::ENTRY },
    ];
    let malformed = errors.map(|error| *Rejection::malformed(&error));
    of_slots.into_iter().chain(malformed).collect()
}

fn too_many_timers() -> Payload {
    let Subject { program, env, .. } = support::timers_set(8193);
    verify(&program, &env, &Options::default()).unwrap_err().payload
}

#[test]
fn every_payload_is_made_by_some_program() {
    if std::env::var("FIXTURE").is_ok_and(|filter| !filter.is_empty()) {
        return ebpf_testkit::skip("FIXTURE leaves fixtures out: the payloads of all of them");
    }
    let expected = programs().into_iter().map(|(.., payload)| payload);
    let expected = expected.chain(limits().map(|(_, payload)| payload)).chain([
        too_many_kfuncs(),
        too_much_memory(),
        too_many_timers(),
    ]);
    let of_slots = of_slots().into_iter().map(|rejection| rejection.payload);
    let mut made: BTreeSet<_> = of_slots.chain(expected).map(|payload| payload.name()).collect();
    for_each_fixture("verify", |fixture| {
        let Subject { program, env, .. } = Subject::of(fixture)?;
        let Err(rejection) = verify(&program, &env, &Options::default()) else { return Ok(()) };
        made.insert(rejection.payload.name());
        if let Payload::GlobalArguments { cause, .. } = rejection.payload {
            made.insert(cause.name());
        }
        Ok(())
    });
    let never: Vec<_> = Payload::KINDS.iter().filter(|kind| !made.contains(kind.name)).collect();
    assert!(never.is_empty(), "{never:#?}");
}

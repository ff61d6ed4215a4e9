//! The running kernel: it accepts what filters are converted to, and comes to the same answers. Where
//! it cannot be asked, the tests say so and pass.

use ebpf_runtime::classic::{Filter, LINK_OFFSET, Packet, Target, text};
use ebpf_runtime::isa::uapi::ProgramType;
use ebpf_runtime::kernel::{Errno, KernelError, LoadedProgram, Oracle, ProgramLoad};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

use crate::engines::converted;
use crate::generate::{filter, packet};
use crate::programs::fixture;

/// Length of an Ethernet header.
const HEADER: usize = 14;
/// What a test run says of packets that it does not take.
const EINVAL: Errno = Errno(22);
/// The shortest packets that a test run takes have a byte behind that header.
const LEN_MIN: usize = HEADER + 1;
/// Those that are too short for the network header that they announce, at most that of IPv6, it may
/// refuse.
const LEN_SURE: usize = HEADER + 40;
/// The longest packet that a test run takes in any case.
const LEN_MAX: usize = 3000;

const TARGETS: [(Target, ProgramType); 3] = [
    (Target::SchedCls, ProgramType::SchedCls),
    (Target::Xdp, ProgramType::Xdp),
    (Target::SocketFilter, ProgramType::SocketFilter),
];

/// Whether there is a kernel to ask; says why not.
fn can_ask() -> bool {
    match Oracle::new() {
        Ok(_) => true,
        Err(error @ (KernelError::NoRights | KernelError::NoSyscall)) => {
            ebpf_testkit::skip(&error.to_string());
            false
        }
        Err(error) => panic!("{error}"),
    }
}

/// The filter in the kernel, which must accept it.
fn load(filter: &Filter, target: Target, program_type: ProgramType) -> LoadedProgram {
    let program = converted(filter, target).program;
    let load = ProgramLoad {
        program_type: program_type.number(),
        license: "Dual MIT/GPL",
        slots: &program.to_slots().unwrap(),
        ..ProgramLoad::default()
    };
    load.load().unwrap_or_else(|refusal| {
        panic!(
            "{target}: {}\n{}\n{}",
            refusal.message,
            program.listing(),
            load.log(2).unwrap_or_default()
        )
    })
}

/// Loads a filter for each target, and runs it on packets.
fn check(filter: &Filter, packets: &[Vec<u8>]) {
    let counts_from_header = |k: u32| (LINK_OFFSET..LINK_OFFSET + 0x1000).contains(&k);
    for (target, program_type) in TARGETS {
        let program = load(filter, target, program_type);
        // A test run hands socket filters the packet without its link-layer header.
        let skipped = if target == Target::SocketFilter { HEADER } else { 0 };
        if skipped > 0 && filter.original().iter().any(|insn| counts_from_header(insn.k)) {
            continue;
        }
        for packet in packets.iter().filter(|packet| (LEN_MIN..LEN_MAX).contains(&packet.len())) {
            let expected = filter.run(&Packet::new(&packet[skipped..]));
            let value = program.test_run(packet, &[], 1);
            if packet.len() < LEN_SURE && value == Err(EINVAL) {
                continue;
            }
            assert_eq!(value, Ok(expected), "{target}, {} bytes", packet.len());
        }
    }
}

#[test]
fn generated_filters_are_accepted_and_judge_the_same() {
    if !can_ask() {
        return;
    }
    let config =
        ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() };
    let cases = (filter(), prop::collection::vec(packet(), 4));
    let outcome = TestRunner::new(config).run(&cases, |(filter, packets)| {
        check(&filter, &packets);
        Ok(())
    });
    outcome.unwrap();
}

#[test]
fn the_fixtures_are_accepted_and_judge_the_same() {
    if !can_ask() {
        return;
    }
    let packets = crate::programs::packets().map(|(packet, ..)| packet);
    for name in ["port_22", "ssh_payload"] {
        let filter = fixture(name);
        for packet in &packets {
            let truncated: Vec<Vec<u8>> =
                (LEN_MIN..=packet.len()).map(|len| packet[..len].to_vec()).collect();
            check(&filter, &truncated);
        }
    }
}

/// `X` plus a constant leads where the sum does: into the bytes, or behind the network header, which
/// a test run puts behind the link-layer header.
#[test]
fn sums_choose_regions() {
    if !can_ask() {
        return;
    }
    let bytes: Vec<u8> = (0..64).collect();
    for (x, off) in [
        (60, "-40"),
        (0xfff0_0003, "3"),
        (0xf_fff3, "-1048557"),
        (0x10_0005, "-2097152"),
        (2, "-1048574"),
        (0x8000_0001, "0x80000001"),
        (0x7fff_ffff, "14"),
        (u32::MAX, "0"),
    ] {
        let source = format!(
            "ld #{x:#x}\nst M[0]\nld #len\njeq #7, other\nldx M[0]\nja load\n\
                              other: ldx #0\nload: ldb [x + {off}]\nadd #1\nret a"
        );
        let filter = Filter::new(text::parse(&source).unwrap()).unwrap();
        for (target, program_type) in [TARGETS[0], TARGETS[2]] {
            let skipped = if target == Target::SocketFilter { HEADER } else { 0 };
            let packet = Packet {
                network_header: Some((HEADER - skipped) as u32),
                ..Packet::new(&bytes[skipped..])
            };
            let value = load(&filter, target, program_type).test_run(&bytes, &[], 1);
            assert_eq!(value, Ok(filter.run(&packet)), "{target}, {x:#x} + {off}");
        }
    }
}

#[test]
fn what_is_forgotten_is_checked_again() {
    if !can_ask() {
        return;
    }
    for source in crate::programs::FORGOTTEN {
        let filter = Filter::new(text::parse(source).unwrap()).unwrap();
        check(&filter, &[vec![4; 300], vec![8; 60], vec![250; 200]]);
    }
}

/// Every piece of ancillary data that a target has is accepted.
#[test]
fn ancillary_data_is_accepted() {
    if !can_ask() {
        return;
    }
    for (target, program_type) in TARGETS {
        let source = crate::programs::ancillary(target);
        load(&Filter::new(text::parse(source).unwrap()).unwrap(), target, program_type);
    }
}

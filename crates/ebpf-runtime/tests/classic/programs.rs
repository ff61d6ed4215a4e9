//! Generated filters and those of the fixtures.

use ebpf_runtime::Engine;
use ebpf_runtime::classic::seccomp::{AUDIT_ARCH_X86_64, Action, SeccompData, SeccompFilter};
use ebpf_runtime::classic::{Filter, LINK_OFFSET, Options, Packet, Returns, Target, convert, text};
use ebpf_runtime::filter::PacketFilter;
use ebpf_runtime::interp::{Links, Memory, Vm};
use ebpf_runtime::isa::abi::ExecEnv;
use ebpf_runtime::seccomp::SeccompProgram;
use ebpf_runtime::verifier::program_types;
use ebpf_testkit::fixtures_dir;
use proptest::prelude::*;

use crate::engines::{Engines, RUNTIME, accepted, converted};
use crate::generate::{filter, packet};

fn parsed(text: &str) -> Filter {
    Filter::new(text::parse(text).unwrap()).unwrap()
}

pub(crate) fn fixture(name: &str) -> Filter {
    let path = fixtures_dir().join(format!("classic/{name}.dd"));
    parsed(&std::fs::read_to_string(path).unwrap())
}

/// Ethernet, IPv4 with `options` words of options, TCP between two ports, and a payload.
fn tcp4(options: u8, source: u16, destination: u16, payload: usize) -> Vec<u8> {
    let header = 20 + 4 * usize::from(options);
    let mut packet = vec![0x11; 12];
    packet.extend([0x08, 0x00, 0x45 + options, 0]);
    packet.extend(((header + 20 + payload) as u16).to_be_bytes());
    packet.extend([0, 0, 0, 0, 64, 6, 0, 0, 192, 0, 2, 1, 192, 0, 2, 2]);
    packet.resize(14 + header, 0);
    packet.extend(source.to_be_bytes());
    packet.extend(destination.to_be_bytes());
    packet.extend([0; 8]);
    packet.extend([0x50, 0x18, 0, 0, 0, 0, 0, 0]);
    packet.resize(packet.len() + payload, 0xaa);
    packet
}

/// Ethernet, IPv6, a protocol, and ports.
fn ip6(protocol: u8, source: u16, destination: u16) -> Vec<u8> {
    let mut packet = vec![0x11; 12];
    packet.extend([0x86, 0xdd, 0x60, 0, 0, 0, 0, 20, protocol, 64]);
    packet.resize(54, 0);
    packet.extend(source.to_be_bytes());
    packet.extend(destination.to_be_bytes());
    packet.resize(74, 0);
    packet
}

const KEEP: u32 = 262_144;

/// Packets, and what `port 22` and the filter for segments with a payload say of each.
pub(crate) fn packets() -> [(Vec<u8>, u32, u32); 8] {
    [
        (tcp4(0, 22, 4000, 0), KEEP, 0),
        (tcp4(0, 4000, 22, 5), KEEP, KEEP),
        (tcp4(10, 22, 4000, 5), KEEP, KEEP),
        (tcp4(10, 22, 4000, 0), KEEP, 0),
        (tcp4(0, 80, 4000, 5), 0, 0),
        (ip6(6, 22, 4000), KEEP, 0),
        (ip6(17, 4000, 22), KEEP, 0),
        (ip6(58, 22, 22), 0, 0),
    ]
}

/// What tcpdump's filters accept, and that all engines say so, for these packets cut at any length.
#[test]
fn the_fixtures_judge_packets() {
    let engines = ["port_22", "ssh_payload"].map(|name| Engines::new(&fixture(name)));
    for (packet, port_22, ssh_payload) in packets() {
        for (engines, expected) in engines.iter().zip([port_22, ssh_payload]) {
            assert_eq!(engines.assert_agree(&packet), expected);
            for len in 0..packet.len() {
                engines.assert_agree(&packet[..len]);
            }
        }
    }
}

/// The last byte that direct access reaches, and the packets around it.
#[test]
fn packets_of_64_kib_are_judged() {
    for (load, end) in [("ldb [65534]", 65535), ("ld [32766]", 32770), ("ldh [65533]", 65535)] {
        let engines = Engines::new(&parsed(&format!("{load}\nret #1")));
        for len in [0, end - 1, end, 65535] {
            engines.assert_agree(&vec![7; len]);
        }
    }
    let engines = Engines::new(&parsed("ldx #65000\nldh [x + 533]\nret a"));
    for len in [65534, 65535] {
        engines.assert_agree(&vec![7; len]);
    }
}

/// `X` plus a constant is a number of 32 bits, which says what it counts from.
#[test]
fn regions_are_those_of_sums() {
    let bytes: Vec<u8> = (0..40).collect();
    for (x, off, expected) in [
        (60, "-40", Some(20)),
        (3, "-2097152", Some(3)),
        (LINK_OFFSET + 3, "14", Some(17)),
        (u32::MAX - 13, "14", Some(0)),
        (0x1f_fffc, "-2097140", Some(8)),
        (0x7fff_ffff, "14", None),
        (0x7fff_ffff, "0x7fffffff", None),
        (0x8000_0001, "0x80000001", Some(2)),
    ] {
        let filter = parsed(&format!("ldx #{x:#x}\nldb [x + {off}]\nadd #1\nret a"));
        let value = Engines::new(&filter).assert_agree(&bytes);
        assert_eq!(value, expected.map_or(0, |byte| byte + 1), "{x:#x} + {off}");
    }
}

/// The same from the network header, which only traffic control knows.
#[test]
fn sums_count_from_the_network_header() {
    let bytes: Vec<u8> = (0..40).collect();
    let packet = Packet { network_header: Some(14), ..Packet::new(&bytes) };
    for (x, off, expected) in [
        (0xfff0_0013_u32, "3", Some(36)),
        (0x10_0005, "-2097152", Some(19)),
        (2, "-1048574", Some(18)),
        // From the network constant on to the data again.
        (0xf_fff3, "-1048557", Some(6)),
    ] {
        for set in
            [format!("ldx #{x:#x}"), format!("ld #cpu\nand #0\nadd #{x:#x}\nst M[0]\nldx M[0]")]
        {
            let filter = parsed(&format!("{set}\nldb [x + {off}]\nadd #1\nret a"));
            let engines = Engines::of(&filter, &[Target::SchedCls]);
            let value = engines.assert_agree_on(&packet);
            assert_eq!(value, expected.map_or(0, |byte| byte + 1), "{x:#x} + {off}");
            let nowhere = Packet { network_header: None, ..packet };
            engines.assert_agree_on(&nowhere);
        }
    }
    // What no value of `X` leads out of the network header is refused where there is none.
    let refused = |target| {
        convert(
            &parsed("ldx 4*([14]&0xf)\nldb [x + -1048576]\nret a"),
            &Options { target, returns: Returns::Value },
        )
    };
    for target in [Target::Xdp, Target::Flat] {
        assert_eq!(
            refused(target).unwrap_err().to_string(),
            format!("insn 1: no offsets from the network header in {target}")
        );
    }
}

/// Filters of which verifiers, while they look at one register, forget what they knew of `X`.
pub(crate) const FORGOTTEN: [&str; 3] = [
    "ldb [0]\ntax\ntxa\nsub #4\njset #0x1e, out\nldh [x + 3]\nret a\nout: ret #1",
    "ldb [0]\ntax\nadd #7\njset #0x1e, out\nldh [x + 3]\nret a\nout: ret #1",
    "ldx 4*([0]&0xf)\nstx M[1]\nld M[1]\nsub #4\njset #0x1e, out\nldb [x + 3]\nldh [x + 9]\nret a\nout: ret #1",
];

#[test]
fn what_is_forgotten_is_checked_again() {
    for source in FORGOTTEN {
        let engines = Engines::new(&parsed(source));
        for first in [0, 4, 5, 8, 250] {
            let mut packet = vec![first; 300];
            packet[0] = first;
            engines.assert_agree(&packet);
            engines.assert_agree(&packet[..12]);
        }
    }
}

/// Two filters of the fuzzer, whose constants are not in the regions that their sums are in.
#[test]
fn constants_do_not_choose_regions() {
    let bytes: Vec<u8> = vec![2; 65535];
    let packet = Packet { network_header: Some(14), ..Packet::new(&bytes) };
    for (source, expected) in [
        ("ldx #len\nldb [x + 0xfffff01c]\nret a", 2),
        ("ldh [0]\nor #0xfff00013\nand #0xfff00013\ntax\nldh [x + 2]\nret a", 0x202),
    ] {
        let engines = Engines::of(&parsed(source), &[Target::SchedCls]);
        assert_eq!(engines.assert_agree_on(&packet), expected, "{source}");
    }
    let engines = Engines::new(&parsed("ldx #len\nldb [x + 0xfffff01c]\nret a"));
    assert_eq!(engines.assert_agree(&bytes), 2);
}

/// Loads of every piece of ancillary data that a target has.
pub(crate) fn ancillary(target: Target) -> &'static str {
    match target {
        Target::SchedCls => {
            "ld #proto\nld #type\nld #ifidx\nld #mark\nld #queue\nld #rxhash\nld #cpu\n\
             ld #vlan_tci\nld #vlan_avail\nld #vlan_tpid\nld #rand\nld #len\nldx #len\n\
             ldb [-1048576]\nldx 4*([-1048576]&0xf)\nldh [x + -1048574]\nldb [-2097152]\nret a"
        }
        Target::Xdp => "ld #ifidx\nld #cpu\nld #rand\nldx #len\nldh [-2097140]\nret a",
        _ => {
            "ld #proto\nld #type\nld #ifidx\nld #mark\nld #queue\nld #rxhash\nld #cpu\n\
             ld #vlan_tci\nld #vlan_avail\nld #vlan_tpid\nldx #len\nld #rand\nret a"
        }
    }
}

/// Each piece of ancillary data that a target has passes its verifier.
#[test]
fn ancillary_data_is_verified() {
    for (target, rules) in [
        (Target::SchedCls, program_types::sched_cls()),
        (Target::Xdp, program_types::xdp()),
        (Target::SocketFilter, program_types::socket_filter()),
    ] {
        accepted(&converted(&parsed(ancillary(target)), target).program, rules);
    }
}

/// Every field reaches the program that asks for it.
#[test]
fn ancillary_data_is_read() {
    let bytes = tcp4(0, 22, 80, 4);
    let mut packet = Packet { network_header: Some(14), ..Packet::new(&bytes) };
    let meta = &mut packet.metadata;
    (meta.protocol, meta.packet_type, meta.ifindex, meta.mark) = (0x0800, 3, 7, 0xdead_beef);
    (meta.queue, meta.rx_hash, meta.vlan_tci) = (12, 0x0123_4567, 0x2064);
    (meta.vlan_present, meta.vlan_tpid) = (true, 0x88a8);
    let skb = [Target::SchedCls, Target::SocketFilter];
    for (load, expected) in [
        ("ld #proto", 0x0800),
        ("ld #type", 3),
        ("ld #ifidx", 7),
        ("ld #mark", 0xdead_beef),
        ("ld #queue", 12),
        ("ld #rxhash", 0x0123_4567),
        ("ld #vlan_tci", 0x2064),
        ("ld #vlan_avail", 1),
        ("ld #vlan_tpid", 0x88a8),
        ("ld #cpu", 0),
        ("ld #len", bytes.len() as u32),
    ] {
        let engines = Engines::of(&parsed(&format!("{load}\nret a")), &skb);
        assert_eq!(engines.assert_agree_on(&packet), expected, "{load}");
    }
    for (load, expected) in [("ldb [-1048567]", 6), ("ldh [-2097140]", 0x0800)] {
        let engines = Engines::of(&parsed(&format!("{load}\nret a")), &skb[..1]);
        assert_eq!(engines.assert_agree_on(&packet), expected, "{load}");
    }
    let xdp = [Target::Xdp];
    assert_eq!(Engines::of(&parsed("ld #ifidx\nret a"), &xdp).assert_agree_on(&packet), 7);
    packet.metadata.ifindex = 0;
    let ends = Engines::of(&parsed("ld #ifidx\nret #1"), &[skb[0], skb[1], xdp[0]]);
    assert_eq!(ends.assert_agree_on(&packet), 0, "no interface ends the filter");
}

#[test]
fn what_cannot_be_run_is_refused() {
    let error = |text, target| {
        PacketFilter::load(&RUNTIME, &parsed(text), target, Engine::Jit).unwrap_err().to_string()
    };
    assert_eq!(
        error("ldb [0]\nldb [-2097152]\nret a", Target::SocketFilter),
        "insn 1: may count from a header, which is not run as socket_filter; use sched_cls"
    );
    assert_eq!(
        error("ld #mark\nret a", Target::Xdp),
        "insn 0: no `mark` in xdp: there is no socket buffer yet"
    );
    assert_eq!(
        error("ret #1", Target::Seccomp),
        "seccomp filters judge no packets; load them as `SeccompProgram`"
    );
}

/// Programs of `struct seccomp_data`, as a program type of our own.
#[test]
fn seccomp_filters_are_verified_and_judge() {
    // Allows read (0) on file descriptor 3 and getpid (39); refuses other calls; other machines die.
    let filter = parsed(
        "        ld [4]
                 jne #0xc000003e, kill
                 ld [0]
                 jeq #39, allow
                 jne #0, refuse
                 ld [20]
                 jne #0, refuse
                 ld [16]
                 jeq #3, allow
        refuse:  ret #0x50001
        allow:   ret #0x7fff0000
        kill:    ret #0x80000000",
    );
    let filter = SeccompFilter::new(filter).unwrap();
    let load = |engine| SeccompProgram::load(&RUNTIME, &filter, engine).unwrap();
    let programs = [load(Engine::Interp), load(Engine::Jit)];
    let call = |arch, nr, fd| SeccompData {
        nr,
        arch,
        args: [fd, 1, 2, 3, 4, 5],
        ..SeccompData::default()
    };
    for (data, action) in [
        (call(AUDIT_ARCH_X86_64, 39, 0), Action::Allow),
        (call(AUDIT_ARCH_X86_64, 0, 3), Action::Allow),
        (call(AUDIT_ARCH_X86_64, 0, 4), Action::Errno(1)),
        (call(AUDIT_ARCH_X86_64, 0, 3 | 1 << 32), Action::Errno(1)),
        (call(AUDIT_ARCH_X86_64, -1, 3), Action::Errno(1)),
        (call(0x4000_0003, 39, 3), Action::KillProcess),
    ] {
        assert_eq!(filter.action(&data), action);
        for program in &programs {
            let value = program.run(&data, &mut ExecEnv::new()).unwrap();
            assert_eq!(Action::of(value), action);
        }
    }
}

/// From the text of `tcpdump -ddd` to verdicts, with the converter and the interpreter alone.
#[test]
fn two_crates_filter_a_buffer() {
    let arp = "4\n40 0 0 12\n21 0 1 2054\n6 0 0 262144\n6 0 0 0\n";
    let filter = Filter::new(text::parse(arp).unwrap()).unwrap();
    let options = Options { target: Target::SocketFilter, returns: Returns::Value };
    let program = convert(&filter, &options).unwrap().program;
    let vm = Vm::new(&program, None, &Links::default()).unwrap();
    let verdict = |packet: &[u8]| {
        let mut memory = Memory::new();
        memory.add(packet);
        let mut env = ExecEnv::new();
        (env.packet, env.packet_len) = (packet.as_ptr(), packet.len() as u64);
        vm.run(0, &memory, &mut env).unwrap()
    };
    let mut packet = [0; 60];
    assert_eq!(verdict(&packet), 0);
    packet[12..14].copy_from_slice(&[0x08, 0x06]);
    assert_eq!(verdict(&packet), 262_144);
    assert_eq!(verdict(&packet[..13]), 0);
}

/// With two-byte jumps and many instructions, the common end is still in reach of each.
#[test]
fn the_longest_filters_are_converted() {
    let loads = "ldx 4*([14]&0xf)\nldh [x + 14]\n".repeat(2047);
    let filter = parsed(&format!("{loads}ja 4095\nret #1"));
    for target in Target::ALL.into_iter().filter(|&target| target != Target::Seccomp) {
        let slots = converted(&filter, target).program.to_slots().unwrap();
        assert!(slots.len() >= filter.insns().len() / 2, "{target}");
    }
    let engines = Engines::of(&filter, &[Target::Flat]);
    assert_eq!(engines.assert_agree(&tcp4(0, 1, 2, 0)), 1);
    assert_eq!(engines.assert_agree(&[0; 14]), 0);
    // Each load leaves the packet in its own way, and may count from the network header.
    let loads = "ld [0]\ntax\nldb [x + 3]\n".repeat(1364);
    let filter = parsed(&format!("{loads}ret #1"));
    let engines = Engines::of(&filter, &[Target::SchedCls, Target::Xdp]);
    assert_eq!(engines.assert_agree(&[0; 4]), 1);
    assert_eq!(engines.assert_agree(&[0, 0, 0, 1]), 0);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    /// Each filter is verified as XDP, traffic control and socket filter, and all engines agree.
    #[test]
    fn converted_filters_do_the_same(filter in filter(), packets in prop::collection::vec(packet(), 8)) {
        let engines = Engines::new(&filter);
        for packet in &packets {
            engines.assert_agree(packet);
        }
    }

    /// So they do on a packet that ends anywhere.
    #[test]
    fn truncated_packets_get_the_same(filter in filter(), packet in packet()) {
        let engines = Engines::new(&filter);
        for len in 0..packet.len().min(80) {
            engines.assert_agree(&packet[..len]);
        }
    }
}

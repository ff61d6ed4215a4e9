//! What filters become, and what cannot be converted.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use ebpf_classic::explain::{Subject, explain};
use ebpf_classic::seccomp::{Action, SeccompFilter};
use ebpf_classic::{
    ClassicPc, Converted, Filter, Metadata, Options, Packet, Returns, SockFilter, Target, convert,
    text,
};
use ebpf_isa::Pc;
use ebpf_isa::text::assemble;
use proptest::prelude::*;

fn filter(text: &str) -> Filter {
    Filter::new(text::parse(text).unwrap()).unwrap()
}

fn converted(text: &str, target: Target) -> Converted {
    convert(&filter(text), &Options { target, returns: Returns::Value }).unwrap()
}

#[track_caller]
fn becomes(text: &str, target: Target, expected: &str) {
    let program = converted(text, target).program;
    assert_eq!(program, assemble(expected).unwrap(), "\n{}", program.listing());
}

/// One check for all loads that every accepting way makes; the shorter way does not count.
#[test]
fn loads_share_checks() {
    becomes(
        "ldh [12]\njne #0x800, drop\nldb [23]\njne #6, drop\nldb [14]\nret a\ndrop: ret #0",
        Target::Xdp,
        "r2 = *(u32 *)(r1 +4)
         r1 = *(u32 *)(r1 +0)
         r4 = r1
         r4 += 24
         if r4 > r2 goto zero
         r0 = *(u16 *)(r1 +12)
         if w0 != 0x8 goto zero
         r0 = *(u8 *)(r1 +23)
         if w0 != 6 goto zero
         r0 = *(u8 *)(r1 +14)
         exit
         zero: w0 = 0
         exit",
    );
}

#[test]
fn a_way_that_accepts_shorter_packets_is_not_cut_short() {
    becomes(
        "ldb [0]\njeq #1, more\nret #1\nmore: ldb [9]\nret a",
        Target::Flat,
        "if r2 < 1 goto zero
         r0 = *(u8 *)(r1 +0)
         if w0 == 1 goto more
         w0 = 1
         exit
         more: if r2 < 10 goto zero
         r0 = *(u8 *)(r1 +9)
         exit
         zero: w0 = 0
         exit",
    );
}

/// An address of eight bytes, from the upper half down.
#[test]
fn neighbours_become_one_load() {
    becomes(
        "ld [30]\njne #0x55667788, drop\nld [26]\njne #0x11223344, drop\nret #1\ndrop: ret #0",
        Target::SchedCls,
        "r2 = *(u32 *)(r1 +80)
         r1 = *(u32 *)(r1 +76)
         r4 = r1
         r4 += 34
         if r4 > r2 goto zero
         r0 = *(u64 *)(r1 +26)
         r4 = 0x8877665544332211 ll
         if r0 != r4 goto zero
         w0 = 1
         exit
         zero: w0 = 0
         exit",
    );
}

/// Packets of four to seven bytes do not end with 0, so the two loads stay apart.
#[test]
fn neighbours_stay_apart_where_short_packets_go_on() {
    becomes(
        "ld [0]\njne #1, short\nld [4]\njne #2, short\nret #1\nshort: ldb [0]\nret a",
        Target::Flat,
        "if r2 < 4 goto zero
         r0 = *(u32 *)(r1 +0)
         if w0 != 0x1000000 goto short
         if r2 < 8 goto zero
         r0 = *(u32 *)(r1 +4)
         if w0 != 0x2000000 goto short
         w0 = 1
         exit
         short: r0 = *(u8 *)(r1 +0)
         exit
         zero: w0 = 0
         exit",
    );
}

#[test]
fn a_value_that_is_used_later_is_a_number() {
    becomes(
        "ldh [0]\njeq #0x102, out\nadd #1\nout: ret a",
        Target::Flat,
        "if r2 < 2 goto zero
         r0 = *(u16 *)(r1 +0)
         r0 = be16 r0
         if w0 == 0x102 goto out
         w0 += 1
         out: exit
         zero: w0 = 0
         exit",
    );
}

#[test]
fn pointers_are_shared_while_x_stays() {
    becomes(
        "ldx 4*([14]&0xf)\nldh [x + 14]\ntax\nret a",
        Target::Flat,
        "if r2 < 15 goto zero
         r3 = *(u8 *)(r1 +14)
         w3 &= 15
         w3 <<= 2
         w5 = w3
         r4 = r5
         r4 += 16
         if r4 > r2 goto zero
         r5 += r1
         r0 = *(u16 *)(r5 +14)
         r0 = be16 r0
         w3 = w0
         exit
         zero: w0 = 0
         exit",
    );
    let two = converted(
        "ldx 4*([14]&0xf)\nldh [x + 14]\njset #1, drop\nldh [x + 20]\nret a\ndrop: ret #1",
        Target::Xdp,
    );
    let listing = two.program.listing().to_string();
    assert_eq!(listing.matches("> r2 goto").count(), 3, "{listing}");
    assert!(listing.contains("r5 = r1\n") && listing.contains("r5 += r3\n"), "{listing}");
    assert!(listing.contains("r4 += 16") && listing.contains("(r5 +14)"), "{listing}");
    assert!(listing.contains("r4 += 22") && listing.contains("(r5 +20)"), "{listing}");
}

#[test]
fn socket_filters_load_by_instruction() {
    becomes(
        "ldx 4*([14]&0xf)\nldb [x + -2097152]\nret a",
        Target::SocketFilter,
        "r6 = r1
         r0 = *(u8 *)skb[14]
         w7 = w0
         w7 &= 15
         w7 <<= 2
         r0 = *(u8 *)skb[r7 -2097152]
         exit",
    );
}

#[test]
fn actions_replace_values() {
    let returns = Returns::Action { accept: 2, reject: 1 };
    let options = Options { target: Target::Flat, returns };
    let program =
        convert(&filter("ldb [0]\njeq #7, keep\nret a\nkeep: ret #9"), &options).unwrap().program;
    let expected = "if r2 < 1 goto zero
        r0 = *(u8 *)(r1 +0)
        if w0 == 7 goto keep
        if w0 == 0 goto zero
        w0 = 2
        exit
        keep: w0 = 2
        exit
        zero: w0 = 1
        exit";
    assert_eq!(program, assemble(expected).unwrap(), "\n{}", program.listing());
    let options = Options { target: Target::SocketFilter, returns };
    let error = convert(&filter("ret #1"), &options).unwrap_err();
    assert_eq!(
        error.to_string(),
        "socket_filter programs return what the filter ends with, no actions"
    );
}

#[test]
fn positions_are_kept() {
    let filter =
        converted("ld [0]\njne #1, drop\nld [4]\njne #1, drop\nret #1\ndrop: ret #0", Target::Flat);
    // 0: check, 1: load, 2: wide constant, 4: comparison, 5 and 6: ret #1, 7 and 8: the end with 0
    let starts = [Some(Pc(0)), Some(Pc(0)), Some(Pc(0)), Some(Pc(0)), Some(Pc(5)), None];
    for (pc, start) in starts.into_iter().enumerate() {
        assert_eq!(filter.start(ClassicPc(pc as u16)), start, "insn {pc}");
    }
    let origins = [0, 0, 0, 0, 0, 4, 4].map(|pc| Some(ClassicPc(pc)));
    for (pc, origin) in origins.into_iter().chain([None, None]).enumerate() {
        assert_eq!(filter.origin(Pc(pc as u32)), origin, "insn {pc}");
    }
}

#[test]
fn what_a_target_does_not_have_is_refused() {
    let rows = [
        ("ld #mark\nret a", Target::Xdp, "insn 0: no `mark` in xdp: there is no socket buffer yet"),
        (
            "ld #cpu\nret a",
            Target::Flat,
            "insn 0: no `cpu` in flat: a block of memory has nothing but its bytes",
        ),
        (
            "ld #nla\nret a",
            Target::SchedCls,
            "insn 0: no `nla` in sched_cls: eBPF cannot search netlink attributes",
        ),
        (
            "ld #poff\nret a",
            Target::SocketFilter,
            "insn 0: no `poff` in socket_filter: no helper dissects headers",
        ),
        (
            "ld #hatype\nret a",
            Target::SchedCls,
            "insn 0: no `hatype` in sched_cls: no context field has it",
        ),
        ("ld [-1048576]\nret a", Target::Xdp, "insn 0: no offsets from the network header in xdp"),
        (
            "ldb [0]\nret a",
            Target::Seccomp,
            "insn 0: seccomp filters have no loads of less than 32 bits",
        ),
        ("ld [2]\nret a", Target::Seccomp, "insn 0: load at 2: use multiples of 4 below 64"),
        ("ld [64]\nret a", Target::Seccomp, "insn 0: load at 64: use multiples of 4 below 64"),
        ("mod #2\nret a", Target::Seccomp, "insn 0: seccomp filters have no remainders"),
    ];
    for (text, target, message) in rows {
        let options = Options { target, returns: Returns::Value };
        assert_eq!(convert(&filter(text), &options).unwrap_err().to_string(), message);
    }
}

#[test]
fn the_machine_knows_what_linux_knows() {
    let meta = |text: &str, change: fn(&mut Metadata)| {
        let mut packet = Packet { network_header: Some(2), ..Packet::new(&[1, 2, 0x45, 4]) };
        change(&mut packet.metadata);
        filter(text).run(&packet)
    };
    assert_eq!(meta("ld #proto\nret a", |meta| meta.protocol = 0x800), 0x800);
    assert_eq!(meta("ld #ifidx\nret #1", |meta| meta.ifindex = 0), 0);
    assert_eq!(meta("ld #hatype\nret a", |meta| (meta.ifindex, meta.hardware_type) = (1, 7)), 7);
    assert_eq!(meta("ld #vlan_avail\nret a", |meta| meta.vlan_present = true), 1);
    assert_eq!(meta("ld #6\nldx #3\nld [xor_x]\nret a", |_| ()), 5);
    assert_eq!(meta("ldb [-1048576]\nret a", |_| ()), 0x45);
    assert_eq!(meta("ldb [-2097152]\nret a", |_| ()), 1);
    assert_eq!(meta("ldx 4*([2]&0xf)\ntxa\nret a", |_| ()), 20);
    assert_eq!(meta("ld #8\ndiv x\nret #1", |_| ()), 0);
    assert_eq!(meta("ld #1\nldx #33\nlsh x\nret a", |_| ()), 2);
    assert_eq!(meta("ld #1\nneg\nret a", |_| ()), u32::MAX);
}

#[test]
fn actions_have_names() {
    let names = [
        (0x8000_0000, "KILL_PROCESS"),
        (0, "KILL_THREAD"),
        (0x0003_0007, "TRAP(7)"),
        (0x0005_0001, "ERRNO(1)"),
        (0x0005_ffff, "ERRNO(4095)"),
        (0x7fc0_0000, "USER_NOTIF"),
        (0x7ff0_0002, "TRACE(2)"),
        (0x7ffc_0000, "LOG"),
        (0x7fff_0000, "ALLOW"),
        (0x1234_0000, "KILL_PROCESS"),
    ];
    for (value, name) in names {
        assert_eq!(Action::of(value).to_string(), name);
    }
}

#[test]
fn system_calls_are_explained() {
    let filter = filter(
        "ld [4]\njne #0xc000003e, kill\nld [0]\njge #3, other\nret #0x7fff0000\nother: ld [20]\nret #0x50001\nkill: ret #0x80000000",
    );
    let filter = SeccompFilter::new(filter).unwrap();
    let explanation = explain(filter.filter(), Subject::SystemCall, 10);
    assert_eq!(
        explanation.to_string(),
        "ERRNO(1) if arch == 0xc000003e and nr >= 3\n\
         ALLOW if arch == 0xc000003e and nr < 3\n\
         KILL_PROCESS if arch != 0xc000003e\n",
    );
}

/// Ways that contradict themselves are not shown, and long ones are cut.
#[test]
fn explanations_are_bounded() {
    let twice = filter(
        "ldb [0]\njgt #9, big, small\nbig: jeq #5, never\nret #1\nsmall: jge #10, never\nret #2\nnever: ret #3",
    );
    assert_eq!(
        explain(&twice, Subject::Packet, 10).to_string(),
        "1 if len >= 1 and pkt[0] > 9\n2 if len >= 1 and pkt[0] <= 9\n",
    );
    let many: String = (0..200)
        .map(|at| format!("ldb [{at}]\njeq #1 jt {0} jf {1}\n", 2 * at + 2, 2 * at + 3))
        .collect();
    let many = filter(&format!("{many}ret #1\nret #2"));
    let explanation = explain(&many, Subject::Packet, 50);
    assert_eq!((explanation.paths.len(), explanation.complete), (50, false));
    let deep = filter(&format!("{}ret a", "tax\nadd x\n".repeat(2000)));
    assert_eq!(explain(&deep, Subject::Packet, 1).paths.len(), 0);
    let deep = filter(&format!("ld [0]\n{}ret a", "tax\nadd x\n".repeat(2000)));
    let result = &explain(&deep, Subject::Packet, 1).paths[0].result;
    assert!(result.len() < 1000, "{result}");
}

proptest! {
    /// Whatever the checker accepts can be run, explained and converted or refused.
    #[test]
    fn nothing_panics(mut program in prop::collection::vec((0_u16..0xb2, 0_u8..4, 0_u8..4, prop_oneof![0_u32..70, any::<u32>(), 0xffff_f000..=u32::MAX]), 1..20), packet in prop::collection::vec(any::<u8>(), 0..80)) {
        program.push((0x16, 0, 0, 0));
        let program: Vec<SockFilter> =
            program.into_iter().map(|(code, jt, jf, k)| SockFilter { code, jt, jf, k }).collect();
        let known: Vec<SockFilter> = program
            .into_iter()
            .filter(|insn| Filter::new([*insn, *insn, *insn, *insn, *insn, SockFilter::new(6, 0)]).is_ok())
            .collect();
        let known = [known, vec![SockFilter::new(0x16, 0); 5]].concat();
        let Ok(filter) = Filter::new(known) else { return Ok(()) };
        let _ = filter.run(&Packet::new(&packet));
        let _ = explain(&filter, Subject::Packet, 20).to_string();
        for target in Target::ALL {
            let _ = convert(&filter, &Options { target, returns: Returns::Value });
        }
    }
}

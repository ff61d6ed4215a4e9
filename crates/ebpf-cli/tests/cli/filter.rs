//! `ebpf filter`.

use std::io::Write;
use std::process::Stdio;

use serde_json::Value;

use super::*;

const PORT_22: &str = "fixtures/classic/port_22";
const PAYLOAD: &str = "fixtures/classic/ssh_payload.dd";

fn filter(args: &[&str]) -> Done {
    ebpf(&[&["filter"], args].concat())
}

fn json(args: &[&str]) -> Value {
    let out = filter(&[args, &["--json"]].concat()).fine();
    assert_eq!(out.lines().count(), 1, "{out}");
    serde_json::from_str(&out).unwrap()
}

/// What tcpdump 4.99 counts: `tcpdump -r fixtures/xdp/mixed.pcap FILTER | wc -l`.
const ACCEPTED: [(&str, u64); 2] = [("fixtures/classic/port_22.ddd", 183), (PAYLOAD, 65)];

#[test]
fn every_engine_and_target_counts_what_tcpdump_counts() {
    for (file, accepted) in ACCEPTED {
        for target in ["sched_cls", "xdp", "socket_filter", "flat"] {
            let report = json(&[file, "--pcap", MIXED, "--as", target]);
            assert_eq!(report["type"], target);
            assert_eq!(report["packets"], 2555);
            assert_eq!(report["accepted"], accepted, "{file} as {target}");
            assert_eq!(report["dropped"], 2555 - accepted);
            let engines = report["engines"].as_array().unwrap();
            let names: Vec<&Value> = engines.iter().map(|engine| &engine["engine"]).collect();
            assert_eq!(names, ["classic", "interp", "jit"]);
            assert!(engines.iter().all(|engine| engine["ns_per_packet"].as_f64().unwrap() > 0.0));
        }
    }
}

#[test]
fn one_engine_and_several_rounds() {
    let report =
        json(&[PAYLOAD, "--pcap", MIXED, "--target", "xdp", "--engine", "jit", "--repeat", "3"]);
    assert_eq!(report["repeat"], 3);
    assert_eq!(report["packets"], 2555);
    assert_eq!(report["engines"].as_array().unwrap().len(), 1);
    let report = json(&[PAYLOAD, "--pcap", MIXED, "--engine", "classic"]);
    assert_eq!(report["converted_insns"], Value::Null);
}

#[test]
fn a_table_for_people() {
    let out = filter(&["-ddd", &format!("{PORT_22}.ddd"), "--pcap", MIXED]).fine();
    let rest: Vec<&str> = out.lines().filter(|line| !line.starts_with("time ")).collect();
    assert!(rest[0].starts_with("filter    fixtures/classic/port_22.ddd with 24 instructions"));
    assert!(rest[1].ends_with(" instructions as sched_cls"), "{out}");
    assert_eq!(rest[2], "packets   fixtures/xdp/mixed.pcap, 1 times");
    assert_eq!(rest[4], "verdict  packets");
    assert_eq!(rest[7], "total       2555");
    for engine in ["classic", "interp", "jit"] {
        assert!(out.contains(&format!("\ntime      {engine}: ")), "{out}");
    }
}

#[test]
fn the_form_is_found_out_or_insisted_on() {
    let listing = filter(&[&format!("{PORT_22}.dd")]).fine();
    for (option, form) in [("-d", "txt"), ("-dd", "dd"), ("-ddd", "ddd")] {
        let file = format!("{PORT_22}.{form}");
        assert_eq!(filter(&[option, &file]).fine(), listing);
        assert_eq!(filter(&[&file]).fine(), listing);
    }
    let done = filter(&["-ddd", PAYLOAD]);
    let message = format!(
        "error: {PAYLOAD}: not in the form of tcpdump -ddd; without -ddd the form is found out\n"
    );
    assert_eq!((done.code, done.err), (Some(2), message));
    let mut command = command(&["filter", "-"]);
    let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = piped.spawn().unwrap();
    let text = fs::read(workspace_root().join(format!("{PORT_22}.txt"))).unwrap();
    child.stdin.take().unwrap().write_all(&text).unwrap();
    assert_eq!(Done::from(child.wait_with_output().unwrap()).fine(), listing);
}

#[test]
fn classic_beside_ebpf() {
    let file = temporary(
        "pair.bpf_asm",
        b"ld [0]\njne #1, drop\nld [4]\njne #1, drop\nret #1\nret #2\ndrop: ret #0\n",
    );
    // Two loads and comparisons are one; nothing leads to `ret #2`, and `ret #0` is the common end.
    let expected = "\
(000) ld       [0]                             0: if r2 < 0x8 goto pc+6
(001) jeq      #0x1             jt 2 jf 6      1: r0 = *(u64 *)(r1 +0)
(002) ld       [4]                             2: r4 = 0x100000001000000 ll
(003) jeq      #0x1             jt 4 jf 6      4: if r0 != r4 goto pc+2
(004) ret      #1                              5: w0 = 1
                                               6: exit
                                               7: w0 = 0
                                               8: exit
(005) ret      #2
(006) ret      #0
";
    assert_eq!(filter(&[&file, "--as", "flat"]).fine(), expected);
    let report = json(&[&file, "--as", "flat"]);
    assert_eq!(report["insns"], 7);
    assert_eq!(report["classic"][4], "ret      #1");
    assert_eq!(report["ebpf"][0]["origin"], 0);
    assert_eq!(report["ebpf"][0]["pc"], 0);
}

#[test]
fn what_a_filter_accepts() {
    let arp = temporary("arp.ddd", b"4\n40 0 0 12\n21 0 1 2054\n6 0 0 262144\n6 0 0 0\n");
    let out = filter(&[&arp, "--explain"]).fine();
    assert_eq!(out, "0x40000 if len >= 14 and pkt[12:2] == 0x806\n");
    let report = json(&[&arp, "--explain"]);
    assert_eq!(report["complete"], true);
    assert_eq!(report["paths"][0]["value"], 262_144);
    assert_eq!(report["paths"][0]["conditions"][0], "pkt[12:2] == 0x806");
    let nothing = temporary("nothing.bpf_asm", b"ret #0\n");
    assert_eq!(filter(&[&nothing, "--explain"]).fine(), "nothing is accepted\n");
}

/// getpid is allowed, close on file descriptor 3 too; other machines die.
fn system_calls() -> String {
    temporary(
        "calls.bpf_asm",
        b"ld [4]\njne #0xc000003e, kill\nld [0]\njeq #39, allow\njne #3, refuse\nld [20]\n\
          jne #0, refuse\nld [16]\njeq #3, allow\nrefuse: ret #0x50001\nallow: ret #0x7fff0000\n\
          kill: ret #0x80000000\n",
    )
}

#[test]
fn actions_for_system_calls() {
    let file = system_calls();
    for (call, action) in [
        (&["--syscall", "39"][..], "ALLOW\n"),
        (&["--syscall", "3", "--args", "3"], "ALLOW\n"),
        (&["--syscall", "3", "--args", "0x100000003,7"], "ERRNO(1)\n"),
        (&["--syscall", "-1"], "ERRNO(1)\n"),
        (&["--syscall", "0xffffffff"], "ERRNO(1)\n"),
        (&["--syscall", "0x27"], "ALLOW\n"),
        // The same call of the x32 ABI.
        (&["--syscall", "0x40000027"], "ERRNO(1)\n"),
        (&["--syscall", "39", "--arch", "0x40000003"], "KILL_PROCESS\n"),
    ] {
        assert_eq!(filter(&[&[&file, "--seccomp"], call].concat()).fine(), action);
    }
    let report = json(&[&file, "--seccomp", "--syscall", "3", "--args", "4"]);
    assert_eq!(report["action"], "ERRNO(1)");
    assert_eq!(report["value"], 0x50001);
    assert_eq!(report["args"], serde_json::json!([4, 0, 0, 0, 0, 0]));
    let out = filter(&[&file, "--seccomp", "--explain"]).fine();
    assert!(out.contains("ALLOW if arch == 0xc000003e and nr == 39\n"), "{out}");
    let listing = filter(&[&file, "--seccomp"]).fine();
    assert!(listing.contains("r0 = *(u32 *)(r1 +4)"), "{listing}");
}

#[test]
fn filters_that_are_refused() {
    let refused = |name: &str, text: &[u8], more: &[&str], message: &str, pc: Option<u64>| {
        let file = temporary(name, text);
        let done = filter(&[&[&*file], more].concat());
        assert_eq!((done.code, done.out.as_str()), (Some(1), ""));
        assert_eq!(done.err, format!("error: {file}: {message}\n"));
        let done = filter(&[&[&*file, "--json"], more].concat());
        assert_eq!((done.code, done.err.as_str()), (Some(1), ""));
        let object: Value = serde_json::from_str(&done.out).unwrap();
        assert_eq!(object["verdict"], "reject");
        assert_eq!(object["msg"], message);
        assert_eq!(object["pc"].as_u64(), pc);
    };
    let message = "insn 1: the last instruction must be a ret";
    refused("no_ret.bpf_asm", b"ld [0]\ntax\n", &[], message, Some(1));
    let message = "insn 0: no `mark` in xdp: there is no socket buffer yet";
    refused("mark.bpf_asm", b"ld #mark\nret a\n", &["--as", "xdp"], message, Some(0));
    let message = "insn 0: seccomp filters have no loads of less than 32 bits";
    refused("byte.bpf_asm", b"ldb [0]\nret a\n", &["--seccomp"], message, Some(0));
}

#[test]
fn bad_usage_and_input() {
    let file = temporary("typo.bpf_asm", b"ld [0]\nfoo\nret a\n");
    let done = filter(&[&file]);
    let message = format!("error: {file}: line 2, column 1: unknown instruction `foo`\n");
    assert_eq!((done.code, done.err), (Some(2), message));
    for args in [
        &[PAYLOAD, "--syscall", "1"][..],
        &[PAYLOAD, "--seccomp", "--pcap", MIXED],
        &[PAYLOAD, "--explain", "--pcap", MIXED],
        &[PAYLOAD, "--repeat", "2"],
        &[PAYLOAD, "--engine", "jit"],
        &[PAYLOAD, "--seccomp", "--syscall", "1", "--args", "1,2,3,4,5,6,7"],
        &[PAYLOAD, "--seccomp", "--syscall", "1", "--arch", "0x100000000"],
        &[PAYLOAD, "--seccomp", "--syscall", "0x100000000"],
    ] {
        assert_eq!(filter(args).code, Some(2), "{args:?}");
    }
}

/// Without the feature, what is no file is an error.
#[cfg(not(feature = "libpcap"))]
#[test]
fn what_is_no_file_is_not_found() {
    let done = filter(&["tcp port 22"]);
    let message = "error: tcp port 22: No such file or directory\n";
    assert_eq!((done.code, done.err.as_str()), (Some(2), message));
}

#[cfg(feature = "libpcap")]
#[test]
fn expressions_are_compiled() {
    // They keep 65,535 bytes of a packet, where tcpdump keeps 262,144.
    let by_file = filter(&[&format!("{PORT_22}.dd"), "--explain"]).fine();
    assert_eq!(filter(&["port 22", "--explain"]).fine(), by_file.replace("0x40000", "0xffff"));
    let payload = "tcp port 22 and (((ip[2:2] - ((ip[0]&0xf)<<2)) - ((tcp[12]&0xf0)>>2)) != 0)";
    for (expression, (_, accepted)) in ["port 22", payload].iter().zip(ACCEPTED) {
        for target in ["sched_cls", "xdp", "socket_filter", "flat"] {
            let report = json(&[expression, "--pcap", MIXED, "--as", target]);
            assert_eq!(report["accepted"], accepted, "{expression} as {target}");
        }
    }
    // No expression, but the file that it was meant to be.
    let done = filter(&["-dd", "port 22"]);
    let message = "error: port 22: No such file or directory\n";
    assert_eq!((done.code, done.err.as_str()), (Some(2), message));
    let done = filter(&["tcp prot 22"]);
    assert_eq!(done.code, Some(2));
    assert!(
        done.err.starts_with("error: tcp prot 22: not a file, and no expression: "),
        "{}",
        done.err
    );
}

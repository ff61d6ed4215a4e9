//! `ebpf run --coverage`.

use std::collections::BTreeMap;
use std::fs;

use super::run::{BLOCKED, Kernel};
use super::*;

/// Counts by line, of the one file that there is.
type Lines = BTreeMap<u32, u64>;

/// Runs a program on a capture and reads what it wrote, after checking its form.
fn coverage(name: &str, object: &str, capture: &str, more: &[&str]) -> Lines {
    let out = temporary(name, b"");
    let args = ["run", object, "--pcap", capture, "--coverage", &out];
    ebpf(&[&args, more].concat()).fine();
    let text = fs::read_to_string(out).unwrap();
    let source = object.replace(".o", ".c");
    let lines = text.strip_prefix(&format!("TN:\nSF:./{source}\n")).unwrap();
    let (lines, end) = lines.split_once("LF:").unwrap();
    let count = |line: &str| {
        let (line, count) = line.strip_prefix("DA:").unwrap().split_once(',').unwrap();
        (line.parse().unwrap(), count.parse().unwrap())
    };
    let counts: Vec<(u32, u64)> = lines.lines().map(count).collect();
    assert!(counts.is_sorted_by(|a, b| a.0 < b.0), "each line once");
    let hit = counts.iter().filter(|line| line.1 != 0).count();
    assert_eq!(end, format!("{}\nLH:{hit}\nend_of_record\n", counts.len()));
    counts.into_iter().collect()
}

/// A capture of these packets.
fn capture(name: &str, packets: &[&[u8]]) -> String {
    let words =
        |words: &[u32]| words.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<_>>();
    let mut file = words(&[0xa1b2_c3d4, 0x0004_0002, 0, 0, 65535, 1]);
    for packet in packets {
        let len = packet.len() as u32;
        file.extend(words(&[0, 0, len, len]));
        file.extend_from_slice(packet);
    }
    temporary(name, &file)
}

/// Ethernet, IPv4 without options, UDP to this port.
fn udp(port: u16) -> Vec<u8> {
    let mut packet = vec![0x11; 12];
    packet.extend([0x08, 0x00, 0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0]);
    packet.extend([10, 0, 0, 1, 192, 0, 2, 1, 0x12, 0x34]);
    packet.extend(port.to_be_bytes());
    packet.extend([0, 8, 0, 0]);
    packet
}

// Lines of the firewall's source.
const LOOK_UP_FLOW: u32 = 86;
const NEW_FLOW: u32 = 92;
/// In `count`, called for the action of each packet among others.
const COUNT: u32 = 72;
/// All statements of `send_back` that are code.
const SEND_BACK: [u32; 9] = [112, 113, 114, 116, 117, 118, 119, 120, 121];
/// Whether the packet has a TCP header.
const TCP: u32 = 132;
/// The first check of an IPv6 header.
const IPV6: u32 = 186;
/// Whether the packet has an Ethernet header.
const ETHERNET: u32 = 206;
/// The one statement of the program itself.
const PROGRAM: u32 = 229;

#[test]
fn lines_count_what_the_kernel_counted() {
    for (case, more) in [("", &[][..]), (" blocked", &BLOCKED)] {
        let kernel = Kernel::read(case);
        let lines = coverage("kernel.info", FIREWALL, MIXED, more);
        assert_eq!(lines[&PROGRAM], 2555);
        assert_eq!(lines[&ETHERNET], 2555);
        for line in SEND_BACK {
            assert_eq!(lines[&line], kernel.actions["TX"], "line {line}");
        }
    }
}

#[test]
fn lines_that_were_not_run_are_there() {
    let short: &[u8] = &[0; 13];
    let lines = coverage("short.info", FIREWALL, &capture("short.pcap", &[short]), &[]);
    assert_eq!((lines[&PROGRAM], lines[&ETHERNET]), (1, 1));
    let of_headers = |line: u32| (LOOK_UP_FLOW..=IPV6 + 8).contains(&line);
    for (&line, &count) in lines.iter().filter(|line| of_headers(*line.0)) {
        assert_eq!(count, 0, "line {line}");
    }
    assert_eq!(lines.keys().filter(|&&line| of_headers(line)).count(), 40);
}

#[test]
fn every_packet_counts() {
    let (dns, echo) = (udp(53), udp(7));
    let packets: &[&[u8]] = &[&dns, &echo, &dns, &dns];
    let file = capture("udp.pcap", packets);
    for (repeat, times) in [("1", 1), ("3", 3)] {
        let lines = coverage("udp.info", FIREWALL, &file, &["--repeat", repeat]);
        assert_eq!(lines[&PROGRAM], 4 * times);
        // Of its two copies, one runs for the echo requests, the other one more often.
        assert_eq!(lines[&LOOK_UP_FLOW], 3 * times);
        assert_eq!(lines[&NEW_FLOW], 1);
        assert!(SEND_BACK.iter().all(|line| lines[line] == times), "{lines:?}");
        assert_eq!((lines[&TCP], lines[&IPV6]), (0, 0));
        assert_eq!(lines[&COUNT], 4 * times);
    }
}

#[test]
fn the_smallest_program() {
    assert_eq!(coverage("minimal.info", MINIMAL, MIXED, &[]), [(8, 2555)].into());
}

#[test]
fn coverage_changes_nothing_else() {
    let out = temporary("same.info", b"");
    let run = |more: &[&str]| {
        let args = ["run", FIREWALL, "--pcap", MIXED, "--engine", "interp"];
        let out = ebpf(&[&args, more].concat()).fine();
        out.lines().filter(|line| !line.starts_with("time ")).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(run(&[]), run(&["--coverage", &out]));
}

#[test]
fn machine_code_and_programs_without_lines_are_refused() {
    let refused = |args: &[&str], error: &str| {
        let out = temporary("refused.info", b"as it was");
        let done = ebpf(&[args, &["--pcap", MIXED, "--coverage", &out]].concat());
        assert_eq!((done.code, done.out.as_str()), (Some(2), ""));
        assert_eq!(done.err, format!("error: {error}\n"));
        assert_eq!(fs::read(out).unwrap(), b"as it was");
    };
    refused(
        &["run", FIREWALL, "--engine", "jit"],
        "--coverage needs --engine interp: machine code does not count",
    );
    let text = temporary("no_lines.bpf", b"r0 = 1\nexit\n");
    refused(
        &["run", &text],
        &format!("{text}: no line information for --coverage; compile it with clang -g"),
    );
    let args = ["run", MINIMAL, "--pcap", MIXED, "--coverage", "/nowhere/out.info"];
    let done = ebpf(&args);
    assert_eq!(done.code, Some(2));
    assert_eq!(done.err, "error: /nowhere/out.info: No such file or directory\n");
}

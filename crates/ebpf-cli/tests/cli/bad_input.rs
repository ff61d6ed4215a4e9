//! Bad input: one line that names file and reason, exit code 2, nothing on standard output.

use std::fs;

use super::*;

#[track_caller]
fn assert_error(args: &[&str], message: &str) {
    let done = ebpf(args);
    assert_eq!(
        done,
        Done { code: Some(2), out: String::new(), err: format!("error: {message}\n") }
    );
}

fn fixture(name: &str) -> Vec<u8> {
    fs::read(workspace_root().join(name)).unwrap()
}

/// An object that differs from the firewall.
fn changed(name: &str, change: impl Fn(&mut Vec<u8>)) -> String {
    let mut bytes = fixture(FIREWALL);
    change(&mut bytes);
    temporary(name, &bytes)
}

/// Every command that reads a program says the same about `file`.
#[track_caller]
fn assert_bad_program(file: &str, reason: &str) {
    let message = format!("{file}: {reason}");
    assert_error(&["run", file, "--pcap", MIXED], &message);
    assert_error(&["run", file, "--mem", "", "--unverified"], &message);
    for command in ["verify", "disasm", "xlated", "jited"] {
        assert_error(&[command, file], &message);
    }
}

#[test]
fn files_that_are_no_programs() {
    assert_bad_program("nowhere.o", "No such file or directory");
    assert_bad_program("fixtures", "Is a directory");
    let unknown = "not an ELF file; text assembly is named .bpf or .s, raw instructions need --raw";
    assert_bad_program(MIXED, unknown);
    assert_bad_program(&temporary("nothing.o", b""), unknown);
    assert_bad_program(&temporary("latin.bpf", b"r0 = \xe9\n"), "not UTF-8 text");
    let no_section = temporary("no_asm.bpf", b"# No program.\n-- mem\n00\n");
    assert_bad_program(&no_section, "no section `-- asm`");
}

#[test]
fn broken_objects() {
    let cut = changed("cut.o", |bytes| bytes.truncate(40));
    assert_bad_program(&cut, "the ELF file is truncated: it ends inside the header");
    let cut = changed("cut_late.o", |bytes| bytes.truncate(bytes.len() - 1));
    assert_bad_program(&cut, "the ELF file is truncated: it ends inside the section table");
    let x86 = changed("x86.o", |bytes| bytes[18] = 62);
    let machine = "an ELF file for machine 62, not for BPF (247); compile with -target bpf";
    assert_bad_program(&x86, machine);
    let no_types = changed("no_types.o", |bytes| {
        let at = bytes.windows(5).position(|window| window == b".BTF\0").unwrap();
        bytes[at + 1] = b'X';
    });
    assert_bad_program(&no_types, "no section .BTF, which .BTF.ext needs");
}

#[test]
fn unknown_map_types() {
    // `__uint(type, 1)` is a pointer to an array of one `int`: kind 3, no name, 12 bytes more.
    let unknown = changed("map_type.o", |bytes| {
        let array = [0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0];
        let is_one = |bytes: &[u8]| bytes[..12] == array && bytes[20..24] == [1, 0, 0, 0];
        let at = bytes.windows(24).position(is_one).unwrap();
        bytes[at + 20] = 99;
    });
    assert_bad_program(&unknown, "map blocklist: unknown map type 99");
}

#[test]
fn unknown_programs() {
    let message = format!("{FIREWALL}: no program nobody; there are: xdp_firewall");
    assert_error(&["run", FIREWALL, "--prog", "nobody", "--pcap", MIXED], &message);
    for command in ["verify", "disasm", "xlated", "jited"] {
        assert_error(&[command, FIREWALL, "--prog", "nobody"], &message);
    }
}

#[test]
fn text_and_raw_bytes_that_are_no_programs() {
    let text = temporary("syntax.bpf", b"# Wrong.\n-- asm\nr0 = 1\nleave\n");
    let done = ebpf(&["asm", &text]);
    assert_eq!(done.code, Some(2));
    let start = format!("error: {text}: line 4, column 1: expected ");
    assert!(done.err.starts_with(&start), "{}", done.err);
    assert_eq!(done.err.lines().count(), 1);

    let raw = temporary("half.raw", &[0x95, 0, 0]);
    let message = format!("{raw}: 3 bytes of instructions are not a multiple of 8");
    assert_error(&["disasm", "--raw", &raw], &message);
    assert_error(&["asm", FIREWALL], &format!("{FIREWALL}: an ELF file, not text assembly"));
    let ok = temporary("ok.bpf", b"r0 = 0\nexit\n");
    assert_error(&["asm", &ok, "-o", "/no/where"], "/no/where: No such file or directory");
}

#[test]
fn captures() {
    let cases = [
        ("fixtures/xdp/empty.pcap", "the file is empty, not a capture"),
        ("fixtures/xdp/no_packets.pcap", "the capture is empty: it has no packets"),
        (
            "fixtures/xdp/truncated.pcap",
            "the capture is truncated: it ends inside or before packet 3",
        ),
        ("fixtures/xdp/linktype_raw.pcap", "link type 101 is not supported; only Ethernet (1) is"),
        (FIREWALL, "not a capture: it starts neither as pcap nor as pcapng"),
        ("nowhere.pcap", "No such file or directory"),
        ("fixtures", "Is a directory"),
    ];
    for (file, reason) in cases {
        let message = format!("{file}: {reason}");
        assert_error(&["run", FIREWALL, "--pcap", file], &message);
    }
    let header = temporary("header.pcap", &fixture(MIXED)[..23]);
    let message = format!("{header}: the capture is truncated: it ends inside its header");
    assert_error(&["run", FIREWALL, "--pcap", &header], &message);
}

#[test]
fn map_arguments() {
    let maps = "blocklist, actions, blocklist6, flows, .rodata";
    let unknown = format!("the program has no map users; it has: {maps}");
    let cases = [
        ("blocklist", "expected NAME=KEYHEX:VALHEX or NAME=@FILE"),
        ("blocklist=c6336407", "expected KEYHEX:VALHEX, found `c6336407`"),
        ("blocklist=c633640:00", "key: Odd number of digits"),
        ("blocklist=c6336407:0x", "value: Invalid character 'x' at position 1"),
        ("blocklist=c6:0000000000000000", "the key has 1 bytes, the map's has 4"),
        ("blocklist=c6336407:00", "the value has 1 bytes, the map's has 8"),
        ("actions=05000000:0000000000000000", "the map is full, or the index beyond its end"),
        (".rodata=00000000:5000", "the map is frozen"),
        ("users=00:00", &unknown),
        ("blocklist=@nowhere.txt", "nowhere.txt: No such file or directory"),
    ];
    for (argument, reason) in cases {
        let message = format!("--map {argument}: {reason}");
        assert_error(&["run", FIREWALL, "--pcap", MIXED, "--map", argument], &message);
    }
    let file = temporary("elements.txt", b"# one\nc6336407:0000000000000000\nc6:00\n");
    let argument = format!("blocklist=@{file}");
    let message = format!("--map {argument}: {file}:3: the key has 1 bytes, the map's has 4");
    assert_error(&["run", FIREWALL, "--pcap", MIXED, "--map", &argument], &message);
}

#[test]
fn options_that_do_not_go_together() {
    let run = |more: &[&str], message| assert_error(&[&["run", MINIMAL], more].concat(), message);
    run(
        &["--mem", "00", "--unverified", "--engine", "jit"],
        "--unverified: machine code runs verified programs only",
    );
    run(&["--mem", "00"], "--mem needs --unverified: no program type has plain memory as context");
    run(
        &["--pcap", MIXED, "--unverified"],
        "--unverified programs run on --mem only, not on packets",
    );
    run(&["--mem", "0", "--unverified"], "--mem: Odd number of digits");
    for args in [
        &["run", MINIMAL][..],
        &["run", MINIMAL, "--pcap", MIXED, "--mem", "00"],
        &["run", MINIMAL, "--pcap", MIXED, "--repeat", "0"],
        &["run", MINIMAL, "--pcap", MIXED, "--fuel", "1"],
        &["run", MINIMAL, "--pcap", MIXED, "--engine", "fast"],
        &["run", MINIMAL, "--mem", "", "--unverified", "--repeat", "2"],
        &["verify"],
    ] {
        let done = ebpf(args);
        assert_eq!((done.code, done.out.as_str()), (Some(2), ""), "{args:?}");
    }
}

/// Every way of cutting an object short ends in a report, not in a panic.
#[test]
fn cut_objects_are_reported() {
    let bytes = fixture(MINIMAL);
    for len in (0..bytes.len()).step_by(97) {
        let file = temporary("shorter.o", &bytes[..len]);
        let done = ebpf(&["verify", &file]);
        assert_eq!((done.code, done.out.as_str()), (Some(2), ""), "{len}");
        assert!(done.err.starts_with(&format!("error: {file}: ")), "{}", done.err);
        assert_eq!(done.err.lines().count(), 1, "{}", done.err);
    }
}

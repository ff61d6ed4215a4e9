//! `ebpf disasm`, `asm`, `xlated`, `jited`, and where output goes.

use std::fs::{self, File};
use std::io::Write;
use std::process::Stdio;

use super::*;

const TEXT: &str = "   0: w0 = 2\n   1: exit\n";
const HEX: &str = "b400000002000000\n9500000000000000\n";

#[test]
fn an_object_as_text() {
    let out = ebpf(&["disasm", MINIMAL]).fine();
    assert!(out.starts_with("xdp_minimal:\n; "), "{out}");
    assert!(out.contains("\n   0: w0 = 2\n   1: exit\n"), "{out}");
    let out = ebpf(&["disasm", FIREWALL]).fine();
    assert!(out.contains("\ncount_action:\n"), "{out}");
    assert!(out.contains(" @ ./fixtures/xdp/xdp_firewall.c:"), "{out}");
}

#[test]
fn text_to_bytes_and_back() {
    let file = temporary("minimal.s", TEXT.as_bytes());
    assert_eq!(ebpf(&["asm", &file]).fine(), HEX);
    let raw = temporary("minimal.raw", b"");
    assert_eq!(ebpf(&["asm", &file, "-o", &raw]).fine(), "");
    assert_eq!(fs::read(&raw).unwrap(), [0xb4, 0, 0, 0, 2, 0, 0, 0, 0x95, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(ebpf(&["disasm", "--raw", &raw]).fine(), TEXT);
    let kernel = ebpf(&["disasm", MINIMAL, "--format", "kernel"]).fine();
    assert_eq!(kernel, "0: (b4) w0 = 2\n1: (95) exit\n");
}

#[test]
fn text_from_standard_input() {
    for (args, expected) in [(["asm", "-"], HEX), (["disasm", "-"], TEXT)] {
        let mut command = command(&args);
        let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = piped.spawn().unwrap();
        child.stdin.take().unwrap().write_all(TEXT.as_bytes()).unwrap();
        assert_eq!(Done::from(child.wait_with_output().unwrap()).fine(), expected);
    }
}

#[test]
fn objects_from_standard_input() {
    let object = File::open(workspace_root().join(MINIMAL)).unwrap();
    let done = Done::from(command(&["disasm", "-"]).stdin(object).output().unwrap());
    assert_eq!(done.fine(), ebpf(&["disasm", MINIMAL]).fine());
}

#[test]
fn the_rewritten_program() {
    let before = ebpf(&["disasm", FIREWALL]).fine();
    let after = ebpf(&["xlated", FIREWALL]).fine();
    // `data`, the context's first field, is an address once the program runs.
    assert!(before.contains("= *(u32 *)(r1 +0)\n"), "{before}");
    assert!(after.contains("= *(u64 *)(r1 +0) ; ctx\n"), "{after}");
    assert!(!after.contains("= *(u32 *)(r1 +0)"), "{after}");
}

#[test]
fn machine_code_below_its_instructions() {
    let out = ebpf(&["jited", MINIMAL]).fine();
    let expected = "\
xdp_minimal:
; return XDP_PASS; @ ./fixtures/xdp/xdp_minimal.c:8
   0: w0 = 2
          0  b802000000             mov eax, 2
   1: exit
          5  c3                     ret
";
    assert_eq!(out, expected);
    let firewall = ebpf(&["jited", FIREWALL]).fine();
    assert_eq!(firewall, ebpf(&["jited", FIREWALL]).fine());
}

#[test]
fn rejected_programs_are_neither_rewritten_nor_compiled() {
    for name in ["xlated", "jited"] {
        let done = ebpf(&[name, MISSING_CHECK]);
        assert_eq!((done.code, done.out.as_str()), (Some(1), ""));
        assert!(done.err.starts_with("error[packet.bounds]: "), "{}", done.err);
    }
}

#[test]
fn a_reader_that_is_gone_is_not_a_panic() {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut command = command(&["disasm", FIREWALL]);
    let done = command.stdout(writer).stderr(Stdio::piped()).spawn().unwrap();
    let done = Done::from(done.wait_with_output().unwrap());
    assert_eq!((done.code, done.err.as_str()), (Some(141), ""));
}

#[test]
fn a_full_disk_is_an_error() {
    let Ok(full) = File::options().write(true).open("/dev/full") else {
        return ebpf_testkit::skip("no /dev/full");
    };
    let mut command = command(&["disasm", FIREWALL]);
    let done = command.stdout(full).stderr(Stdio::piped()).spawn().unwrap();
    let done = Done::from(done.wait_with_output().unwrap());
    assert_eq!(done.code, Some(2));
    assert_eq!(done.err, "error: standard output: No space left on device\n");
}

#[test]
fn no_colours_but_on_a_terminal() {
    for args in [&["verify", MISSING_CHECK][..], &["run", MISSING_CHECK, "--pcap", MIXED]] {
        let done = ebpf(args);
        assert!(!done.out.contains('\x1b') && !done.err.contains('\x1b'));
    }
}

#[test]
fn help_is_not_an_error() {
    let out = ebpf(&["--help"]).fine();
    for name in ["run", "verify", "disasm", "asm", "xlated", "jited"] {
        assert!(out.contains(&format!("\n  {name} ")), "{name}");
    }
    assert_eq!(ebpf(&[]).code, Some(2));
    assert_eq!(ebpf(&["fly"]).code, Some(2));
}

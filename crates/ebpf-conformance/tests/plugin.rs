//! The plugin as the suite's runner sees it: arguments, standard input, output, exit code.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::Write;
use std::process::{Command, Stdio};

/// `mov r0, 42; exit`
const FORTY_TWO: &str = "b7 00 00 00 2a 00 00 00 95 00 00 00 00 00 00 00";
/// `ldxb r0, [r1 + 1]; add r0, r2; exit`
const SECOND_BYTE_AND_LENGTH: &str =
    "71 10 01 00 00 00 00 00 0f 20 00 00 00 00 00 00 95 00 00 00 00 00 00 00";

/// Exit code, standard output, standard error.
fn plugin(arguments: &[&str], input: &[u8]) -> (Option<i32>, String, String) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_ebpf-conformance"))
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // It need not be read where the arguments are refused.
    let _ = child.stdin.take().unwrap().write_all(input);
    let output = child.wait_with_output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[track_caller]
fn expect_value(arguments: &[&str], input: &str, value: &str) {
    for engine in [&[][..], &["--interp"], &["--jit"]] {
        let (code, out, err) = plugin(&[arguments, engine].concat(), input.as_bytes());
        assert_eq!((code, out.trim(), &*err), (Some(0), value, ""), "{engine:?}");
    }
}

#[track_caller]
fn expect_failure(arguments: &[&str], input: &[u8], reason: &str) {
    for engine in ["--interp", "--jit"] {
        let (code, out, err) = plugin(&[arguments, &[engine]].concat(), input);
        assert_eq!((code, &*out), (Some(1), ""), "{engine}: {err}");
        assert!(err.contains(reason), "{engine}: {err}");
    }
}

#[test]
fn the_result_is_printed_in_hex() {
    expect_value(&[], FORTY_TWO, "2a");
    expect_value(&["--program", FORTY_TWO], "", "2a");
}

#[test]
fn r1_is_the_memory_and_r2_its_length() {
    expect_value(&["010203"], SECOND_BYTE_AND_LENGTH, "5");
    expect_value(&["01 02 03 04"], SECOND_BYTE_AND_LENGTH, "6");
}

#[test]
fn helper_5_ends_the_program_where_its_argument_is_0() {
    // mov r1, N; call 5; mov r0, 7; exit
    let program = |argument| {
        format!("b70100000{argument}000000 8500000005000000 b700000007000000 9500000000000000")
    };
    expect_value(&[], &program(0), "0");
    expect_value(&[], &program(1), "7");
}

#[test]
fn an_elf_file_has_the_program_in_its_text() {
    // An ELF header, `.text` with the program, and the names of the two sections.
    let mut elf = vec![0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let program = [0xb7, 0, 0, 0, 0x2a, 0, 0, 0, 0x95, 0, 0, 0, 0, 0, 0, 0];
    let names = b"\0.text\0.shstrtab\0";
    elf.extend([1, 0, 247, 0, 1, 0, 0, 0]);
    elf.extend([0; 16]);
    elf.extend(104_u64.to_le_bytes()); // section headers behind header, program and names
    elf.extend([0, 0, 0, 0, 64, 0, 0, 0, 0, 0, 64, 0, 3, 0, 2, 0]);
    elf.extend(program);
    elf.extend(names);
    elf.resize(104, 0);
    let section = |name: u32, kind: u32, flags: u64, at: u64, len: u64| {
        let words = [flags, 0, at, len, 0, 1, 0];
        let head = [name.to_le_bytes(), kind.to_le_bytes()].concat();
        [head, words.iter().flat_map(|word: &u64| word.to_le_bytes()).collect()].concat()
    };
    elf.extend([0; 64]);
    elf.extend(section(1, 1, 6, 64, 16));
    elf.extend(section(7, 3, 0, 80, names.len() as u64));
    let hex: String = elf.iter().map(|byte| format!("{byte:02x}")).collect();
    expect_value(&["--elf"], &hex, "2a");
    expect_failure(&["--elf"], FORTY_TWO.as_bytes(), "error: ");
}

#[test]
fn the_program_can_be_shown() {
    let (code, out, err) = plugin(&["--debug"], FORTY_TWO.as_bytes());
    assert_eq!((code, out.trim()), (Some(0), "2a"));
    assert_eq!(err, "   0: r0 = 42\n   1: exit\n");
}

#[test]
fn failures_have_a_reason() {
    expect_failure(&[], b"b7 0", "program: Odd number of digits");
    expect_failure(&["0x"], FORTY_TWO.as_bytes(), "memory: Invalid character 'x' at position 1");
    expect_failure(&[], b"b7 00 00 00", "4 bytes of instructions are not a multiple of 8");
    expect_failure(&[], b"", "the program has no instructions");
    expect_failure(&[], b"ff00000000000000", "insn 0: ");
    expect_failure(&[], b"\xff\xfe", "standard input: ");
    expect_failure(&[], SECOND_BYTE_AND_LENGTH.as_bytes(), "insn 0: memory access out of bounds");
    expect_failure(&[], b"05 00 ff ff 00 00 00 00", "insn 0: out of fuel");
    // call 6; exit
    expect_failure(
        &[],
        b"8500000006000000 9500000000000000",
        "insn 0: there is no helper bpf_trace_printk#6",
    );
}

#[test]
fn wrong_arguments_are_refused() {
    let (code, out, _) = plugin(&["--interp", "--jit"], b"");
    assert_eq!((code, &*out), (Some(2), ""));
}

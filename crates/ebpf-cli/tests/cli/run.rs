//! `ebpf run`.

use std::collections::BTreeMap;
use std::fs;

use ebpf_testkit::{Fixture, fixtures_dir};
use serde_json::Value;

use super::*;

/// The addresses that some packets come from, so that there is something to block.
pub(crate) const BLOCKED: [&str; 6] = [
    "--map",
    "blocklist=c6336407:0000000000000000",
    "--map",
    "blocklist=cb007142:0000000000000000",
    "--map",
    "blocklist6=20010db8000000000000000000000bad:0000000000000000",
];

fn firewall(more: &[&str]) -> Done {
    ebpf(&[&["run", FIREWALL, "--pcap", MIXED], more].concat())
}

fn firewall_json(more: &[&str]) -> Value {
    let out = firewall(&[&["--json"], more].concat()).fine();
    assert_eq!(out.lines().count(), 1);
    serde_json::from_str(&out).unwrap()
}

/// What must not depend on the engine or the clock.
fn without_times(out: &str) -> Vec<&str> {
    out.lines().filter(|line| !line.starts_with("time ") && !line.starts_with("engine ")).collect()
}

/// What the kernel did with the capture; `case` is empty or ` blocked`.
pub(crate) struct Kernel {
    pub(crate) actions: BTreeMap<String, u64>,
    /// Map, key in hex, value.
    elements: Vec<(String, String, u64)>,
}

impl Kernel {
    pub(crate) fn read(case: &str) -> Self {
        let path = fixtures_dir().join("xdp/kernel-actions.txt");
        let file = Fixture::parse(&path, &fs::read_to_string(&path).unwrap()).unwrap();
        let lines = |name: &str| {
            let section = file.section(&format!("{name}{case}")).unwrap();
            section
                .lines()
                .map(|line| line.split(' ').map(str::to_owned).collect::<Vec<_>>())
                .collect::<Vec<_>>()
        };
        let number = |text: &String| text.parse::<u64>().unwrap();
        let actions = lines("actions");
        let elements = lines("maps");
        Self {
            actions: actions.iter().map(|line| (line[0].clone(), number(&line[1]))).collect(),
            elements: elements
                .iter()
                .map(|line| (line[0].clone(), line[1].clone(), number(&line[2])))
                .collect(),
        }
    }
}

/// Packets of fewer than 14 bytes, which the kernel's test command refuses. The program drops them.
const SHORT_PACKETS: u64 = 126;

fn assert_as_the_kernel(report: &Value, kernel: &Kernel) {
    for (action, &packets) in &kernel.actions {
        let short = if action == "DROP" { SHORT_PACKETS } else { 0 };
        assert_eq!(report["actions"][action], packets + short, "{action}");
    }
    assert_eq!(report["packets"], 2555);
    // Of the short packets, the program counts the action and nothing else.
    let maps = report["maps"].as_array().unwrap();
    let counted = |map: &&Value| map["name"] != "actions" && map["name"] != ".rodata";
    let mut elements = Vec::new();
    for map in maps.iter().filter(counted) {
        for element in map["elements"].as_array().unwrap() {
            let text = |value: &Value| value.as_str().unwrap().to_owned();
            elements.push((text(&map["name"]), text(&element["key"]), number(&element["value"])));
        }
    }
    let mut expected = kernel.elements.clone();
    elements.sort();
    expected.sort();
    assert_eq!(elements, expected);
}

/// A value of 8 bytes.
fn number(hex: &Value) -> u64 {
    u64::from_str_radix(hex.as_str().unwrap(), 16).unwrap().swap_bytes()
}

#[test]
fn both_engines_do_what_the_kernel_does() {
    for engine in ["jit", "interp"] {
        let report = firewall_json(&["--engine", engine]);
        assert_as_the_kernel(&report, &Kernel::read(""));
        let report = firewall_json(&[&["--engine", engine], &BLOCKED[..]].concat());
        assert_as_the_kernel(&report, &Kernel::read(" blocked"));
    }
}

#[test]
fn both_engines_print_the_same() {
    let more: &[&[&str]] = &[&[], &BLOCKED, &["--repeat", "3"]];
    for more in more {
        let jit = firewall(more).fine();
        let interp = firewall(&[&["--engine", "interp"], *more].concat()).fine();
        assert_eq!(without_times(&jit), without_times(&interp));
        assert!(jit.contains("\nengine    jit, "));
        assert!(interp.contains("\nengine    interp, "));
        assert_eq!(jit.lines().filter(|line| line.starts_with("time ")).count(), 2);
    }
}

#[test]
fn tables_for_people() {
    let out = firewall(&[]).fine();
    let actions = "
action    packets
ABORTED       268
DROP          617
PASS         1598
TX             72
REDIRECT        0
total        2555

map blocklist: hash, key 4 bytes, value 8 bytes, 0 of 1024 elements

map actions: array, key 4 bytes, value 8 bytes, 5 of 5 elements
  00000000  0c01000000000000  268
  01000000  6902000000000000  617
  02000000  3e06000000000000  1598
  03000000  4800000000000000  72
  zero elements: 1
";
    assert!(out.contains(actions), "{out}");
    assert!(
        out.starts_with("program   xdp_firewall (xdp) of fixtures/xdp/xdp_firewall.o\nverified  ")
    );
    assert!(out.contains(", stack depth 32+8\nloaded    "), "{out}");
    assert!(out.contains(" after rewriting, 2 subprograms\n"), "{out}");
}

#[test]
fn data_names_the_engine_and_its_code() {
    let jit = firewall_json(&["--engine", "jit"]);
    let address = |name: &str| {
        let text = jit["code"][name].as_str().unwrap().strip_prefix("0x").unwrap();
        u64::from_str_radix(text, 16).unwrap()
    };
    assert_eq!(jit["engine"], "jit");
    assert_eq!(jit["executed"], Value::Null);
    assert_eq!(address("end") - address("start"), jit["code"]["bytes"].as_u64().unwrap());
    assert!(jit["code"]["bytes"].as_u64().unwrap() > 500);

    let interp = firewall_json(&["--engine", "interp"]);
    assert_eq!(interp["engine"], "interp");
    assert_eq!(interp["code"], Value::Null);
    // Each packet takes some instructions, and none can take more than there are.
    let executed = interp["executed"].as_u64().unwrap();
    assert!((2555..2555 * 273).contains(&executed), "{executed}");

    for report in [&jit, &interp] {
        assert_eq!(report["prog"], "xdp_firewall");
        assert_eq!(report["section"], "xdp");
        assert_eq!(report["type"], "xdp");
        assert_eq!(report["insns"], 273);
        assert_eq!(report["subprograms"], 2);
        assert_eq!(report["verification"]["stack_depth"], "32+8");
        assert!(report["ns_per_packet"].as_f64().unwrap() > 0.0);
        assert!(report["load_usec"].as_u64().is_some());
    }
    assert_eq!(jit["maps"], interp["maps"]);
    assert_eq!(jit["actions"], interp["actions"]);
    assert_eq!(jit["verification"], interp["verification"]);
}

#[test]
fn instructions_are_counted_exactly() {
    let args = ["run", MINIMAL, "--pcap", MIXED, "--engine", "interp", "--json"];
    let report: Value = serde_json::from_str(&ebpf(&args).fine()).unwrap();
    assert_eq!(report["executed"], 2 * 2555);
    assert_eq!(report["verification"]["processed"], 2);
}

#[test]
fn the_capture_can_be_repeated() {
    let report = firewall_json(&["--repeat", "3"]);
    assert_eq!(report["packets"], 3 * 2555);
    assert_eq!(report["actions"]["TX"], 3 * 72);
}

#[test]
fn elements_come_from_files_too() {
    let file = temporary(
        "blocked.txt",
        b"# two hosts\nc6336407:0000000000000000\n\ncb007142:0000000000000000 # the other\n",
    );
    let from_file = format!("blocklist=@{file}");
    let report = firewall_json(&["--map", &from_file, BLOCKED[4], BLOCKED[5]]);
    assert_as_the_kernel(&report, &Kernel::read(" blocked"));
}

#[test]
fn captures_in_other_forms_and_from_standard_input() {
    let capture = |name: &str| {
        let path = format!("fixtures/xdp/{name}");
        let out = ebpf(&["run", FIREWALL, "--pcap", &path]).fine();
        without_times(&out).join("\n")
    };
    let big_endian = capture("big_endian.pcap");
    assert!(big_endian.contains("\ntotal           3\n"), "{big_endian}");
    assert_eq!(big_endian, capture("nanosecond.pcap"));

    let file = fs::File::open(fixtures_dir().join("xdp/big_endian.pcap")).unwrap();
    let mut command = command(&["run", FIREWALL, "--pcap", "-"]);
    let out = Done::from(command.stdin(file).output().unwrap()).fine();
    assert_eq!(without_times(&out).join("\n"), big_endian);
}

#[test]
fn text_runs_as_xdp() {
    let file = temporary("returns_9.bpf", b"r0 = 9\nexit\n");
    let out = ebpf(&["run", &file, "--pcap", MIXED]).fine();
    assert!(out.contains("\nREDIRECT        0\nUNKNOWN      2555\ntotal        2555\n"), "{out}");
}

#[test]
fn a_rejected_program_does_not_run() {
    let done = ebpf(&["run", MISSING_CHECK, "--pcap", MIXED]);
    assert_eq!((done.code, done.out.as_str()), (Some(1), ""));
    let verified = ebpf(&["verify", MISSING_CHECK]);
    assert_eq!(done.err.trim_end(), verified.out.trim_end());

    let done = ebpf(&["run", MISSING_CHECK, "--pcap", MIXED, "--json"]);
    assert_eq!((done.code, done.err.as_str()), (Some(1), ""));
    let verdict: Value = serde_json::from_str(&done.out).unwrap();
    assert_eq!(verdict["verdict"], "reject");
    assert_eq!(verdict["source"]["line"], 12);
}

#[test]
fn unverified_programs_run_on_memory() {
    let file = temporary("sum.bpf", b"# Adds.\n-- asm\nr0 = *(u8 *)(r1 +0)\nr0 += r2\nexit\n");
    let run = |more: &[&str]| ebpf(&[&["run", &file, "--unverified"], more].concat());
    assert_eq!(run(&["--mem", "280000"]).fine(), "r0 = 0x2b\n");
    assert_eq!(run(&["--mem", "280000", "--engine", "interp"]).fine(), "r0 = 0x2b\n");

    let bytes = temporary("three_bytes", &[0x28, 0, 0]);
    let from_file = format!("@{bytes}");
    for engine in ["jit", "interp"] {
        let out = run(&["--mem", &from_file, "--engine", engine, "--json"]).fine();
        let report: Value = serde_json::from_str(&out).unwrap();
        assert_eq!(report["engine"], engine);
        assert_eq!(report["r0"], "0x2b");
        assert_eq!(report["trap"], Value::Null);
        assert_eq!(report["executed"], 3);
        assert_eq!(report["mem"], "280000");
    }
}

#[test]
fn a_trap_is_a_failure() {
    let file = temporary("beyond.bpf", b"r0 = *(u8 *)(r1 +1)\nexit\n");
    for engine in ["jit", "interp"] {
        let args = ["run", &file, "--unverified", "--mem", "00", "--engine", engine, "--json"];
        let done = ebpf(&args);
        assert_eq!(done.code, Some(1));
        let report: Value = serde_json::from_str(&done.out).unwrap();
        assert_eq!(report["r0"], Value::Null);
        assert_eq!(report["trap"]["reason"], "memory access out of bounds");
        assert_eq!(report["trap"]["pc"], 0);
        let start = format!("error: {file}: insn 0: memory access out of bounds at address 0x");
        assert!(done.err.starts_with(&start), "{}", done.err);
    }
}

#[test]
fn an_endless_program_ends() {
    let file = temporary("endless.bpf", b"r0 = 0\ngoto pc-1\n");
    let args = ["run", &file, "--unverified", "--mem", ""];
    for more in [&["--fuel", "1000"][..], &[], &["--engine", "interp"]] {
        let done = ebpf(&[&args, more].concat());
        assert_eq!((done.code, done.out.as_str()), (Some(1), ""));
        assert_eq!(done.err, format!("error: {file}: insn 1: out of fuel\n"));
    }
}

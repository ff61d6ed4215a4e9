//! GDB knows the functions of compiled programs by name. Where there is no GDB, this is not measured.
#![cfg(feature = "gdb")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::process::Command;

use ebpf_runtime::isa::abi::ExecEnv;
use ebpf_runtime::isa::text::assemble;
use ebpf_runtime::verifier::Options;
use ebpf_runtime::xdp::{self, Ingress, XdpProgram};
use ebpf_runtime::{Bindings, Compiler, Engine, Runtime};

/// Set in the process that is debugged.
const DEBUGGED: &str = "EBPF_DEBUGGED";

fn load() -> XdpProgram {
    let program = assemble("program_for_gdb:\nr0 = 2\nexit").unwrap();
    let bindings = Bindings::new(xdp::kind());
    let compiler = Compiler { gdb: true, ..Compiler::default() };
    let runtime = Runtime::new().unwrap().with_compiler(compiler);
    let loaded = runtime.load(&program, bindings, &Options::default(), Engine::Jit).unwrap();
    XdpProgram::new(loaded).unwrap()
}

#[test]
fn programs_come_and_go() {
    let (one, other) = (load(), load());
    drop(one);
    let ingress = Ingress { ifindex: 1, rx_queue: 0 };
    assert_eq!(other.run(&mut [0; 64], ingress, &mut ExecEnv::new()).unwrap().0, 2);
}

#[test]
fn gdb_knows_the_code_of_a_program_by_its_name() {
    if std::env::var_os(DEBUGGED).is_some() {
        return programs_come_and_go();
    }
    let test = "gdb_knows_the_code_of_a_program_by_its_name";
    // In the language of the test, names without path are none.
    const LANGUAGE: &str = "set language c";
    // (A breakpoint in the code itself is one of hardware: `hbreak`. The pages are never writable.)
    let commands =
        ["break __jit_debug_register_code", "run", "finish", LANGUAGE, "x/2i program_for_gdb"];
    let gdb = Command::new("gdb")
        .args(["-nx", "-batch"])
        .args(commands.iter().flat_map(|command| ["-ex", command]))
        .arg("--args")
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", test, "--test-threads", "1"])
        .env(DEBUGGED, "1")
        .output();
    let Ok(output) = gdb else {
        #[allow(clippy::print_stderr, reason = "what is not measured is said")]
        return eprintln!("skipped: there is no gdb");
    };
    let text = String::from_utf8_lossy(&output.stdout);
    let after = |line: &str| text.lines().find(|text| text.contains(line)).map(str::to_string);
    let first = after("<program_for_gdb>:").expect(&text);
    let second = after("<program_for_gdb+5>:").expect(&text);
    assert!(first.contains("mov") && first.contains("0x2"), "{text}");
    assert!(second.contains("ret"), "{text}");
}

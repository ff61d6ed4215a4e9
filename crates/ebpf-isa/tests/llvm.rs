//! The assembler against LLVM 19, where it is installed.

mod strategy;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use ebpf_isa::text::assemble;
use ebpf_isa::{CallTarget, Insn, Program, RawInsn, WideSource};
use ebpf_testkit::{for_each_fixture, skip};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

const MC: &str = "llvm-mc-19";
const OBJDUMP: &str = "llvm-objdump-19";

/// Whether the tools are here; says so if they are not.
fn is_installed() -> bool {
    let runs = |tool: &str| Command::new(tool).arg("--version").output().is_ok();
    let missing = [MC, OBJDUMP].into_iter().find(|tool| !runs(tool));
    if let Some(tool) = missing {
        skip(&format!("LLVM 19 is not installed: no {tool}"));
    }
    missing.is_none()
}

/// A file of this name that no other test writes, in the directory for temporary files.
fn object_file(name: &str) -> PathBuf {
    std::env::temp_dir().join(format!("ebpf-isa-{name}-{}.o", std::process::id()))
}

/// Has LLVM assemble a text.
fn llvm_assemble(text: &str, object: &Path) {
    let mut mc = Command::new(MC)
        .args(["-triple=bpfel", "-mcpu=v4", "-filetype=obj", "-o"])
        .arg(object)
        .stdin(Stdio::piped())
        .spawn()
        .expect("it is installed");
    let mut input = mc.stdin.take().expect("it is piped");
    input.write_all(text.as_bytes()).expect("it reads");
    drop(input);
    assert!(mc.wait().expect("it runs").success(), "{MC} refuses\n{text}");
}

/// What LLVM's disassembler prints.
fn llvm_disassemble(object: &Path, options: &[&str]) -> String {
    let mut objdump = Command::new(OBJDUMP);
    let objdump = objdump.args(["-d", "-z", "--mcpu=v4"]).args(options).arg(object);
    String::from_utf8(objdump.output().expect("it is installed").stdout).expect("it prints text")
}

/// An object with these bytes as its code.
fn write_object(bytes: &[u8], object: &Path) {
    let list: Vec<String> = bytes.iter().map(u8::to_string).collect();
    llvm_assemble(&format!(".text\nmain:\n.byte {}\n", list.join(",")), object);
}

fn bytes(program: &Program) -> Vec<u8> {
    let slots = program.to_slots().expect("generated programs have an encoding");
    slots.into_iter().flat_map(RawInsn::to_bytes).collect()
}

/// Whether LLVM 19 prints all that an instruction says. It prints calls of whatever kind as those
/// of helpers, no more than half of the immediate of loads of symbols, packet loads without their
/// constant, and does not know what came to Linux later.
fn is_whole_in_llvm(insn: &Insn) -> bool {
    match *insn {
        Insn::Call(target) => matches!(target, CallTarget::Helper(_)),
        Insn::LoadWide { source: WideSource::MapValue(_, offset, _), .. } => offset == 0,
        Insn::LoadWide { source: WideSource::Btf { module, .. }, .. } => module == 0,
        Insn::LoadPacket { index: Some(_), imm, .. } => imm == 0,
        Insn::LoadAcquire { .. } | Insn::StoreRelease { .. } => false,
        _ => true,
    }
}

/// Our bytes to LLVM's text to our bytes.
fn check(name: &str, programs: impl Strategy<Value = Program>, options: &[&[&str]]) {
    if !is_installed() {
        return;
    }
    let object = object_file(name);
    let config = ProptestConfig { cases: 48, failure_persistence: None, ..Default::default() };
    let result = TestRunner::new(config).run(&programs, |program| {
        write_object(&bytes(&program), &object);
        for options in options {
            let text = llvm_disassemble(&object, options);
            let again = assemble(&text).map_err(|error| format!("{error}, in\n{text}"));
            prop_assert_eq!(again.as_ref().map(Program::slots), Ok(program.slots()), "{}", text);
        }
        Ok(())
    });
    std::fs::remove_file(&object).ok();
    if let Err(error) = result {
        panic!("{error}");
    }
}

#[test]
fn listings_of_llvm_survive() {
    check("bytes", strategy::program(), &[&[]]);
}

#[test]
fn text_of_llvm_survives() {
    let no_bytes = "--no-show-raw-insn";
    let options: [&[&str]; 3] = [
        &[no_bytes],
        &[no_bytes, "--no-print-imm-hex"],
        &[no_bytes, "--no-leading-addr", "--symbolize-operands"],
    ];
    check("text", strategy::program_of(is_whole_in_llvm), &options);
}

/// What the fixtures give as LLVM's spelling is what LLVM reads, and means the same to it.
#[test]
fn fixtures_are_in_the_spelling_of_llvm() {
    if !is_installed() {
        return;
    }
    for_each_fixture("isa", |fixture| {
        let Some(text) = fixture.section("llvm") else { return Ok(()) };
        let object = object_file("fixture");
        let without_name = |line: &str| match line.rsplit_once(" <") {
            Some((line, name)) if name.ends_with('>') => format!("{line}\n"),
            _ => format!("{line}\n"),
        };
        llvm_assemble(&text.lines().map(without_name).collect::<String>(), &object);
        let listing = llvm_disassemble(&object, &[]);
        std::fs::remove_file(&object).map_err(|error| error.to_string())?;
        let read = assemble(&listing).map_err(|error| format!("{error}, in\n{listing}"))?;
        let asm = fixture.section("asm").ok_or("no section `asm`")?;
        let expected = assemble(asm).map_err(|error| format!("asm: {error}"))?;
        if read.slots() == expected.slots() { Ok(()) } else { Err(listing) }
    });
}

//! The text fixtures: the assembler against bytes that were written by hand, and every program's way
//! from text to text.

use ebpf_isa::text::assemble;
use ebpf_isa::{Program, RawInsn};
use ebpf_testkit::{Fixture, for_each_fixture};

fn program(fixture: &Fixture) -> Result<Program, String> {
    let asm = fixture.section("asm").ok_or("no section `asm`")?;
    assemble(asm).map_err(|error| format!("asm: {error}"))
}

/// Instructions without their line numbers, names and comments.
fn instructions(program: &Program) -> String {
    program.insns().map(|(pc, insn)| format!("{}\n", insn.text(pc))).collect()
}

/// The bytes of a section of hexadecimal digits.
fn hex_bytes(digits: &str) -> Result<Vec<u8>, String> {
    let digits: Vec<char> = digits.chars().filter(|c| !c.is_whitespace()).collect();
    let byte = |pair: &[char]| {
        let pair: String = pair.iter().collect();
        u8::from_str_radix(&pair, 16).map_err(|error| format!("bytes: `{pair}`: {error}"))
    };
    digits.chunks(2).map(byte).collect()
}

fn check_text_round_trip(fixture: &Fixture) -> Result<(), String> {
    let program = program(fixture)?;
    let listing = program.listing().to_string();
    let again = assemble(&listing).map_err(|error| format!("{error}, in\n{listing}"))?;
    if again != program {
        return Err(format!("another program after\n{listing}"));
    }
    let slots = program.to_slots().map_err(|error| error.to_string())?;
    let decoded = Program::from_slots(&slots).map_err(|error| error.to_string())?;
    if decoded.slots() != program.slots() {
        return Err(format!("another program after encoding\n{listing}"));
    }
    Ok(())
}

#[test]
fn programs_that_run() {
    for_each_fixture("exec", |fixture| {
        fixture.result().ok_or("no section `result`")?;
        check_text_round_trip(fixture)
    });
}

#[test]
fn instructions_by_their_bytes() {
    for_each_fixture("isa", |fixture| {
        check_text_round_trip(fixture)?;
        let bytes = hex_bytes(fixture.section("bytes").ok_or("no section `bytes`")?)?;
        let slots = RawInsn::slots(&bytes).map_err(|error| error.to_string())?;
        let decoded = Program::from_slots(&slots).map_err(|error| error.to_string())?;
        fixture.expect_section("asm", &instructions(&decoded))?;
        for section in ["asm", "llvm", "ubpf"] {
            let Some(text) = fixture.section(section) else { continue };
            let assembled = assemble(text).map_err(|error| format!("{section}: {error}"))?;
            let encoded = assembled.to_slots().map_err(|error| error.to_string())?;
            let encoded: Vec<u8> = encoded.into_iter().flat_map(RawInsn::to_bytes).collect();
            if encoded != bytes {
                return Err(format!("{section} encodes to {encoded:02x?}"));
            }
        }
        Ok(())
    });
}

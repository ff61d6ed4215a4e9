//! Programs, edits and passes as text, and the programs that come out.

use ebpf_isa::text::assemble;
use ebpf_isa::{Insn, Pc, Program, Size};
use ebpf_patch::{
    HostField, Landing, Patch, blind_constants, convert_context_access, insert_zero_extensions,
    remove_nops, remove_unreached,
};
use ebpf_testkit::{Fixture, for_each_fixture};

use crate::listing;

fn assembled(asm: &str) -> Result<Program, String> {
    assemble(asm).map_err(|error| format!("{asm}: {error}"))
}

/// An instruction alone, which does not jump.
fn insn(text: &str) -> Result<Insn, String> {
    assembled(&format!("{text}\nexit"))?.get(Pc(0)).ok_or_else(|| format!("{text}: nothing"))
}

/// `0110`: by slot.
fn flags(text: &str) -> Vec<bool> {
    text.chars().map(|digit| digit == '1').collect()
}

/// A position, and what is to be done there.
fn edit_at(text: &str) -> Result<(Pc, &str), String> {
    let (pc, what) = text.split_once(' ').unwrap_or((text, ""));
    Ok((Pc(pc.parse().map_err(|error| format!("{pc}: {error}"))?), what))
}

/// `4 u32 = 8 u64`: what programs see in 4 bytes at 4, the host has in 8 bytes at 8; `4 u32 = 8 u16 3 2`
/// in 2 bits of 2 bytes there, from bit 3 on.
fn host_field(text: &str) -> Result<HostField, String> {
    let bad = || format!("`{text}` is no field");
    let words: Vec<&str> = text.split_whitespace().collect();
    let Some((&[seen_at, seen_size, "=", off, size], bits)) = words.split_first_chunk() else {
        return Err(bad());
    };
    let size_of = |text| Size::from_mnemonic(text).ok_or_else(bad);
    let number = |text: &str| text.parse::<u8>().map_err(|_| bad());
    let (seen_size, size) = (size_of(seen_size)?, size_of(size)?);
    let field = HostField::whole(number(seen_at)?.into(), seen_size, number(off)?.into(), size);
    match *bits {
        [] => Ok(field),
        [shift, bits] => Ok(HostField { shift: number(shift)?, bits: number(bits)?, ..field }),
        _ => Err(bad()),
    }
}

/// Does what one line says: an edit with its position, or a pass with what it needs to know.
fn apply(patch: &mut Patch<'_>, line: &str) -> Result<(), String> {
    let (what, rest) = line.split_once(' ').unwrap_or((line, ""));
    let edit = || {
        let (pc, code) = edit_at(rest)?;
        let code: Result<Vec<_>, _> = code.split(';').map(|text| insn(text.trim())).collect();
        Ok::<_, String>((pc, code))
    };
    let done = match what {
        "delete" => patch.delete(edit()?.0),
        "replace" => patch.replace(edit()?.0, edit()?.1?),
        "append" => patch.append(edit()?.0, edit()?.1?),
        "prepend" => patch.prepend(edit()?.0, edit()?.1?, Landing::Inserted),
        "prologue" => patch.prepend(edit()?.0, edit()?.1?, Landing::Insn),
        "convert-context" => {
            let (pc, field) = edit_at(rest)?;
            return convert_context_access(patch, pc, &host_field(field)?)
                .map_err(|error| format!("{line}: {error}"));
        }
        "remove-unreached" => {
            remove_unreached(patch, &flags(rest));
            Ok(())
        }
        "remove-nops" => {
            remove_nops(patch);
            Ok(())
        }
        "insert-zero-extensions" => insert_zero_extensions(patch, &flags(rest)),
        "blind-constants" => blind_constants(patch, [1, 2]),
        _ => return Err(format!("`{line}` is neither edit nor pass")),
    };
    done.map_err(|error| format!("{line}: {error}"))
}

fn check(fixture: &Fixture) -> Result<(), String> {
    let program = assembled(fixture.section("asm").ok_or("no section `asm`")?)?;
    let mut patch = Patch::new(&program);
    for line in fixture.section("patch").ok_or("no section `patch`")?.lines() {
        apply(&mut patch, line)?;
    }
    match patch.linearize() {
        Ok(patched) => fixture.expect_section("patched", &listing(&patched.program)),
        Err(error) => fixture.expect_section("refused", &error.to_string()),
    }
}

#[test]
fn programs_after_passes() {
    for_each_fixture("patch", check);
}

//! Programs, edits and passes as text, and the programs that come out.

use std::collections::BTreeMap;

use ebpf_isa::text::assemble;
use ebpf_isa::{Insn, LineTable, Pc, Program, Size, SourceLine, SubprogInfo};
use ebpf_patch::{
    HostField, Landing, Patch, blind_constants, convert_context_access, guard_divisions,
    insert_zero_extensions, remove_nops, remove_unreached,
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
        "guard-divisions" => guard_divisions(patch),
        "blind-constants" => blind_constants(patch, [1, 2]),
        _ => return Err(format!("`{line}` is neither edit nor pass")),
    };
    done.map_err(|error| format!("{line}: {error}"))
}

/// Items such as `3: main`, separated by commas: what is known of positions.
fn by_pc(text: &str) -> Result<Vec<(Pc, &str)>, String> {
    let mut items = Vec::new();
    for item in text.trim().split(',') {
        let (pc, what) = item.split_once(':').ok_or_else(|| format!("`{item}` has no colon"))?;
        items.push((edit_at(pc.trim())?.0, what.trim()));
    }
    Ok(items)
}

/// The program with the source lines and function names of a fixture.
fn with_info(program: &Program, fixture: &Fixture) -> Result<Program, String> {
    let mut lines = LineTable::new();
    for (pc, number) in fixture.section("lines").map_or(Ok(vec![]), by_pc)? {
        let line = number.parse().map_err(|error| format!("{number}: {error}"))?;
        lines.push(pc, SourceLine { file: "a.c", text: "", line, col: 1 });
    }
    let mut functions = BTreeMap::new();
    for (pc, name) in fixture.section("functions").map_or(Ok(vec![]), by_pc)? {
        functions.insert(pc, SubprogInfo { name: Some(name.into()), btf_id: None });
    }
    Program::new(program.slots().to_vec(), functions, lines).map_err(|error| error.to_string())
}

/// Source lines and function names as the sections `lines` and `functions` give them.
fn info(program: &Program) -> [String; 2] {
    let lines = program.lines().entries().iter().map(|line| format!("{}: {}", line.pc, line.line));
    let name = |info: &SubprogInfo| info.name.clone().unwrap_or_default();
    let functions = program.subprogs().iter();
    let functions = functions.map(|subprog| format!("{}: {}", subprog.start, name(&subprog.info)));
    [lines.collect::<Vec<_>>().join(", "), functions.collect::<Vec<_>>().join(", ")]
}

fn check(fixture: &Fixture) -> Result<(), String> {
    let program = assembled(fixture.section("asm").ok_or("no section `asm`")?)?;
    let program = with_info(&program, fixture)?;
    let mut patch = Patch::new(&program);
    for line in fixture.section("patch").ok_or("no section `patch`")?.lines() {
        apply(&mut patch, line)?;
    }
    match patch.linearize() {
        Ok(patched) => {
            let [lines, functions] = info(&patched.program);
            if fixture.section("lines").is_some() {
                fixture.expect_section("patched-lines", &lines)?;
            }
            if fixture.section("functions").is_some() {
                fixture.expect_section("patched-functions", &functions)?;
            }
            fixture.expect_section("patched", &listing(&patched.program))
        }
        Err(error) => fixture.expect_section("refused", &error.to_string()),
    }
}

#[test]
fn programs_after_passes() {
    for_each_fixture("patch", check);
}

//! Each way in which an object can be wrong has its own error, which says where.

mod common;

use common::{CALL, Elf, Types, WIDE, call, exit, ext, mov, slot, wide};
use ebpf_btf::core_relo::CoreError;
use ebpf_btf::{BtfError, TypeIndex};
use ebpf_isa::{Pc, ProgramError};
use ebpf_object::{
    CoreProblem, MAX_NAME_LEN, MAX_SECTIONS, MAX_SYMBOLS, Object, ObjectError, RelocationProblem,
};

/// The error of an object made by `build`, or else of its program `main`.
#[track_caller]
fn rejects<T>(build: impl FnOnce(&mut Elf) -> T, expected: ObjectError) {
    let mut elf = Elf::new();
    build(&mut elf);
    let error = elf.parse().and_then(|object| object.program("main")).expect_err("a bad object");
    assert_eq!(error, expected);
    let text = error.to_string();
    assert!(!text.ends_with('.') && text.lines().count() == 1, "{text}");
}

/// An object with one program of one section, and a `.text` section with a function `leaf` of two
/// slots.
fn with_main(elf: &mut Elf, slots: &[[u8; 8]]) -> (usize, usize) {
    let xdp = elf.code("xdp", slots);
    elf.function("main", xdp, 0, slots.len() as u64);
    let text = elf.code(".text", &[mov(0), exit()]);
    elf.function("leaf", text, 0, 2);
    (xdp, text)
}

fn good() -> Vec<u8> {
    let mut elf = Elf::new();
    with_main(&mut elf, &[mov(0), exit()]);
    elf.finish()
}

#[track_caller]
fn rejects_changed(at: usize, byte: u8, expected: ObjectError) {
    let mut bytes = good();
    bytes[at] = byte;
    assert_eq!(Object::parse(&bytes).err(), Some(expected));
}

#[test]
fn what_is_no_bpf_object() {
    assert!(Object::parse(&good()).is_ok());
    for bytes in [&b""[..], b"\x7fEL", b"#!/bin/sh\n", &[0xd4, 0xc3, 0xb2, 0xa1]] {
        assert_eq!(Object::parse(bytes).unwrap_err(), ObjectError::NotElf);
    }
    rejects_changed(4, 1, ObjectError::WrongClass);
    rejects_changed(5, 2, ObjectError::WrongByteOrder);
    rejects_changed(18, 62, ObjectError::WrongMachine { machine: 62 });
    rejects_changed(16, 3, ObjectError::NotRelocatable { file_type: 3 });
}

#[test]
fn truncated_files() {
    let good = good();
    let error = |len: usize| Object::parse(&good[..len]).unwrap_err();
    assert_eq!(error(63), ObjectError::Truncated { what: "the header".into() });
    assert_eq!(error(64), ObjectError::Truncated { what: "the section table".into() });
    assert_eq!(error(good.len() - 1), ObjectError::Truncated { what: "the section table".into() });
    // A section beyond the end of the file: the size of the first one is in the table's second
    // entry.
    let mut bytes = good.clone();
    let table = u64::from_le_bytes(bytes[40..48].try_into().unwrap()) as usize;
    bytes[table + 64 + 34] = 1;
    assert_eq!(
        Object::parse(&bytes).unwrap_err(),
        ObjectError::Truncated { what: "section xdp".into() }
    );
}

#[test]
fn limits_hold_on_both_sides() {
    let too_many = |what, limit| ObjectError::TooMany { what, count: limit + 1, limit };
    // Beside those added: the null section, code twice, the symbols and the strings.
    let with_sections = |count: usize| {
        let mut elf = Elf::new();
        with_main(&mut elf, &[exit()]);
        for _ in 0..count - 5 {
            elf.other("x", &[]);
        }
        elf.parse().map(drop)
    };
    assert_eq!(with_sections(MAX_SECTIONS), Ok(()));
    assert_eq!(with_sections(MAX_SECTIONS + 1), Err(too_many("sections", MAX_SECTIONS)));
    // Beside those added: the null symbol and two functions.
    let with_symbols = |count: usize| {
        let mut elf = Elf::new();
        with_main(&mut elf, &[exit()]);
        for _ in 0..count - 3 {
            elf.symbol("x", 0, 0, 0, 0);
        }
        elf.parse().map(drop)
    };
    assert_eq!(with_symbols(MAX_SYMBOLS), Ok(()));
    assert_eq!(with_symbols(MAX_SYMBOLS + 1), Err(too_many("symbols", MAX_SYMBOLS)));
    let with_name = |len: usize| {
        let mut elf = Elf::new();
        elf.code(&"x".repeat(len), &[exit()]);
        elf.parse().map(drop)
    };
    assert_eq!(with_name(MAX_NAME_LEN), Ok(()));
    assert_eq!(with_name(MAX_NAME_LEN + 1), Err(too_many("bytes in a name", MAX_NAME_LEN)));
}

#[test]
fn sections_that_share_their_contents() {
    let mut elf = Elf::new();
    for name in [".data.a", ".data.b", ".data.c"] {
        elf.data(name, &[0; 4096]);
    }
    let mut bytes = elf.finish();
    assert!(Object::parse(&bytes).is_ok());
    // Every section of data takes the whole file.
    let table = u64::from_le_bytes(bytes[40..48].try_into().unwrap()) as usize;
    let len = bytes.len() as u64;
    for section in 1..=3 {
        let at = table + section * 64 + 24;
        bytes[at..at + 8].fill(0);
        bytes[at + 8..at + 16].copy_from_slice(&len.to_le_bytes());
    }
    let expected = ObjectError::Malformed { what: "sections overlap".into() };
    assert_eq!(Object::parse(&bytes).unwrap_err(), expected);
}

#[test]
fn missing_sections() {
    let mut bytes = good();
    // The symbol table's type, in the last entry but one of the section table.
    let at = bytes.len() - 128 + 4;
    bytes[at] = 1;
    let missing = |section, needed_by| ObjectError::MissingSection { section, needed_by };
    assert_eq!(Object::parse(&bytes).unwrap_err(), missing(".symtab", "every program"));
    rejects(|elf| elf.data(".maps", &[0; 8]), missing(".BTF", ".maps"));
    rejects(|elf| elf.other(".BTF.ext", &[0; 8]), missing(".BTF", ".BTF.ext"));
}

#[test]
fn names_that_say_nothing_or_too_much() {
    let build = |elf: &mut Elf| {
        let section = elf.code("tc", &[exit(), exit()]);
        elf.function("one", section, 0, 1);
        elf.function("two", section, 1, 1);
    };
    rejects(
        build,
        ObjectError::NoSuchProgram {
            name: "main".into(),
            available: vec!["one".into(), "two".into()],
        },
    );
    rejects(|_| {}, ObjectError::NoSuchProgram { name: "main".into(), available: vec![] });
    let duplicate = |what, name: &str| ObjectError::DuplicateName { what, name: name.into() };
    let build = |elf: &mut Elf| {
        for name in ["tc", "xdp"] {
            let section = elf.code(name, &[exit()]);
            elf.function("main", section, 0, 1);
        }
    };
    rejects(build, duplicate("program", "main"));
    rejects(|elf| [0, 1].map(|_| elf.code("xdp", &[exit()])), duplicate("section", "xdp"));
    rejects(|elf| [0, 1].map(|_| elf.data(".data", &[1])), duplicate("map", ".data"));
    let expected = ObjectError::Malformed { what: "a section's name is not UTF-8".into() };
    let mut bytes = good();
    let at = bytes.windows(4).rposition(|window| window == b"xdp\0").unwrap();
    bytes[at] = 0xff;
    assert_eq!(Object::parse(&bytes).unwrap_err(), expected);
}

#[test]
fn instructions_and_functions_that_do_not_fit() {
    let build = |elf: &mut Elf| elf.section("xdp", 1, 6, &[0; 12]);
    rejects(build, ObjectError::BadInstructionBytes { section: "xdp".into(), len: 12 });
    for (offset, size) in [(0, 0), (4, 8), (8, 4), (0, 24), (16, 8), (u64::MAX - 7, 8)] {
        let build = |elf: &mut Elf| {
            let xdp = elf.code("xdp", &[mov(0), exit()]);
            elf.symbol("main", 0x12, xdp, offset, size);
        };
        rejects(
            build,
            ObjectError::BadFunction {
                section: "xdp".into(),
                function: "main".into(),
                offset,
                size,
            },
        );
    }
    let build = |elf: &mut Elf| {
        let xdp = elf.code("xdp", &[mov(0), exit()]);
        elf.function("inner", xdp, 1, 1);
        elf.function("main", xdp, 0, 2);
    };
    let (section, first, second) = ("xdp".into(), "main".into(), "inner".into());
    rejects(build, ObjectError::OverlappingFunctions { section, first, second });
}

#[test]
fn programs_that_are_not_sound() {
    let unsound = |source| ObjectError::Program { program: "main".into(), source };
    rejects(|elf| with_main(elf, &[mov(0)]), unsound(ProgramError::FallsThrough { pc: Pc(0) }));
    // A wide load whose second slot would be the first of the next function.
    let build = |elf: &mut Elf| {
        let xdp = elf.code("xdp", &[call(1), wide(0, 0)[0], [0; 8], exit()]);
        elf.function("main", xdp, 0, 2);
        elf.function("next", xdp, 2, 2);
    };
    rejects(build, unsound(ProgramError::SplitWideLoad { pc: Pc(1) }));
}

#[test]
fn license_and_version_that_are_none() {
    let bad = |section, expected| ObjectError::BadText { section, expected };
    rejects(|elf| elf.data("license", &[0xff, 0]), bad("license", "UTF-8 text"));
    rejects(|elf| elf.data("version", &[1, 2]), bad("version", "a number of 4 bytes"));
}

#[test]
fn types_that_cannot_be_read() {
    let source = BtfError::Truncated { offset: 0, needed: 8, available: 2 };
    rejects(
        |elf| elf.other(".BTF", &[0x9f, 0xeb]),
        ObjectError::Btf { section: ".BTF", source: source.clone() },
    );
    let build = |elf: &mut Elf| {
        elf.other(".BTF", &Types::new().finish());
        elf.other(".BTF.ext", &[0x9f, 0xeb]);
    };
    rejects(build, ObjectError::Btf { section: ".BTF.ext", source });
}

/// The error of an object with one map, `m`, of these members.
#[track_caller]
fn rejects_map(
    members: impl FnOnce(&mut Types) -> Vec<(&'static str, u32)>,
    expected: ObjectError,
) {
    let mut types = Types::new();
    let members = members(&mut types);
    types.map("m", &members);
    let build = |elf: &mut Elf| {
        let maps = elf.data(".maps", &[0; 64]);
        elf.symbol("m", 0x11, maps, 0, 64);
        elf.other(".BTF", &types.finish());
    };
    rejects(build, expected);
}

#[test]
fn maps_that_are_declared_wrongly() {
    let map = || "m".to_string();
    let unknown = |number| ObjectError::UnknownMapType { map: map(), number };
    rejects_map(|types| vec![("type", types.number(999))], unknown(999));
    rejects_map(|types| vec![("max_entries", types.number(1))], unknown(0));
    let unsupported =
        |member: &str| ObjectError::UnsupportedMapMember { map: map(), member: member.into() };
    rejects_map(|types| vec![("typo", types.number(1))], unsupported("typo"));
    let members = |types: &mut Types| vec![("type", types.number(1)), ("type", types.number(2))];
    rejects_map(members, ObjectError::DuplicateName { what: "member", name: "type".into() });
    let bad = |what: &str, expected| ObjectError::BadMapDeclaration {
        map: map(),
        what: what.into(),
        expected,
    };
    rejects_map(
        |_| vec![("type", 1)],
        bad("type", "a number: a pointer to an array of that length"),
    );
    rejects_map(|_| vec![("key", 1)], bad("key", "a pointer to a type"));
    rejects_map(
        |types| vec![("value", types.pointer(0))],
        bad("value", "a pointer to a type with a size"),
    );
    let members = |types: &mut Types| {
        vec![("type", types.number(1)), ("key_size", types.number(8)), ("key", types.pointer(1))]
    };
    let values = |expected| bad("values", expected);
    let array = "an array of pointers to maps or functions";
    rejects_map(
        |types| vec![("type", types.number(12)), ("values", types.number(0))],
        values(array),
    );
    let numbers = |types: &mut Types| {
        let number = types.pointer(1);
        vec![("type", types.number(12)), ("values", types.open_array(number))]
    };
    rejects_map(numbers, values(array));
    let maps_in = |map_type| {
        move |types: &mut Types| {
            let inner = types.declaration(&[]);
            let inner = types.pointer(inner);
            vec![("type", types.number(map_type)), ("values", types.open_array(inner))]
        }
    };
    rejects_map(maps_in(1), values("those of a map of maps, or of programs"));
    rejects_map(maps_in(3), values("those of a map of maps, or of programs"));
    let unknown = ObjectError::UnknownMapType { map: "m.inner".into(), number: 0 };
    rejects_map(maps_in(13), unknown);
    let deeper = |types: &mut Types| {
        let innermost = types.declaration(&[]);
        let innermost = types.pointer(innermost);
        let members = [("type", types.number(12)), ("values", types.open_array(innermost))];
        let inner = types.declaration(&members);
        let inner = types.pointer(inner);
        vec![("type", types.number(12)), ("values", types.open_array(inner))]
    };
    rejects_map(deeper, values("maps that hold no maps"));
    let (member, declared, actual) = ("key_size", 8, 4);
    rejects_map(members, ObjectError::ConflictingMapSizes { map: map(), member, declared, actual });
}

#[test]
fn maps_without_a_place_or_of_the_old_kind() {
    let mut types = Types::new();
    let number = types.number(2);
    types.map("m", &[("type", number)]);
    let build = |elf: &mut Elf| {
        elf.data(".maps", &[0; 8]);
        elf.other(".BTF", &types.finish());
    };
    let (map, what, expected) = ("m".into(), "the variable".into(), "a symbol of section .maps");
    rejects(build, ObjectError::BadMapDeclaration { map, what, expected });

    let mut types = Types::new();
    types.add(".maps", 15, 1, 0, &[1, 0, 0]);
    let build = |elf: &mut Elf| {
        elf.data(".maps", &[0; 8]);
        elf.other(".BTF", &types.finish());
    };
    let (map, what, expected) = (".maps".into(), "type 1".into(), "a variable");
    rejects(build, ObjectError::BadMapDeclaration { map, what, expected });

    for section in ["maps", "maps/counters"] {
        rejects(
            |elf| elf.data(section, &[0; 20]),
            ObjectError::LegacyMaps { section: section.into() },
        );
    }
    let size = 1 << 32;
    rejects(
        |elf| elf.bss(".bss", size),
        ObjectError::DataTooLarge { section: ".bss".into(), size },
    );
}

/// The problem of `main`, made of `slots`, with a relocation at `offset` against the symbol that
/// `symbol` makes.
#[track_caller]
fn rejects_relocation(
    slots: &[[u8; 8]],
    offset: u64,
    kind: u32,
    symbol: impl FnOnce(&mut Elf, usize) -> u32,
    problem: RelocationProblem,
) {
    let at = if offset == 24 { 16 } else { offset };
    let build = |elf: &mut Elf| {
        let (xdp, text) = with_main(elf, slots);
        let symbol = symbol(elf, text);
        elf.relocation(xdp, offset, symbol, kind);
    };
    // The second slot of a wide load is reported at the first.
    rejects(build, ObjectError::Relocation { section: "xdp".into(), offset: at, problem });
}

fn leaf(elf: &mut Elf, text: usize) -> u32 {
    elf.symbol("target", 0, text, 0, 0)
}

#[test]
fn relocations_that_do_not_fit_the_section() {
    let slots = [mov(0), exit()];
    rejects_relocation(&slots, 4, WIDE, leaf, RelocationProblem::NotAtInstruction);
    rejects_relocation(&slots, 16, WIDE, leaf, RelocationProblem::NotAtInstruction);
    rejects_relocation(&slots, 0, WIDE, |_, _| 77, RelocationProblem::NoSuchSymbol { index: 77 });
    let twice = |elf: &mut Elf, text| {
        elf.relocation(1, 0, 1, WIDE);
        leaf(elf, text)
    };
    rejects_relocation(&slots, 0, WIDE, twice, RelocationProblem::Duplicate);
    let what = || "relocations of section xdp have explicit addends".into();
    let build = |elf: &mut Elf| {
        let (xdp, _) = with_main(elf, &slots);
        elf.rela(xdp);
    };
    rejects(build, ObjectError::Malformed { what: what() });
    let build = |elf: &mut Elf| elf.relocation(99, 0, 0, WIDE);
    rejects(
        build,
        ObjectError::Malformed {
            what: "relocations are for section 99, which does not exist".into(),
        },
    );
}

#[test]
fn relocations_that_do_not_fit_the_instruction() {
    let symbol = || "target".to_string();
    let slots = [mov(0), call(-1), wide(0, 0)[0], wide(0, 0)[1], exit()];
    let wrong =
        |kind, opcode| RelocationProblem::WrongInstruction { kind, symbol: symbol(), opcode };
    rejects_relocation(&slots, 0, WIDE, leaf, wrong(WIDE, 0xb7));
    rejects_relocation(&slots, 8, WIDE, leaf, wrong(WIDE, 0x85));
    let calls_leaf = |elf: &mut Elf, text| {
        let symbol = leaf(elf, text);
        elf.relocation(1, 8, symbol, CALL);
        symbol
    };
    rejects_relocation(&slots, 16, CALL, calls_leaf, wrong(CALL, 0x18));
    rejects_relocation(&slots, 24, WIDE, calls_leaf, wrong(WIDE, 0x18));
    rejects_relocation(
        &slots,
        0,
        2,
        leaf,
        RelocationProblem::UnsupportedKind { kind: 2, symbol: symbol() },
    );
    // A helper call has nothing to relocate.
    rejects_relocation(&[slot(0x85, 0, 0, 0, 1), exit()], 0, CALL, leaf, wrong(CALL, 0x85));
    // A wide load that names a map by a number that only some process knew.
    let build = |elf: &mut Elf| with_main(elf, &[wide(1, 3)[0], wide(1, 3)[1], exit()]);
    let problem = RelocationProblem::Missing { kind: 1 };
    rejects(build, ObjectError::Relocation { section: "xdp".into(), offset: 0, problem });
}

#[test]
fn calls_that_lead_nowhere() {
    let not_a_function =
        |symbol: &str, addend| RelocationProblem::NotAFunction { symbol: symbol.into(), addend };
    // To the second slot of `leaf`, to before the section, to a symbol between slots.
    rejects_relocation(&[call(0), exit()], 0, CALL, leaf, not_a_function("target", 8));
    rejects_relocation(&[call(-9), exit()], 0, CALL, leaf, not_a_function("target", -64));
    let odd = |elf: &mut Elf, text| elf.symbol("odd", 0, text, 4, 0);
    rejects_relocation(&[call(-1), exit()], 0, CALL, odd, not_a_function("odd", 0));
    let data = |elf: &mut Elf, _| {
        let data = elf.data(".data", &[0; 8]);
        elf.symbol("target", 0x11, data, 0, 8)
    };
    let (symbol, target) = ("target".into(), ".data".into());
    rejects_relocation(
        &[call(-1), exit()],
        0,
        CALL,
        data,
        RelocationProblem::NoTarget { symbol, target },
    );
    let external = |elf: &mut Elf, _| elf.symbol("bpf_kfunc", 0x10, 0, 0, 0);
    rejects_relocation(
        &[call(-1), exit()],
        0,
        CALL,
        external,
        RelocationProblem::Extern { symbol: "bpf_kfunc".into() },
    );
    // Without a relocation, relative to the call.
    let build = |elf: &mut Elf| with_main(elf, &[mov(0), call(0), exit()]);
    let problem = not_a_function("xdp", 8);
    rejects(build, ObjectError::Relocation { section: "xdp".into(), offset: 8, problem });
}

#[test]
fn wide_loads_that_lead_nowhere() {
    let load = |imm| [wide(0, imm)[0], wide(0, imm)[1], exit()];
    let symbol = || "target".to_string();
    let not_a_function = |addend| RelocationProblem::NotAFunction { symbol: symbol(), addend };
    rejects_relocation(&load(8), 0, WIDE, leaf, not_a_function(8));
    rejects_relocation(&load(4), 0, WIDE, leaf, not_a_function(4));
    let external = |elf: &mut Elf, _| elf.symbol("CONFIG_HZ", 0x10, 0, 0, 0);
    rejects_relocation(
        &load(0),
        0,
        WIDE,
        external,
        RelocationProblem::Extern { symbol: "CONFIG_HZ".into() },
    );
    let in_data = |elf: &mut Elf, name: &str, value| {
        let data = elf.data(name, &[0; 8]);
        elf.symbol("target", 0x11, data, value, 8)
    };
    let target = || "strange".into();
    let problem = RelocationProblem::NoTarget { symbol: symbol(), target: target() };
    rejects_relocation(&load(0), 0, WIDE, |elf, _| in_data(elf, "strange", 0), problem);
    let bad_offset = |addend| RelocationProblem::BadDataOffset { symbol: symbol(), addend };
    rejects_relocation(&load(-8), 0, WIDE, |elf, _| in_data(elf, ".data", 4), bad_offset(-8));
    rejects_relocation(
        &load(1),
        0,
        WIDE,
        |elf, _| in_data(elf, ".data", 0xffff_ffff),
        bad_offset(1),
    );
    let relocated = |elf: &mut Elf, text| {
        let data = elf.data(".data", &[0; 8]);
        let function = leaf(elf, text);
        elf.relocation(data, 0, function, 2);
        elf.symbol("target", 0x11, data, 0, 8)
    };
    let problem = RelocationProblem::RelocatedData { symbol: symbol(), target: ".data".into() };
    rejects_relocation(&load(0), 0, WIDE, relocated, problem);
    let between_maps = |elf: &mut Elf, _| {
        let mut types = Types::new();
        let number = types.number(2);
        types.map("m", &[("type", number)]);
        let maps = elf.data(".maps", &[0; 8]);
        elf.other(".BTF", &types.finish());
        elf.symbol("m", 0x11, maps, 0, 8)
    };
    let problem = RelocationProblem::NotAMap { symbol: "m".into(), addend: 4 };
    rejects_relocation(&load(4), 0, WIDE, between_maps, problem);
}

/// An object whose `main` (two slots of `xdp`) has the BTF.ext tables that `tables` makes of the
/// section's name.
fn with_ext(elf: &mut Elf, tables: impl FnOnce(&mut Types, u32) -> Vec<u8>) {
    with_main(elf, &[mov(0), exit()]);
    let mut types = Types::new();
    let xdp = types.name("xdp");
    let ext = tables(&mut types, xdp);
    elf.other(".BTF", &types.finish());
    elf.other(".BTF.ext", &ext);
}

#[test]
fn core_relocations_need_types() {
    let build = |elf: &mut Elf| {
        with_ext(elf, |types, xdp| {
            let task = types.sized(8);
            let other = types.name("0");
            // The first by place, not by order in the table.
            ext(&[], &[], &[16, xdp, 2, 8, task, other, 9, 0, task, other, 8])
        });
    };
    let error = |offset, what: &str, problem| ObjectError::CoreRelocation {
        section: "xdp".into(),
        offset,
        what: what.into(),
        problem,
    };
    let no_types = CoreProblem::Types(CoreError::NoTypes);
    rejects(build, error(0, "existence of a type: sized", no_types));
    // An `exit` has nothing to be relocated.
    let mut elf = Elf::new();
    build(&mut elf);
    let object = elf.parse().unwrap();
    let types = TypeIndex::new(object.btf().unwrap().clone());
    let wrong = CoreProblem::WrongInstruction { opcode: 0x95 };
    assert_eq!(
        object.program_with("main", Some(&types), |_| None).unwrap_err(),
        error(8, "size of a type: sized", wrong)
    );
    // Of another function, they do not matter.
    let mut elf = Elf::new();
    with_ext(&mut elf, |types, xdp| {
        let access = types.name("0");
        ext(&[], &[], &[16, xdp, 1, 16, 1, access, 0])
    });
    assert!(elf.parse().unwrap().program("main").is_ok());
}

#[test]
fn core_relocations_are_at_instructions() {
    let build = |elf: &mut Elf| {
        with_ext(elf, |types, xdp| {
            let access = types.name("0");
            ext(&[], &[], &[16, xdp, 1, 4, 1, access, 9])
        });
    };
    let what = "size of a type: unsigned int".into();
    let problem = CoreProblem::NotAtInstruction;
    rejects(build, ObjectError::CoreRelocation { section: "xdp".into(), offset: 4, what, problem });
}

#[test]
fn lines_that_are_not_at_instructions() {
    let with_lines = |elf: &mut Elf, offsets: [u32; 2]| {
        with_ext(elf, |types, xdp| {
            let file = types.name("a.c");
            let records = offsets.iter().flat_map(|&offset| [offset, file, 0, 1 << 10]);
            ext(&[], &[16, xdp, 2].into_iter().chain(records).collect::<Vec<_>>(), &[])
        });
    };
    let expected = ObjectError::BadLineOffset { section: "xdp".into(), offset: 4 };
    rejects(|elf| with_lines(elf, [0, 4]), expected);
    let source = ProgramError::BadLine { pc: Pc(1) };
    rejects(|elf| with_lines(elf, [8, 8]), ObjectError::Program { program: "main".into(), source });
}

//! Programs, maps and references of objects made by hand.

mod common;

use common::{CALL, Elf, Types, WIDE, call, exit, ext, mov, wide};
use ebpf_btf::{Linkage, Type, TypeId};
use ebpf_isa::uapi::{MapDesc, MapType, ProgramType, map_flags};
use ebpf_isa::{CallTarget, Insn, MapForm, MapIdx, Pc, Program, WideSource};
use ebpf_object::{Object, ObjectError, ObjectMap};

/// The calls and wide loads of symbols, with their positions.
fn references(program: &Program) -> Vec<(u32, Insn)> {
    let is_reference = |insn: &Insn| matches!(insn, Insn::Call(_) | Insn::LoadWide { .. });
    program.insns().filter(|(_, insn)| is_reference(insn)).map(|(pc, insn)| (pc.0, insn)).collect()
}

fn subprogs(program: &Program) -> Vec<(u32, u32, &str)> {
    let subprogs = program.subprogs().iter();
    subprogs
        .map(|subprog| {
            (subprog.start.0, subprog.end.0, subprog.info.name.as_deref().unwrap_or_default())
        })
        .collect()
}

fn calls(target: u32) -> Insn {
    Insn::Call(CallTarget::Subprog(Pc(target)))
}

fn loads(source: WideSource) -> Insn {
    Insn::LoadWide { dst: ebpf_isa::Reg::new(1).expect("r1"), source }
}

/// `.text`: `leaf` at 0, `middle` at 2 (calls `leaf` without relocation), `unused` at 4. `xdp`:
/// `main` at 1, behind a static function, calls `middle` through the section's symbol, `leaf` by
/// its own, and itself has `helper` in its section.
fn calling() -> Object {
    let mut elf = Elf::new();
    let text = elf.code(".text", &[mov(1), exit(), call(-3), exit(), mov(4), exit()]);
    let xdp = elf.code("xdp", &[exit(), call(1), call(-1), call(-4), mov(7), exit()]);
    let text_symbol = elf.section_symbol(text);
    let leaf = elf.static_function("leaf", text, 0, 2);
    elf.function("middle", text, 2, 2);
    elf.function("unused", text, 4, 2);
    elf.static_function("helper", xdp, 0, 1);
    elf.function("main", xdp, 1, 5);
    elf.relocation(xdp, 8, text_symbol, CALL);
    elf.relocation(xdp, 16, leaf, CALL);
    elf.parse().expect("a good object")
}

#[test]
fn functions_follow_in_the_order_they_are_reached() {
    let object = calling();
    assert_eq!(object.programs().iter().map(|info| &*info.name).collect::<Vec<_>>(), ["main"]);
    let linked = object.program("main").unwrap();
    assert_eq!(linked.info.kind().unwrap().program_type, ProgramType::Xdp);
    let program = &linked.program;
    // Depth first: `leaf` comes with `middle`, before `helper`.
    assert_eq!(
        subprogs(program),
        [(0, 5, "main"), (5, 7, "middle"), (7, 9, "leaf"), (9, 10, "helper")]
    );
    assert_eq!(references(program), [(0, calls(5)), (1, calls(7)), (2, calls(9)), (5, calls(7))]);
}

#[test]
fn recursion_links_each_function_once() {
    let mut elf = Elf::new();
    let text = elf.code(".text", &[call(1), exit(), call(-3), exit()]);
    let xdp = elf.code("xdp", &[call(-1), exit()]);
    let ping = elf.function("ping", text, 0, 2);
    elf.function("pong", text, 2, 2);
    elf.function("main", xdp, 0, 2);
    elf.relocation(xdp, 0, ping, CALL);
    let program = elf.parse().unwrap().program("main").unwrap().program;
    assert_eq!(subprogs(&program), [(0, 2, "main"), (2, 4, "ping"), (4, 6, "pong")]);
    assert_eq!(references(&program), [(0, calls(2)), (2, calls(4)), (4, calls(2))]);
}

#[test]
fn long_chains_of_calls_are_no_recursion_of_ours() {
    let mut elf = Elf::new();
    let depth = 20_000;
    let slots: Vec<_> =
        (0..depth).flat_map(|_| [call(1), exit()]).chain([mov(0), exit()]).collect();
    let xdp = elf.code("xdp", &slots);
    for at in 0..=depth {
        elf.function(&format!("f{at}"), xdp, at * 2, 2);
    }
    let program = elf.parse().unwrap().program("f0").unwrap().program;
    assert_eq!(program.subprogs().len() as u64, depth + 1);
}

#[test]
fn function_addresses_are_references_too() {
    let mut elf = Elf::new();
    let text = elf.code(".text", &[mov(1), exit(), mov(2), exit()]);
    let slots = [&wide(0, 16)[..], &wide(0, 0)[..], &[exit()]].concat();
    let xdp = elf.code("xdp", &slots);
    let text_symbol = elf.section_symbol(text);
    let first = elf.static_function("first", text, 0, 2);
    elf.static_function("second", text, 2, 2);
    elf.function("main", xdp, 0, 5);
    elf.relocation(xdp, 0, text_symbol, WIDE);
    elf.relocation(xdp, 16, first, WIDE);
    let program = elf.parse().unwrap().program("main").unwrap().program;
    assert_eq!(subprogs(&program), [(0, 5, "main"), (5, 7, "second"), (7, 9, "first")]);
    let expected = [(0, loads(WideSource::Func(Pc(5)))), (2, loads(WideSource::Func(Pc(7))))];
    assert_eq!(references(&program), expected);
}

#[test]
fn data_sections_are_maps() {
    let mut elf = Elf::new();
    let slots =
        [&wide(0, 8)[..], &wide(0, -4)[..], &wide(0, 0)[..], &wide(0, 42)[..], &[exit()]].concat();
    let xdp = elf.code("xdp", &slots);
    let rodata = elf.data(".rodata.cst", &[1, 2, 3]);
    elf.data(".data.empty", &[]);
    elf.data(".database", &[1]);
    let data = elf.data(".data", &[0; 16]);
    let bss = elf.bss(".bss.big", 1 << 20);
    let data_symbol = elf.section_symbol(data);
    let variable = elf.symbol("variable", 0x11, data, 12, 4);
    let zeros = elf.symbol("zeros", 0x11, bss, 64, 4);
    elf.symbol("constant", 0x11, rodata, 0, 3);
    elf.function("main", xdp, 0, 9);
    elf.relocation(xdp, 0, data_symbol, WIDE);
    elf.relocation(xdp, 16, variable, WIDE);
    elf.relocation(xdp, 32, zeros, WIDE);
    // `R_BPF_NONE` asks for nothing.
    elf.relocation(xdp, 48, zeros, 0);
    let object = elf.parse().unwrap();

    let array = |value_size, flags| MapDesc {
        map_type: MapType::Array,
        key_size: 4,
        value_size,
        max_entries: 1,
        flags,
    };
    let [rodata, data, bss] = object.maps() else { panic!("{:?}", object.maps()) };
    assert_eq!(
        (&*rodata.name, rodata.desc, rodata.frozen),
        (".rodata.cst", array(3, map_flags::RDONLY_PROG), true)
    );
    assert_eq!(rodata.initial.as_deref(), Some(&[1, 2, 3][..]));
    assert_eq!((&*data.name, data.desc, data.frozen), (".data", array(16, 0), false));
    assert_eq!((&*bss.name, bss.desc, &bss.initial), (".bss.big", array(1 << 20, 0), &None));

    let value = |map, offset| loads(WideSource::MapValue(MapIdx(map), offset, MapForm::Fd));
    let number = loads(WideSource::Imm(ebpf_isa::Imm64::new(42)));
    let expected = [(0, value(0, 8)), (2, value(0, 8)), (4, value(1, 64)), (6, number)];
    let linked = object.program("main").unwrap();
    assert_eq!(references(&linked.program), expected);
    assert_eq!(linked.maps, [1, 2]);
}

#[test]
fn hidden_functions_are_static() {
    const FUNC: u32 = 12;
    let mut types = Types::new();
    let prototype = types.add("", 13, 0, 1, &[]);
    let [main, seen, hidden] =
        ["main", "seen", "hidden"].map(|name| types.add(name, FUNC, 1, prototype, &[]));
    let xdp_name = types.name("xdp");
    let functions = [8, xdp_name, 3, 0, main, 8, seen, 16, hidden];
    let mut elf = Elf::new();
    let xdp = elf.code("xdp", &[exit(), exit(), exit()]);
    for (name, at) in ["main", "seen"].into_iter().zip(0..) {
        elf.function(name, xdp, at, 1);
    }
    let symbol = elf.function("hidden", xdp, 2, 1);
    elf.hide(symbol);
    elf.other(".BTF", &types.finish());
    elf.other(".BTF.ext", &ext(&functions, &[], &[]));
    let object = elf.parse().unwrap();
    let btf = object.btf().unwrap();
    let linkage = |id| match btf.type_by_id(TypeId(id)).unwrap() {
        Type::Func(func) => func.linkage,
        ty => panic!("{ty:?}"),
    };
    assert_eq!([seen, hidden].map(linkage), [Linkage::Global, Linkage::Static]);
}

/// The one map of an object that declares it by these members.
fn declared(members: impl FnOnce(&mut Types) -> Vec<(&'static str, u32)>) -> ObjectMap {
    let mut types = Types::new();
    let members = members(&mut types);
    types.map("outer", &members);
    let mut elf = Elf::new();
    let maps = elf.data(".maps", &[0; 64]);
    elf.other(".BTF", &types.finish());
    elf.symbol("outer", 0x11, maps, 0, 64);
    elf.parse().expect("it is an object").maps()[0].clone()
}

#[test]
fn maps_of_maps_say_what_they_hold() {
    let outer = declared(|types| {
        let key = types.pointer(1);
        let inner = [("type", types.number(2)), ("key", key), ("value_size", types.number(24))];
        let inner = types.declaration(&inner);
        let inner = types.pointer(inner);
        let (nodes, extra) = (types.number(0), types.number(5));
        vec![
            ("type", types.number(13)),
            ("key", key),
            ("numa_node", nodes),
            ("map_extra", extra),
            ("values", types.open_array(inner)),
        ]
    });
    assert_eq!((outer.desc.key_size, outer.desc.value_size), (4, 4));
    let inner = outer.inner.expect("it holds maps");
    assert_eq!((&*inner.name, inner.desc.map_type), ("outer.inner", MapType::Array));
    assert_eq!((inner.desc.key_size, inner.desc.value_size), (4, 24));
    assert_eq!(inner.inner, None);
}

#[test]
fn maps_of_programs_hold_descriptors() {
    let outer = declared(|types| {
        let function = types.add("", 13, 0, 1, &[]);
        let function = types.pointer(function);
        vec![
            ("type", types.number(3)),
            ("key_size", types.number(4)),
            ("values", types.open_array(function)),
        ]
    });
    assert_eq!((outer.desc.value_size, outer.inner), (4, None));
}

#[test]
fn declared_maps_come_first_with_their_types() {
    let mut types = Types::new();
    let (hash, entries) = (types.number(1), types.number(100));
    let (key_size, flags, pin) = (types.number(16), types.number(1), types.number(1));
    let value_type = types.sized(40);
    let value = types.pointer(value_type);
    let members = [
        ("type", hash),
        ("max_entries", entries),
        ("key_size", key_size),
        ("value", value),
        ("map_flags", flags),
        ("pinning", pin),
    ];
    types.map("table", &members);

    let mut elf = Elf::new();
    let xdp = elf.code("xdp", &[&wide(0, 0)[..], &wide(0, 8)[..], &[exit()]].concat());
    elf.data(".data", &[0; 4]);
    let maps = elf.data(".maps", &[0; 64]);
    elf.other(".BTF", &types.finish());
    let table = elf.symbol("table", 0x11, maps, 8, 48);
    let maps_symbol = elf.section_symbol(maps);
    elf.function("main", xdp, 0, 5);
    elf.relocation(xdp, 0, table, WIDE);
    elf.relocation(xdp, 16, maps_symbol, WIDE);
    let object = elf.parse().unwrap();

    let [map, data] = object.maps() else { panic!("{:?}", object.maps()) };
    let desc = MapDesc {
        map_type: MapType::Hash,
        key_size: 16,
        value_size: 40,
        max_entries: 100,
        flags: 1,
    };
    assert_eq!((&*map.name, map.desc, map.pinning, map.frozen), ("table", desc, 1, false));
    assert_eq!((map.key_type, map.value_type.map(|id| id.0)), (None, Some(value_type)));
    assert_eq!(data.name, ".data");
    let source = loads(WideSource::Map(MapIdx(0), MapForm::Fd));
    assert_eq!(references(&object.program("main").unwrap().program), [(0, source), (2, source)]);
}

#[test]
fn lines_and_types_follow_the_functions() {
    let mut types = Types::new();
    let proto = types.add("", 13, 0, 1, &[]);
    let (leaf, main) = (types.add("leaf", 12, 0, proto, &[]), types.add("main", 12, 1, proto, &[]));
    let [xdp_name, text_name, file, first, second] =
        [".xdp", ".text", "a.c", "return leaf();", "return 1;"].map(|name| types.name(name));
    // The section's name is `xdp`: the tail of a longer string.
    let xdp_name = xdp_name + 1;
    let funcs = [8, xdp_name, 1, 8, main, text_name, 1, 0, leaf];
    let lines = [
        &[16, xdp_name, 2, 8, file, first, 20 << 10 | 9, 16, file, first, 20 << 10 | 2][..],
        &[text_name, 1, 0, file, second, 10 << 10 | 3],
    ];

    let mut elf = Elf::new();
    let text = elf.code(".text", &[mov(1), exit()]);
    let xdp = elf.code("xdp", &[exit(), call(-1), exit()]);
    elf.other(".BTF", &types.finish());
    elf.other(".BTF.ext", &ext(&funcs, &lines.concat(), &[]));
    let leaf_symbol = elf.static_function("leaf", text, 0, 2);
    elf.function("main", xdp, 1, 2);
    elf.relocation(xdp, 8, leaf_symbol, CALL);
    let program = elf.parse().unwrap().program("main").unwrap().program;

    let ids: Vec<_> = program.subprogs().iter().map(|subprog| subprog.info.btf_id).collect();
    assert_eq!(ids, [Some(main), Some(leaf)]);
    let lines: Vec<_> = program
        .lines()
        .entries()
        .iter()
        .map(|entry| (entry.pc.0, program.lines().resolve(entry)))
        .collect();
    let line = |pc, text, line, col| (pc, ebpf_isa::SourceLine { file: "a.c", text, line, col });
    assert_eq!(
        lines,
        [
            line(0, "return leaf();", 20, 9),
            line(1, "return leaf();", 20, 2),
            line(2, "return 1;", 10, 3)
        ]
    );
}

#[test]
fn license_version_and_unknown_sections_are_kept() {
    let mut elf = Elf::new();
    elf.data("license", b"GPL\0ignored");
    elf.data("version", &[0x00, 0x0c, 0x06, 0x00]);
    let section = elf.code("my/section", &[mov(0), exit()]);
    elf.function("main", section, 0, 2);
    let object = elf.parse().unwrap();
    assert_eq!((object.license(), object.version()), (Some("GPL"), Some(0x60c00)));
    let linked = object.program("main").unwrap();
    assert_eq!((linked.info.kind, linked.program.len()), (None, 2));
    let unknown =
        ObjectError::UnknownSectionName { program: "main".into(), section: "my/section".into() };
    assert_eq!(linked.info.kind(), Err(unknown));
}

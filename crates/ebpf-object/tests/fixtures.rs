//! The objects that clang made, and what becomes of them when they are damaged.

mod common;

use common::fixture;
use ebpf_isa::uapi::{AttachType, HelperId, MapDesc, MapType, ProgramType, map_flags};
use ebpf_isa::{CallTarget, Insn, MapIdx, Pc, WideSource};
use ebpf_object::{Object, ObjectError};

#[test]
fn the_firewall_has_its_maps() {
    let object = Object::parse(&fixture("xdp_firewall.o")).unwrap();
    let map = |map_type, key_size, value_size, max_entries| MapDesc {
        map_type,
        key_size,
        value_size,
        max_entries,
        flags: 0,
    };
    let maps: Vec<_> = object.maps().iter().map(|map| (&*map.name, map.desc)).collect();
    let expected = [
        ("blocklist", map(MapType::Hash, 4, 8, 1024)),
        ("blocklist6", map(MapType::Hash, 16, 8, 1024)),
        ("actions", map(MapType::Array, 4, 8, 5)),
        ("flows", map(MapType::Hash, 8, 8, 256)),
        (".rodata", MapDesc { flags: map_flags::RDONLY_PROG, ..map(MapType::Array, 4, 2, 1) }),
    ];
    assert_eq!(maps, expected);
    // `const volatile __u16 blocked_port = 23`
    assert_eq!(object.maps()[4].initial.as_deref(), Some(&[23, 0][..]));
    assert_eq!(object.license(), Some("Dual MIT/GPL"));
    let btf = object.btf().unwrap();
    assert_eq!(btf.type_name(object.maps()[3].key_type.unwrap()), "flow");
}

#[test]
fn the_firewall_is_linked() {
    let object = Object::parse(&fixture("xdp_firewall.o")).unwrap();
    let linked = object.program("xdp_firewall").unwrap();
    let kind = linked.info.kind().unwrap();
    assert_eq!((kind.program_type, kind.attach_type), (ProgramType::Xdp, Some(AttachType::Xdp)));

    let program = &linked.program;
    let [main, count] = program.subprogs() else { panic!("{:?}", program.subprogs()) };
    assert_eq!(main.info.name.as_deref(), Some("xdp_firewall"));
    assert_eq!((count.info.name.as_deref(), count.start), (Some("count_action"), main.end));
    for subprog in [main, count] {
        let id = ebpf_btf::TypeId(subprog.info.btf_id.unwrap());
        assert_eq!(object.btf().unwrap().type_name(id), subprog.info.name.as_deref().unwrap());
    }

    // The one call, tail of the main function, leads to `count_action`; that one looks up in
    // `actions`.
    let calls: Vec<_> = program
        .insns()
        .filter(|(_, insn)| matches!(insn, Insn::Call(CallTarget::Subprog(_))))
        .collect();
    assert_eq!(
        calls.iter().map(|&(_, insn)| insn).collect::<Vec<_>>(),
        [Insn::Call(CallTarget::Subprog(count.start))]
    );
    let lookup = Insn::Call(CallTarget::Helper(HelperId::MAP_LOOKUP_ELEM));
    assert!(program.insns().any(|(pc, insn)| pc >= count.start && insn == lookup));
    let maps = |from: Pc, to: Pc| -> Vec<&str> {
        let name = |map: MapIdx| &*object.maps()[linked.maps[map.index()]].name;
        let map = |(pc, insn)| match insn {
            Insn::LoadWide { source: WideSource::Map(map, _), .. } if (from..to).contains(&pc) => {
                Some(name(map))
            }
            _ => None,
        };
        program.insns().filter_map(map).collect()
    };
    assert_eq!(maps(count.start, count.end), ["actions"]);
    assert_eq!(
        maps(main.start, main.end).iter().filter(|&&map| map != "flows").collect::<Vec<_>>(),
        [&"blocklist", &"blocklist6"]
    );

    let line = program.lines().at(count.start).unwrap();
    assert!(line.file.ends_with("xdp_firewall.c"), "{}", line.file);
    assert!(line.text.contains("count_action(__u32 action)"), "{}", line.text);
}

#[test]
fn programs_are_asked_for_by_name() {
    let object = Object::parse(&fixture("xdp_minimal.o")).unwrap();
    assert_eq!(object.program("xdp_minimal").unwrap().program.len(), 2);
    assert!(object.maps().is_empty());
    let (name, available) = ("xdp_maximal".to_string(), vec!["xdp_minimal".to_string()]);
    let error = object.program("xdp_maximal").unwrap_err();
    assert_eq!(error, ObjectError::NoSuchProgram { name, available });
    assert_eq!(error.to_string(), "no program xdp_maximal; there are: xdp_minimal");
}

/// Reads an object and links all of it, whatever comes of it.
fn exercise(bytes: &[u8]) -> bool {
    let Ok(object) = Object::parse(bytes) else { return false };
    object.programs().iter().all(|program| object.program(&program.name).is_ok())
}

#[test]
fn truncations_are_errors() {
    for name in ["xdp_firewall.o", "xdp_missing_check.o"] {
        let good = fixture(name);
        assert!(exercise(&good), "{name}");
        for len in (0..good.len()).step_by(7) {
            assert!(Object::parse(&good[..len]).is_err(), "{name} {len}");
        }
    }
}

#[test]
fn single_byte_mutations_are_survived() {
    for (name, step) in [("xdp_missing_check.o", 1), ("xdp_firewall.o", 5)] {
        let mut bytes = fixture(name);
        for at in (0..bytes.len()).step_by(step) {
            let good = bytes[at];
            for byte in [0, 1, 0x7f, 0x80, 0xff, good ^ 1, good ^ 8, good.wrapping_add(1)] {
                bytes[at] = byte;
                exercise(&bytes);
            }
            bytes[at] = good;
        }
    }
}

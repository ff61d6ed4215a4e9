//! Tests of reading and writing cases.

use super::*;

fn lines(text: &[u8]) -> Vec<CaseLine> {
    read(text).map(|line| line.unwrap()).collect()
}

fn problem(line: &str) -> String {
    Case::parse(line).unwrap_err().to_string()
}

#[test]
fn a_case_with_everything() {
    let line = r#"{"id":"x","prog_type":"xdp","attach_type":37,"flags":32,"license":"MIT",
        "insns":"18110000 00000000 0000000000000000 9500000000000000","more":[],
        "maps":[{"type":12,"key":4,"value":4,"max":1,"inner":{"type":2,"key":4,"value":8,"max":1},
             "held":[{"key":"00000000"}]},
            {"type":2,"key":4,"value":2,"max":1,"flags":128,"frozen":true,"has_btf":true,
             "obj_btf_key":1,"obj_btf_value":2,"init":[{"key":"00000000","value":"beef"}]}],
        "map_refs":[[0,1]],"kfunc_refs":[[2,"f"]],"btf_file":"a.btf","func_info":[[0,7]],
        "attach_func":"g","runs":[{"data":"00ff","retval":3}],
        "verdict":"reject","errno":22,"processed":-1,"msg":"no"}"#;
    let case = Case::parse(line).unwrap();
    assert_eq!((case.id.as_str(), case.program_type, case.attach_type), ("x", 6, 37));
    assert_eq!((case.flags, case.license.as_str(), case.slots.len()), (32, "MIT", 3));
    assert_eq!(case.slots[2].opcode, 0x95);
    assert_eq!(case.maps[0].inner.as_ref().unwrap().value_size, 8);
    assert_eq!(case.maps[0].held, [vec![0; 4]]);
    assert_eq!(case.maps[1].types, MapTypes::OfProgram { key: 1, value: 2 });
    assert_eq!(case.maps[1].init, [(vec![0; 4], vec![0xbe, 0xef])]);
    assert!(case.maps[1].frozen && !case.maps[0].frozen);
    assert_eq!((&*case.map_refs, &*case.func_info), (&[(0, 1)][..], &[(0, 7)][..]));
    assert_eq!(case.kfunc_refs, [(2, "f".to_owned())]);
    assert_eq!(case.runs, [CaseRun { data: vec![0, 255], retval: Some(3) }]);
    let message = Some("no".to_owned());
    let judged = Judged { accepted: false, errno: 22, processed: None, states: None, message };
    assert_eq!(case.judged, Some(judged));
    assert_eq!(Case::parse(&case.to_line()), Ok(case));
}

#[test]
fn what_is_written_is_read() {
    for line in [
        r#"{"insns":"9500000000000000"}"#,
        r#"{"insns":"9500000000000000","btf_hex":"9feb","verdict":"accept","processed":7,
            "total_states":3,"peak_states":2}"#,
        r#"{"insns":"","maps":[{"name":"m","type":3,"key":4,"value":4,"max":2,"extra":9,
            "btf_hex":"9f","btf_key":1,"btf_value":2,"progs":[{"key":1,"ret":-3,"tail":0}]}]}"#,
    ] {
        let case = Case::parse(line).unwrap();
        assert_eq!(Case::parse(&case.to_line()), Ok(case), "{line}");
    }
}

#[test]
fn a_case_with_instructions_alone() {
    let case = Case::parse(r#"{"insns":"9500000000000000"}"#).unwrap();
    assert_eq!((case.program_type, case.license.as_str()), (1, "GPL"));
    assert_eq!((case.judged, case.btf), (None, None));
}

#[test]
fn errors_say_which_field() {
    for (line, expected) in [
        ("[]", "not JSON: the line is not an object"),
        ("{}", "field `insns` is missing"),
        (r#"{"insns":"9"}"#, "field `insns` is not bytes in hexadecimal"),
        (r#"{"insns":"95é0"}"#, "field `insns` is not bytes in hexadecimal"),
        (r#"{"insns":"95"}"#, "1 bytes of instructions are not a multiple of 8"),
        (r#"{"insns":"","flags":"x"}"#, "field `flags` is not a number of 32 bits"),
        (r#"{"insns":"","flags":4294967296}"#, "field `flags` is not a number of 32 bits"),
        (r#"{"insns":"","prog_type":"xpd"}"#, "there is no program type `xpd`"),
        (r#"{"insns":"","maps":[1]}"#, "field `maps` is not an array of objects"),
        (r#"{"insns":"","maps":[{"inner":{"inner":{}}}]}"#, "field `inner` is not a plain map"),
        (r#"{"insns":"","maps":[{"init":[{"key":""}]}]}"#, "field `value` is missing"),
        (
            r#"{"insns":"","func_info":[[1]]}"#,
            "field `func_info` is not an array of pairs of numbers",
        ),
        (
            r#"{"insns":"9500000000000000","map_refs":[[0,0]]}"#,
            "`map_refs`: slot 0 is no wide load, or there is no map 0",
        ),
        (r#"{"insns":"","kfunc_refs":[[0,"f"]]}"#, "`kfunc_refs`: there is no slot 0"),
    ] {
        assert_eq!(problem(line), expected, "{line}");
    }
    assert!(problem("{").starts_with("not JSON: "));
}

#[test]
fn the_number_of_maps_is_limited() {
    let line = |maps: usize| format!(r#"{{"insns":"","maps":[{}]}}"#, vec!["{}"; maps].join(","));
    assert_eq!(Case::parse(&line(MAX_MAPS)).unwrap().maps.len(), MAX_MAPS);
    assert_eq!(problem(&line(MAX_MAPS + 1)), "257 maps, more than the limit of 256");
}

#[test]
fn errors_keep_the_id() {
    assert_eq!(Case::parse(r#"{"id":"x"}"#).unwrap_err().id.as_deref(), Some("x"));
    assert_eq!(Case::parse(r#"{"id":7}"#).unwrap_err().id.as_deref(), Some("7"));
    assert_eq!(Case::parse(r#"{"id":["x"]}"#).unwrap_err().id, None);
}

#[test]
fn a_bad_line_does_not_end_a_file() {
    let lines = lines(b"\n{\"insns\":\"\"}\n\xff\n{\n{\"id\":\"a\",\"insns\":\"\"}");
    let ids: Vec<_> = lines.iter().map(|line| (line.number, line.case.is_ok())).collect();
    assert_eq!(ids, [(2, true), (3, false), (4, false), (5, true)]);
    assert_eq!(lines[0].case.as_ref().unwrap().id, "2");
    assert_eq!(lines[1].case.as_ref().unwrap_err().problem, CaseProblem::NotText);
    assert_eq!(lines[3].case.as_ref().unwrap().id, "a");
}

#[test]
fn a_line_that_is_too_long_is_skipped() {
    let mut text = vec![b' '; MAX_LINE_BYTES + 10];
    text.extend_from_slice(b"\n{\"insns\":\"\"}\n");
    let lines = lines(&text);
    assert_eq!(lines[0].case.as_ref().unwrap_err().problem, CaseProblem::LineTooLong);
    assert_eq!((lines[1].number, lines[1].case.is_ok()), (2, true));
}

#[test]
fn files_are_read_beside_the_case() {
    let case = Case::parse(r#"{"insns":"","btf_file":"Cargo.toml"}"#).unwrap();
    let directory = Path::new(env!("CARGO_MANIFEST_DIR"));
    let bytes = case.btf_bytes(directory).unwrap().unwrap();
    assert!(bytes.starts_with(b"[package]"));
    let missing = case.btf_bytes(&directory.join("no such directory")).unwrap_err();
    assert!(matches!(missing, CaseProblem::File { .. }), "{missing}");
}

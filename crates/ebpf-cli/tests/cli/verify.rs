//! `ebpf verify`.

use serde_json::{Value, json};

use super::*;

fn json(args: &[&str]) -> (Option<i32>, Vec<Value>) {
    let done = ebpf(&[&["verify", "--format", "json"], args].concat());
    assert_eq!(done.err, "");
    let objects = done.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    (done.code, objects)
}

#[test]
fn accepted() {
    let out = ebpf(&["verify", MINIMAL]).fine();
    assert_eq!(
        out,
        "fixtures/xdp/xdp_minimal.o: xdp_minimal: accepted, 2 instructions processed, stack depth 0\n"
    );
}

#[test]
fn rejected_at_the_line_of_the_source() {
    let done = ebpf(&["verify", MISSING_CHECK]);
    assert_eq!((done.code, done.err.as_str()), (Some(1), ""));
    assert_eq!(
        done.out,
        "\
error[packet.bounds]: R2 offset is outside of the packet
  --> ./fixtures/xdp/xdp_missing_check.c:12:14
   |
12 |     return udp->source == bpf_htons(DNS_PORT);
   |                 ^^^^^^ insn 13: r1 = *(u16 *)(r2 +0)
   |
   = note: invalid access to packet, off=34 size=2, R2(id=0,off=34,r=34)
   = note: fixtures/xdp/xdp_missing_check.o: xdp_missing_check: rejected with EACCES, 14 instructions processed

"
    );
}

#[test]
fn rejected_in_the_kernels_words() {
    let done = ebpf(&["verify", "--format", "kernel", MISSING_CHECK]);
    assert_eq!((done.code, done.err.as_str()), (Some(1), ""));
    assert_eq!(
        done.out,
        "\
; fixtures/xdp/xdp_missing_check.o: xdp_missing_check
invalid access to packet, off=34 size=2, R2(id=0,off=34,r=34)
R2 offset is outside of the packet
processed 14 insns (limit 1000000) max_states_per_insn 0 total_states 1 peak_states 1 mark_read 0
"
    );
}

#[test]
fn accepted_in_the_kernels_words() {
    let out = ebpf(&["verify", "--format", "kernel", MINIMAL]).fine();
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(lines.len(), 4);
    assert!(lines[1].starts_with("verification time ") && lines[1].ends_with(" usec"));
    assert_eq!(lines[2], "stack depth 0");
    let statistics = "processed 2 insns (limit 1000000) max_states_per_insn 0 total_states 0 \
                      peak_states 0 mark_read 0";
    assert_eq!(lines[3], statistics);
}

#[test]
fn verdicts_as_data() {
    let (code, verdicts) = json(&[FIREWALL, MISSING_CHECK]);
    assert_eq!(code, Some(1));
    let [accepted, rejected] = &verdicts[..] else { panic!("{verdicts:?}") };

    assert_eq!(accepted["file"], FIREWALL);
    assert_eq!(accepted["prog"], "xdp_firewall");
    assert_eq!(accepted["section"], "xdp");
    assert_eq!(accepted["type"], "xdp");
    assert_eq!(accepted["verdict"], "accept");
    assert_eq!(accepted["code"], Value::Null);
    assert_eq!(accepted["rule"], Value::Null);
    assert_eq!(accepted["errno"], 0);
    assert_eq!(accepted["msg"], Value::Null);
    assert_eq!(accepted["pc"], Value::Null);
    assert_eq!(accepted["source"], Value::Null);
    assert_eq!(accepted["stack_depth"], "32+8");
    assert_eq!(accepted["profile"], "linux-6.18");
    assert!(accepted["usec"].is_u64());

    assert_eq!(rejected["verdict"], "reject");
    assert_eq!(rejected["code"], "packet.bounds");
    assert_eq!(rejected["rule"], "PacketBounds");
    let fields = json!({"register": "r2", "id": 0, "off": 34, "size": 2, "range": 34});
    assert_eq!(rejected["fields"], fields);
    assert_eq!(rejected["errno"], 13);
    assert_eq!(rejected["msg"], "R2 offset is outside of the packet");
    assert_eq!(rejected["detail"], "invalid access to packet, off=34 size=2, R2(id=0,off=34,r=34)");
    assert_eq!(rejected["pc"], 13);
    assert_eq!(rejected["processed"], 14);
    let source = &rejected["source"];
    assert_eq!(source["file"], "./fixtures/xdp/xdp_missing_check.c");
    assert_eq!(source["line"], 12);
    assert_eq!(source["col"], 14);
    assert_eq!(source["text"], "return udp->source == bpf_htons(DNS_PORT);");
    let keys = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(keys(accepted), keys(rejected));
}

#[test]
fn text_is_shown_where_there_is_no_source() {
    let file = temporary("reads_too_far.bpf", b"r0 = 0\nr0 = *(u8 *)(r10 +8)\nexit\n");
    let done = ebpf(&["verify", &file]);
    assert_eq!(done.code, Some(1));
    assert!(done.out.contains("\n1 | r0 = *(u8 *)(r10 +8)\n  | ^"), "{}", done.out);
    let note = format!("note: {file}: rejected with EACCES, 2 instructions processed");
    assert!(done.out.contains(&note), "{}", done.out);
}

/// The object with its only program in another section of the same length.
fn in_section(name: &str, section: &[u8; 3]) -> String {
    let mut bytes = std::fs::read(workspace_root().join(MINIMAL)).unwrap();
    for at in 0..bytes.len() - 5 {
        if bytes[at..].starts_with(b"\0xdp\0") {
            bytes[at + 1..at + 4].copy_from_slice(section);
        }
    }
    temporary(name, &bytes)
}

#[test]
fn what_is_not_known_is_never_accepted() {
    // Of a type without rules, and of no type at all.
    for (name, section, program_type) in
        [("lsm.o", b"lsm", Value::from("lsm")), ("nowhere.o", b"zzz", Value::Null)]
    {
        let file = in_section(name, section);
        let (code, verdicts) = json(&[&file]);
        assert_eq!(code, Some(1));
        assert_eq!(verdicts.len(), 1);
        assert_eq!(verdicts[0]["verdict"], "reject");
        assert_eq!(verdicts[0]["code"], "unsupported");
        assert_eq!(verdicts[0]["type"], program_type);
        let done = ebpf(&["verify", &file]);
        assert_eq!(done.code, Some(1));
        assert!(done.out.starts_with("error[unsupported]: program"), "{}", done.out);
        assert!(done.out.contains("not verified; the kernel may accept it"), "{}", done.out);
    }
}

#[test]
fn one_unreadable_file_does_not_hide_the_others() {
    let done = ebpf(&["verify", "--format", "json", "nowhere.o", MISSING_CHECK, MINIMAL]);
    assert_eq!(done.code, Some(2));
    assert_eq!(done.err, "error: nowhere.o: No such file or directory\n");
    assert_eq!(done.out.lines().count(), 2);
}

#[test]
fn a_program_is_chosen_by_name() {
    assert_eq!(json(&[FIREWALL, "--prog", "xdp_firewall"]).1.len(), 1);
    let done = ebpf(&["verify", FIREWALL, "--prog", "xdp"]);
    assert_eq!(done.code, Some(2));
    assert_eq!(done.err, format!("error: {FIREWALL}: no program xdp; there are: xdp_firewall\n"));
}

const CORE: &str = "fixtures/xdp/xdp_core.o";
const HOST_A: &str = "fixtures/xdp/core_types_a.o";
const HOST_B: &str = "fixtures/xdp/core_types_b.o";

#[test]
fn programs_for_every_kernel_are_judged_for_one() {
    let verify = |types| ebpf(&["verify", CORE, "--prog", "xdp_core_hasty", "--btf", types]);
    let of_host_b = verify(HOST_B).fine();
    assert_eq!(
        of_host_b,
        "fixtures/xdp/xdp_core.o: xdp_core_hasty: accepted, 12 instructions processed, stack depth 8\n"
    );
    let of_host_a = verify(HOST_A);
    assert_eq!((of_host_a.code, of_host_a.err.as_str()), (Some(1), ""));
    let note =
        "   = note: the kernel's types do not have it: offset of a field: record___old.ident\n";
    assert!(of_host_a.out.contains("error[helper.unknown]: invalid func unknown#195896080\n"));
    assert!(of_host_a.out.contains(note), "{}", of_host_a.out);
}

#[test]
fn programs_for_every_kernel_need_one() {
    let done = ebpf(&["verify", CORE, "--prog", "xdp_core_hasty"]);
    assert_eq!((done.code, done.err.as_str()), (Some(1), ""));
    let why = "CO-RE relocation (offset of a field: record___old.ident): the types of the kernel that it \
               is for are needed (such as /sys/kernel/btf/vmlinux)";
    assert!(done.out.contains(why), "{}", done.out);
    assert!(done.out.contains("--btf"), "{}", done.out);
}

#[test]
fn types_that_cannot_be_read() {
    let error = |types| ebpf(&["verify", CORE, "--btf", types]).err;
    assert_eq!(error("fixtures/none"), "error: fixtures/none: No such file or directory\n");
    let no_btf = "error: fixtures/xdp/mixed.pcap: not BTF: magic number 0xc3d4 instead of 0xeb9f\n";
    assert_eq!(error("fixtures/xdp/mixed.pcap"), no_btf);
    // The minimal object, whose sections of types have another name.
    let mut bytes = std::fs::read(workspace_root().join(MINIMAL)).unwrap();
    let names: Vec<usize> =
        (0..bytes.len() - 4).filter(|&at| &bytes[at..at + 4] == b".BTF").collect();
    names.iter().for_each(|&at| bytes[at + 3] = b'X');
    let object = temporary("no_types.o", &bytes);
    let none = format!("error: {object}: the object has no types (section .BTF)\n");
    assert_eq!(error(&object), none);
}

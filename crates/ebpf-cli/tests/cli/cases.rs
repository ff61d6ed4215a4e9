//! `ebpf verify --cases` and `--kernel`.

use ebpf_testkit::skip;
use serde_json::{Value, json};

use super::*;

fn verify(name: &str, lines: &str, more: &[&str]) -> (Done, Vec<Value>) {
    let path = temporary(name, lines.as_bytes());
    let done = ebpf(&[&["verify", "--cases", &path], more].concat());
    let objects = done.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    (done, objects)
}

/// Some fields of an object.
fn fields(object: &Value, names: &[&str]) -> Value {
    names.iter().map(|&name| object[name].clone()).collect()
}

const ACCEPTED: &str = r#"{"id":"good","prog_type":6,"insns":"b700000000000000 9500000000000000"}"#;
const REJECTED: &str = r#"{"id":"bad","prog_type":"xdp","insns":"9500000000000000"}"#;

#[test]
fn one_object_for_each_case() {
    let (done, objects) = verify("cases.jsonl", &format!("{ACCEPTED}\n\n{REJECTED}\n"), &[]);
    assert_eq!((done.code, done.err.as_str()), (Some(1), ""));
    assert_eq!(objects.len(), 2);
    let (good, bad) = (&objects[0], &objects[1]);
    assert_eq!(fields(good, &["id", "verdict", "processed"]), json!(["good", "accept", 2]));
    assert_eq!(fields(good, &["type", "profile"]), json!(["xdp", "linux-6.18"]));
    assert_eq!(fields(bad, &["id", "verdict", "errno"]), json!(["bad", "reject", 13]));
    assert_eq!(fields(bad, &["msg", "pc"]), json!(["R0 !read_ok", 0]));
}

#[test]
fn what_is_not_known_is_unsupported() {
    let lsm = ACCEPTED.replace("\"prog_type\":6", "\"prog_type\":29");
    let (done, objects) = verify("lsm.jsonl", &lsm, &[]);
    assert_eq!(done.code, Some(1));
    assert_eq!(fields(&objects[0], &["code", "type"]), json!(["unsupported", "lsm"]));
}

#[test]
fn bad_lines_are_told_and_echoed() {
    let lines = format!("{{\"id\":7}}\n{ACCEPTED}\nnothing\n");
    let (done, objects) = verify("corrupt.jsonl", &lines, &[]);
    assert_eq!(done.code, Some(2));
    assert_eq!(objects.len(), 3);
    assert_eq!(fields(&objects[0], &["id", "verdict", "line"]), json!(["7", "error", 1]));
    assert_eq!(objects[0]["msg"], "field `insns` is missing");
    assert_eq!(objects[1]["verdict"], "accept");
    assert_eq!(fields(&objects[2], &["id", "line"]), json!([null, 3]));
    let errors: Vec<&str> = done.err.lines().collect();
    assert_eq!(errors.len(), 2);
    assert!(errors[0].ends_with("corrupt.jsonl: line 1: field `insns` is missing"), "{errors:?}");
    assert!(errors[1].contains("corrupt.jsonl: line 3: not JSON"), "{errors:?}");
}

#[test]
fn types_that_cannot_be_read_name_their_file() {
    let line = ACCEPTED.replace("\"id\"", "\"btf_file\":\"no-such.btf\",\"id\"");
    let (done, objects) = verify("no-btf.jsonl", &line, &[]);
    assert_eq!(done.code, Some(2));
    assert_eq!(fields(&objects[0], &["id", "verdict"]), json!(["good", "error"]));
    assert!(done.err.contains("no-such.btf"), "{}", done.err);
}

#[test]
fn cases_stand_alone() {
    let done = ebpf(&["verify", "--cases", "x.jsonl", MINIMAL]);
    assert_eq!(done.code, Some(2));
    let done = ebpf(&["verify", "--cases", "no-such.jsonl"]);
    assert_eq!(done.code, Some(2));
    assert_eq!(done.err, "error: no-such.jsonl: No such file or directory\n");
}

const OLD_KERNEL: &str = r#"{"name":"linux-6.1-test","version":"6.1","processors":4,
    "features":["jmp32","atomics"],"helpers":{"xdp":[1]},
    "limits":{"max_slots":1000000,"max_processed":1000000,"max_pending":8192,"max_frames":8,
        "max_stack":512,"stack_rounding":32,"max_subprograms":256,"max_maps":64}}"#;

#[test]
fn a_profile_changes_verdicts_and_is_named() {
    let profile = temporary("old-kernel.json", OLD_KERNEL.as_bytes());
    // gotol +0; r0 = 0; exit
    let line = ACCEPTED.replace("\"insns\":\"", "\"insns\":\"0600000000000000 ");
    let (done, objects) = verify("gotol.jsonl", &line, &["--kernel", &profile]);
    assert_eq!(done.code, Some(1), "{}", done.err);
    assert_eq!(fields(&objects[0], &["code", "errno"]), json!(["insn.unknown", 22]));
    assert_eq!(objects[0]["profile"], "linux-6.1-test");
    let (done, _) = verify("gotol.jsonl", &line, &["--kernel", "linux-6.18"]);
    assert_eq!(done.code, Some(0));
    // call ktime_get_ns; r0 = 0; exit
    let line = ACCEPTED.replace("\"insns\":\"", "\"insns\":\"8500000005000000 ");
    let (_, objects) = verify("helper.jsonl", &line, &["--kernel", &profile]);
    assert_eq!(objects[0]["msg"], "program of this type cannot use helper bpf_ktime_get_ns#5");
}

#[test]
fn a_bad_profile_is_told() {
    let endless = OLD_KERNEL.replace("\"max_frames\":8", "\"max_frames\":4000000000");
    let rows = [
        (r#"{"name":"x"}"#, "profile: field `version` is not a version"),
        (&endless, "profile: field `limits.max_frames` is not a number from 1 to 8"),
    ];
    for (text, reason) in rows {
        let profile = temporary("bad-profile.json", text.as_bytes());
        let done = ebpf(&["verify", "--kernel", &profile, MINIMAL]);
        assert_eq!(done.code, Some(2));
        assert!(done.err.contains(reason), "{}", done.err);
    }
}

/// Both ways out are good: the kernel answers, or the reason why not is said.
#[test]
fn the_running_kernel_is_probed_or_not() {
    let done = ebpf(&["profile", "probe"]);
    if done.code == Some(2) {
        assert!(done.err.starts_with("error: the running kernel: "), "{}", done.err);
        skip(done.err.trim_end());
        return;
    }
    let text = done.fine();
    let profile: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(profile["limits"]["max_frames"], 8);
    let path = temporary("probed.json", text.as_bytes());
    let out = ebpf(&["verify", "--kernel", &path, "--format", "json", MINIMAL]).fine();
    let verdict: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(verdict["profile"], profile["name"]);
}

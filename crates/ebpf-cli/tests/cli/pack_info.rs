//! `ebpf pack-info`.

use serde_json::Value;

use crate::{FIREWALL, MISSING_CHECK, ebpf};

#[test]
fn it_says_what_memory_there_is() {
    let text = ebpf(&["pack-info"]).fine();
    let value = |name: &str| {
        let line = text.lines().find(|line| line.starts_with(name)).unwrap();
        line[name.len()..].trim().to_owned()
    };
    assert_eq!(value("memory"), "memfd mapped twice");
    assert_eq!(value("chunk"), "16 bytes");
    assert_eq!(value("committed"), "4096 bytes in 1 pages");
    assert_eq!(value("programs"), "0");
}

#[test]
fn it_says_where_programs_lie() {
    let text = ebpf(&["pack-info", FIREWALL, "--json"]).fine();
    let info: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(info["backing"], "memfd mapped twice");
    let programs = info["programs"].as_array().unwrap();
    assert_eq!(programs.len(), 1);
    assert_eq!(programs[0]["name"], "xdp_firewall");
    let (len, used) = (programs[0]["len"].as_u64().unwrap(), info["used_bytes"].as_u64().unwrap());
    assert!(len > 0 && used >= len && info["committed_bytes"].as_u64().unwrap() >= used);
}

#[test]
fn what_is_rejected_lies_nowhere() {
    let done = ebpf(&["pack-info", MISSING_CHECK, "--json"]);
    assert_eq!(done.code, Some(1));
    assert!(done.err.contains("rejected"), "{}", done.err);
    let info: Value = serde_json::from_str(&done.out).unwrap();
    assert_eq!(info["programs"].as_array().map(Vec::len), Some(0));
    assert_eq!(info["used_bytes"], 0);
}

#[test]
fn a_file_that_is_not_there_is_an_error() {
    let done = ebpf(&["pack-info", "no/such/file.o"]);
    assert_eq!((done.code, done.out.as_str()), (Some(2), ""));
    assert!(done.err.starts_with("error: no/such/file.o: "), "{}", done.err);
}

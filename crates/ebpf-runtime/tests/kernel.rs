//! The running kernel, where it can be asked. Where it cannot, the tests say so and pass.

#![cfg(feature = "kernel")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use ebpf_isa::uapi::{HelperId, ProgramType};
use ebpf_object::cases::Case;
use ebpf_runtime::kernel::{Errno, Judgement, KernelError, NotJudged, Oracle, Outcome, probe};
use ebpf_verifier::{Feature, KernelProfile, Version};

/// The kernel, or `None` after the reason was said.
fn oracle() -> Option<Oracle> {
    match Oracle::new() {
        Ok(oracle) => Some(oracle),
        Err(error @ (KernelError::NoRights | KernelError::NoSyscall)) => {
            ebpf_testkit::skip(&error.to_string());
            None
        }
        Err(error) => panic!("{error}"),
    }
}

fn judge(oracle: &mut Oracle, fields: &str, log_level: u32) -> Judgement {
    let case = Case::parse(&format!("{{\"prog_type\":\"xdp\",{fields}}}")).unwrap();
    oracle.judge(&case, Path::new("."), log_level)
}

/// r0 = 2; exit
const PASS: &str = r#""insns":"b700000002000000 9500000000000000""#;

#[test]
fn an_accepted_program_runs_and_is_shown() {
    let Some(mut oracle) = oracle() else { return };
    let packet = "00".repeat(64);
    let runs = format!(r#"{PASS},"runs":[{{"data":"{packet}"}},{{"data":""}}]"#);
    let judgement = judge(&mut oracle, &runs, 0);
    assert_eq!(judgement.statistics.unwrap().processed, 2);
    let Outcome::Accepted { xlated, runs, .. } = judgement.outcome else { panic!() };
    assert_eq!(xlated.first().map(|slot| slot.opcode), Some(0xb7));
    assert_eq!(runs[0], Ok(2));
    assert!(matches!(runs[1], Err(Errno(_))), "a frame has at least 14 bytes");
}

#[test]
fn a_rejected_program_has_a_reason_and_a_log() {
    let Some(mut oracle) = oracle() else { return };
    let judgement = judge(&mut oracle, r#""insns":"9500000000000000""#, 1);
    let message = "R0 !read_ok".to_owned();
    assert_eq!(judgement.outcome, Outcome::Rejected { errno: Errno(13), message });
    assert_eq!(judgement.statistics.unwrap().processed, 1);
    assert!(judgement.log.unwrap().contains("0: (95) exit"));
}

#[test]
fn what_is_not_verified_is_not_judged() {
    let Some(mut oracle) = oracle() else { return };
    let mut why = |fields: &str| match judge(&mut oracle, fields, 0).outcome {
        Outcome::NotJudged(why) => why,
        other => panic!("{fields}: {other:?}"),
    };
    let none = why(&format!(r#"{PASS},"prog_type":999"#));
    assert!(matches!(none, NotJudged::Syscall(_)), "{none}");
    let map = why(&format!(r#"{PASS},"maps":[{{"type":2,"key":3,"value":4,"max":1}}]"#));
    assert!(matches!(map, NotJudged::Map { index: 0, .. }), "{map}");
    let large = why(&format!(r#"{PASS},"maps":[{{"type":2,"key":4,"value":1048576,"max":257}}]"#));
    assert!(large.to_string().contains("more than the limit"), "{large}");
    let kfunc = r#""insns":"8520000000000000 9500000000000000","kfunc_refs":[[0,"no_such"]]"#;
    assert_eq!(why(kfunc), NotJudged::NoFunction("no_such".into()));
    let file = why(&format!(r#"{PASS},"btf_file":"no/such/file""#));
    assert!(matches!(file, NotJudged::Case(_)), "{file}");
}

#[test]
fn too_short_and_too_long_programs_are_rejected() {
    let Some(mut oracle) = oracle() else { return };
    let long = format!(r#""insns":"{}""#, "0500000000000000".repeat(1_000_001));
    for fields in [r#""insns":"""#, &long] {
        let outcome = judge(&mut oracle, fields, 0).outcome;
        assert!(matches!(outcome, Outcome::Rejected { errno: Errno(7), .. }));
    }
}

/// The value of a frozen array is read as a constant.
#[test]
fn maps_are_filled_and_frozen() {
    let Some(mut oracle) = oracle() else { return };
    let fields = |value: &str| {
        let map = format!(
            r#"{{"name":"a.map","type":2,"key":4,"value":2,"max":1,"flags":128,"frozen":true,
                "init":[{{"key":"00000000","value":"{value}"}}]}}"#
        );
        let insns = "1821000000000000 0000000000000000 7110010000000000 \
                     1500010007000000 bf40000000000000 9500000000000000";
        format!(r#""maps":[{map}],"map_refs":[[0,0]],"insns":"{insns}""#)
    };
    let seven = judge(&mut oracle, &fields("0007"), 0).outcome;
    assert!(matches!(seven, Outcome::Accepted { .. }), "{seven:?}");
    let two = judge(&mut oracle, &fields("0702"), 0).outcome;
    assert!(matches!(two, Outcome::Rejected { errno: Errno(13), .. }), "{two:?}");
}

#[test]
fn the_probe_finds_what_this_kernel_is_known_to_have() {
    if oracle().is_none() {
        return;
    }
    let found = probe().unwrap();
    let profile = found.profile;
    assert!(profile.features.has(Feature::Jmp32) && profile.features.has(Feature::Atomics));
    let newest = KernelProfile::default();
    assert_eq!((profile.max_frames, profile.max_stack), (newest.max_frames, newest.max_stack));
    assert_eq!(profile.max_maps, newest.max_maps);
    // Not for attach type 0.
    if profile.version >= Version::new(5, 18) {
        let device =
            profile.helpers.iter().find(|row| row.program_type == ProgramType::CgroupDevice);
        assert!(device.unwrap().helpers.contains(&HelperId(186)), "bpf_get_retval");
    }
    // `0-1`, `0`, or `0,2-3`
    let possible = std::fs::read_to_string("/sys/devices/system/cpu/possible").unwrap();
    let last = possible.trim().rsplit([',', '-']).next().unwrap();
    // Older kernels do not bound the number.
    if let Some(processors) = profile.processors {
        assert_eq!(processors, last.parse::<u32>().unwrap() + 1);
    }
}

/// Descriptors of programs, maps and types that this process has. Nothing is pinned or attached, so
/// nothing else keeps them alive.
fn bpf_descriptors() -> usize {
    let descriptors = std::fs::read_dir("/proc/self/fd").unwrap();
    let targets = descriptors.filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok());
    targets.filter(|target| target.to_string_lossy().contains("bpf")).count()
}

/// In a process of its own, since other tests load programs meanwhile.
#[test]
fn nothing_is_left_in_the_kernel() {
    if std::env::var_os("ALONE").is_none() {
        return alone("nothing_is_left_in_the_kernel", |_| {});
    }
    let Some(mut oracle) = oracle() else { return };
    let maps =
        r#""maps":[{"type":2,"key":4,"value":8,"max":1},{"type":2,"key":3,"value":8,"max":1}]"#;
    let array = r#""maps":[{"type":3,"key":4,"value":4,"max":1,"progs":[{"key":0,"ret":7}]}]"#;
    let rejected = r#""insns":"9500000000000000""#;
    for fields in [PASS, rejected, &format!("{PASS},{maps}"), &format!("{PASS},{array}")] {
        judge(&mut oracle, fields, 2);
        assert_eq!(bpf_descriptors(), 0, "{fields}");
    }
}

#[test]
fn without_the_right_to_load_programs_that_is_said() {
    const NOBODY: u32 = 65534;
    if std::env::var_os("ALONE").is_some() {
        let error = Oracle::new().unwrap_err();
        assert!(matches!(error, KernelError::NoRights | KernelError::NoSyscall), "{error}");
        assert_eq!(probe().unwrap_err(), error);
        return;
    }
    let sysctl = std::fs::read_to_string("/proc/sys/kernel/unprivileged_bpf_disabled");
    if oracle().is_none() || sysctl.is_ok_and(|value| value.trim() == "0") {
        return ebpf_testkit::skip("nobody here can do more or less than others with programs");
    }
    alone("without_the_right_to_load_programs_that_is_said", |command| {
        command.uid(NOBODY).gid(NOBODY);
    });
}

/// Runs a test again, with nothing beside it.
fn alone(test: &str, prepare: impl Fn(&mut Command)) {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", test]).env("ALONE", "1").stdout(Stdio::null());
    prepare(&mut command);
    match command.status() {
        Ok(status) => assert!(status.success(), "{test}"),
        Err(error) => ebpf_testkit::skip(&format!("{test}, as somebody else: {error}")),
    }
}

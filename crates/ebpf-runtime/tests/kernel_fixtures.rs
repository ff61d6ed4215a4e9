//! What `fixtures/verify` says of the kernel is what the running kernel says, where it is of the version
//! that they were written for. Where it cannot be asked, the test says so and passes.

#![cfg(feature = "kernel")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::cell::RefCell;
use std::path::Path;

use ebpf_isa::uapi::AttachType;
use ebpf_isa::{CallTarget, Insn, MapIdx, Program, WideSource};
use ebpf_object::cases::{Case, CaseBtf, CaseMap, MapTypes};
use ebpf_runtime::kernel::{KernelError, Oracle, Outcome, probe, without_time};
use ebpf_testkit::{Fixture, Verdict, for_each_fixture, skip};
use ebpf_verifier::{Environment, Errno, KernelProfile, MapInfo};

#[path = "../../ebpf-verifier/tests/support/mod.rs"]
mod support;

use support::Subject;

/// `BPF_F_STRICT_ALIGNMENT`.
const STRICT_ALIGNMENT: u32 = 1;

/// All paths, with the state after each instruction.
const LOG_LEVEL: u32 = 2;

#[test]
fn the_running_kernel_says_what_fixtures_say() {
    let oracle = match Oracle::new() {
        Ok(oracle) => RefCell::new(oracle),
        Err(error @ (KernelError::NoRights | KernelError::NoSyscall)) => {
            return skip(&error.to_string());
        }
        Err(error) => panic!("{error}"),
    };
    let (running, expected) = (probe().unwrap().profile.version, KernelProfile::default().version);
    if running != expected {
        return skip(&format!("the kernel is {running}, the fixtures are for {expected}"));
    }
    for_each_fixture("verify", |fixture| check(fixture, &mut oracle.borrow_mut()));
}

fn check(fixture: &Fixture, oracle: &mut Oracle) -> Result<(), String> {
    let subject = Subject::of(fixture)?;
    let level = if fixture.section("log").is_some() { LOG_LEVEL } else { 0 };
    let judgement = oracle.judge(&case(subject), Path::new("."), level);
    let verdict = match judgement.outcome {
        Outcome::Accepted { .. } => Verdict::Accept,
        Outcome::Rejected { errno, message } => {
            let name = Errno::from_number(errno.0).map(Errno::name);
            Verdict::Reject { errno: name.unwrap_or("unknown").to_owned(), message }
        }
        Outcome::NotJudged(why) => return Err(why.to_string()),
    };
    if Some(&verdict) != fixture.verdict() {
        return Err(format!("the kernel says {verdict:?}"));
    }
    if let (Some(expected), Some(kernel)) = (fixture.section("counts"), &judgement.statistics) {
        let counts = format!(
            "processed {} total_states {} peak_states {}",
            kernel.processed, kernel.total_states, kernel.peak_states
        );
        if counts != expected.trim() {
            return Err(format!("the kernel counts `{counts}`"));
        }
    }
    let log = normal(judgement.log.as_deref().unwrap_or_default());
    match fixture.section("log") {
        Some(expected) if log != normal(expected) => Err(format!("the kernel logs\n{log}")),
        _ => Ok(()),
    }
}

/// A log without the time that verification took, and without addresses in wide loads.
fn normal(log: &str) -> String {
    let log = without_time(log);
    let lines = log.lines().map(|line| match line.find(" = 0xffff") {
        Some(at) if line[..at].contains("(18) ") => {
            let after =
                line[at + " = 0xffff".len()..].trim_start_matches(|c: char| c.is_ascii_hexdigit());
            match after.trim_start() {
                "" => format!("{} = 0x0", &line[..at]),
                state => format!("{:<38}{state}", format!("{} = 0x0", &line[..at])),
            }
        }
        _ => line.trim_end().to_owned(),
    });
    lines.collect::<Vec<_>>().join("\n").trim_end().to_owned()
}

/// A fixture as the kernel is asked about it.
fn case(Subject { program, env, btf }: Subject) -> Case {
    let map_refs = program.insns().filter_map(|(pc, insn)| match insn {
        Insn::LoadWide {
            source: WideSource::Map(map, _) | WideSource::MapValue(map, ..), ..
        } => Some((pc.0, map.0)),
        _ => None,
    });
    // The base's functions are the kernel's, by name.
    let kfunc_refs = program.insns().filter_map(|(pc, insn)| match insn {
        Insn::Call(CallTarget::Kfunc { btf_id, module: 0 }) => {
            let function = env.modules.function(0, btf_id).ok()?;
            Some((pc.0, function.name.clone().into_owned()))
        }
        _ => None,
    });
    Case {
        id: String::new(),
        program_type: env.program_type.program_type().number(),
        attach_type: env.attach_type.map_or(0, AttachType::number),
        flags: if env.strict_alignment { STRICT_ALIGNMENT } else { 0 },
        license: if env.license_gpl { "GPL" } else { "Proprietary" }.into(),
        slots: program.to_slots().unwrap(),
        maps: maps(&env),
        map_refs: map_refs.collect(),
        kfunc_refs: kfunc_refs.collect(),
        func_info: func_info(&program),
        btf: btf.map(CaseBtf::Bytes),
        attach_func: None,
        runs: Vec::new(),
        judged: None,
    }
}

fn func_info(program: &Program) -> Vec<(u32, u32)> {
    let functions = program.subprogs().iter();
    functions.filter_map(|function| Some((function.start.0, function.info.btf_id?))).collect()
}

/// The maps without the descriptions of inner ones, which are put into theirs.
fn maps(env: &Environment) -> Vec<CaseMap> {
    let is_inner =
        |index: usize| env.maps.iter().any(|map| map.inner.map(MapIdx::index) == Some(index));
    let maps = env.maps.iter().enumerate().filter(|&(index, _)| !is_inner(index));
    maps.map(|(_, map)| {
        let inner = map.inner.map(|inner| Box::new(case_map(&env.maps[inner.index()])));
        CaseMap { inner, ..case_map(map) }
    })
    .collect()
}

fn case_map(map: &MapInfo) -> CaseMap {
    let values = map.frozen.iter().flat_map(|all| all.chunks(map.desc.value_size as usize));
    let init = values.zip(0_u32..).map(|(value, key)| (key.to_le_bytes().to_vec(), value.to_vec()));
    CaseMap {
        name: String::new(),
        map_type: map.desc.map_type.number(),
        key_size: map.desc.key_size,
        value_size: map.desc.value_size,
        max_entries: map.desc.max_entries,
        flags: map.desc.flags,
        extra: 0,
        inner: None,
        init: init.collect(),
        frozen: map.frozen.is_some(),
        types: MapTypes::None,
        programs: Vec::new(),
    }
}

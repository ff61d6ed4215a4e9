//! What `fixtures/verify` and `fixtures/run` say of the kernel is what the running kernel says, where it is of the version
//! that they were written for. Where it cannot be asked, the test says so and passes.

#![cfg(feature = "kernel")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::cell::RefCell;
use std::path::Path;
use std::sync::OnceLock;

use ebpf_btf::{Btf, Composite, Member, Type, TypeId};
use ebpf_object::cases::{Case, CaseRun};
use ebpf_runtime::kernel::{KernelError, Oracle, Outcome, probe, types, without_time};
use ebpf_testkit::{Fixture, RunResult, Verdict, for_each_fixture, skip};
use ebpf_verifier::{Errno, KernelProfile};

#[path = "kernel_fixtures/case.rs"]
mod case;
#[path = "../../ebpf-verifier/tests/support/mod.rs"]
mod support;

use case::case;
use support::kernel_types::kernel_types;
use support::{Subject, packet_of, without_type_ids};

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
    for_each_fixture("run", |fixture| check_run(fixture, &mut oracle.borrow_mut()));
}

/// What a program returns for a packet in the kernel.
fn check_run(fixture: &Fixture, oracle: &mut Oracle) -> Result<(), String> {
    let subject = Subject::of(fixture)?;
    let data = packet_of(fixture);
    let runs = vec![CaseRun { data, retval: None }];
    let judgement = oracle.judge(&Case { runs, ..case(subject) }, Path::new("."), 0);
    let Outcome::Accepted { runs, .. } = judgement.outcome else {
        return Err(format!("the kernel says {:?}", judgement.outcome));
    };
    match (&runs[..], fixture.result()) {
        ([Ok(result)], Some(RunResult::Value(expected))) if u64::from(*result) == *expected => {
            Ok(())
        }
        (runs, _) => Err(format!("the kernel's run gives {runs:?}")),
    }
}

fn check(fixture: &Fixture, oracle: &mut Oracle) -> Result<(), String> {
    let subject = Subject::of(fixture)?;
    if subject.target.is_some() && !has_types_of_fixtures() {
        skip("the kernel was built with other structures than fixtures/kernel says");
        return Ok(());
    }
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

/// Whether the running kernel's structures are those of the fixtures: what these have of them.
fn has_types_of_fixtures() -> bool {
    static ANSWER: OnceLock<bool> = OnceLock::new();
    let compare = || {
        let (ours, kernel) = (kernel_types().unwrap(), types().unwrap());
        ours.btf().types().all(|(_, ty)| match ty {
            Type::Struct(part) | Type::Union(part) => {
                let name = ours.btf().name(part.name);
                let found = kernel.index().find(ty.kind(), name);
                // What has no name is a part of something that has one.
                name.is_empty()
                    || found.is_some_and(|id| is_part(ours.btf(), part, kernel.btf(), id))
            }
            _ => true,
        })
    };
    *ANSWER.get_or_init(compare)
}

/// Whether a structure of the kernel has the size and the members of a part of it.
fn is_part(ours: &Btf, part: &Composite, kernel: &Btf, whole: TypeId) -> bool {
    let (Ok(members), Ok(size)) = (kernel.members(whole), kernel.size_of(whole)) else {
        return false;
    };
    let place = |member: &Member| (member.bit_offset, member.bitfield_bits);
    let has = |member: &Member| {
        let name = ours.name(member.name);
        members.iter().any(|it| kernel.name(it.name) == name && place(it) == place(member))
    };
    size == part.size && part.members.iter().all(has)
}

/// A log without the time that verification took, and without addresses in wide loads.
fn normal(log: &str) -> String {
    let log = without_type_ids(&without_time(log));
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

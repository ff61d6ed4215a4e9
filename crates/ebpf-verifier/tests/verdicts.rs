//! Every program of `fixtures/verify` gets the verdict that the kernel gave it, after as much work
//! where that is written down.

mod support;

use ebpf_isa::Insn;
use ebpf_testkit::{Fixture, Verdict, for_each_fixture};
use ebpf_verifier::{ErrorCode, Options, Stats, verify};
use support::Subject;

#[test]
fn verdicts_are_those_of_the_kernel() {
    for_each_fixture("verify", check);
}

fn check(fixture: &Fixture) -> Result<(), String> {
    let expected = fixture.verdict().ok_or("no verdict section")?;
    let Subject { program, env, .. } = Subject::of(fixture)?;
    let (actual, stats) = match verify(&program, &env, &Options::default()) {
        Ok(verified) => (Verdict::Accept, *verified.stats()),
        Err(rejection) => {
            let (errno, message) = (rejection.errno_name().to_owned(), rejection.message.clone());
            (Verdict::Reject { errno, message }, rejection.stats)
        }
    };
    if &actual != expected {
        return Err(format!("the kernel says {expected:?}, this verifier {actual:?}"));
    }
    let Stats { processed, total_states, peak_states, .. } = stats;
    let counts =
        format!("processed {processed} total_states {total_states} peak_states {peak_states}");
    if let Some(kernel) = fixture.section("counts").map(str::trim)
        && kernel != counts
    {
        return Err(format!("the kernel counts `{kernel}`, this verifier `{counts}`"));
    }
    match fixture.section("log") {
        Some(kernel) => check_log(kernel, &support::log(&program, &env)),
        None => Ok(()),
    }
}

fn check_log(kernel: &str, ours: &str) -> Result<(), String> {
    let (mut kernel, mut ours) = (kernel.trim_end().lines(), ours.trim_end().lines());
    for line in 1.. {
        match (kernel.next(), ours.next()) {
            (None, None) => break,
            (kernel, ours) if kernel.map(str::trim_end) == ours.map(str::trim_end) => {}
            (kernel, ours) => {
                return Err(format!(
                    "line {line} of the log\nkernel: {kernel:?}\nours:   {ours:?}"
                ));
            }
        }
    }
    Ok(())
}

#[test]
fn whole_logs_are_compared() {
    let mut logs = 0;
    for_each_fixture("verify", |fixture| {
        logs += usize::from(fixture.section("log").is_some());
        Ok(())
    });
    assert!(logs >= 10, "{logs} fixtures have the kernel's log");
}

#[test]
fn no_way_of_exploring_changes_a_verdict() {
    for_each_fixture("verify", |fixture| {
        let Subject { program, env, .. } = Subject::of(fixture)?;
        let accepted = match verify(&program, &env, &Options::default()) {
            Ok(_) => true,
            // Where the kernel stumbles over its own walk back, other ways need not.
            Err(rejection) if rejection.code == ErrorCode::VerifierBug => return Ok(()),
            Err(_) => false,
        };
        let has_rounds = program.insns().any(|(_, insn)| matches!(insn, Insn::MayGoto { .. }));
        for options in support::other_ways(100_000) {
            match verify(&program, &env, &options) {
                Err(rejection) if support::is_limit(&rejection) => {}
                verdict if verdict.is_ok() == accepted => {}
                // Numbers that change from round to round become unknown only where nothing relies on
                // them.
                Ok(_) if has_rounds && options.exploration.all_precise => {}
                verdict => return Err(format!("{options:?}: {:?}", verdict.map(|_| "accepted"))),
            }
        }
        Ok(())
    });
}

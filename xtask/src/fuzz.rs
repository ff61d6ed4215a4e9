//! `cargo xtask fuzz TARGET [--seconds N] [--seed S]`: generated input for everything that reads
//! what others wrote.
//!
//! A case follows from its seed alone, and the seeds of a run are consecutive, so a failure is
//! repeated by the seed that it names. The bodies of the targets also run in the tests, for a
//! moment each.

mod asm;
mod classic;
mod decode;
mod engines;
mod object;
mod total;
mod unverified;
mod verifier;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use ebpf_testkit::Rng;

use crate::error::TaskError;
use crate::say;

/// Runs one case; says what is wrong with it.
type Case = Box<dyn FnMut(&mut Rng) -> Result<(), String>>;

/// Something to fuzz.
struct Target {
    name: &'static str,
    run: Run,
}

/// How to fuzz it.
enum Run {
    /// One case after the other: reads what they are made from.
    Cases(fn() -> Result<Case, TaskError>),
    /// In its own way.
    Own(fn(Plan) -> Result<(), TaskError>),
}

const TARGETS: [Target; 9] = [
    Target { name: "decode", run: Run::Cases(decode::prepare) },
    Target { name: "asm", run: Run::Cases(asm::prepare) },
    Target { name: "classic", run: Run::Cases(classic::prepare) },
    Target { name: "object", run: Run::Cases(object::prepare) },
    Target { name: "engines", run: Run::Cases(engines::prepare) },
    Target { name: "unverified", run: Run::Cases(unverified::prepare) },
    Target { name: "verifier", run: Run::Own(verifier::run_generated) },
    Target { name: "verifier-changed", run: Run::Own(verifier::run_changed) },
    Target { name: "verifier-total", run: Run::Cases(total::prepare) },
];

/// No case may take longer: input that makes a reader slow is as bad as input that makes it panic.
const LONGEST_CASE: Duration = Duration::from_secs(5);

/// What to run.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Plan {
    /// The first seed.
    seed: u64,
    time: Duration,
}

/// Runs one target until its time is over or a case fails.
pub(crate) fn run(arguments: &[String]) -> Result<(), TaskError> {
    let (target, plan) = parse(arguments)?;
    match target.run {
        Run::Own(run) => run(plan),
        Run::Cases(prepare) => {
            let cases = fuzz(target.name, prepare()?, plan)?;
            say(&format!("{}: {cases} cases from seed {} on", target.name, plan.seed));
            Ok(())
        }
    }
}

fn parse(arguments: &[String]) -> Result<(&'static Target, Plan), TaskError> {
    let names = TARGETS.map(|target| target.name).join(", ");
    let usage = |what: String| TaskError::Usage(format!("{what}; targets: {names}"));
    let (name, options) = arguments.split_first().ok_or_else(|| usage("no target".into()))?;
    let target = TARGETS.iter().find(|target| target.name == name);
    let target = target.ok_or_else(|| usage(format!("no target `{name}`")))?;
    let mut plan = Plan { seed: 1, time: Duration::from_secs(60) };
    for option in options.chunks(2) {
        let [name, value] = option else {
            return Err(usage(format!("`{}` needs a value", option[0])));
        };
        let value: u64 = value.parse().map_err(|_| usage(format!("`{value}` is no number")))?;
        match name.as_str() {
            "--seconds" => plan.time = Duration::from_secs(value),
            "--seed" => plan.seed = value,
            _ => return Err(usage(format!("no option `{name}`"))),
        }
    }
    Ok((target, plan))
}

/// Runs at least one case; gives how many.
fn fuzz(name: &str, mut case: Case, plan: Plan) -> Result<u64, TaskError> {
    let start = Instant::now();
    let mut cases = 0;
    loop {
        let seed = plan.seed.wrapping_add(cases);
        let (mut outcome, mut took) = run_case(&mut case, seed);
        if took > LONGEST_CASE {
            // Perhaps the machine was busy, or asleep.
            (outcome, took) = run_case(&mut case, seed);
        }
        if outcome.is_ok() && took > LONGEST_CASE {
            outcome = Err(format!("took {:.1} s", took.as_secs_f64()));
        }
        if let Err(what) = outcome {
            return Err(TaskError::Failed(format!(
                "{name}: {what}\nagain: cargo xtask fuzz {name} --seconds 0 --seed {seed}"
            )));
        }
        cases += 1;
        if start.elapsed() >= plan.time {
            return Ok(cases);
        }
    }
}

/// Runs the case of this seed; gives how long that took.
fn run_case(case: &mut Case, seed: u64) -> (Result<(), String>, Duration) {
    let began = Instant::now();
    // Nothing of a case is looked at after it panicked.
    let outcome = catch_unwind(AssertUnwindSafe(|| case(&mut Rng::seed(seed))));
    (outcome.unwrap_or_else(|_| Err("panicked".into())), began.elapsed())
}

/// `bytes` with a few changes: bytes replaced, removed, repeated, cut off.
fn mutate(rng: &mut Rng, bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for _ in 0..rng.range(1..8) {
        if bytes.is_empty() {
            break;
        }
        let len = bytes.len() as u64;
        let at = rng.range(0..len) as usize;
        match rng.range(0..8) {
            0 => bytes.truncate(at),
            1 => drop(bytes.remove(at)),
            2 => bytes.insert(at, rng.next_u64() as u8),
            3 => {
                let end = (at + rng.range(1..64) as usize).min(bytes.len());
                let piece = bytes[at..end].to_vec();
                let to = rng.range(0..len) as usize;
                bytes.splice(to..to, piece);
            }
            4 => bytes[at] = *rng.pick(&[0, 1, 0x7f, 0x80, 0xff]),
            5 => bytes[at] ^= 1 << rng.range(0..8),
            _ => bytes[at] = rng.next_u64() as u8,
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn for_a_moment(name: &str) {
        let target = TARGETS.iter().find(|target| target.name == name).unwrap();
        let Run::Cases(prepare) = target.run else { panic!("{name} runs in its own way") };
        let plan = Plan { seed: 1, time: Duration::from_secs(1) };
        assert!(
            fuzz(name, prepare().unwrap(), plan).unwrap() > 10,
            "{name}: hardly anything was run"
        );
    }

    #[test]
    fn decode_for_a_moment() {
        for_a_moment("decode");
    }

    #[test]
    fn asm_for_a_moment() {
        for_a_moment("asm");
    }

    #[test]
    fn classic_for_a_moment() {
        for_a_moment("classic");
    }

    #[test]
    fn object_for_a_moment() {
        for_a_moment("object");
    }

    #[test]
    fn engines_for_a_moment() {
        for_a_moment("engines");
    }

    #[test]
    fn unverified_for_a_moment() {
        for_a_moment("unverified");
    }

    #[test]
    fn verifier_total_for_a_moment() {
        for_a_moment("verifier-total");
    }

    #[test]
    fn failures_and_panics_name_their_seed() {
        let failing: Case =
            Box::new(|rng| if rng.chance(1, 3) { Err("wrong".into()) } else { Ok(()) });
        let panicking: Case = Box::new(|_| panic!("on purpose"));
        let plan = Plan { seed: 7, time: Duration::from_secs(60) };
        let failed = fuzz("x", failing, plan).unwrap_err().to_string();
        assert!(failed.contains("wrong") && failed.contains("--seed"), "{failed}");
        let panicked = fuzz("x", panicking, plan).unwrap_err();
        assert!(panicked.to_string().contains("--seed 7"), "{panicked}");
    }

    #[test]
    fn arguments() {
        let parse = |text: &str| {
            let arguments: Vec<String> = text.split_whitespace().map(str::to_string).collect();
            parse(&arguments).map(|(target, plan)| (target.name, plan))
        };
        let plan = Plan { seed: 5, time: Duration::from_secs(2) };
        assert_eq!(parse("asm --seconds 2 --seed 5"), Ok(("asm", plan)));
        for wrong in ["", "nothing", "asm --seed", "asm --seed x", "asm --sed 5"] {
            assert!(matches!(parse(wrong), Err(TaskError::Usage(_))), "{wrong}");
        }
    }
}

//! `cargo xtask domain [--pairs N] [--seed S]`: our rules about numbers against the running kernel,
//! bounds for bounds.
//!
//! Random programs compute with two numbers that nothing is known of at first. The kernel's log at
//! level 2 shows each register after each instruction, and on both ways of each jump; our rules
//! must give the very same text. A pair is one operation on one pair of operands.

mod log;
mod walk;

use std::collections::BTreeMap;
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use ebpf_runtime::kernel::{KernelError, Oracle};
use ebpf_testkit::Rng;
use serde_json::Value;

use crate::error::TaskError;
use crate::oracle::Pool;
use crate::say;
use log::Log;
use walk::{Pair, Walk};

/// The level of the log that shows registers.
const LOG_LEVEL: u32 = 2;
/// How often a program is shown to the kernel again that it has no room for, and after what time.
const RETRIES: u32 = 5;
const PAUSE: Duration = Duration::from_millis(200);
/// Differences that are shown for an operation.
const SHOWN: u64 = 3;

#[derive(Debug, Clone, Copy, PartialEq)]
struct Options {
    pairs: u64,
    seed: u64,
}

fn options(arguments: &[String]) -> Result<Options, TaskError> {
    let mut options = Options { pairs: 200_000, seed: 1 };
    for argument in arguments.chunks(2) {
        let [name, value] = argument else {
            return Err(TaskError::Usage(format!("domain: `{}` needs a value", argument[0])));
        };
        let number = || TaskError::Usage(format!("domain: `{value}` is no number"));
        let value: u64 = value.parse().map_err(|_| number())?;
        match name.as_str() {
            "--pairs" => options.pairs = value,
            "--seed" => options.seed = value,
            _ => return Err(TaskError::Usage(format!("domain: unexpected `{name}`"))),
        }
    }
    Ok(options)
}

/// How often an operation was compared.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Tally {
    pairs: u64,
    differences: u64,
}

/// Compares until there were enough pairs; fails if any of them differs.
pub(crate) fn run(arguments: &[String]) -> Result<(), TaskError> {
    let options = options(arguments)?;
    match Oracle::new() {
        Ok(_) => {}
        Err(error @ (KernelError::NoRights | KernelError::NoSyscall)) => {
            say(&format!("skipped: {error}: the domain against the kernel is not measured"));
            return Ok(());
        }
        Err(error) => return Err(error.into()),
    }
    let mut pool = Pool::new(Path::new("."), LOG_LEVEL);
    let mut tallies: BTreeMap<String, Tally> = BTreeMap::new();
    let (mut pairs, mut programs) = (0, 0);
    while pairs < options.pairs {
        let seed = options.seed.wrapping_add(programs);
        pairs += compare(&mut pool, seed, &mut tallies)?;
        programs += 1;
    }
    for (operation, Tally { pairs, differences }) in &tallies {
        say(&format!("{operation:<24}{pairs:>9}{differences:>9}"));
    }
    let differences: u64 = tallies.values().map(|tally| tally.differences).sum();
    let Options { seed, .. } = options;
    let sum = format!("{pairs} pairs in {programs} programs from seed {seed} on");
    if differences > 0 {
        return Err(TaskError::Failed(format!("{sum}: {differences} differ")));
    }
    say(&format!("{sum}: all agree"));
    Ok(())
}

/// Compares one program; gives the number of its pairs.
fn compare(
    pool: &mut Pool,
    seed: u64,
    tallies: &mut BTreeMap<String, Tally>,
) -> Result<u64, TaskError> {
    let walk = Walk::new(&mut Rng::seed(seed));
    let id = seed.to_string();
    let answer = ask(pool, &id, &walk)?;
    let log = Log::parse(answer["log"].as_str().unwrap_or_default());
    let mut pairs = 0;
    for pair in walk.pairs() {
        pairs += 1;
        let tally = tallies.entry(pair.operation.clone()).or_default();
        tally.pairs += 1;
        if let Some(difference) = difference(&log, &walk, pair) {
            tally.differences += 1;
            if tally.differences <= SHOWN {
                say(&format!("seed {seed}: {} of {}\n{difference}", pair.operation, pair.operands));
            }
            // What comes after rests on this one.
            break;
        }
    }
    Ok(pairs)
}

/// What the kernel says about a program that it must accept. Where it has no room for machine code,
/// since many programs were freed lately, it is asked again.
fn ask(pool: &mut Pool, id: &str, walk: &Walk) -> Result<Value, TaskError> {
    let line = walk.case(id).to_string();
    let mut answer = pool.ask(id, &line)?;
    for _ in 0..RETRIES {
        if answer["verdict"] == "accept" {
            return Ok(answer);
        }
        sleep(PAUSE);
        answer = pool.ask(id, &line)?;
    }
    let (verdict, message) = (&answer["verdict"], &answer["msg"]);
    Err(TaskError::Failed(format!("seed {id}: the kernel: {verdict} {message}")))
}

/// What the log tells otherwise.
fn difference(log: &Log<'_>, walk: &Walk, pair: &Pair) -> Option<String> {
    pair.expected.iter().find_map(|expected| {
        let found = expected.find(log, walk);
        let ours = expected.to_string();
        (found.as_ref() != Some(&ours)).then(|| {
            let found = found.unwrap_or_else(|| "nothing".into());
            format!("  kernel: {found}\n  ours:   {ours}")
        })
    })
}

#[cfg(test)]
mod tests {
    use ebpf_runtime::object::cases::Case;

    use super::*;
    use crate::arguments;

    #[test]
    fn arguments_are_checked() {
        let parse = |words: &[&str]| options(&arguments(words));
        assert_eq!(parse(&["--pairs", "7"]).unwrap(), Options { pairs: 7, seed: 1 });
        for wrong in [&["--pairs"][..], &["--pairs", "x"], &["--nonsense", "1"]] {
            assert!(matches!(parse(wrong), Err(TaskError::Usage(_))), "{wrong:?}");
        }
    }

    /// A moment of the comparison, where the kernel can be asked in this process.
    #[test]
    fn our_rules_say_what_the_kernel_says() {
        let Ok(mut oracle) = Oracle::new() else {
            return ebpf_testkit::skip("no kernel to ask: the domain is not compared with it");
        };
        for seed in 0..20 {
            let walk = Walk::new(&mut Rng::seed(seed));
            let case = Case::parse(&walk.case("").to_string()).unwrap();
            let text = oracle.judge(&case, Path::new("."), LOG_LEVEL).log.unwrap();
            let log = Log::parse(&text);
            for pair in walk.pairs() {
                assert_eq!(difference(&log, &walk, pair), None, "{seed}: {}", pair.operands);
            }
        }
    }
}

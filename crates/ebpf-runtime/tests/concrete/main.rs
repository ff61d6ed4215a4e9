//! Concrete in abstract: programs are interpreted beside what was explored of them. At every
//! instruction each register and each byte of stack must be as one of the states says that were
//! explored there, and an accepted program must not trap. The same programs, rewritten in several ways, do
//! the same in all of them.
//!
//! `CONCRETE_CASES` says how many programs are generated, and `CONCRETE_CORPUS` where a built corpus
//! is, for longer runs: `cargo xtask concrete`.

#![cfg(feature = "cases")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod agree;
mod beside;
mod frames;
mod generate;
mod world;

#[path = "../../../ebpf-verifier/tests/support/mod.rs"]
mod support;

use std::fs::File;
use std::io::BufReader;
use std::path::PathBuf;

use ebpf_runtime::cases::{self, CaseTypes};
use ebpf_runtime::isa::Program;
use ebpf_runtime::isa::text::assemble;
use ebpf_runtime::object::cases::read;
use ebpf_runtime::verifier::{Environment, KernelProfile};
use ebpf_testkit::{Fixture, Rng, for_each_fixture, skip};

use agree::run_all_ways;
use beside::{Ended, run_beside};
use support::Subject;

/// Runs of each program.
const RUNS: u64 = 4;
/// Programs that are generated where nothing else is said.
const GENERATED: u64 = 300;

/// Runs a program in a random world.
type RunIn = fn(&Program, &Environment, &mut Rng) -> Result<Ended, String>;

/// How programs ended.
#[derive(Debug, Default)]
struct Tally {
    ran: u64,
    rejected: u64,
    not_run: u64,
    moments: u64,
}

impl Tally {
    fn count(
        &mut self,
        run_in: RunIn,
        program: &Program,
        env: &Environment,
        seed: u64,
    ) -> Result<(), String> {
        let mut moments = 0;
        for run in 0..RUNS {
            match run_in(program, env, &mut Rng::seed(seed + run))? {
                Ended::Ran { moments: seen } => moments += seen,
                Ended::Rejected => {
                    self.rejected += 1;
                    return Ok(());
                }
                Ended::NotRun => {
                    self.not_run += 1;
                    return Ok(());
                }
            }
        }
        self.ran += 1;
        self.moments += moments;
        Ok(())
    }

    #[allow(clippy::print_stdout, reason = "tests say how much they tried")]
    fn print(&self, of: &str) {
        let Self { ran, rejected, not_run, moments } = self;
        println!("{of}: {ran} ran, {moments} moments; {rejected} rejected, {not_run} not run");
    }
}

fn asm(fixture: &Fixture, before: &str) -> Result<Program, String> {
    let text = fixture.section("asm").ok_or("no asm section")?;
    assemble(&format!("{before}{text}")).map_err(|error| error.to_string())
}

fn programs_with_verdicts(run_in: RunIn) {
    let mut tally = Tally::default();
    for_each_fixture("verify", |fixture| {
        let Subject { program, env, .. } = Subject::of(fixture)?;
        tally.count(run_in, &program, &env, 1)
    });
    tally.print("fixtures/verify");
    assert!(tally.ran > 60 || std::env::var_os("FIXTURE").is_some(), "{tally:?}");
}

#[test]
fn programs_with_verdicts_beside_their_states() {
    programs_with_verdicts(run_beside);
}

#[test]
fn programs_with_verdicts_in_every_way() {
    programs_with_verdicts(run_all_ways);
}

/// The memory of these programs is their context here; its length is not in `r2` but put there.
/// Those that do anything else with it than a context allows are rejected.
fn programs_that_run(run_in: RunIn) {
    let mut tally = Tally::default();
    for_each_fixture("exec", |fixture| {
        let len = fixture.mem().map_or(0, <[u8]>::len);
        let env = Environment::new(world::plain_memory(len));
        let program = asm(fixture, &format!("r2 = {len}\n"))?;
        tally.count(run_in, &program, &env, 1)
    });
    tally.print("fixtures/exec");
    assert!(tally.ran > 100 || std::env::var_os("FIXTURE").is_some(), "{tally:?}");
}

#[test]
fn programs_that_run_beside_their_states() {
    programs_that_run(run_beside);
}

#[test]
fn programs_that_run_in_every_way() {
    programs_that_run(run_all_ways);
}

fn generated_programs(run_in: RunIn) {
    let cases = std::env::var("CONCRETE_CASES").ok().and_then(|cases| cases.parse().ok());
    let cases = cases.unwrap_or(GENERATED);
    let mut tally = Tally::default();
    for seed in 0..cases {
        let (text, env) = generate::program(&mut Rng::seed(seed));
        let subject = Subject::new(&text, &env);
        let Subject { program, env, .. } =
            subject.unwrap_or_else(|error| panic!("{error}, in\n{text}"));
        let counted = tally.count(run_in, &program, &env, seed);
        counted.unwrap_or_else(|wrong| panic!("seed {seed}: {wrong}, in\n{text}"));
    }
    tally.print("generated");
    assert!(tally.ran > cases * 9 / 10, "{tally:?}");
}

#[test]
fn generated_programs_beside_their_states() {
    generated_programs(run_beside);
}

#[test]
fn generated_programs_in_every_way() {
    generated_programs(run_all_ways);
}

fn programs_of_the_corpus(run_in: RunIn) {
    let Some(directory) = std::env::var_os("CONCRETE_CORPUS").map(PathBuf::from) else {
        return skip(
            "CONCRETE_CORPUS names no corpus: its programs are not run beside their states",
        );
    };
    let (mut tally, mut wrong) = (Tally::default(), Vec::new());
    for file in ["arrays.jsonl", "objects.jsonl"] {
        for line in read(BufReader::new(File::open(directory.join(file)).unwrap())) {
            let case = line.unwrap().case.unwrap();
            let btf = case.btf_bytes(&directory).unwrap();
            let types = CaseTypes { program: btf.as_deref(), kernel: None };
            let env = cases::environment(&case, types, &KernelProfile::default());
            let (Ok(env), Ok(Ok(program))) = (env, cases::program(&case)) else {
                tally.rejected += 1;
                continue;
            };
            if let Err(why) = tally.count(run_in, &program, &env, 1) {
                wrong.push(format!("{}: {why}", case.id));
            }
        }
    }
    tally.print("corpus");
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn programs_of_the_corpus_beside_their_states() {
    programs_of_the_corpus(run_beside);
}

#[test]
fn programs_of_the_corpus_in_every_way() {
    programs_of_the_corpus(run_all_ways);
}

//! What the solver proves of the rules, as the table in `docs/soundness.md`.
//!
//! `PROOFS=check` and `PROOFS=bless` in the environment (`cargo xtask soundness`) ask for all of
//! it, which takes a minute; otherwise a few quick lines are proved.

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;

use ebpf_isa::Width;

use super::goals::{
    Goal, Register, count_of_shift, goals, meeting_bits, next_member, only_common_value,
    partial_product, product_bounds,
};
use super::parallel;
use super::rules::rules;
use super::solver::{self, Answer};

/// For each script, in steps of the solver. No proof needs more than 17 million.
pub(super) const EFFORT: u32 = 25_000_000;

/// The lines that are proved without being asked for.
const QUICK: [&str; 6] = [
    "low half from whole",
    "whole from low half",
    "mov, 32 bits",
    "and, 64 bits",
    "neg, 64 bits",
    "jlt, 64 bits",
];

/// The line of multiplication, whose rule is the same for both widths.
const MUL: &str = "mul, 32 and 64 bits";

/// What is to be proved for a line of the table.
struct Proof {
    operator: &'static str,
    /// What of the operator, if not all of it.
    part: &'static str,
    bits: u32,
    goals: Box<dyn Fn() -> Vec<Goal> + Sync>,
}

impl Proof {
    fn new(
        operator: &'static str,
        part: &'static str,
        bits: u32,
        goals: impl Fn() -> Vec<Goal> + Sync + 'static,
    ) -> Self {
        Self { operator, part, bits, goals: Box::new(goals) }
    }

    /// Whether all of it is proved.
    fn is_proved(&self) -> bool {
        let scripts: Vec<String> = (self.goals)().iter().flat_map(Goal::scripts).collect();
        let answers = solver::ask(&scripts, EFFORT);
        let refuted = answers.contains(&Answer::Refuted);
        assert!(!refuted, "{} {} is refuted", self.operator, self.part);
        answers.iter().all(|answer| *answer == Answer::Proved)
    }
}

/// The proofs, those of the same operator next to each other.
fn proofs() -> Vec<Proof> {
    let from_bits = "bounds from bits";
    let mut all = vec![
        Proof::new(from_bits, "ends of the bits", 64, meeting_bits),
        Proof::new(from_bits, "next member", 64, next_member),
        Proof::new(from_bits, "only common value", 64, only_common_value),
    ];
    for rule in rules::<Register>() {
        match rule.operator {
            // Taken apart above and below; the sequence of deductions is made of the others.
            "bounds from bits" | "all deductions in their order" => {}
            operator if operator.starts_with("mul") => {}
            operator if rule.counts.is_some() => {
                let width = if operator.ends_with("32 bits") { Width::W32 } else { Width::W64 };
                all.push(Proof::new(operator, "what the count is", 64, move || {
                    count_of_shift(width)
                }));
                all.push(Proof::new(operator, "by each count", 64, move || goals(&rule)));
            }
            operator => all.push(Proof::new(operator, "", 64, move || goals(&rule))),
        }
    }
    all.push(Proof::new(MUL, "one partial product of the bits", 64, partial_product));
    all.push(Proof::new(MUL, "bounds", 8, product_bounds::<8>));
    all
}

/// What the solver says of each operator: the proved parts with their widths, and those not proved.
fn lines(proofs: &[Proof]) -> Vec<(&'static str, String)> {
    let mut lines: Vec<(&str, Vec<String>)> = Vec::new();
    for (proof, proved) in proofs.iter().zip(parallel::map(proofs, Proof::is_proved)) {
        let verdict = match proved {
            true => format!("{} bits", proof.bits),
            false => format!("**not proved** at {} bits", proof.bits),
        };
        let text = match proof.part {
            "" => verdict,
            part => format!("{part}: {verdict}"),
        };
        let index = lines.iter().position(|(operator, _)| *operator == proof.operator);
        let index = index.unwrap_or_else(|| {
            lines.push((proof.operator, vec![]));
            lines.len() - 1
        });
        // An operator may have many rules of which the same is to be said.
        if !lines[index].1.contains(&text) {
            lines[index].1.push(text);
        }
    }
    lines.into_iter().map(|(operator, texts)| (operator, texts.join("; "))).collect()
}

/// What the document's line about the solver begins with.
const SOLVER: &str = "Solver: ";

fn document(version: &str) -> String {
    let mut text = include_str!("soundness.md.in").to_string();
    let solver = format!("{SOLVER}z3 {version}, at most {EFFORT} steps (`rlimit`) for each part.");
    write!(text, "{solver}\n\n").unwrap();
    text.push_str("| operator | 4 bits | 6 and 10 bits | z3 | 64 bits |\n|---|---|---|---|---|\n");
    for (operator, proved) in lines(&proofs()) {
        writeln!(text, "| {operator} | exhaustive | sampled | {proved} | sampled |").unwrap();
    }
    text
}

fn path() -> PathBuf {
    ebpf_testkit::workspace_root().join("docs/soundness.md")
}

#[test]
fn the_solver_proves_what_the_table_says() {
    let Some(version) = solver::version() else {
        eprintln!("skipped: z3 is not installed: proofs at 64 bits are not measured");
        return;
    };
    match std::env::var("PROOFS").as_deref() {
        Ok("bless") => fs::write(path(), document(&version)).unwrap(),
        Ok("check") => {
            let written = fs::read_to_string(path()).unwrap();
            let (found, written) = (document(&version), written.lines());
            let found: Vec<&str> = found.lines().collect();
            // Another version of the solver may prove as much.
            let is_said = |line: &&str| line.starts_with(SOLVER) || found.contains(line);
            assert_eq!(written.clone().count(), found.len());
            assert_eq!(written.filter(|line| !is_said(line)).collect::<Vec<_>>(), [""; 0]);
        }
        _ => {
            let all = proofs().into_iter();
            let quick: Vec<_> = all.filter(|proof| QUICK.contains(&proof.operator)).collect();
            let proved = parallel::map(&quick, Proof::is_proved);
            let missing = quick.iter().zip(proved).filter(|(_, proved)| !proved);
            assert_eq!(missing.map(|(proof, _)| proof.operator).collect::<Vec<_>>(), [""; 0]);
        }
    }
}

#[test]
fn the_table_has_a_line_for_every_operator() {
    let document = fs::read_to_string(path()).unwrap();
    for rule in rules::<Register>() {
        let line = match rule.operator {
            "all deductions in their order" => continue,
            operator if operator.starts_with("mul") => MUL,
            operator => operator,
        };
        let start = format!("\n| {line} | exhaustive | sampled | ");
        assert_eq!(document.matches(&start).count(), 1, "{line}");
    }
}

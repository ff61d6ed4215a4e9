//! What the solver proves of the rules, as the table in `docs/soundness.md`.
//!
//! `PROOFS=check` and `PROOFS=bless` in the environment (`cargo xtask soundness`) ask for all of
//! it, which takes minutes; otherwise a few quick lines are proved.

use std::fmt::Write as _;
use std::fs;

use ebpf_isa::Width;

use super::goals::{
    Goal, Register, count_of_shift, goals, meeting_bits, next_member, only_common_value,
    partial_product, product_bounds,
};
use super::rules::rules;
use super::solver::{self, Answer};

/// For each script.
const SECONDS: u32 = 30;

/// The lines that are proved without being asked for.
const QUICK: [&str; 6] = [
    "low half from whole",
    "whole from low half",
    "mov, 32 bits",
    "and, 64 bits",
    "neg, 64 bits",
    "jlt, 64 bits",
];

/// What is to be proved for a line of the table.
struct Proof {
    operator: &'static str,
    /// What of the operator, if not all of it.
    part: &'static str,
    bits: u32,
    goals: Box<dyn Fn() -> Vec<Goal>>,
}

impl Proof {
    fn new(
        operator: &'static str,
        part: &'static str,
        bits: u32,
        goals: impl Fn() -> Vec<Goal> + 'static,
    ) -> Self {
        Self { operator, part, bits, goals: Box::new(goals) }
    }

    /// Whether all of it is proved. At the first script that is not there is no need to go on.
    fn is_proved(&self) -> bool {
        let scripts: Vec<String> = (self.goals)().iter().flat_map(Goal::scripts).collect();
        scripts.chunks(scripts.len().div_ceil(32).max(1)).all(|scripts| {
            let answers = solver::ask(scripts, SECONDS);
            let refuted = answers.contains(&Answer::Refuted);
            assert!(!refuted, "{} {} is refuted", self.operator, self.part);
            answers.iter().all(|answer| *answer == Answer::Proved)
        })
    }
}

/// The proofs, those of the same operator next to each other.
fn proofs() -> Vec<Proof> {
    let from_bits = "bounds from bits";
    let mut all = vec![
        Proof::new(from_bits, "ends of the bits", 64, meeting_bits),
        Proof::new(from_bits, "next member", 64, next_member::<64>),
        Proof::new(from_bits, "only common value", 8, only_common_value::<8, 4>),
        Proof::new(from_bits, "only common value", 64, only_common_value::<64, 32>),
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
    let mul = "mul, 32 and 64 bits";
    all.push(Proof::new(mul, "one partial product of the bits", 64, partial_product::<64>));
    all.push(Proof::new(mul, "bounds", 8, product_bounds::<8>));
    all.push(Proof::new(mul, "bounds", 64, product_bounds::<64>));
    all
}

/// What the solver says of each operator: the proved parts with their widths, and those not proved.
fn lines(proofs: &[Proof]) -> Vec<(&'static str, String)> {
    let mut lines: Vec<(&str, Vec<String>)> = Vec::new();
    for proof in proofs {
        let verdict = match proof.is_proved() {
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

fn document(proofs: &[Proof]) -> String {
    let mut text = include_str!("soundness.md.in").to_string();
    text.push_str("| operator | 4 bits | 6 bits | z3 | 64 bits |\n|---|---|---|---|---|\n");
    for (operator, proved) in lines(proofs) {
        writeln!(text, "| {operator} | exhaustive | sampled | {proved} | sampled |").unwrap();
    }
    text
}

#[test]
fn the_solver_proves_what_the_table_says() {
    if !solver::is_installed() {
        eprintln!("skipped: z3 is not installed, no rule is proved at 64 bits");
        return;
    }
    let path = ebpf_testkit::workspace_root().join("docs/soundness.md");
    match std::env::var("PROOFS").as_deref() {
        Ok("bless") => fs::write(path, document(&proofs())).unwrap(),
        Ok("check") => assert_eq!(fs::read_to_string(path).unwrap(), document(&proofs())),
        _ => {
            for proof in proofs().iter().filter(|proof| QUICK.contains(&proof.operator)) {
                assert!(proof.is_proved(), "{} {}", proof.operator, proof.part);
            }
        }
    }
}

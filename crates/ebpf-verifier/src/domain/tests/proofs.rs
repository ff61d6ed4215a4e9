//! Proofs.
use std::time::Instant;
use super::goals::{Goal, Register, goals};
use super::rules::rules;
use super::solver;

#[test]
fn explore_all() {
    let only = std::env::var("ONLY").unwrap_or_default();
    let secs = std::env::var("SECS").map_or(20, |s| s.parse().unwrap());
    for rule in rules::<Register>() {
        if !rule.name.contains(&only) || rule.operator.starts_with("mul") { continue; }
        let t = Instant::now();
        let scripts: Vec<String> = goals(&rule).iter().flat_map(Goal::scripts).collect();
        let built = t.elapsed();
        let t = Instant::now();
        let answers = solver::ask(&scripts, secs);
        let mut worst = solver::Answer::Proved;
        for a in &answers { if *a != solver::Answer::Proved { worst = *a } }
        eprintln!("{:45} {:?} {} goals, {} bytes, built {:?}, solved {:?}", rule.name, worst, answers.len(), scripts[0].len(), built, t.elapsed());
        if let Ok(dir) = std::env::var("DUMP") { std::fs::write(format!("{dir}/{}.smt2", rule.name.replace([' ',',',':'], "_")), &scripts[0]).unwrap(); }
    }
}

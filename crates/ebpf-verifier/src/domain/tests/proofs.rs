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
        if rule.operator == "bounds from bits" { continue; }
        let answers: Vec<_> = scripts.chunks(9).map(|c| solver::ask(c, secs)).take_while(|a| a.iter().all(|a| *a == solver::Answer::Proved)).flatten().collect();
        if answers.len() != scripts.len() { eprintln!("{:45} FAILED {}/{} built {:?}, {:?}", rule.name, answers.len(), scripts.len(), built, t.elapsed()); continue }
        let mut worst = solver::Answer::Proved;
        for a in &answers { if *a != solver::Answer::Proved { worst = *a } }
        eprintln!("{:45} {:?} {} goals, {} bytes, built {:?}, solved {:?}", rule.name, worst, answers.len(), scripts[0].len(), built, t.elapsed());
        if let Ok(dir) = std::env::var("DUMP") { std::fs::write(format!("{dir}/{}.smt2", rule.name.replace([' ',',',':'], "_")), &scripts[0]).unwrap(); }
    }
}

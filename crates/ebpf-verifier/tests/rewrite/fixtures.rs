//! Programs before and after: `fixtures/rewrite`.

use std::collections::BTreeMap;

use ebpf_isa::{LineTable, Pc, Program, SourceLine};
use ebpf_testkit::{Fixture, for_each_fixture};
use ebpf_verifier::{Options, Pass, Rewritten, verify};

use crate::host::{Host, parse_target};
use crate::support::Subject;

/// What rewriting makes of a fixture's program, or why it does not.
fn rewritten(fixture: &Fixture) -> Result<Result<Rewritten, String>, String> {
    let section = |name| fixture.section(name).unwrap_or_default();
    let Subject { mut program, env, .. } = Subject::of(fixture)?;
    if let Some(lines) = fixture.section("lines") {
        program = with_lines(&program, lines)?;
    }
    let verified =
        verify(&program, &env, &Options::default()).map_err(|rejection| rejection.to_string())?;
    let host = Host { prologue: section("prologue"), epilogue: section("epilogue") };
    let rewritten = verified.rewrite_for(&host, &parse_target(section("target")));
    assert_eq!(verified.program(), &program, "what was verified can be read back");
    Ok(rewritten.map_err(|error| error.to_string()))
}

/// The program with source lines: `0 3 7`, the positions at which lines 1, 2, 3 begin.
fn with_lines(program: &Program, starts: &str) -> Result<Program, String> {
    let mut lines = LineTable::new();
    for (pc, line) in starts.split_whitespace().zip(1..) {
        let pc = Pc(pc.parse().map_err(|_| format!("`{pc}` is no position"))?);
        let text = format!("line {line}");
        lines.push(pc, SourceLine { file: "prog.c", text: &text, line, col: 1 });
    }
    Program::new(program.slots().to_vec(), BTreeMap::new(), lines).map_err(|e| e.to_string())
}

#[test]
fn programs_before_and_after() {
    for_each_fixture("rewrite", |fixture| match rewritten(fixture)? {
        Ok(done) => {
            let marks = done.marks();
            let listing = done.program.listing().with_marks(&marks).to_string();
            fixture.expect_section("xlated", &listing)?;
            let depths = done.facts.subprogs.iter().map(|facts| facts.stack_depth.to_string());
            let depths = depths.collect::<Vec<_>>().join(" ");
            match fixture.section("stack") {
                Some(expected) if expected.trim() != depths => Err(format!("stack is {depths}")),
                _ => Ok(()),
            }
        }
        Err(error) => fixture.expect_section("refused", &error),
    });
}

/// Each pass has a fixture of its name that shows what it inserts or removes.
#[test]
fn every_pass_has_its_snapshot() {
    if std::env::var("FIXTURE").is_ok() {
        return;
    }
    let mut seen = BTreeMap::new();
    for_each_fixture("rewrite", |fixture| {
        let name = fixture.path().file_stem().and_then(|name| name.to_str()).unwrap_or_default();
        if let Ok(done) = rewritten(fixture)? {
            let passes: Vec<Pass> = done.inserted_code().map(|(_, pass)| pass).collect();
            seen.insert(name.to_owned(), passes);
        }
        Ok(())
    });
    for pass in Pass::ORDER {
        let name = snake_case(&format!("{pass:?}"));
        let passes = seen.get(&name).expect("a fixture of the pass's name");
        let only_removes = matches!(pass, Pass::DeadCode | Pass::Nops);
        assert!(only_removes || passes.contains(&pass), "{name} inserts nothing in its fixture");
    }
}

/// `ZeroExtension` as `zero_extension`.
fn snake_case(name: &str) -> String {
    let underscore = |c: char| c.is_ascii_uppercase().then_some('_');
    let chars =
        name.chars().flat_map(|c| underscore(c).into_iter().chain([c.to_ascii_lowercase()]));
    chars.skip(1).collect()
}

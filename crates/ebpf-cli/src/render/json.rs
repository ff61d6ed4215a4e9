//! Verdicts as data.

use ebpf_runtime::isa::uapi::ProgramType;
use ebpf_runtime::isa::{Facts, Pc, Program};
use ebpf_runtime::verifier::{ErrorCode, Stats};
use serde_json::{Value, json};

use crate::render::stack_depth;
use crate::verdict::{Outcome, Verdict};

/// A verdict: one object. Fields that say nothing here are null.
///
/// `errno` is positive, 0 for an accept; `msg` is the last line of the kernel's log, `detail` the
/// lines before it that tell more; `rule` and `fields` are what it says as data (docs/errors.md); `stack_depth` is in the form of that log, `32+8`.
pub(crate) fn verdict(verdict: &Verdict<'_>) -> Value {
    let (mut msg, mut detail, mut pc, mut rule) = (None, None, None, None);
    let (code, errno, stats, facts) = match &verdict.outcome {
        Outcome::Accept { stats, facts } => (None, 0, *stats, Some(facts)),
        Outcome::Reject(rejection) => {
            msg = Some(&rejection.message);
            detail = rejection.detail.as_ref();
            pc = rejection.pc;
            rule = Some(&rejection.payload);
            (Some(rejection.code), rejection.errno, rejection.stats, None)
        }
        Outcome::Unsupported(why) => {
            msg = Some(why);
            let code = ErrorCode::Unsupported;
            (Some(code), code.errno().number(), Stats::default(), None)
        }
    };
    let rule = rule.map_or(Value::Null, |rule| json!(rule));
    json!({
        "file": verdict.file,
        "prog": verdict.prog,
        "section": verdict.section,
        "type": verdict.program_type.map(ProgramType::name),
        "verdict": if verdict.is_accept() { "accept" } else { "reject" },
        "code": code.map(ErrorCode::name),
        "rule": rule["rule"],
        "fields": rule["fields"],
        "errno": errno,
        "msg": msg,
        "detail": detail,
        "pc": pc.map(|pc| pc.0),
        "source": verdict.program.zip(pc).and_then(|(program, pc)| source(program, pc)),
        "processed": stats.processed,
        "total_states": stats.total_states,
        "peak_states": stats.peak_states,
        "usec": verdict.elapsed.as_micros() as u64,
        "stack_depth": facts.map(stack_depth),
        "profile": verdict.profile,
    })
}

/// What verification took and found out about an accepted program.
pub(crate) fn verification(stats: &Stats, facts: &Facts) -> Value {
    json!({
        "processed": stats.processed,
        "paths": stats.paths,
        "peak_pending": stats.peak_pending,
        "stack_depth": stack_depth(facts),
    })
}

fn source(program: &Program, pc: Pc) -> Option<Value> {
    let line = program.lines().at(pc)?;
    Some(json!({
        "file": line.file,
        "line": line.line,
        "col": line.col,
        "text": line.text.trim(),
    }))
}

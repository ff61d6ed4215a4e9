//! Verdicts as data.

use ebpf_runtime::isa::{Pc, Program};
use ebpf_runtime::verifier::{ErrorCode, Stats};
use serde_json::{Value, json};

use crate::render::stack_depth;
use crate::verdict::{Outcome, Verdict};

/// A verdict: one object. Fields that say nothing here are null.
///
/// `errno` is positive, 0 for an accept; `msg` is the last line of the kernel's log and `detail` the
/// line before it; `stack_depth` is in the form of that log, `32+8`.
pub(crate) fn verdict(verdict: &Verdict<'_>) -> Value {
    let (mut msg, mut detail, mut pc) = (None, None, None);
    let (code, errno, stats) = match &verdict.outcome {
        Outcome::Accept(stats) => (None, 0, Some(stats)),
        Outcome::Reject(rejection) => {
            msg = Some(&rejection.message);
            detail = rejection.detail.as_ref();
            pc = rejection.pc;
            (Some(rejection.code), rejection.errno, Some(&rejection.stats))
        }
        Outcome::Unsupported(why) => {
            msg = Some(why);
            let code = ErrorCode::Unsupported;
            (Some(code), code.errno().number(), None)
        }
    };
    json!({
        "file": verdict.file,
        "prog": verdict.prog,
        "section": verdict.section,
        "type": verdict.program_type.map(|program_type| program_type.name()),
        "verdict": if verdict.is_accept() { "accept" } else { "reject" },
        "code": code.map(ErrorCode::name),
        "errno": errno,
        "msg": msg,
        "detail": detail,
        "pc": pc.map(|pc| pc.0),
        "source": verdict.program.zip(pc).map(|(program, pc)| source(program, pc)),
        "processed": stats.map(|stats| stats.processed),
        "total_states": stats.map(|stats| stats.total_states),
        "peak_states": stats.map(|stats| stats.peak_states),
        "usec": verdict.elapsed.as_micros() as u64,
        "stack_depth": stats.map(stack_depth),
        "profile": verdict.profile,
    })
}

/// What verification found out about an accepted program.
pub(crate) fn verification(stats: &Stats) -> Value {
    json!({
        "processed": stats.processed,
        "total_states": stats.total_states,
        "peak_states": stats.peak_states,
        "stack_depth": stack_depth(stats),
    })
}

fn source(program: &Program, pc: Pc) -> Value {
    let line = program.lines().at(pc).map(|line| {
        json!({ "file": line.file, "line": line.line, "col": line.col, "text": line.text.trim() })
    });
    line.unwrap_or(Value::Null)
}

//! What a filter accepts.

use std::io::Write;

use ebpf_runtime::classic::Filter;
use ebpf_runtime::classic::explain::{Subject, explain};
use serde_json::json;

use super::{FilterArgs, Stop};
use crate::console::Console;

/// The most ways through a filter that are printed.
const WAYS: usize = 1000;

/// Prints the ways through a filter, one a line.
pub(super) fn write(
    args: &FilterArgs,
    name: &str,
    filter: &Filter,
    console: &mut Console,
) -> Result<(), Stop> {
    let subject = if args.seccomp { Subject::SystemCall } else { Subject::Packet };
    let explanation = explain(filter, subject, WAYS);
    if !args.json {
        write!(console.out, "{explanation}")?;
        if explanation.paths.is_empty() && explanation.complete {
            writeln!(console.out, "nothing is accepted")?;
        }
        return Ok(());
    }
    let path = |path: &ebpf_runtime::classic::explain::Path| {
        json!({
            "result": path.result,
            "value": path.value,
            "min_len": path.min_len,
            "conditions": path.conditions,
            "pc": path.end.0,
        })
    };
    let object = json!({
        "file": name,
        "insns": filter.insns().len(),
        "complete": explanation.complete,
        "paths": explanation.paths.iter().map(path).collect::<Vec<_>>(),
    });
    Ok(writeln!(console.out, "{object}")?)
}

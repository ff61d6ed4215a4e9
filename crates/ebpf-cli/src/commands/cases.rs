//! `ebpf verify --cases`: verdicts on programs that come as JSON lines.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use ebpf_runtime::cases::{CaseTypes, CaseVerdict, judge};
use ebpf_runtime::isa::uapi::ProgramType;
use ebpf_runtime::object::cases::{self, Case, CaseError, CaseProblem};
use ebpf_runtime::verifier::{KernelProfile, KernelTypes, Options};
use serde_json::{Map, Value, json};

use crate::console::{Console, Status};
use crate::error::{CliError, FileError, InFile};
use crate::read::ReadError;
use crate::render::json;
use crate::verdict::{Outcome, Verdict};

/// Judges the cases of a file: one object out for each line in. A line that is no case has one,
/// too, with the verdict `error`; its reason also goes to standard error.
pub(crate) fn run(
    path: &Path,
    types: Option<&Arc<KernelTypes>>,
    profile: &KernelProfile,
    console: &mut Console,
) -> Result<Status, CliError> {
    let file = path.display().to_string();
    let judge = |case: &Case, directory: &Path| verdict(&file, case, directory, types, profile);
    if path.as_os_str() == "-" {
        let judge = |case: &Case| judge(case, Path::new("."));
        return judge_all(std::io::stdin().lock(), &file, judge, console);
    }
    let opened = std::fs::File::open(path).map_err(ReadError::Io).in_file(&file)?;
    let directory = path.parent().unwrap_or(Path::new("."));
    judge_all(BufReader::new(opened), &file, |case| judge(case, directory), console)
}

fn judge_all<'a>(
    from: impl BufRead,
    file: &'a str,
    judge: impl Fn(&Case) -> Result<(String, Verdict<'a>), CaseProblem>,
    console: &mut Console,
) -> Result<Status, CliError> {
    let mut status = Status::Fine;
    for line in cases::read(from) {
        let line = line.map_err(ReadError::Io).in_file(file)?;
        let judged = line.case.and_then(|case| {
            judge(&case).map_err(|problem| CaseError { id: Some(case.id), problem })
        });
        let object = match judged {
            Ok((id, verdict)) => {
                let of_case = if verdict.is_accept() { Status::Fine } else { Status::Refused };
                status = status.max(of_case);
                with_id(&id, json::verdict(&verdict))
            }
            Err(error) => {
                status = Status::Unusable;
                let object = bad_line(file, line.number, &error);
                let error = FileError::Case { line: line.number, error };
                console.error(&CliError::File { file: file.into(), source: Box::new(error) });
                object
            }
        };
        writeln!(console.out, "{object}")?;
    }
    Ok(status)
}

/// The verdict on a case, and its id.
fn verdict<'a>(
    file: &'a str,
    case: &Case,
    directory: &Path,
    kernel: Option<&Arc<KernelTypes>>,
    profile: &KernelProfile,
) -> Result<(String, Verdict<'a>), CaseProblem> {
    let btf = case.btf_bytes(directory)?;
    let types = CaseTypes { program: btf.as_deref(), kernel };
    let start = Instant::now();
    let judged = judge(case, types, profile, &Options::default());
    let elapsed = start.elapsed();
    let outcome = match judged {
        CaseVerdict::Accept(verified) => {
            Outcome::Accept { stats: *verified.stats(), facts: verified.facts().clone() }
        }
        CaseVerdict::Reject(rejection) => Outcome::Reject(rejection),
        CaseVerdict::Unsupported(why) => Outcome::Unsupported(why.to_string()),
    };
    let verdict = Verdict {
        file,
        prog: None,
        section: None,
        program_type: ProgramType::from_number(case.program_type),
        program: None,
        profile: profile.name.to_string(),
        elapsed,
        outcome,
        missing: &[],
        log: None,
    };
    Ok((case.id.clone(), verdict))
}

/// A verdict that begins with the id of its case.
fn with_id(id: &str, verdict: Value) -> Value {
    let mut object = Map::new();
    object.insert("id".to_owned(), id.into());
    if let Value::Object(fields) = verdict {
        object.extend(fields);
    }
    Value::Object(object)
}

/// What stands for a line that is no case.
fn bad_line(file: &str, line: u64, error: &CaseError) -> Value {
    json!({
        "id": error.id,
        "file": file,
        "line": line,
        "verdict": "error",
        "msg": error.to_string(),
    })
}

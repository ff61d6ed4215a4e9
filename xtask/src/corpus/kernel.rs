//! What the running kernel says about the corpus.

use std::path::Path;

use ebpf_runtime::object::cases::{Judged, KeptStates};
use serde_json::Value;

use super::Entry;
use crate::error::TaskError;
use crate::oracle::Pool;
use crate::say;

/// Asks the kernel about each program; `None` where it came to no verdict.
pub(super) fn ask(entries: &[Entry], directory: &Path) -> Result<Vec<Option<Judged>>, TaskError> {
    let mut pool = Pool::new(directory, 0);
    let mut judged = Vec::with_capacity(entries.len());
    for entry in entries {
        let answer = pool.ask(&entry.case.id, &entry.line)?;
        if matches!(answer["verdict"].as_str(), Some("timeout" | "crash")) {
            say(&format!("the kernel: {answer}"));
        }
        judged.push(of(&answer));
    }
    Ok(judged)
}

/// The verdict in an answer of the oracle.
fn of(answer: &Value) -> Option<Judged> {
    let accepted = match answer["verdict"].as_str()? {
        "accept" => true,
        "reject" => false,
        _ => return None,
    };
    let number = |field: &str| -> Option<u32> { answer[field].as_u64()?.try_into().ok() };
    Some(Judged {
        accepted,
        errno: number("errno").unwrap_or(0).cast_signed(),
        processed: number("processed"),
        states: number("total_states")
            .zip(number("peak_states"))
            .map(|(total, peak)| KeptStates { total, peak }),
        message: answer["msg"].as_str().map(str::to_owned),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn verdicts_are_read_from_answers() {
        let reject = json!({"verdict": "reject", "errno": 13, "processed": 5, "msg": "no"});
        let message = Some("no".to_owned());
        let expected =
            Judged { accepted: false, errno: 13, processed: Some(5), states: None, message };
        assert_eq!(of(&reject), Some(expected));
        let accept = of(&json!({"verdict": "accept", "errno": 0})).unwrap();
        assert!(accept.accepted && accept.processed.is_none());
        for verdict in ["error", "timeout", "crash"] {
            assert_eq!(of(&json!({"verdict": verdict, "errno": 1})), None);
        }
    }
}

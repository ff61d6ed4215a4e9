//! Answers as JSON.

use ebpf_runtime::kernel::{Errno, Judgement, Outcome};
use serde_json::{Map, Value, json};

/// What the kernel says about a case. Fields without anything to say are left out.
pub(super) fn of(id: &str, judgement: &Judgement) -> Value {
    let mut answer = Map::new();
    let mut set = |name: &str, value: Value| answer.insert(name.to_owned(), value);
    set("id", id.into());
    match &judgement.outcome {
        Outcome::Accepted { xlated, jited_bytes, runs } => {
            let bytes: Vec<u8> = xlated.iter().flat_map(|slot| slot.to_bytes()).collect();
            let run = |run: &Result<u32, Errno>| match run {
                Ok(retval) => json!({"retval": retval}),
                Err(errno) => json!({"errno": errno.0}),
            };
            set("verdict", "accept".into());
            set("errno", 0.into());
            set("xlated", hex::encode(bytes).into());
            set("jited_bytes", (*jited_bytes).into());
            set("runs", runs.iter().map(run).collect());
        }
        Outcome::Rejected { errno, message } => {
            set("verdict", "reject".into());
            set("errno", errno.0.into());
            set("msg", message.as_str().into());
        }
        Outcome::NotJudged(why) => {
            set("verdict", "error".into());
            why.errno().map(|errno| set("errno", errno.0.into()));
            set("msg", why.to_string().into());
        }
    }
    if let Some(statistics) = &judgement.statistics {
        set("processed", statistics.processed.into());
        set("max_states_per_insn", statistics.max_states_per_insn.into());
        set("total_states", statistics.total_states.into());
        set("peak_states", statistics.peak_states.into());
        set("usec", statistics.usec.into());
        set("stack_depth", statistics.stack_depth.as_str().into());
    }
    if judgement.without_types {
        set("without_types", true.into());
    }
    judgement.log.as_ref().map(|log| set("log", log.as_str().into()));
    Value::Object(answer)
}

#[cfg(test)]
mod tests {
    use ebpf_runtime::kernel::Statistics;

    use super::*;

    #[test]
    fn a_rejection() {
        let outcome = Outcome::Rejected { errno: Errno(13), message: "R1 !read_ok".into() };
        let statistics = Statistics { processed: 3, ..Statistics::default() };
        let (statistics, log) = (Some(statistics), Some("all of it".into()));
        let judgement = Judgement { outcome, statistics, log, without_types: true };
        let expected = json!({
            "id": "x", "verdict": "reject", "errno": 13, "msg": "R1 !read_ok", "processed": 3,
            "max_states_per_insn": 0, "total_states": 0, "peak_states": 0, "usec": 0,
            "stack_depth": "", "without_types": true, "log": "all of it",
        });
        assert_eq!(of("x", &judgement), expected);
    }

    #[test]
    fn an_accept_with_runs() {
        let slot = ebpf_runtime::isa::RawInsn::from_bytes([0x95, 0, 0, 0, 0, 0, 0, 0]);
        let runs = vec![Ok(7), Err(Errno(95))];
        let outcome = Outcome::Accepted { xlated: vec![slot], jited_bytes: 9, runs };
        let answer =
            of("x", &Judgement { outcome, statistics: None, log: None, without_types: false });
        let expected = json!({
            "id": "x", "verdict": "accept", "errno": 0, "xlated": "9500000000000000",
            "jited_bytes": 9, "runs": [{"retval": 7}, {"errno": 95}],
        });
        assert_eq!(answer, expected);
    }
}

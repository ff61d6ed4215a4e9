//! Verdicts in the form of the kernel's verifier log.

use std::time::Duration;

use ebpf_runtime::verifier::{KernelProfile, Log, Stats};

use crate::console::one_line;
use crate::render::stack_depth;
use crate::verdict::{Outcome, Verdict};

/// What the kernel's log ends in: the reason of a rejection, or the stack depth of an accepted
/// program, and the statistics. Log level 4 has these lines for every program.
pub(crate) fn verdict(verdict: &Verdict<'_>, profile: &KernelProfile) -> String {
    if let Some(log) = &verdict.log {
        return whole_log(log, verdict.elapsed);
    }
    let mut lines = Vec::new();
    let stats = match &verdict.outcome {
        Outcome::Accept { stats, facts } => {
            lines.push(format!("verification time {} usec", verdict.elapsed.as_micros()));
            lines.push(format!("stack depth {}", stack_depth(facts)));
            *stats
        }
        Outcome::Reject(rejection) => {
            lines.extend(rejection.detail.iter().flat_map(|detail| detail.lines()).map(one_line));
            lines.push(one_line(&rejection.message));
            rejection.stats
        }
        Outcome::Unsupported(why) => {
            lines.push(one_line(why));
            Stats::default()
        }
    };
    lines.push(statistics(&stats, profile));
    lines.into_iter().map(|line| line + "\n").collect()
}

/// A log with the time, which the kernel prints where it prints the depth of stacks.
fn whole_log(log: &Log, elapsed: Duration) -> String {
    let Log { text, statistics } = log;
    match statistics.starts_with("stack depth") {
        true => format!("{text}verification time {} usec\n{statistics}", elapsed.as_micros()),
        false => format!("{text}{statistics}"),
    }
}

fn statistics(stats: &Stats, profile: &KernelProfile) -> String {
    stats.kernel_line(profile.max_processed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_statistics_have_the_kernels_form() {
        let stats = Stats {
            processed: 1158,
            max_states_per_insn: 4,
            total_states: 96,
            peak_states: 82,
            ..Stats::default()
        };
        assert_eq!(
            statistics(&stats, &KernelProfile::LINUX_6_18),
            "processed 1158 insns (limit 1000000) max_states_per_insn 4 total_states 96 \
             peak_states 82 mark_read 0"
        );
    }
}

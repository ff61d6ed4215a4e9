//! Verdicts in the form of the kernel's verifier log.

use ebpf_runtime::verifier::{KernelProfile, Stats};

use crate::console::one_line;
use crate::render::stack_depth;
use crate::verdict::{Outcome, Verdict};

/// What the kernel's log ends in: the reason of a rejection, or the stack depth of an accepted
/// program, and the statistics. Log level 4 has these lines for every program.
pub(crate) fn verdict(verdict: &Verdict<'_>, profile: &KernelProfile) -> String {
    let mut lines = Vec::new();
    let stats = match &verdict.outcome {
        Outcome::Accept { stats, facts } => {
            lines.push(format!("verification time {} usec", verdict.elapsed.as_micros()));
            lines.push(format!("stack depth {}", stack_depth(facts)));
            *stats
        }
        Outcome::Reject(rejection) => {
            lines.extend(rejection.detail.as_deref().map(one_line));
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

fn statistics(stats: &Stats, profile: &KernelProfile) -> String {
    format!(
        "processed {} insns (limit {}) max_states_per_insn {} total_states {} peak_states {} \
         mark_read 0",
        stats.processed,
        profile.max_processed,
        stats.max_states_per_insn,
        stats.total_states,
        stats.peak_states
    )
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

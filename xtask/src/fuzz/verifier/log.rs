//! Logs of two verifiers, line by line.

use std::fmt;

use ebpf_runtime::kernel::without_time;

/// The first line in which two logs differ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LineDifference {
    /// From 1.
    line: usize,
    /// Nothing where the log is at its end.
    kernel: Option<String>,
    ours: Option<String>,
}

impl fmt::Display for LineDifference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let or_end = |line: &Option<String>| line.clone().unwrap_or_else(|| "(end)".to_owned());
        let (kernel, ours) = (or_end(&self.kernel), or_end(&self.ours));
        write!(f, "line {}\n  kernel: {kernel}\n  ours:   {ours}", self.line)
    }
}

/// Compares the kernel's log with ours, both of level 2. The time that verification took is not
/// compared, nor the address of a map that a wide load shows.
pub(super) fn first_difference(kernel: &str, ours: &str) -> Option<LineDifference> {
    let kernel = without_time(kernel);
    let mut kernel = kernel.lines();
    let mut ours = ours.lines();
    for line in 1.. {
        match (kernel.next(), ours.next()) {
            (None, None) => break,
            (Some(kernel), Some(ours)) if is_same(kernel, ours) => {}
            pair => {
                let [kernel, ours] = [pair.0, pair.1].map(|line| line.map(str::to_owned));
                return Some(LineDifference { line, kernel, ours });
            }
        }
    }
    None
}

fn is_same(kernel: &str, ours: &str) -> bool {
    // We have no address to show, and show none.
    let is_address = |(_, number, _): &(&str, &str, &str)| *number == "0x0";
    let around = |(before, _, after)| (before, after);
    kernel == ours
        || wide_load(ours).filter(is_address).is_some_and(|ours| {
            wide_load(kernel).is_some_and(|kernel| around(kernel) == around(ours))
        })
}

/// The line of a wide load: what stands before the number, the number, and what comes after it.
/// Columns follow the length of the number, so the blanks between are left out.
fn wide_load(line: &str) -> Option<(&str, &str, &str)> {
    let start = line.find("(18) ").and_then(|at| Some(at + line[at..].find(" = 0x")? + 3))?;
    let (before, after) = line.split_at(start);
    let end = after.find(' ').unwrap_or(after.len());
    Some((before, &after[..end], after[end..].trim_start()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const KERNEL: &str = "func#0 @0\n0: R1=ctx() R10=fp0\n0: (b7) r0 = 0        ; R0=0\n1: (95) exit\n\
        verification time 103 usec\nstack depth 0\n";

    #[test]
    fn the_same_but_for_the_time() {
        let ours = KERNEL.replace("verification time 103 usec\n", "");
        assert_eq!(first_difference(KERNEL, &ours), None);
    }

    #[test]
    fn the_first_line_is_named() {
        let ours = KERNEL.replace("R0=0", "R0=P0").replace("exit", "return");
        let difference = first_difference(KERNEL, &ours).unwrap();
        let expected = "line 3\n  kernel: 0: (b7) r0 = 0        ; R0=0\n  ours:   0: (b7) r0 = 0        ; R0=P0";
        assert_eq!(difference.to_string(), expected);
    }

    #[test]
    fn a_log_that_ends_early_differs_there() {
        let ours = "func#0 @0\n";
        let difference = first_difference(KERNEL, ours).unwrap();
        let expected = "line 2\n  kernel: 0: R1=ctx() R10=fp0\n  ours:   (end)";
        assert_eq!(difference.to_string(), expected);
    }

    #[test]
    fn addresses_differ_states_do_not() {
        let line = |address: &str, state: &str| format!("7: (18) r1 = 0x{address}    ; R1={state}");
        let kernel = line("ffff88810c75d200", "map_ptr(ks=4,vs=48)");
        assert_eq!(first_difference(&kernel, &line("0", "map_ptr(ks=4,vs=48)")), None);
        assert!(first_difference(&kernel, &line("0", "map_ptr(ks=8,vs=48)")).is_some());
        assert!(first_difference(&kernel, &line("7", "map_ptr(ks=4,vs=48)")).is_some());
    }
}

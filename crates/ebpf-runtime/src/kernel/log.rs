//! What the verifier writes into its log.

/// What verification took, as the log's last lines say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Instructions processed, over all paths.
    pub processed: u32,
    /// Most states kept at one instruction.
    pub max_states_per_insn: u32,
    /// States kept.
    pub total_states: u32,
    /// Most states kept at a time.
    pub peak_states: u32,
    /// Time in microseconds.
    pub usec: u32,
    /// Bytes of stack of each function: `32+8`.
    pub stack_depth: String,
}

/// What the line begins with that has the time.
const TIME: &str = "verification time ";

/// What lines of statistics begin with.
const STATISTICS: [&str; 3] = ["processed ", TIME, "stack depth "];

/// What lines begin with that tell of states, behind an error that is found in them.
const STATES: [&str; 3] = ["mark_precise:", "cur state:", "old state:"];

impl Statistics {
    /// Reads the statistics of a log; `None` if it has none, as where a program was refused before
    /// it was verified.
    pub(crate) fn parse(log: &str) -> Option<Self> {
        let last = |prefix: &str| log.lines().rev().find_map(|line| line.strip_prefix(prefix));
        let line = last("processed ")?;
        let number = |name: &str| -> Option<u32> {
            let mut words = line.split_whitespace().skip_while(|&word| word != name);
            words.nth(1)?.parse().ok()
        };
        let first = |text: &str| -> Option<u32> { text.split_whitespace().next()?.parse().ok() };
        Some(Self {
            processed: first(line)?,
            max_states_per_insn: number("max_states_per_insn").unwrap_or(0),
            total_states: number("total_states").unwrap_or(0),
            peak_states: number("peak_states").unwrap_or(0),
            usec: last(TIME).and_then(first).unwrap_or(0),
            stack_depth: last("stack depth ").unwrap_or_default().to_owned(),
        })
    }
}

/// The text of a log buffer: what stands before the first zero.
pub(crate) fn text(buffer: &[u8]) -> String {
    let end = buffer.iter().position(|&byte| byte == 0).unwrap_or(buffer.len());
    String::from_utf8_lossy(&buffer[..end]).into_owned()
}

/// A log without the time that verification took, which no two logs share. Where a message of the
/// kernel lacks its newline, the line after the time follows on that of the message.
#[must_use]
pub fn without_time(log: &str) -> String {
    let Some((before, after)) = log.split_once(TIME) else { return log.to_owned() };
    let rest = after.split_once('\n').map_or("", |(_, rest)| rest);
    format!("{before}{rest}")
}

/// The last line that is neither empty nor of statistics or states: why the program was refused. A
/// few of the kernel's messages lack their newline, so that statistics follow on the same line.
pub(crate) fn last_line(log: &str) -> &str {
    let is_message = |line: &&str| {
        !line.is_empty() && !STATISTICS.iter().chain(&STATES).any(|start| line.starts_with(start))
    };
    let line = log.lines().rev().find(is_message).unwrap_or_default();
    line.find(TIME).map_or(line, |end| &line[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "0: (b7) r0 = 0\nR2 !read_ok\nverification time 26 usec\n\
        stack depth 32+8\nprocessed 17 insns (limit 1000000) max_states_per_insn 1 \
        total_states 5 peak_states 4 mark_read 0\n";

    #[test]
    fn statistics_and_message_are_told_apart() {
        assert_eq!(last_line(LOG), "R2 !read_ok");
        let expected = Statistics {
            processed: 17,
            max_states_per_insn: 1,
            total_states: 5,
            peak_states: 4,
            usec: 26,
            stack_depth: "32+8".into(),
        };
        assert_eq!(Statistics::parse(LOG), Some(expected));
    }

    #[test]
    fn the_time_is_taken_out() {
        assert_eq!(without_time("a\nverification time 26 usec\nb\n"), "a\nb\n");
        assert_eq!(without_time("no goodverification time 4 usec\nb\n"), "no goodb\n");
        assert_eq!(without_time("a\n"), "a\n");
    }

    #[test]
    fn a_log_without_statistics_has_none() {
        assert_eq!(Statistics::parse("invalid BTF\n"), None);
        assert_eq!(Statistics::parse("processed x"), None);
        assert_eq!(last_line(""), "");
    }

    #[test]
    fn statistics_on_the_same_line_are_no_message() {
        assert_eq!(last_line("a\nno goodverification time 4 usec\nprocessed 1 insns\n"), "no good");
    }

    #[test]
    fn text_ends_at_the_first_zero() {
        assert_eq!(text(b"ab\0c"), "ab");
        assert_eq!(text(b"ab"), "ab");
    }
}

//! Which source lines were run, in the format of lcov's tracefiles (`man geninfo`), which `genhtml` and
//! editors read.

use std::collections::BTreeMap;
use std::fmt::Write;

use ebpf_runtime::interp::Coverage;
use ebpf_runtime::isa::Program;

use crate::console::one_line;
use crate::error::FileError;

/// How often lines were run, by file and number.
type Lines<'a> = BTreeMap<(&'a str, u32), u64>;

/// Says so if lines of `program` cannot be told.
pub(crate) fn require_lines(program: &Program) -> Result<(), FileError> {
    if lines_of(program).is_empty() { Err(FileError::NoLines) } else { Ok(()) }
}

/// A record for each source file of `given`, the program as it was verified, with the counts of the
/// program as it ran. A line whose instructions are all gone from that was never run.
pub(crate) fn text(given: &Program, coverage: &Coverage<'_>) -> String {
    let mut lines = lines_of(given);
    for line in coverage.lines() {
        if let Some(count) = lines.get_mut(&(line.file, line.line)) {
            *count = line.count;
        }
    }
    records(&lines)
}

/// The lines that have instructions. Line 0 is what compilers give to instructions of no line.
fn lines_of(program: &Program) -> Lines<'_> {
    let lines = program.insns().filter_map(|(pc, _)| program.lines().at(pc));
    lines.filter(|line| line.line != 0).map(|line| ((line.file, line.line), 0)).collect()
}

fn records(lines: &Lines<'_>) -> String {
    let mut text = String::new();
    let mut rest = lines.iter().peekable();
    while let Some(&(&(file, _), _)) = rest.peek() {
        let _ = write!(text, "TN:\nSF:{}\n", one_line(file));
        let (mut found, mut hit) = (0, 0);
        while let Some((&(_, line), &count)) = rest.next_if(|&(&(other, _), _)| other == file) {
            let _ = writeln!(text, "DA:{line},{count}");
            found += 1;
            hit += u32::from(count != 0);
        }
        let _ = write!(text, "LF:{found}\nLH:{hit}\nend_of_record\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_a_file() {
        let lines = [(("a.c", 3), 0), (("a.c", 20), 7), (("b\n.h", 1), 0)];
        let expected = "\
TN:
SF:a.c
DA:3,0
DA:20,7
LF:2
LH:1
end_of_record
TN:
SF:b\\n.h
DA:1,0
LF:1
LH:0
end_of_record
";
        assert_eq!(records(&lines.into_iter().collect()), expected);
        assert_eq!(records(&Lines::new()), "");
    }
}

//! A line diff for failure reports.

/// Pairs of lines above which the diff is not searched for the shortest form.
const PAIRS_MAX: usize = 4_000_000;

/// Unchanged lines shown around a change.
const CONTEXT: usize = 3;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Edit<'a> {
    Keep(&'a str),
    Remove(&'a str),
    Add(&'a str),
}

/// What to do to `expected` to get `actual`, a line each: `-` only expected, `+` only actual, with
/// a few unchanged lines around. Empty where the two are equal.
pub fn line_diff(expected: &str, actual: &str) -> String {
    let expected: Vec<&str> = expected.lines().collect();
    let actual: Vec<&str> = actual.lines().collect();
    print_edits(&edits(&expected, &actual))
}

fn edits<'a>(expected: &[&'a str], actual: &[&'a str]) -> Vec<Edit<'a>> {
    let pairs = expected.iter().zip(actual);
    let head = pairs.take_while(|(left, right)| left == right).count();
    let (start, expected) = expected.split_at(head);
    let actual = &actual[head..];
    let pairs = expected.iter().rev().zip(actual.iter().rev());
    let tail = pairs.take_while(|(left, right)| left == right).count();
    let (expected, end) = expected.split_at(expected.len() - tail);
    let actual = &actual[..actual.len() - tail];

    let keep = |lines: &[&'a str]| lines.iter().map(|line| Edit::Keep(line)).collect::<Vec<_>>();
    let mut edits = keep(start);
    if expected.len().saturating_mul(actual.len()) > PAIRS_MAX {
        edits.extend(expected.iter().map(|line| Edit::Remove(line)));
        edits.extend(actual.iter().map(|line| Edit::Add(line)));
    } else {
        edits.extend(shortest_edits(expected, actual));
    }
    edits.extend(keep(end));
    edits
}

/// By the table of longest common subsequences of all pairs of suffixes.
fn shortest_edits<'a>(expected: &[&'a str], actual: &[&'a str]) -> Vec<Edit<'a>> {
    let width = actual.len() + 1;
    let mut common = vec![0_u32; (expected.len() + 1) * width];
    for (i, left) in expected.iter().enumerate().rev() {
        for (j, right) in actual.iter().enumerate().rev() {
            common[i * width + j] = if left == right {
                common[(i + 1) * width + j + 1] + 1
            } else {
                common[(i + 1) * width + j].max(common[i * width + j + 1])
            };
        }
    }
    let mut edits = Vec::with_capacity(expected.len() + actual.len());
    let (mut i, mut j) = (0, 0);
    loop {
        match (expected.get(i), actual.get(j)) {
            (None, None) => return edits,
            (Some(left), Some(right)) if left == right => {
                edits.push(Edit::Keep(left));
                i += 1;
                j += 1;
            }
            (Some(left), right)
                if right.is_none() || common[(i + 1) * width + j] >= common[i * width + j + 1] =>
            {
                edits.push(Edit::Remove(left));
                i += 1;
            }
            (_, Some(right)) => {
                edits.push(Edit::Add(right));
                j += 1;
            }
            (Some(_), None) => unreachable!("taken by the arm above"),
        }
    }
}

fn print_edits(edits: &[Edit<'_>]) -> String {
    let is_change = |edit: &Edit<'_>| !matches!(edit, Edit::Keep(_));
    let mut text = String::new();
    let mut gap = false;
    for (index, edit) in edits.iter().enumerate() {
        let from = index.saturating_sub(CONTEXT);
        let to = (index + CONTEXT + 1).min(edits.len());
        if !edits[from..to].iter().any(is_change) {
            gap = true;
            continue;
        }
        if std::mem::take(&mut gap) {
            text.push_str("  ...\n");
        }
        let (mark, line) = match edit {
            Edit::Keep(line) => (' ', line),
            Edit::Remove(line) => ('-', line),
            Edit::Add(line) => ('+', line),
        };
        text.push_str(&format!("{mark} {line}\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_texts_have_no_diff() {
        assert_eq!(line_diff("a\nb\n", "a\nb\n"), "");
        assert_eq!(line_diff("", ""), "");
    }

    #[test]
    fn a_changed_line() {
        assert_eq!(line_diff("a\nb\nc", "a\nx\nc"), "  a\n- b\n+ x\n  c\n");
    }

    #[test]
    fn inserted_and_deleted_lines() {
        assert_eq!(line_diff("a\nc", "a\nb\nc"), "  a\n+ b\n  c\n");
        assert_eq!(line_diff("a\nb\nc", "a\nc"), "  a\n- b\n  c\n");
        assert_eq!(line_diff("a", ""), "- a\n");
        assert_eq!(line_diff("", "a"), "+ a\n");
    }

    #[test]
    fn common_lines_between_changes_are_kept() {
        assert_eq!(line_diff("1\na\n2\nb\n3", "a\nx\nb\n4"), "- 1\n  a\n- 2\n+ x\n  b\n- 3\n+ 4\n");
    }

    #[test]
    fn far_lines_are_left_out() {
        let expected: String = (0..20).map(|n| format!("{n}\n")).collect();
        let actual = expected.replace("10\n", "ten\n");
        assert_eq!(
            line_diff(&expected, &actual),
            "  ...\n  7\n  8\n  9\n- 10\n+ ten\n  11\n  12\n  13\n"
        );
    }

    #[test]
    fn huge_texts_are_still_told_apart() {
        let expected: String = (0..3000).map(|n| format!("old {n}\n")).collect();
        let actual: String = (0..3000).map(|n| format!("new {n}\n")).collect();
        assert_eq!(line_diff(&expected, &actual).lines().count(), 6000);
    }
}

//! Tables of two columns.

use std::io::{self, Write};

/// Writes rows of a name and a number under their headings: names to the left, numbers to the
/// right.
pub(crate) fn write(
    out: &mut impl Write,
    headings: (&str, &str),
    rows: &[(&str, u64)],
) -> io::Result<()> {
    let numbers: Vec<String> = rows.iter().map(|(_, number)| number.to_string()).collect();
    let names = rows.iter().map(|&(name, _)| name).chain([headings.0]);
    let left = names.map(|name| name.chars().count()).max().unwrap_or_default();
    let right = numbers.iter().map(String::len).chain([headings.1.len()]).max().unwrap_or_default();
    writeln!(out, "{:left$}  {:>right$}", headings.0, headings.1)?;
    for ((name, _), number) in rows.iter().zip(numbers) {
        writeln!(out, "{name:left$}  {number:>right$}")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let mut out = Vec::new();
        write(&mut out, ("action", "packets"), &[("DROP", 5), ("REDIRECT", 123_456_789)]).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert_eq!(text, "action      packets\nDROP              5\nREDIRECT  123456789\n");
    }
}

//! Names of compiled code for Linux's `perf`: a line `START SIZE NAME` for each function, numbers
//! in hexadecimal, in a file named after the process (`tools/perf/Documentation/jit-interface.txt`
//! of the Linux source).

use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::ops::Range;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use ebpf_image::Image;

/// A function of compiled code: where it is, and what it is called.
pub(crate) fn symbols(
    image: &Image,
    code: &Range<u64>,
    program: &str,
) -> Vec<(Range<u64>, String)> {
    let offset = |entry: &ebpf_image::EntryPoint| u64::from(entry.offset.0);
    let starts = image.entries().iter().map(offset);
    let ends = image.entries().iter().skip(1).map(offset).chain([code.end - code.start]);
    let name = |index: usize| match image.entries()[index].name.as_str() {
        "" if index == 0 => format!("bpf_prog_{program}"),
        "" => format!("bpf_prog_{program}_subprog{index}"),
        name => format!("bpf_prog_{name}"),
    };
    let addresses = starts.zip(ends).map(|(from, to)| code.start + from..code.start + to);
    addresses.enumerate().map(|(index, range)| (range, name(index))).collect()
}

/// Appends the functions to the file of this process.
///
/// # Errors
/// The file cannot be written, or somebody put a link in its place.
pub(crate) fn append(symbols: &[(Range<u64>, String)]) -> io::Result<()> {
    open(&path())?.write_all(text(symbols).as_bytes())
}

/// The file of this process.
fn path() -> PathBuf {
    format!("/tmp/perf-{}.map", std::process::id()).into()
}

fn open(path: &Path) -> io::Result<File> {
    let no_links = rustix::fs::OFlags::NOFOLLOW.bits().cast_signed();
    OpenOptions::new().append(true).create(true).mode(0o600).custom_flags(no_links).open(path)
}

/// All lines at once: they reach the file in one piece.
fn text(symbols: &[(Range<u64>, String)]) -> String {
    let mut text = String::new();
    for (range, name) in symbols {
        let written = writeln!(text, "{:x} {:x} {name}", range.start, range.end - range.start);
        written.expect("invariant: a string takes all text");
    }
    text
}

#[cfg(test)]
mod tests {
    use ebpf_image::{CodeOffset, EntryPoint, ImageParts, SourcePc};

    use super::*;

    #[test]
    fn each_function_has_its_line() {
        let entry = |offset, name: &str| EntryPoint {
            offset: CodeOffset(offset),
            pc: SourcePc(0),
            name: name.into(),
        };
        let entries = vec![entry(0, ""), entry(2, "f"), entry(3, "")];
        let parts = ImageParts { code: vec![0xc3; 5], entries, ..ImageParts::default() };
        let symbols = symbols(&Image::new(parts).unwrap(), &(0x1000..0x1005), "xdp");
        let expected = "1000 2 bpf_prog_xdp\n1002 1 bpf_prog_f\n1003 2 bpf_prog_xdp_subprog2\n";
        assert_eq!(text(&symbols), expected);
    }

    #[test]
    fn a_link_is_not_followed() {
        let link = std::env::temp_dir().join(format!("perf-map-link-{}", std::process::id()));
        std::os::unix::fs::symlink("/dev/null", &link).unwrap();
        let outcome = open(&link);
        std::fs::remove_file(&link).unwrap();
        assert!(outcome.is_err());
    }
}

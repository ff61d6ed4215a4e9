//! The file in which Linux's `perf` looks for the names of code that no file has
//! (`tools/perf/Documentation/jit-interface.txt` of the Linux source).

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use ebpf_image::Image;
use ebpf_pack::{Placed, write_perf_map};

/// Appends the functions of a program to the file of this process, in one piece.
///
/// # Errors
/// The file cannot be written, or somebody put a link in its place.
pub(crate) fn append(placed: &Placed, image: &Image) -> io::Result<()> {
    let mut lines = Vec::new();
    write_perf_map(&mut lines, placed, image)?;
    open(&path())?.write_all(&lines)
}

/// The file of this process.
fn path() -> PathBuf {
    format!("/tmp/perf-{}.map", std::process::id()).into()
}

fn open(path: &Path) -> io::Result<File> {
    let no_links = rustix::fs::OFlags::NOFOLLOW.bits().cast_signed();
    OpenOptions::new().append(true).create(true).mode(0o600).custom_flags(no_links).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_is_not_followed() {
        let link = std::env::temp_dir().join(format!("perf-map-link-{}", std::process::id()));
        std::os::unix::fs::symlink("/dev/null", &link).expect("a link can be made");
        let outcome = open(&link);
        std::fs::remove_file(&link).expect("it is there");
        assert!(outcome.is_err());
    }
}

//! `cargo xtask pcap`: writes the captures under `fixtures/xdp`, or checks them.
//!
//! Everything follows from a seed, so the committed files can be compared with what is generated.

mod format;
mod mix;

use crate::error::TaskError;
use format::{Format, LINK_TYPE_ETHERNET, LINK_TYPE_RAW};
use mix::Packet;

/// Where the captures lie, relative to the workspace.
const DIRECTORY: &str = "fixtures/xdp";

/// Packets of the small captures.
const FEW: usize = 3;

/// Writes the captures; with `--check`, compares the committed ones with what would be written.
pub(crate) fn run(arguments: &[String]) -> Result<(), TaskError> {
    let check = match arguments {
        [] => false,
        [flag] if flag == "--check" => true,
        _ => return Err(TaskError::Usage("pcap takes --check or nothing".into())),
    };
    for (name, bytes) in captures() {
        let path = ebpf_testkit::workspace_root().join(DIRECTORY).join(name);
        if !check {
            std::fs::write(&path, bytes).map_err(|error| TaskError::file(&path, error))?;
        } else if std::fs::read(&path).map_err(|error| TaskError::file(&path, error))? != bytes {
            return Err(TaskError::Failed(format!(
                "{DIRECTORY}/{name} is not what `cargo xtask pcap` writes: run it, and review what changed"
            )));
        }
    }
    Ok(())
}

/// Name and content of each file.
fn captures() -> Vec<(&'static str, Vec<u8>)> {
    let usual = Format { big_endian: false, nanoseconds: false, link_type: LINK_TYPE_ETHERNET };
    let mixed = mix::mixed();
    let few = mix::ordinary(FEW);
    let raw_ip: Vec<Packet> = few.iter().map(Packet::without_ethernet).collect();
    let big_endian = Format { big_endian: true, ..usual };
    let nanoseconds = Format { nanoseconds: true, ..usual };
    let raw = Format { link_type: LINK_TYPE_RAW, ..usual };
    let mut truncated = usual.capture(&few);
    truncated.truncate(truncated.len() - few[FEW - 1].bytes.len() / 2);
    vec![
        ("mixed.pcap", usual.capture(&mixed)),
        ("big_endian.pcap", big_endian.capture(&few)),
        ("nanosecond.pcap", nanoseconds.capture(&few)),
        ("linktype_raw.pcap", raw.capture(&raw_ip)),
        ("no_packets.pcap", usual.capture(&[])),
        ("empty.pcap", Vec::new()),
        ("truncated.pcap", truncated),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The largest a committed capture may be, in bytes.
    const MIXED_MAX: usize = 400 * 1024;

    fn capture(name: &str) -> Vec<u8> {
        let found = captures().into_iter().find(|(file, _)| *file == name);
        found.unwrap().1
    }

    #[test]
    fn generating_twice_gives_the_same() {
        assert!(captures() == captures());
    }

    #[test]
    fn the_mixed_capture_is_large_enough_and_small_enough() {
        assert!(mix::mixed().len() >= 2000);
        assert!(capture("mixed.pcap").len() < MIXED_MAX);
    }

    #[test]
    fn the_bad_captures_are_bad() {
        assert!(capture("empty.pcap").is_empty());
        assert_eq!(capture("no_packets.pcap").len(), 24);
        assert_eq!(capture("linktype_raw.pcap")[20..24], [101, 0, 0, 0]);
        assert_eq!(capture("nanosecond.pcap")[..4], [0x4d, 0x3c, 0xb2, 0xa1]);
        assert_eq!(capture("big_endian.pcap")[..4], [0xa1, 0xb2, 0xc3, 0xd4]);
        let whole = capture("nanosecond.pcap").len();
        assert!(capture("truncated.pcap").len() < whole);
    }

    /// Packets that BPF_PROG_TEST_RUN does not take.
    const TOO_SHORT: usize = 14;

    /// What the kernel did with the capture was measured with this very capture.
    #[test]
    fn the_kernel_has_seen_all_packets_of_the_mixed_capture() {
        let path = ebpf_testkit::fixtures_dir().join("xdp/kernel-actions.txt");
        let text = std::fs::read_to_string(&path).unwrap();
        let measured = ebpf_testkit::Fixture::parse(path, &text).unwrap();
        let packets = mix::mixed();
        let seen = packets.iter().filter(|packet| packet.bytes.len() >= TOO_SHORT);
        let seen = seen.count();
        for section in ["actions", "actions blocked"] {
            let lines = measured.section(section).unwrap().lines();
            let counts = lines.map(|line| line.split_once(' ').unwrap().1);
            let sum: usize = counts.map(|count| count.parse::<usize>().unwrap()).sum();
            assert_eq!(sum, seen, "{section}");
        }
    }
}

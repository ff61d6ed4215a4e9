//! Captures made by hand, and the fixtures: whole, cut after each byte, and changed at random.

use ebpf_testkit::{Rng, fixtures_dir};

use super::*;

fn fixture(name: &str) -> Vec<u8> {
    std::fs::read(fixtures_dir().join("xdp").join(name)).unwrap()
}

fn lengths(bytes: &[u8]) -> Vec<usize> {
    Capture::parse(bytes).unwrap().packets().iter().map(|packet| packet.len()).collect()
}

fn error(bytes: &[u8]) -> CaptureError {
    Capture::parse(bytes).unwrap_err()
}

/// A pcap file: the header's 32-bit fields, then packets with their length on the wire.
fn pcap(
    magic: [u8; 4],
    to_bytes: fn(u32) -> [u8; 4],
    link_type: u32,
    packets: &[(&[u8], u32)],
) -> Vec<u8> {
    let mut bytes = magic.to_vec();
    // The version's two 16-bit fields are not looked at.
    for field in [0, 0, 0, 65535, link_type] {
        bytes.extend(to_bytes(field));
    }
    for &(data, wire_len) in packets {
        for field in [0, 0, data.len() as u32, wire_len] {
            bytes.extend(to_bytes(field));
        }
        bytes.extend(data);
    }
    bytes
}

fn block(kind: u32, body: &[u8]) -> Vec<u8> {
    let len = (body.len() + 12) as u32;
    [&kind.to_le_bytes(), &len.to_le_bytes(), body, &len.to_le_bytes()[..]].concat()
}

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

fn section() -> Vec<u8> {
    block(0x0a0d_0d0a, &words(&[0x1a2b_3c4d, 1, u32::MAX, u32::MAX]))
}

fn interface(link_type: u32, snap_len: u32) -> Vec<u8> {
    block(1, &words(&[link_type, snap_len]))
}

fn enhanced(interface: u32, caplen: u32, padded: &[u8]) -> Vec<u8> {
    block(6, &[&words(&[interface, 0, 0, caplen, 99])[..], padded].concat())
}

fn simple(wire_len: u32, padded: &[u8]) -> Vec<u8> {
    block(3, &[&words(&[wire_len])[..], padded].concat())
}

#[test]
fn every_byte_order_and_resolution() {
    let packets: [(&[u8], u32); 2] = [(b"abc", 3), (b"", 0)];
    let little = [[0xd4, 0xc3, 0xb2, 0xa1], [0x4d, 0x3c, 0xb2, 0xa1]];
    for magic in little {
        let bytes = pcap(magic, u32::to_le_bytes, 1, &packets);
        assert_eq!(Capture::parse(&bytes).unwrap().packets(), [&b"abc"[..], b""]);
    }
    for mut magic in little {
        magic.reverse();
        let bytes = pcap(magic, u32::to_be_bytes, 1, &packets);
        assert_eq!(Capture::parse(&bytes).unwrap().packets(), [&b"abc"[..], b""]);
    }
}

#[test]
fn a_packet_is_what_was_captured_of_it() {
    let bytes = pcap([0xd4, 0xc3, 0xb2, 0xa1], u32::to_le_bytes, 1, &[(b"abcd", 1500)]);
    assert_eq!(Capture::parse(&bytes).unwrap().packets(), [b"abcd"]);
}

#[test]
fn the_fixtures() {
    assert_eq!(lengths(&fixture("mixed.pcap")).len(), 2555);
    let plain = lengths(&fixture("big_endian.pcap"));
    assert_eq!(plain.len(), 3);
    assert_eq!(lengths(&fixture("nanosecond.pcap")), plain);
    assert_eq!(error(&fixture("no_packets.pcap")), CaptureError::NoPackets);
    assert_eq!(error(&fixture("empty.pcap")), CaptureError::Empty);
    assert_eq!(error(&fixture("linktype_raw.pcap")), CaptureError::LinkType { found: 101 });
    assert_eq!(error(&fixture("truncated.pcap")), CaptureError::Truncated { packet: 3 });
    assert_eq!(error(&fixture("xdp_firewall.o")), CaptureError::BadMagic);
}

#[test]
fn bits_about_frame_check_sequences_are_not_the_link_type() {
    let bytes = pcap([0xd4, 0xc3, 0xb2, 0xa1], u32::to_le_bytes, 0xf400_0001, &[(b"abc", 3)]);
    assert_eq!(lengths(&bytes), [3]);
}

#[test]
fn pcapng_packets_end_before_their_padding() {
    let bytes = [section(), interface(1, 2), enhanced(0, 3, b"abc\0"), simple(9, b"de\0\0")];
    assert_eq!(Capture::parse(&bytes.concat()).unwrap().packets(), [&b"abc"[..], b"de"]);
    let bytes = [section(), interface(1, 0), simple(3, b"def\0")];
    assert_eq!(Capture::parse(&bytes.concat()).unwrap().packets(), [b"def"]);
}

#[test]
fn pcapng_interfaces_belong_to_their_section() {
    let packet = || enhanced(1, 3, b"abc\0");
    let bytes = [section(), interface(1, 0), packet()].concat();
    assert_eq!(error(&bytes), CaptureError::NoInterface { packet: 1, interface: 1 });
    let bytes = [section(), interface(113, 0), interface(1, 0), packet()].concat();
    assert_eq!(lengths(&bytes), [3]);
    let bytes = [section(), interface(1, 0), interface(113, 0), packet()].concat();
    assert_eq!(error(&bytes), CaptureError::LinkType { found: 113 });
    let bytes = [section(), interface(1, 0), interface(1, 0), section(), packet()].concat();
    assert_eq!(error(&bytes), CaptureError::NoInterface { packet: 1, interface: 1 });
}

#[test]
fn pcapng_lengths_that_contradict_each_other() {
    let bytes = [section(), interface(1, 0), enhanced(0, 5, b"abc\0")].concat();
    assert_eq!(error(&bytes), CaptureError::Malformed { packet: 1 });
    let bytes = [section(), interface(1, 0)].concat();
    assert_eq!(error(&bytes), CaptureError::NoPackets);
    assert_eq!(error(&section()[..20]), CaptureError::TruncatedHeader);
    let bytes = [section(), interface(1, 0), simple(3, b"def\0")].concat();
    assert_eq!(error(&bytes[..bytes.len() - 1]), CaptureError::Truncated { packet: 1 });
}

#[test]
fn a_capture_cut_anywhere_but_between_packets_is_refused() {
    let whole = fixture("big_endian.pcap");
    let mut boundaries = vec![];
    let mut at = 24;
    for len in lengths(&whole) {
        at += 16 + len;
        boundaries.push(at);
    }
    for len in 0..=whole.len() {
        let result = Capture::parse(&whole[..len]);
        let packets = boundaries.iter().filter(|&&boundary| boundary <= len).count();
        match result {
            Ok(capture) => {
                assert!(boundaries.contains(&len), "cut after {len} bytes");
                assert_eq!(capture.packets().len(), packets);
            }
            Err(CaptureError::Empty) => assert_eq!(len, 0),
            Err(CaptureError::TruncatedHeader) => assert!((1..24).contains(&len)),
            Err(CaptureError::NoPackets) => assert_eq!(len, 24),
            Err(error) => assert_eq!(error, CaptureError::Truncated { packet: packets + 1 }),
        }
    }
}

#[test]
fn no_change_of_bytes_makes_a_packet_that_is_not_in_the_file() {
    let ng = [section(), interface(1, 0), enhanced(0, 3, b"abc\0"), simple(3, b"def\0")].concat();
    let captures = [fixture("big_endian.pcap"), fixture("nanosecond.pcap"), ng];
    let mut rng = Rng::seed(1);
    for capture in captures {
        for _ in 0..20_000 {
            let mut bytes = capture.clone();
            for _ in 0..=rng.range(0..3) {
                let at = rng.range(0..bytes.len() as u64) as usize;
                bytes[at] = rng.next_u64() as u8;
            }
            if let Ok(capture) = Capture::parse(&bytes) {
                let total: usize = capture.packets().iter().map(|packet| packet.len()).sum();
                assert!(total < bytes.len());
            }
        }
    }
}

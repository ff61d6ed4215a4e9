//! The classic capture file format (draft-ietf-opsawg-pcap): a file header, then records.

use super::mix::Packet;

/// LINKTYPE_ETHERNET.
pub(crate) const LINK_TYPE_ETHERNET: u32 = 1;

/// LINKTYPE_RAW: packets begin with their IP header.
pub(crate) const LINK_TYPE_RAW: u32 = 101;

const MAGIC_MICROSECONDS: u32 = 0xa1b2_c3d4;
const MAGIC_NANOSECONDS: u32 = 0xa1b2_3c4d;

/// The longest packet a reader has to expect, in bytes.
const SNAP_LEN: u32 = 65_535;

/// Seconds of the first packet, and packets per second.
const FIRST_SECOND: u32 = 1_700_000_000;
const PACKETS_PER_SECOND: u32 = 1000;

/// A variant of the format.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Format {
    pub(crate) big_endian: bool,
    pub(crate) nanoseconds: bool,
    pub(crate) link_type: u32,
}

impl Format {
    /// A capture file of these packets.
    pub(crate) fn capture(self, packets: &[Packet]) -> Vec<u8> {
        let magic = if self.nanoseconds { MAGIC_NANOSECONDS } else { MAGIC_MICROSECONDS };
        let mut file = Vec::new();
        self.put32(&mut file, magic);
        self.put16(&mut file, 2);
        self.put16(&mut file, 4);
        for word in [0, 0, SNAP_LEN, self.link_type] {
            self.put32(&mut file, word);
        }
        for (index, packet) in (0..).zip(packets) {
            self.record(&mut file, index, packet);
        }
        file
    }

    fn record(self, file: &mut Vec<u8>, index: u32, packet: &Packet) {
        let per_second = if self.nanoseconds { 1_000_000_000 } else { 1_000_000 };
        let fraction = index % PACKETS_PER_SECOND * (per_second / PACKETS_PER_SECOND);
        self.put32(file, FIRST_SECOND + index / PACKETS_PER_SECOND);
        self.put32(file, fraction);
        for len in [packet.bytes.len(), packet.wire_len] {
            self.put32(file, u32::try_from(len).expect("packets are shorter than SNAP_LEN"));
        }
        file.extend(&packet.bytes);
    }

    fn put16(self, file: &mut Vec<u8>, value: u16) {
        file.extend(if self.big_endian { value.to_be_bytes() } else { value.to_le_bytes() });
    }

    fn put32(self, file: &mut Vec<u8>, value: u32) {
        file.extend(if self.big_endian { value.to_be_bytes() } else { value.to_le_bytes() });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_packet_byte_by_byte() {
        let format =
            Format { big_endian: false, nanoseconds: false, link_type: LINK_TYPE_ETHERNET };
        let packet = Packet { bytes: vec![0xaa, 0xbb], wire_len: 60 };
        let expected = [
            0xd4, 0xc3, 0xb2, 0xa1, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0, 1, 0, 0,
            0, 0x00, 0xf1, 0x53, 0x65, 0, 0, 0, 0, 2, 0, 0, 0, 60, 0, 0, 0, 0xaa, 0xbb,
        ];
        assert_eq!(format.capture(&[packet]), expected);
    }

    #[test]
    fn time_goes_on_by_a_millisecond() {
        let packets = vec![Packet { bytes: vec![], wire_len: 0 }; 1002];
        for (nanoseconds, expected) in [(false, 1000_u32), (true, 1_000_000)] {
            let format = Format { big_endian: true, nanoseconds, link_type: LINK_TYPE_ETHERNET };
            let file = format.capture(&packets);
            let time = &file[24 + 1001 * 16..][..8];
            assert_eq!(time[..4], 1_700_000_001_u32.to_be_bytes());
            assert_eq!(time[4..], expected.to_be_bytes());
        }
    }
}

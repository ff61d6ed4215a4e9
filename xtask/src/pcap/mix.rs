//! The packets: ordinary traffic, damaged traffic, packets cut short.
//!
//! Addresses come from the documentation ranges (RFC 5737, RFC 3849).

use ebpf_testkit::Rng;
use etherparse::{
    ArpHardwareId, ArpOperation, ArpPacket, EtherType, IpFragOffset, IpHeaders, IpNumber,
    Ipv4Extensions, Ipv4Header, Ipv4Options, Ipv6Extensions, Ipv6FragmentHeader, Ipv6Header,
    PacketBuilder, PacketBuilderStep,
};

/// Everything in the captures follows from this number.
const SEED: u64 = 0x6d69_7865;

const ORDINARY_PACKETS: usize = 1650;
const DAMAGED_PACKETS: usize = 400;
const TINY_PACKETS: u64 = 45;

/// Sources that the documentation of the firewall blocks.
const BLOCKED4: [[u8; 4]; 2] = [[198, 51, 100, 7], [203, 0, 113, 66]];
const BLOCKED6: [[u8; 16]; 1] = [[0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x0b, 0xad]];

/// Destination ports: echo, ssh, telnet (blocked by the firewall), dns, web.
const PORTS: [u16; 7] = [7, 22, 23, 53, 80, 443, 8080];

const ETHER_TYPE: usize = 12;
const IP: usize = 14;
const IPV4_TOTAL_LEN: usize = IP + 2;
const IPV6_PAYLOAD_LEN: usize = IP + 4;
/// Start of the transport header behind an IPv4 header without options.
const L4: usize = IP + 20;
const TCP_DATA_OFFSET: usize = L4 + 12;
const UDP_LEN: usize = L4 + 4;

/// What was captured, and how long the packet was on the wire.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Packet {
    pub(crate) bytes: Vec<u8>,
    pub(crate) wire_len: usize,
}

impl Packet {
    fn whole(bytes: Vec<u8>) -> Self {
        let wire_len = bytes.len();
        Self { bytes, wire_len }
    }

    /// The same packet, of which only `len` bytes were captured.
    fn cut(&self, len: usize) -> Self {
        Self { bytes: self.bytes[..len].to_vec(), wire_len: self.wire_len }
    }

    /// What an Ethernet header without tags carries.
    pub(crate) fn without_ethernet(&self) -> Self {
        Self::whole(self.bytes[IP..].to_vec())
    }
}

/// A maker of packets; they are named for what they make, untagged.
type Maker = fn(&mut Rng) -> Vec<u8>;

/// Ordinary traffic: shares, and who makes it.
const TRAFFIC: [(u64, Maker); 10] = [
    (28, tcp4),
    (24, udp4),
    (5, icmp4),
    (3, arp),
    (14, tcp6),
    (12, udp6),
    (3, icmp6),
    (5, options4),
    (4, fragment4),
    (2, fragment6),
];

/// Tags in front of the network header: shares, and how many. The firewall follows three.
const TAGS: [(u64, usize); 6] = [(70, 0), (15, 1), (10, 2), (2, 3), (2, 4), (1, 6)];

/// Damage to a packet.
type Damage = fn(&mut Vec<u8>, &mut Rng);

/// Damaged traffic: an untagged packet, and what is done to it.
const DAMAGE: [(Maker, Damage); 12] = [
    (tcp4, |packet, rng| packet[IP] = 0x40 | small(rng, 0..5)),
    (udp4, |packet, rng| packet[IP] = small(rng, 5..16) << 4 | 5),
    (udp4, |packet, rng| packet[IP] = small(rng, 0..4) << 4 | 5),
    (udp4, |packet, _| {
        packet[IP] = 0x4f;
        packet.truncate(L4 + 8);
    }),
    (tcp4, |packet, rng| {
        put16(packet, IPV4_TOTAL_LEN, rng.range(0..20));
    }),
    (udp4, |packet, _| put16(packet, IPV4_TOTAL_LEN, 0xffff)),
    (tcp4, |packet, rng| {
        packet[TCP_DATA_OFFSET] = small(rng, 0..5) << 4;
    }),
    (tcp4, |packet, _| packet[TCP_DATA_OFFSET] = 0xf0),
    (udp4, |packet, rng| put16(packet, UDP_LEN, rng.range(0..8))),
    (tcp6, |packet, rng| packet[IP] = small(rng, 0..6) << 4),
    (udp6, |packet, _| put16(packet, IPV6_PAYLOAD_LEN, 0xffff)),
    (udp4, |packet, rng| {
        put16(packet, ETHER_TYPE, rng.range(0..0x1_0000));
    }),
];

/// All packets of `mixed.pcap`, in a random order.
pub(crate) fn mixed() -> Vec<Packet> {
    let mut rng = Rng::seed(SEED);
    let mut packets = ordinary(ORDINARY_PACKETS);
    packets.extend((0..DAMAGED_PACKETS).map(|index| damaged(index, &mut rng)));
    for packet in cut_samples(&mut rng) {
        packets.extend((0..packet.bytes.len()).map(|len| packet.cut(len)));
    }
    for index in 0..TINY_PACKETS {
        let len = usize::try_from(index % 15).expect("less than 15");
        packets.push(Packet::whole(rng.bytes(len)));
    }
    shuffle(&mut packets, &mut rng);
    packets
}

/// That many packets of ordinary traffic; the first ones are always the same.
pub(crate) fn ordinary(count: usize) -> Vec<Packet> {
    let mut rng = Rng::seed(SEED);
    let mut one = || {
        let make = weighted(&TRAFFIC, &mut rng);
        let tags = weighted(&TAGS, &mut rng);
        Packet::whole(tagged(make(&mut rng), tags, &mut rng))
    };
    (0..count).map(|_| one()).collect()
}

/// Each kind of damage in turn, under up to two tags.
fn damaged(index: usize, rng: &mut Rng) -> Packet {
    let (make, damage) = DAMAGE[index % DAMAGE.len()];
    let mut packet = make(rng);
    damage(&mut packet, rng);
    let tags = *rng.pick(&[0, 0, 1, 2]);
    Packet::whole(tagged(packet, tags, rng))
}

/// The packets that are cut after each of their bytes, so in each of their layers.
fn cut_samples(rng: &mut Rng) -> Vec<Packet> {
    let samples: [(Maker, usize); 6] =
        [(tcp4, 0), (udp4, 1), (tcp6, 1), (udp6, 2), (options4, 2), (arp, 3)];
    samples.map(|(make, tags)| Packet::whole(tagged(make(rng), tags, rng))).to_vec()
}

fn tcp4(rng: &mut Rng) -> Vec<u8> {
    let ip = ipv4(rng);
    tcp(ethernet(rng).ip(ip), rng)
}

fn udp4(rng: &mut Rng) -> Vec<u8> {
    let ip = ipv4(rng);
    udp(ethernet(rng).ip(ip), rng)
}

fn tcp6(rng: &mut Rng) -> Vec<u8> {
    let ip = ipv6(rng, Ipv6Extensions::default());
    tcp(ethernet(rng).ip(ip), rng)
}

fn udp6(rng: &mut Rng) -> Vec<u8> {
    let ip = ipv6(rng, Ipv6Extensions::default());
    udp(ethernet(rng).ip(ip), rng)
}

fn icmp4(rng: &mut Rng) -> Vec<u8> {
    let ip = ipv4(rng);
    let packet = ethernet(rng).ip(ip).icmpv4_echo_request(any16(rng), any16(rng));
    written(|bytes| packet.write(bytes, &payload(rng)))
}

fn icmp6(rng: &mut Rng) -> Vec<u8> {
    let ip = ipv6(rng, Ipv6Extensions::default());
    let packet = ethernet(rng).ip(ip).icmpv6_echo_request(any16(rng), any16(rng));
    written(|bytes| packet.write(bytes, &payload(rng)))
}

fn arp(rng: &mut Rng) -> Vec<u8> {
    let (sender, target) = (source4(rng), destination4(rng));
    let request = ArpPacket::new(
        ArpHardwareId::ETHERNET,
        EtherType::IPV4,
        ArpOperation::REQUEST,
        &mac(rng),
        &sender,
        &[0; 6],
        &target,
    )
    .expect("the lengths of each pair of addresses are equal");
    let packet = ethernet(rng).arp(request);
    written(|bytes| packet.write(bytes))
}

/// IPv4 with options (no-operations) between its header and the next.
fn options4(rng: &mut Rng) -> Vec<u8> {
    let mut header = header4(rng);
    let len = 4 * usize::from(small(rng, 1..11));
    header.options = Ipv4Options::try_from(&[1; 40][..len]).expect("at most 40 bytes, in words");
    let ip = IpHeaders::Ipv4(header, Ipv4Extensions::default());
    if rng.chance(1, 2) { tcp(ethernet(rng).ip(ip), rng) } else { udp(ethernet(rng).ip(ip), rng) }
}

/// A first or later fragment; a later one has what looks like a header where none is.
fn fragment4(rng: &mut Rng) -> Vec<u8> {
    let mut header = header4(rng);
    header.dont_fragment = false;
    header.more_fragments = rng.chance(1, 2);
    header.fragment_offset = fragment_offset(rng);
    let ip = IpHeaders::Ipv4(header, Ipv4Extensions::default());
    udp(ethernet(rng).ip(ip), rng)
}

fn fragment6(rng: &mut Rng) -> Vec<u8> {
    let offset = fragment_offset(rng);
    let id = u32::from(any16(rng));
    let fragment = Ipv6FragmentHeader::new(IpNumber::UDP, offset, true, id);
    let extensions = Ipv6Extensions { fragment: Some(fragment), ..Ipv6Extensions::default() };
    let ip = ipv6(rng, extensions);
    udp(ethernet(rng).ip(ip), rng)
}

fn tcp(packet: PacketBuilderStep<IpHeaders>, rng: &mut Rng) -> Vec<u8> {
    let sequence = u32::from(any16(rng));
    let packet = packet.tcp(any16(rng), *rng.pick(&PORTS), sequence, any16(rng));
    written(|bytes| packet.write(bytes, &payload(rng)))
}

fn udp(packet: PacketBuilderStep<IpHeaders>, rng: &mut Rng) -> Vec<u8> {
    let packet = packet.udp(any16(rng), *rng.pick(&PORTS));
    written(|bytes| packet.write(bytes, &payload(rng)))
}

fn ethernet(rng: &mut Rng) -> PacketBuilderStep<etherparse::Ethernet2Header> {
    PacketBuilder::ethernet2(mac(rng), mac(rng))
}

fn ipv4(rng: &mut Rng) -> IpHeaders {
    IpHeaders::Ipv4(header4(rng), Ipv4Extensions::default())
}

fn header4(rng: &mut Rng) -> Ipv4Header {
    // The builder sets total length and protocol.
    let (source, destination) = (source4(rng), destination4(rng));
    Ipv4Header::new(0, 64, IpNumber::UDP, source, destination).expect("the length 0 fits")
}

fn ipv6(rng: &mut Rng, extensions: Ipv6Extensions) -> IpHeaders {
    let header = Ipv6Header {
        hop_limit: 64,
        source: source6(rng),
        destination: host6(2, rng),
        ..Ipv6Header::default()
    };
    IpHeaders::Ipv6(header, extensions)
}

/// One packet in twelve comes from a blocked address.
fn source4(rng: &mut Rng) -> [u8; 4] {
    if rng.chance(1, 12) { *rng.pick(&BLOCKED4) } else { [192, 0, 2, small(rng, 1..255)] }
}

fn destination4(rng: &mut Rng) -> [u8; 4] {
    [192, 0, 2, small(rng, 1..9)]
}

fn source6(rng: &mut Rng) -> [u8; 16] {
    if rng.chance(1, 12) { *rng.pick(&BLOCKED6) } else { host6(1, rng) }
}

fn host6(subnet: u8, rng: &mut Rng) -> [u8; 16] {
    [0x20, 1, 0xd, 0xb8, 0, 0, 0, subnet, 0, 0, 0, 0, 0, 0, 0, small(rng, 1..255)]
}

/// A locally administered address.
fn mac(rng: &mut Rng) -> [u8; 6] {
    [2, 0, 0, 0, 0, small(rng, 1..17)]
}

/// Zero (a first fragment) or not.
fn fragment_offset(rng: &mut Rng) -> IpFragOffset {
    let offset = *rng.pick(&[0, 0, 1, 16, 185, 8191]);
    IpFragOffset::try_new(offset).expect("at most 13 bits")
}

fn payload(rng: &mut Rng) -> Vec<u8> {
    let len = usize::from(small(rng, 0..33));
    rng.bytes(len)
}

/// `count` VLAN tags between the addresses and the type; the outermost of several is a service tag.
fn tagged(mut packet: Vec<u8>, count: usize, rng: &mut Rng) -> Vec<u8> {
    for inner in 0..count {
        let tag_type = if inner > 0 && inner == count - 1 {
            EtherType::PROVIDER_BRIDGING
        } else {
            EtherType::VLAN_TAGGED_FRAME
        };
        let control = small(rng, 1..100);
        let tag = [tag_type.0.to_be_bytes(), [0, control]].concat();
        packet.splice(ETHER_TYPE..ETHER_TYPE, tag);
    }
    packet
}

fn written<E: std::fmt::Debug>(write: impl FnOnce(&mut Vec<u8>) -> Result<(), E>) -> Vec<u8> {
    let mut bytes = Vec::new();
    write(&mut bytes).expect("the parts fit together, and a vector takes them");
    bytes
}

fn weighted<T: Copy>(choices: &[(u64, T)], rng: &mut Rng) -> T {
    let mut left = rng.range(0..choices.iter().map(|(share, _)| share).sum());
    for &(share, choice) in choices {
        if left < share {
            return choice;
        }
        left -= share;
    }
    unreachable!("the number is less than the sum of all shares")
}

fn shuffle<T>(items: &mut [T], rng: &mut Rng) {
    for last in (1..items.len()).rev() {
        let other = rng.range(0..last as u64 + 1);
        items.swap(last, usize::try_from(other).expect("an index"));
    }
}

fn small(rng: &mut Rng, range: std::ops::Range<u64>) -> u8 {
    u8::try_from(rng.range(range)).expect("the ranges of this file that end in a byte")
}

fn any16(rng: &mut Rng) -> u16 {
    u16::try_from(rng.range(0..0x1_0000)).expect("16 bits")
}

fn put16(packet: &mut [u8], at: usize, value: u64) {
    let value = u16::try_from(value).expect("16 bits");
    packet[at..at + 2].copy_from_slice(&value.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(wanted: impl Fn(&Packet) -> bool) -> usize {
        mixed().iter().filter(|packet| wanted(packet)).count()
    }

    fn get16(packet: &Packet, at: usize) -> u16 {
        u16::from_be_bytes([packet.bytes[at], packet.bytes[at + 1]])
    }

    fn has_at(packet: &Packet, at: usize, bytes: &[u8]) -> bool {
        packet.bytes.get(at..at + bytes.len()) == Some(bytes)
    }

    #[test]
    fn every_protocol_is_there() {
        for ether_type in [[8, 0], [8, 6], [0x86, 0xdd], [0x81, 0], [0x88, 0xa8]] {
            let packets = count(|packet| has_at(packet, ETHER_TYPE, &ether_type));
            assert!(packets > 10, "{packets} of type {ether_type:x?}");
        }
        let double = [0x88, 0xa8];
        let inner = [0x81, 0];
        assert!(count(|p| has_at(p, 12, &double) && has_at(p, 16, &inner)) > 50);
        for protocol in [1, 6, 17] {
            assert!(count(|p| has_at(p, IP, &[0x45]) && has_at(p, IP + 9, &[protocol])) > 20);
        }
        for next in [6, 17, 44, 58] {
            assert!(count(|p| has_at(p, IP, &[0x60]) && has_at(p, IP + 6, &[next])) > 5);
        }
    }

    #[test]
    fn blocked_sources_and_special_ports_are_there() {
        for address in BLOCKED4 {
            assert!(count(|packet| has_at(packet, IP + 12, &address)) > 10);
        }
        assert!(count(|packet| has_at(packet, IP + 8, &BLOCKED6[0])) > 10);
        for port in [7, 23] {
            assert!(count(|packet| has_at(packet, L4 + 2, &[0, port])) > 20);
        }
    }

    #[test]
    fn every_short_length_is_there() {
        for len in 0..60 {
            assert!(count(|packet| packet.bytes.len() == len) > 0, "none of {len} bytes");
        }
        assert!(count(|packet| packet.bytes.len() < packet.wire_len) > 300);
    }

    #[test]
    fn fragments_and_options_are_there() {
        assert!(count(|packet| has_at(packet, IP, &[0x4f])) > 10);
        assert!(count(|packet| has_at(packet, IP + 6, &[0x20, 16])) > 2);
    }

    #[test]
    fn headers_that_contradict_themselves_are_there() {
        let ip = |packet: &Packet, ether_type: [u8; 2]| {
            has_at(packet, ETHER_TYPE, &ether_type) && packet.bytes.len() > TCP_DATA_OFFSET
        };
        let ipv4 = |packet: &Packet| ip(packet, [8, 0]);
        let protocol = |packet: &Packet, number| ipv4(packet) && packet.bytes[IP + 9] == number;
        assert!(count(|p| ipv4(p) && p.bytes[IP] >> 4 == 4 && p.bytes[IP] & 0xf < 5) > 5);
        assert!(count(|p| ipv4(p) && p.bytes[IP] >> 4 != 4) > 5);
        assert!(count(|p| ipv4(p) && get16(p, IPV4_TOTAL_LEN) < 20) > 5);
        assert!(count(|p| ipv4(p) && get16(p, IPV4_TOTAL_LEN) == 0xffff) > 5);
        assert!(count(|p| protocol(p, 6) && p.bytes[TCP_DATA_OFFSET] >> 4 < 5) > 5);
        assert!(count(|p| protocol(p, 17) && get16(p, UDP_LEN) < 8) > 5);
        assert!(count(|p| ip(p, [0x86, 0xdd]) && p.bytes[IP] >> 4 != 6) > 5);
    }

    #[test]
    fn the_outermost_of_several_tags_is_a_service_tag() {
        let mut rng = Rng::seed(1);
        let plain = tcp4(&mut rng);
        assert_eq!(tagged(plain.clone(), 0, &mut rng), plain);
        let one = tagged(plain.clone(), 1, &mut rng);
        assert_eq!(one[12..14], [0x81, 0]);
        assert_eq!(one[16..18], [8, 0]);
        let two = tagged(plain, 2, &mut rng);
        assert_eq!(two[12..14], [0x88, 0xa8]);
        assert_eq!(two[16..18], [0x81, 0]);
        assert_eq!(two[20..22], [8, 0]);
    }

    #[test]
    fn a_shuffle_keeps_everything() {
        let mut items: Vec<u32> = (0..100).collect();
        shuffle(&mut items, &mut Rng::seed(3));
        assert!(!items.is_sorted());
        items.sort_unstable();
        assert_eq!(items, (0..100).collect::<Vec<_>>());
    }
}

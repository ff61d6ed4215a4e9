//! Packets of traffic that never was, the same in each run.

use ebpf_testkit::Rng;

/// The port that the filters look for.
const SSH: u16 = 22;

/// A TCP segment with a payload from the port that the filters look for.
pub(crate) fn ssh_segment() -> Vec<u8> {
    let mut packet = over_ip4(&tcp(SSH, 40_000), TCP);
    let len = packet.len() + 36;
    with_length(&mut packet, len);
    packet.resize(len, 0x5a);
    packet
}

/// `count` packets of many kinds: TCP and UDP over IPv4, in fragments too, and over IPv6, and ARP;
/// one flow in ten is to or from [`SSH`]. From 60 to 1514 bytes. Packets of one flow come in bursts
/// of up to `burst`.
pub(crate) fn traffic(count: usize, burst: u64) -> Vec<Vec<u8>> {
    let mut rng = Rng::seed(2014);
    let mut packets = Vec::with_capacity(count);
    while packets.len() < count {
        let (headers, end) = (headers(&mut rng), packets.len() + rng.range(1..burst + 1) as usize);
        packets.resize_with(end.min(count), || filled(headers.clone(), &mut rng));
    }
    packets
}

const TCP: u8 = 6;
const UDP: u8 = 17;

fn headers(rng: &mut Rng) -> Vec<u8> {
    let (source, destination) = ports(rng);
    match rng.range(0..20) {
        0..9 => over_ip4(&tcp(source, destination), TCP),
        9..13 => over_ip4(&udp(source, destination), UDP),
        13 => fragment(over_ip4(&udp(source, destination), UDP)),
        14..17 => over_ip6(&tcp(source, destination), TCP),
        17..19 => over_ip6(&udp(source, destination), UDP),
        _ => ethernet(0x0806),
    }
}

/// A packet with these headers, a payload, and padding.
fn filled(mut packet: Vec<u8>, rng: &mut Rng) -> Vec<u8> {
    let len = packet.len() + *rng.pick(&[0, 0, 0, 12, 36, 180, 512, 1400]);
    with_length(&mut packet, len);
    packet.resize(len.max(60), rng.next_u64() as u8);
    packet
}

/// Writes how long the packet is into its network header.
fn with_length(packet: &mut [u8], len: usize) {
    match packet[12..14] {
        [0x08, 0x00] => packet[16..18].copy_from_slice(&((len - 14) as u16).to_be_bytes()),
        [0x86, 0xdd] => packet[18..20].copy_from_slice(&((len - 54) as u16).to_be_bytes()),
        _ => {}
    }
}

fn ports(rng: &mut Rng) -> (u16, u16) {
    let other = rng.range(1024..65_536) as u16;
    let service = if rng.chance(1, 10) { SSH } else { *rng.pick(&[53, 80, 443, 8080]) };
    if rng.chance(1, 2) { (service, other) } else { (other, service) }
}

fn ethernet(ether_type: u16) -> Vec<u8> {
    [&[2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2], &ether_type.to_be_bytes()[..]].concat()
}

fn over_ip4(transport: &[u8], protocol: u8) -> Vec<u8> {
    let header = [0x45, 0, 0, 0, 0, 1, 0, 0, 64, protocol, 0, 0, 192, 0, 2, 1, 192, 0, 2, 2];
    [&ethernet(0x0800), &header[..], transport].concat()
}

fn over_ip6(transport: &[u8], protocol: u8) -> Vec<u8> {
    let header = [0x60, 0, 0, 0, 0, 0, protocol, 64];
    [&ethernet(0x86dd), &header[..], &[0x20; 32], transport].concat()
}

/// The second fragment of a packet, by its offset.
fn fragment(mut packet: Vec<u8>) -> Vec<u8> {
    packet[21] = 185;
    packet
}

fn tcp(source: u16, destination: u16) -> [u8; 20] {
    let ([s0, s1], [d0, d1]) = (source.to_be_bytes(), destination.to_be_bytes());
    [s0, s1, d0, d1, 0, 0, 0, 1, 0, 0, 0, 1, 0x50, 0x18, 0xff, 0xff, 0, 0, 0, 0]
}

fn udp(source: u16, destination: u16) -> [u8; 8] {
    let ([s0, s1], [d0, d1]) = (source.to_be_bytes(), destination.to_be_bytes());
    [s0, s1, d0, d1, 0, 8, 0, 0]
}

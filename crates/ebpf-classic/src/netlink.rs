//! Netlink attributes in a packet, as the ancillary loads `nla` and `nlan` find them.

/// Length of the header of an attribute: its length and its type, of two bytes each.
const HEADER: usize = 4;
/// Attributes begin at multiples of this.
const ALIGNMENT: usize = 4;
/// Bits of the type that are flags.
const TYPE_FLAGS: u16 = 0xc000;

/// Offset of the first attribute of type `x` from offset `a` on; 0 if there is none.
pub(crate) fn find(packet: &[u8], a: u32, x: u32) -> u32 {
    find_within(packet, a as usize, packet.len(), x)
}

/// The same among the attributes inside of the one at offset `a`.
pub(crate) fn find_nested(packet: &[u8], a: u32, x: u32) -> u32 {
    let start = a as usize;
    match attribute(packet, start, packet.len()) {
        Some((len, _)) => find_within(packet, start + HEADER, start + len, x),
        None => 0,
    }
}

fn find_within(packet: &[u8], mut at: usize, end: usize, x: u32) -> u32 {
    while let Some((len, kind)) = attribute(packet, at, end) {
        if u32::from(kind) == x {
            return at as u32;
        }
        at += len.next_multiple_of(ALIGNMENT);
    }
    0
}

/// Length and type of the attribute at an offset, if it lies before `end`.
fn attribute(packet: &[u8], at: usize, end: usize) -> Option<(usize, u16)> {
    let header: &[u8; HEADER] = packet.get(at..end)?.first_chunk()?;
    let len = usize::from(u16::from_ne_bytes([header[0], header[1]]));
    let kind = u16::from_ne_bytes([header[2], header[3]]) & !TYPE_FLAGS;
    (len >= HEADER && len <= end - at).then_some((len, kind))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attribute_bytes(kind: u16, payload: &[u8]) -> Vec<u8> {
        let mut bytes = (4 + payload.len() as u16).to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(payload);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    #[test]
    fn attributes_are_found_by_type() {
        let inner = [attribute_bytes(7, &[1]), attribute_bytes(8, &[])].concat();
        let packet = [attribute_bytes(1, &[1, 2, 3, 4, 5]), attribute_bytes(2, &inner)].concat();
        assert_eq!(find(&packet, 0, 1), 0);
        assert_eq!(find(&packet, 0, 2), 12);
        assert_eq!(find(&packet, 0, 7), 0);
        assert_eq!(find_nested(&packet, 12, 7), 16);
        assert_eq!(find_nested(&packet, 12, 8), 24);
        assert_eq!(find_nested(&packet, 12, 2), 0);
        assert_eq!(find_nested(&packet, 4000, 2), 0);
        assert_eq!(find(&packet, u32::MAX, 2), 0);
    }
}

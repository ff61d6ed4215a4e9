//! Packet captures: pcap in both byte orders and both time resolutions, and pcapng.
//!
//! A capture is read as a whole before its first packet is used, so that a broken one is refused
//! and not run in part.

use pcap_parser::pcap::{
    LegacyPcapBlock, parse_pcap_frame, parse_pcap_frame_be, parse_pcap_frame_modified,
    parse_pcap_header,
};
use pcap_parser::pcapng::{Block, parse_block_be, parse_block_le};
use pcap_parser::{PcapError, nom};

/// The link type of Ethernet (`LINKTYPE_ETHERNET`), the only one that programs are run on.
pub(crate) const ETHERNET: u32 = 1;

/// The type of a section header, which starts a pcapng file; the same in both byte orders.
const SECTION_HEADER: [u8; 4] = 0x0a0d_0d0a_u32.to_le_bytes();

/// Why bytes are not a capture that programs can be run on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CaptureError {
    /// No bytes at all.
    #[error("the file is empty, not a capture")]
    Empty,
    /// Neither pcap nor pcapng.
    #[error("not a capture: it starts neither as pcap nor as pcapng")]
    BadMagic,
    /// The capture ends inside its header.
    #[error("the capture is truncated: it ends inside its header")]
    TruncatedHeader,
    /// The capture ends inside a packet, or inside what pcapng has between packets.
    #[error("the capture is truncated: it ends inside or before packet {packet}")]
    Truncated {
        /// The packet, from 1.
        packet: usize,
    },
    /// A block of a pcapng file that contradicts itself.
    #[error("malformed pcapng block before or at packet {packet}")]
    Malformed {
        /// The packet that was to come, from 1.
        packet: usize,
    },
    /// A packet of a pcapng file from an interface that is not described.
    #[error(
        "packet {packet} comes from interface {interface}, which the capture does not describe"
    )]
    NoInterface {
        /// The packet, from 1.
        packet: usize,
        /// The interface's number in its section.
        interface: u32,
    },
    /// Packets that do not start with an Ethernet header.
    #[error("link type {found} is not supported; only Ethernet ({ETHERNET}) is")]
    LinkType {
        /// The capture's link type.
        found: u32,
    },
    /// A capture in which nothing was captured.
    #[error("the capture is empty: it has no packets")]
    NoPackets,
}

/// The packets of a capture, in its order. At least one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Capture<'a> {
    packets: Vec<&'a [u8]>,
}

impl<'a> Capture<'a> {
    /// Reads a capture.
    ///
    /// A packet is what was captured of it: shorter than it was on the wire where the capture
    /// has a snapshot length.
    ///
    /// # Errors
    /// Bytes that are no whole capture, packets that are not Ethernet, or none.
    pub(crate) fn parse(bytes: &'a [u8]) -> Result<Self, CaptureError> {
        let packets = match bytes {
            [] => Err(CaptureError::Empty),
            _ if bytes.starts_with(&SECTION_HEADER) => PcapNg::default().read(bytes),
            _ => read_pcap(bytes),
        }?;
        if packets.is_empty() { Err(CaptureError::NoPackets) } else { Ok(Self { packets }) }
    }

    /// The packets.
    pub(crate) fn packets(&self) -> &[&'a [u8]] {
        &self.packets
    }
}

fn read_pcap(bytes: &[u8]) -> Result<Vec<&[u8]>, CaptureError> {
    let (mut rest, header) = parse_pcap_header(bytes).map_err(|error| match error {
        nom::Err::Incomplete(_) => CaptureError::TruncatedHeader,
        _ => CaptureError::BadMagic,
    })?;
    // The upper half of the field says things about frame check sequences.
    check_link_type(header.network.0 as u32 & 0xffff)?;
    let parse = if header.is_modified_format() {
        parse_pcap_frame_modified
    } else if header.is_bigendian() {
        parse_pcap_frame_be
    } else {
        parse_pcap_frame
    };
    let mut packets = Vec::new();
    while !rest.is_empty() {
        let truncated = |_| CaptureError::Truncated { packet: packets.len() + 1 };
        let (after, LegacyPcapBlock { data, .. }) = parse(rest).map_err(truncated)?;
        packets.push(data);
        rest = after;
    }
    Ok(packets)
}

fn check_link_type(found: u32) -> Result<(), CaptureError> {
    if found == ETHERNET { Ok(()) } else { Err(CaptureError::LinkType { found }) }
}

/// What the blocks of a pcapng file have said so far.
#[derive(Default)]
struct PcapNg<'a> {
    big_endian: bool,
    /// Of the section.
    interfaces: Vec<Interface>,
    packets: Vec<&'a [u8]>,
}

struct Interface {
    link_type: u32,
    /// The most bytes that were captured of a packet; 0 where there is no limit.
    snap_len: u32,
}

impl<'a> PcapNg<'a> {
    fn read(mut self, bytes: &'a [u8]) -> Result<Vec<&'a [u8]>, CaptureError> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let parse = if self.big_endian { parse_block_be } else { parse_block_le };
            let (after, block) = parse(rest).map_err(|error| self.error(rest, &error))?;
            self.take(block)?;
            rest = after;
        }
        Ok(self.packets)
    }

    fn take(&mut self, block: Block<'a>) -> Result<(), CaptureError> {
        match block {
            Block::SectionHeader(section) => {
                self.big_endian = section.big_endian();
                self.interfaces.clear();
                Ok(())
            }
            Block::InterfaceDescription(description) => {
                let link_type = description.linktype.0 as u32;
                self.interfaces.push(Interface { link_type, snap_len: description.snaplen });
                Ok(())
            }
            Block::EnhancedPacket(packet) => {
                self.interface(packet.if_id)?;
                self.push(packet.data, packet.caplen)
            }
            // Such a packet does not say how much of it was captured.
            Block::SimplePacket(packet) => match self.interface(0)?.snap_len {
                0 => self.push(packet.data, packet.origlen),
                limit => self.push(packet.data, packet.origlen.min(limit)),
            },
            _ => Ok(()),
        }
    }

    /// The interface of the packet that comes next.
    fn interface(&self, number: u32) -> Result<&Interface, CaptureError> {
        let interface = self
            .interfaces
            .get(number as usize)
            .ok_or(CaptureError::NoInterface { packet: self.next(), interface: number })?;
        check_link_type(interface.link_type)?;
        Ok(interface)
    }

    /// Adds a packet of `len` bytes, which are followed by padding.
    fn push(&mut self, padded: &'a [u8], len: u32) -> Result<(), CaptureError> {
        let packet = padded.get(..len as usize);
        self.packets.push(packet.ok_or(CaptureError::Malformed { packet: self.next() })?);
        Ok(())
    }

    /// The number of the packet that comes next.
    fn next(&self) -> usize {
        self.packets.len() + 1
    }

    /// Why the block that `rest` starts with cannot be read.
    fn error(&self, rest: &[u8], error: &nom::Err<PcapError<&[u8]>>) -> CaptureError {
        if !error.is_incomplete() || self.has_whole_block(rest) {
            CaptureError::Malformed { packet: self.next() }
        } else if self.packets.is_empty() && self.interfaces.is_empty() {
            CaptureError::TruncatedHeader
        } else {
            CaptureError::Truncated { packet: self.next() }
        }
    }

    /// Whether `rest` is as long as the block at its start says that it is. If so, something
    /// inside of the block claims to be longer.
    fn has_whole_block(&self, rest: &[u8]) -> bool {
        let Some(&[_, _, _, _, a, b, c, d]) = rest.first_chunk() else { return false };
        let to_number = if self.big_endian { u32::from_be_bytes } else { u32::from_le_bytes };
        rest.len() >= to_number([a, b, c, d]) as usize
    }
}

#[cfg(test)]
mod tests;

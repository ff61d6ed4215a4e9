//! What Linux knows of a packet besides its bytes, and where loads find it.

use ebpf_isa::Size;

/// Offset of the ancillary data (`SKF_AD_OFF`), as a constant of a load.
pub const ANCILLARY_OFFSET: u32 = -0x1000_i32 as u32;
/// Offset of the network header (`SKF_NET_OFF`).
pub const NETWORK_OFFSET: u32 = -0x10_0000_i32 as u32;
/// Offset of the link-layer header (`SKF_LL_OFF`).
pub const LINK_OFFSET: u32 = -0x20_0000_i32 as u32;

macro_rules! ancillary {
    ($($(#[$meta:meta])* $row:ident = $number:literal, $name:literal, $tcpdump:literal;)*) => {
        /// A piece of ancillary data, which a program loads from [`ANCILLARY_OFFSET`] plus its
        /// number (`SKF_AD_*` of `linux/filter.h`).
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Ancillary { $($(#[$meta])* $row,)* }

        impl Ancillary {
            /// All of them, in the order of their numbers.
            pub const ALL: &'static [Self] = &[$(Self::$row),*];

            /// The number.
            #[must_use]
            pub const fn number(self) -> u32 {
                match self { $(Self::$row => $number,)* }
            }

            /// The name, as `bpf_asm` spells it; `xor_x`, which has none there, is tcpdump's.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$row => $name,)* }
            }

            /// The name, as `tcpdump -d` spells it.
            #[must_use]
            pub const fn tcpdump_name(self) -> &'static str {
                match self { $(Self::$row => $tcpdump,)* }
            }

            /// The data with this name, in either spelling, in small or capital letters.
            #[must_use]
            pub fn from_name(name: &str) -> Option<Self> {
                let is_called = |row: &Self| {
                    let names = [row.name(), row.tcpdump_name()];
                    names.iter().any(|known| known.eq_ignore_ascii_case(name))
                };
                Self::ALL.iter().copied().find(is_called)
            }
        }
    };
}

ancillary! {
    /// Protocol of the network layer, an EtherType.
    Protocol = 0, "proto", "proto";
    /// To whom the packet is addressed (`PACKET_HOST`, ...).
    PacketType = 4, "type", "type";
    /// Index of the interface. Without an interface the program ends with 0.
    Ifindex = 8, "ifidx", "ifidx";
    /// Offset of the netlink attribute of type `X`, searched from offset `A`; 0 if there is none.
    Netlink = 12, "nla", "nla";
    /// The same inside of the attribute at offset `A`.
    NetlinkNested = 16, "nlan", "nlan";
    /// The packet's mark.
    Mark = 20, "mark", "mark";
    /// The queue that it is mapped to.
    Queue = 24, "queue", "queue";
    /// Type of the interface's hardware (`ARPHRD_*`). Without an interface the program ends with 0.
    HardwareType = 28, "hatype", "hatype";
    /// Hash of the flow.
    RxHash = 32, "rxhash", "rxhash";
    /// Number of the processor.
    Cpu = 36, "cpu", "cpu";
    /// No data, but an operation: `A ^= X`.
    XorX = 40, "xor_x", "xor_x";
    /// Tag control information of the VLAN.
    VlanTci = 44, "vlan_tci", "vlan_tci";
    /// Whether there is a VLAN tag: 1 or 0.
    VlanPresent = 48, "vlan_avail", "vlanp";
    /// Offset of the payload behind the headers.
    PayloadOffset = 52, "poff", "poff";
    /// A random number.
    Random = 56, "rand", "random";
    /// Protocol of the VLAN tag, an EtherType.
    VlanTpid = 60, "vlan_tpid", "vlan_tpid";
}

impl Ancillary {
    /// The data that is loaded by the constant `k`.
    #[must_use]
    pub fn at(k: u32) -> Option<Self> {
        let number = k.checked_sub(ANCILLARY_OFFSET)?;
        Self::ALL.iter().copied().find(|ancillary| ancillary.number() == number)
    }

    /// The constant that loads it.
    #[must_use]
    pub const fn constant(self) -> u32 {
        ANCILLARY_OFFSET + self.number()
    }

    /// Whether the value in `A` before is used.
    #[must_use]
    pub const fn reads_a(self) -> bool {
        matches!(self, Self::Netlink | Self::NetlinkNested | Self::XorX)
    }

    /// Whether the value in `X` is used.
    #[must_use]
    pub const fn reads_x(self) -> bool {
        self.reads_a()
    }
}

/// Where a packet load finds its bytes. Constants are signed: the negative ones count from headers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Place {
    /// From the start of the packet.
    Data(u32),
    /// From its network header.
    Network(u32),
    /// From its link-layer header.
    Link(u32),
    /// Below all of them, where nothing is: such a load ends the program with 0.
    Nowhere,
}

impl Place {
    /// The place that an offset stands for.
    #[inline]
    #[must_use]
    pub const fn of(offset: u32) -> Self {
        match offset {
            0..=0x7fff_ffff => Self::Data(offset),
            NETWORK_OFFSET.. => Self::Network(offset - NETWORK_OFFSET),
            LINK_OFFSET.. => Self::Link(offset - LINK_OFFSET),
            _ => Self::Nowhere,
        }
    }

    /// End of an access of `size` from the start of its region; `None` where it would overflow.
    #[must_use]
    pub(crate) fn end(off: u32, size: Size) -> Option<u32> {
        off.checked_add(u32::from(size.bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn constants_are_those_of_the_header() {
        assert_eq!(Ancillary::at(0xffff_f024), Some(Ancillary::Cpu));
        assert_eq!(Ancillary::VlanTpid.constant(), 0xffff_f03c);
        assert_eq!(Ancillary::at(0xffff_f040), None);
        assert_eq!(Ancillary::at(0xffff_f001), None);
        assert_eq!(Ancillary::at(0), None);
    }

    #[test]
    fn regions_meet_without_gaps() {
        assert_eq!(Place::of(0x7fff_ffff), Place::Data(0x7fff_ffff));
        assert_eq!(Place::of(0x8000_0000), Place::Nowhere);
        assert_eq!(Place::of(0xffdf_ffff), Place::Nowhere);
        assert_eq!(Place::of(0xffe0_0000), Place::Link(0));
        assert_eq!(Place::of(0xffef_ffff), Place::Link(0xf_ffff));
        assert_eq!(Place::of(0xfff0_0000), Place::Network(0));
        assert_eq!(Place::of(u32::MAX), Place::Network(0xf_ffff));
    }
}

//! Kinds of programs: what each has of a packet, and how it is read.

use core::fmt;

use crate::ancillary::{Ancillary, Place};
use crate::convert::ranges::{Ranges, Regions};
use crate::convert::{ConvertError, Options, Returns};
use crate::filter::{ClassicPc, Filter, Insn};
use crate::seccomp;

/// The kind of program that a filter becomes.
///
/// Ancillary data that a kind of program does not have is refused when the filter is converted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Target {
    /// A traffic control classifier (`BPF_PROG_TYPE_SCHED_CLS`), with direct access to the packet,
    /// which begins with its link-layer header.
    ///
    /// Direct access reaches the linear part of a packet; bytes in its fragments count as outside.
    /// The length is that of the whole packet. Ancillary data comes from the fields of
    /// `struct __sk_buff` and from helpers, offsets from the network header through
    /// `bpf_skb_load_bytes_relative`. Not available: `hatype`, `poff`, `nla`, `nlan`.
    #[default]
    SchedCls,
    /// An XDP program, with direct access to the packet, which begins with its link-layer header.
    ///
    /// There is no socket buffer yet: of the ancillary data, only `ifidx` (the interface the packet
    /// came in by), `cpu`, `rand` and `xor_x` are available, and no offsets from the network header.
    /// The length is computed from pointers, which Linux allows programs with `CAP_PERFMON`. A load
    /// at `X` that finds bytes elsewhere, but counts from the network header for some values of `X`,
    /// ends the filter with 0 for these.
    Xdp,
    /// A socket filter (`BPF_PROG_TYPE_SOCKET_FILTER`). Linux does not let it access the packet
    /// directly, so each load becomes one of the packet load instructions of classic heritage, which
    /// end the program with 0 outside of the packet.
    ///
    /// Ancillary data as for [`Target::SchedCls`]. The program returns the filter's value.
    SocketFilter,
    /// A program on a block of memory, whose address is in `r1` and whose length is in `r2` at
    /// entry: what embedders of eBPF outside of kernels commonly have.
    ///
    /// The packet begins with its link-layer header. Of the ancillary data only `xor_x` is
    /// available, and offsets from the network header as for [`Target::Xdp`].
    Flat,
    /// A program that judges system calls. Its context is a `struct seccomp_data`; its loads are 32
    /// bits wide, aligned and in the byte order of the host.
    ///
    /// The filter must pass the [seccomp checker](crate::seccomp::SeccompFilter). The program
    /// returns the filter's value.
    Seccomp,
}

impl Target {
    /// The name, as commands spell it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::SchedCls => "sched_cls",
            Self::Xdp => "xdp",
            Self::SocketFilter => "socket_filter",
            Self::Flat => "flat",
            Self::Seccomp => "seccomp",
        }
    }

    /// All targets.
    pub const ALL: [Self; 5] =
        [Self::SchedCls, Self::Xdp, Self::SocketFilter, Self::Flat, Self::Seccomp];

    /// Whether programs read the packet through pointers, behind checks of their own.
    pub(super) const fn has_direct_access(self) -> bool {
        matches!(self, Self::SchedCls | Self::Xdp | Self::Flat)
    }

    /// The largest end of an access that can be checked for.
    pub(super) const fn reach(self) -> u32 {
        match self {
            // The verifier learns nothing from pointers further into the packet.
            Self::SchedCls | Self::Xdp => 0xffff,
            // An immediate is a signed number of 32 bits.
            Self::Flat | Self::SocketFilter | Self::Seccomp => i32::MAX as u32,
        }
    }

    /// How ancillary data is loaded.
    pub(super) const fn lowering(self, ancillary: Ancillary) -> Lowering {
        use Lowering::{Field, Helper, Refused};
        match (self, ancillary) {
            (_, Ancillary::XorX) => Lowering::XorX,
            (Self::Flat, _) => Refused("a block of memory has nothing but its bytes"),
            (Self::Seccomp, _) => Refused("system calls have none"),
            (_, Ancillary::Cpu) => Helper(helper::GET_SMP_PROCESSOR_ID),
            (_, Ancillary::Random) => Helper(helper::GET_PRANDOM_U32),
            (_, Ancillary::Netlink | Ancillary::NetlinkNested) => {
                Refused("eBPF cannot search netlink attributes")
            }
            (_, Ancillary::PayloadOffset) => Refused("no helper dissects headers"),
            (_, Ancillary::HardwareType) => Refused("no context field has it"),
            (Self::Xdp, Ancillary::Ifindex) => Field { off: 12, kind: FieldKind::Interface },
            (Self::Xdp, _) => Refused("there is no socket buffer yet"),
            (_, Ancillary::PacketType) => Field { off: 4, kind: FieldKind::Number },
            (_, Ancillary::Mark) => Field { off: 8, kind: FieldKind::Number },
            (_, Ancillary::Queue) => Field { off: 12, kind: FieldKind::Number },
            (_, Ancillary::Protocol) => Field { off: 16, kind: FieldKind::EtherType },
            (_, Ancillary::VlanPresent) => Field { off: 20, kind: FieldKind::Number },
            (_, Ancillary::VlanTci) => Field { off: 24, kind: FieldKind::Number },
            (_, Ancillary::VlanTpid) => Field { off: 28, kind: FieldKind::EtherType },
            (_, Ancillary::Ifindex) => Field { off: 40, kind: FieldKind::Interface },
            (_, Ancillary::RxHash) => Field { off: 68, kind: FieldKind::Number },
        }
    }

    /// The place of a load, as an offset from the start of the packet where it has one.
    pub(super) const fn place(self, place: Place) -> Place {
        match (self, place) {
            (Self::SchedCls | Self::Xdp | Self::Flat, Place::Link(off)) => Place::Data(off),
            _ => place,
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Numbers of helpers (`linux/bpf.h`).
pub(super) mod helper {
    /// `bpf_get_prandom_u32`
    pub(in crate::convert) const GET_PRANDOM_U32: u32 = 7;
    /// `bpf_get_smp_processor_id`
    pub(in crate::convert) const GET_SMP_PROCESSOR_ID: u32 = 8;
    /// `bpf_skb_load_bytes_relative`
    pub(in crate::convert) const SKB_LOAD_BYTES_RELATIVE: u32 = 68;
}

/// Where ancillary data is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lowering {
    /// In a 32-bit field of the context.
    Field { off: i16, kind: FieldKind },
    /// A helper without arguments gives it.
    Helper(u32),
    /// It is an operation.
    XorX,
    /// Out of reach.
    Refused(&'static str),
}

/// What a context field holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FieldKind {
    /// The number itself.
    Number,
    /// 16 bits in network byte order.
    EtherType,
    /// An interface's index; 0, for none, ends the program with 0.
    Interface,
}

/// Finds what a target does not have, before anything is converted.
pub(super) fn check(
    filter: &Filter,
    ranges: &Ranges,
    options: &Options,
) -> Result<(), ConvertError> {
    let target = options.target;
    if target == Target::Seccomp {
        seccomp::check(filter)?;
    }
    let ends_itself = matches!(target, Target::SocketFilter | Target::Seccomp);
    if ends_itself && options.returns != Returns::Value {
        return Err(ConvertError::Action { target });
    }
    filter.iter().try_for_each(|(pc, insn)| check_insn(pc, insn, ranges, target))
}

fn check_insn(
    pc: ClassicPc,
    insn: Insn,
    ranges: &Ranges,
    target: Target,
) -> Result<(), ConvertError> {
    let regions = match insn {
        Insn::LoadAncillary(ancillary) => {
            return match target.lowering(ancillary) {
                Lowering::Refused(reason) => {
                    Err(ConvertError::Ancillary { pc, ancillary, target, reason })
                }
                _ => Ok(()),
            };
        }
        Insn::LoadAbs { place, .. } | Insn::LoadMsh { place } => Regions::of(place),
        Insn::LoadInd { off, .. } => ranges.regions(pc, off),
        _ => return Ok(()),
    };
    let Regions { data, link, network } = regions;
    match target {
        Target::Xdp | Target::Flat if network && !data && !link => {
            Err(ConvertError::NetworkHeader { pc, target })
        }
        _ => Ok(()),
    }
}

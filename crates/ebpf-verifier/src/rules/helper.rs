//! Prototypes of helpers.

use alloc::borrow::Cow;
use core::fmt;

use ebpf_isa::uapi::HelperId;
use ebpf_isa::{CallTarget, Insn};

use super::{Object, Structure};
use crate::digest::DigestWriter;
use crate::profile::Span;

/// Helpers that call a function of the program any number of times before they return.
const CALLING_BACK: [HelperId; 4] =
    [HelperId::FOR_EACH_MAP_ELEM, HelperId::FIND_VMA, HelperId::LOOP, HelperId::USER_RINGBUF_DRAIN];

/// Whether an instruction calls a helper after which a function of the program runs at some time,
/// whatever has become of the program.
pub(crate) fn calls_later(insn: &Insn) -> bool {
    matches!(insn, Insn::Call(CallTarget::Helper(HelperId::TIMER_SET_CALLBACK)))
}

/// Whether an instruction calls a helper that calls a function of the program back.
pub(crate) fn calls_back(insn: &Insn) -> bool {
    matches!(insn, Insn::Call(CallTarget::Helper(id)) if CALLING_BACK.contains(id))
}

/// What a helper takes in one argument register.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ArgKind {
    /// Nothing; the register may even be uninitialised.
    Unused,
    /// Any initialised value.
    Anything,
    /// The number 0: flags, of which there are none.
    NoFlags,
    /// A map.
    Map,
    /// A key of the map of an earlier argument.
    MapKey,
    /// A value of the map of an earlier argument, which is read.
    MapValue,
    /// As [`ArgKind::MapValue`], or null.
    MapValueOrNull,
    /// The program's context, unmodified.
    Context,
    /// As [`ArgKind::Context`], or null.
    ContextOrNull,
    /// A socket of any kind.
    SockCommon,
    /// A socket of any kind, or one of the kernel's own structures of sockets.
    Sock,
    /// As [`ArgKind::Sock`], or null.
    SockOrNull,
    /// A full socket, or null.
    FullSockOrNull,
    /// A socket of any kind that was acquired, and that the helper releases.
    ReleasedSock,
    /// What was reserved in a ring buffer, unmoved, which the helper releases.
    ReleasedRingbuf,
    /// How many bytes to reserve: a constant.
    ReservedSize,
    /// A dynptr.
    Dynptr,
    /// Room in the stack for a dynptr of memory, which the helper makes there.
    LocalDynptr,
    /// The same of one of a ring buffer, which is acquired.
    RingbufDynptr,
    /// A dynptr of a ring buffer, which the helper releases.
    ReleasedDynptr,
    /// Room for a value of the map of an earlier argument.
    MapValueOutput,
    /// Four bytes of memory, aligned, that are read and written.
    U32Update,
    /// Eight bytes of memory, aligned, that are filled, and need not be initialised.
    U64Output,
    /// A lock in the value of a map's element, which the helper takes or gives back.
    SpinLock,
    /// A timer in the value of a map's element.
    Timer,
    /// Twenty bytes of memory that are read: the header of IPv4, or of TCP.
    Header20,
    /// Forty bytes of memory that are read: the header of IPv6.
    Header40,
    /// Memory that is read; its size is the next argument.
    Memory,
    /// As [`ArgKind::Memory`], or null with a size of 0.
    MemoryOrNull,
    /// Memory that is read and written; its size is the next argument.
    Update,
    /// As [`ArgKind::Update`], or null with a size of 0.
    UpdateOrNull,
    /// A string that ends with a zero: a constant place in an array of one element, frozen, that programs
    /// may only read.
    ConstString,
    /// Memory that is filled, and need not be initialised; its size is the next argument.
    Output,
    /// A process.
    Task,
    /// What a program prints to.
    SeqFile,
    /// An open file.
    File,
    /// A path of the file system.
    Path,
    /// A packet of the network stack.
    SkBuff,
    /// A packet at a driver.
    XdpBuff,
    /// A function that the helper calls back.
    Callback,
    /// What the helper hands on to the callback: a pointer to the stack, or null.
    StackOrNull,
    /// The size in bytes of the memory in the argument before, not 0.
    Size,
    /// The size in bytes of the memory in the argument before.
    SizeOrZero,
}

impl ArgKind {
    const fn code(self) -> u32 {
        self as u32
    }

    /// The structure of the kernel that the argument points to.
    pub(crate) const fn structure(self) -> Option<Structure> {
        Some(match self {
            Self::Sock => Structure::SockCommon,
            Self::Task => Structure::Task,
            Self::SeqFile => Structure::SeqFile,
            Self::File => Structure::File,
            Self::Path => Structure::Path,
            Self::SkBuff => Structure::SkBuff,
            Self::XdpBuff => Structure::XdpBuff,
            _ => return None,
        })
    }

    /// Whether the helper releases what it is given.
    pub(crate) const fn releases(self) -> bool {
        matches!(self, Self::ReleasedSock | Self::ReleasedRingbuf)
    }

    /// Whether it may be the number 0 in the place of a pointer.
    pub(crate) const fn may_be_null(self) -> bool {
        matches!(
            self,
            Self::MemoryOrNull
                | Self::UpdateOrNull
                | Self::ContextOrNull
                | Self::StackOrNull
                | Self::SockOrNull
                | Self::FullSockOrNull
                | Self::MapValueOrNull
        )
    }
}

/// What a helper leaves in `r0`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetKind {
    /// A number.
    Integer,
    /// The number of the processor that the program runs on.
    Processor,
    /// An error number, negative, or a length that is at most the size argument.
    ErrorOrLength,
    /// Nothing: `r0` is uninitialised.
    Void,
    /// A pointer to an object of the kernel, or null.
    ObjectOrNull(Object),
    /// The same, to be released by the program.
    AcquiredOrNull(Object),
    /// The object of the argument as another kind of object, or null: still the same acquired object,
    /// if it was one.
    CastOrNull(Object),
    /// A pointer to a structure of the kernel that is there as long as the program runs.
    Trusted(Structure),
    /// A pointer to a structure of the kernel.
    Structure(Structure),
    /// The same, or null.
    StructureOrNull(Structure),
    /// The object of the argument as a structure of the kernel, or null: still the same acquired object,
    /// if it was one.
    CastToStructureOrNull(Structure),
    /// A pointer to a value of the map argument, or null.
    MapValueOrNull,
    /// A pointer to as many bytes as the size argument says, to be released by the program, or null.
    ReservedOrNull,
    /// A pointer to a value of the map argument.
    MapValue,
    /// A pointer to as many bytes of the dynptr in `r1` as the size argument says, or null.
    SliceOrNull,
}

impl RetKind {
    const fn code(self) -> u32 {
        match self {
            Self::Integer => 0,
            Self::Processor => 1,
            Self::ErrorOrLength => 2,
            Self::Void => 3,
            Self::MapValueOrNull => 4,
            Self::ReservedOrNull => 5,
            Self::MapValue => 6,
            Self::SliceOrNull => 7,
            Self::ObjectOrNull(object) => 0x100 | object as u32,
            Self::AcquiredOrNull(object) => 0x200 | object as u32,
            Self::CastOrNull(object) => 0x300 | object as u32,
            Self::Trusted(structure) => 0x400 | structure as u32,
            Self::Structure(structure) => 0x500 | structure as u32,
            Self::StructureOrNull(structure) => 0x600 | structure as u32,
            Self::CastToStructureOrNull(structure) => 0x700 | structure as u32,
        }
    }
}

/// The prototype of a helper.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HelperProto {
    /// Number that calls name it by.
    pub id: HelperId,
    /// Name in messages, without the prefix `bpf_`.
    pub name: Cow<'static, str>,
    /// Arguments.
    pub args: [ArgKind; 5],
    /// Result.
    pub ret: RetKind,
    /// Whether only programs under a GPL-compatible licence may call it.
    pub gpl_only: bool,
    /// Whether arguments may point into the packet.
    pub packet_args: bool,
    /// Whether the packet may have moved afterwards, so that all packet pointers are void.
    pub moves_packet: bool,
    /// Whether it may sleep, so that only programs that may call it.
    pub may_sleep: bool,
    /// The versions of the kernel that have it.
    pub span: Span,
}

impl HelperProto {
    /// A helper without arguments that returns a number.
    #[must_use]
    pub const fn new(id: HelperId, name: &'static str) -> Self {
        Self {
            id,
            name: Cow::Borrowed(name),
            args: [ArgKind::Unused; 5],
            ret: RetKind::Integer,
            gpl_only: false,
            packet_args: false,
            moves_packet: false,
            may_sleep: false,
            span: Span::ALWAYS,
        }
    }

    /// With these arguments.
    #[must_use]
    pub fn args(mut self, args: &[ArgKind]) -> Self {
        for (slot, &arg) in self.args.iter_mut().zip(args) {
            *slot = arg;
        }
        self
    }

    /// With this result.
    #[must_use]
    pub fn returns(mut self, ret: RetKind) -> Self {
        self.ret = ret;
        self
    }

    /// For programs under a GPL-compatible licence only.
    #[must_use]
    pub fn gpl_only(mut self) -> Self {
        self.gpl_only = true;
        self
    }

    /// With arguments that may point into the packet.
    #[must_use]
    pub fn packet_args(mut self) -> Self {
        self.packet_args = true;
        self
    }

    /// After which packet pointers are void.
    #[must_use]
    pub fn moves_packet(mut self) -> Self {
        self.moves_packet = true;
        self
    }

    /// For programs that may sleep.
    #[must_use]
    pub fn may_sleep(mut self) -> Self {
        self.may_sleep = true;
        self
    }

    /// In kernels from this version on.
    #[must_use]
    pub fn since(mut self, major: u16, minor: u16) -> Self {
        self.span = Span::since(major, minor);
        self
    }

    /// How many arguments it takes.
    pub(crate) fn arguments(&self) -> usize {
        self.args.iter().take_while(|&&kind| kind != ArgKind::Unused).count()
    }

    pub(super) fn digest(&self, digest: &mut DigestWriter) {
        digest.u32(self.id.0);
        self.args.into_iter().for_each(|arg| digest.u32(arg.code()));
        digest.u32(self.ret.code());
        self.span.digest(digest);
        for flag in [self.gpl_only, self.packet_args, self.moves_packet, self.may_sleep] {
            digest.u32(u32::from(flag));
        }
    }
}

/// As messages name it: `bpf_map_lookup_elem#1`.
impl fmt::Display for HelperProto {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "bpf_{}#{}", self.name, self.id.0)
    }
}

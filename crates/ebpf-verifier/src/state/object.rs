//! What programs keep in their stack for the kernel: only helpers and kernel functions may look at it.

use core::num::NonZeroU32;

use super::refs::RefId;
use crate::kfunc::IterType;

/// Ties together a dynptr and the slices that were made of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DynptrId(NonZeroU32);

impl DynptrId {
    /// `None` for 0, which no id is.
    pub(crate) fn new(id: u32) -> Option<Self> {
        NonZeroU32::new(id).map(Self)
    }

    pub(crate) fn number(self) -> u32 {
        self.0.get()
    }
}

/// What memory a dynptr stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DynptrKind {
    /// That of a map's value.
    Local,
    /// A record of a ring buffer, which was acquired.
    Ringbuf,
    /// The packet of a socket buffer.
    Skb,
    /// That of an XDP program.
    Xdp,
}

impl DynptrKind {
    /// What messages call it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Ringbuf => "ringbuf",
            Self::Skb => "skb",
            Self::Xdp => "xdp",
        }
    }

    /// Whether it stands for a packet, which may move.
    pub(crate) const fn is_packet(self) -> bool {
        matches!(self, Self::Skb | Self::Xdp)
    }

    /// Whether it stands for something that was acquired.
    pub(crate) const fn is_acquired(self) -> bool {
        matches!(self, Self::Ringbuf)
    }
}

/// A dynptr: two slots of the stack. Both of them have this.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Dynptr {
    pub(crate) kind: DynptrKind,
    pub(crate) id: DynptrId,
    pub(crate) reference: Option<RefId>,
    /// Whether it is the slot that it starts in, at the lower address.
    pub(crate) first: bool,
}

impl Dynptr {
    /// Slots that it takes.
    pub(crate) const SLOTS: usize = 2;
}

/// An iterator: so many slots of the stack as its type says. All of them have this.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Iter {
    pub(crate) ty: &'static IterType,
    /// What it was acquired as; the slot that it starts in, at the lowest address, has it alone.
    pub(crate) reference: Option<RefId>,
    /// Whether there may be more. It is set to false where there is nothing left.
    pub(crate) active: bool,
    /// How often the path has got something of it.
    pub(crate) depth: u32,
}

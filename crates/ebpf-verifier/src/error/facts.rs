//! What payloads are made of.

use ebpf_isa::{MapIdx, Pc, Reg};

use crate::domain::Tnum;

/// An access to a stack frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct StackAccess {
    /// The register with the pointer.
    pub register: Reg,
    /// Whether it is a store.
    pub write: bool,
    /// The lowest byte that it may touch, from the frame pointer.
    pub lowest: i64,
    /// The constant part of the offset.
    pub off: i64,
    /// The variable part of the offset.
    pub var_off: Tnum,
    /// Its size.
    pub size: i64,
}

/// Something that was acquired and not released.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Held {
    /// Its number.
    pub id: u32,
    /// The call that acquired it.
    pub acquired_at: Pc,
}

/// Memory whose bounds are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub enum Region {
    /// The value of a map's element.
    MapValue {
        /// The map.
        map: MapIdx,
        /// Size of the values.
        value_size: u32,
    },
    /// The key of a map's element.
    MapKey {
        /// Size of the keys.
        key_size: u32,
    },
    /// The packet, or the metadata before it.
    Packet,
    /// What was reserved in a ring buffer.
    Ringbuf {
        /// Its size.
        size: u32,
    },
    /// What a global function is given.
    Argument {
        /// Its size.
        size: u32,
    },
}

/// Which of the offsets that an access may have is out of bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub enum Extreme {
    /// The least one, which is below 0 by its variable part.
    Negative,
    /// The least one.
    Least,
    /// The greatest one.
    Greatest,
}

/// What is wrong with arithmetic on a pointer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub enum ArithmeticRule {
    /// It is of 32 bits.
    Narrow,
    /// The pointer may be null.
    MayBeNull,
    /// The pointer is of a kind that cannot be moved.
    Kind,
    /// The pointer is subtracted from a number.
    FromNumber,
    /// A number is subtracted from a stack pointer.
    FromStack,
    /// The operator is another one than addition and subtraction.
    Operator,
    /// Both operands are pointers.
    TwoPointers,
}

/// Which part of an offset may be too far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub enum FarOffset {
    /// The variable part, a constant.
    Number(i64),
    /// The constant part.
    Constant(i32),
    /// The variable part, which may be any negative number.
    Unbounded,
    /// The variable part, whose least value this is.
    Least(i64),
}

/// What is wrong with a size that a helper is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub enum BadSize {
    /// It may be negative.
    Negative {
        /// Its least value.
        min: i64,
    },
    /// It is 0.
    Zero,
    /// It may be 0.
    MayBeZero {
        /// Its greatest value.
        max: u64,
    },
    /// It may be too large.
    Unbounded {
        /// Its greatest value.
        max: u64,
    },
}

/// What an argument of a function must be by its prototype.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub enum ArgumentRule {
    /// A number.
    Number,
    /// The context.
    Context,
    /// A dynptr.
    Dynptr,
    /// Memory that is there.
    NotNull,
}

/// What ends a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Ending {
    /// Its exit.
    #[error("BPF_EXIT instruction in main prog")]
    Exit,
    /// A tail call.
    #[error("tail_call")]
    TailCall,
    /// A classic packet load, where the packet is too short.
    #[error("BPF_LD_[ABS|IND]")]
    PacketLoad,
}

//! Fused operations.

use ebpf_isa::{AluOp, CmpOp, Insn, Operand, Pc, Reg, Size, Width};

/// How the second operand of [`Fused::Shifted`] is moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Shift {
    /// To the left.
    Left,
    /// To the right, zeros coming in.
    Right,
    /// To the left, what leaves coming in again.
    Rotate,
}

/// An operation that stands for one instruction or several.
///
/// Loads zero-extend; results of 32 bits are zero-extended; shift counts are below the width.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fused {
    /// This instruction. Also where several instructions come to one that the program does not
    /// have: a load of bytes one by one is a plain load.
    Insn(Insn),
    /// `dst = lhs op rhs`
    Alu3 {
        /// The operation.
        op: AluOp,
        /// Of 32 or 64 bits.
        width: Width,
        /// Destination.
        dst: Reg,
        /// First operand.
        lhs: Reg,
        /// Second operand.
        rhs: Operand,
    },
    /// `dst = src` rotated to the left.
    Rotate {
        /// Of 32 or 64 bits.
        width: Width,
        /// Destination.
        dst: Reg,
        /// Operand.
        src: Reg,
        /// Number of bits, at least 1.
        by: u8,
    },
    /// `dst = lhs op (src shifted)`
    Shifted {
        /// `Add`, `Or` or `Xor`.
        op: AluOp,
        /// Of 32 or 64 bits, for the shift and the operation.
        width: Width,
        /// Destination.
        dst: Reg,
        /// First operand.
        lhs: Reg,
        /// What is shifted.
        src: Reg,
        /// How.
        shift: Shift,
        /// By how many bits.
        by: u8,
    },
    /// `dst = big-endian *(size *)(base + off)`; not of a single byte.
    LoadSwapped {
        /// Width of the access.
        size: Size,
        /// Destination.
        dst: Reg,
        /// Register with the address.
        base: Reg,
        /// Offset in bytes.
        off: i16,
    },
    /// `first = *(u64 *)(base + offs[0])`, then `second = *(u64 *)(base + offs[1])`
    LoadPair {
        /// Destination of the first load, which is not the base.
        first: Reg,
        /// Destination of the second load, another register.
        second: Reg,
        /// Register with the address.
        base: Reg,
        /// Offsets in bytes.
        offs: [i16; 2],
    },
    /// `dst = *(size *)(base + off) & mask`, of at most 32 bits
    LoadMasked {
        /// Width of the access.
        size: Size,
        /// Destination.
        dst: Reg,
        /// Register with the address.
        base: Reg,
        /// Offset in bytes.
        off: i16,
        /// The bits that stay.
        mask: i32,
    },
    /// `dst = dst op *(size *)(base + off)`
    LoadAlu {
        /// The operation.
        op: AluOp,
        /// Of 32 or 64 bits.
        width: Width,
        /// First operand and destination.
        dst: Reg,
        /// Width of the access.
        size: Size,
        /// Register with the address.
        base: Reg,
        /// Offset in bytes.
        off: i16,
    },
    /// `dst = *(size *)(lhs + rhs + off)`
    LoadIndexed {
        /// Width of the access.
        size: Size,
        /// Destination.
        dst: Reg,
        /// One part of the address.
        lhs: Reg,
        /// Another part.
        rhs: Reg,
        /// Offset in bytes.
        off: i16,
    },
    /// `dst = *(size *)(base + off)`, then `if dst op rhs goto target`
    LoadBranch {
        /// Width of the access.
        size: Size,
        /// Destination, and first operand of the comparison.
        dst: Reg,
        /// Register with the address.
        base: Reg,
        /// Offset in bytes.
        off: i16,
        /// The comparison.
        op: CmpOp,
        /// Of 32 or 64 bits.
        width: Width,
        /// Second operand.
        rhs: i32,
        /// Where it leads when the comparison holds.
        target: Pc,
    },
    /// `dst += add`, then `if dst op rhs goto target`
    AddBranch {
        /// Destination, and first operand of the comparison.
        dst: Reg,
        /// What is added.
        add: i32,
        /// The comparison.
        op: CmpOp,
        /// Of 32 or 64 bits, for the addition and the comparison.
        width: Width,
        /// Second operand: another register, or a number.
        rhs: Operand,
        /// Where it leads when the comparison holds.
        target: Pc,
    },
    /// `if lhs + add op rhs goto target`, of 64 bits
    SumBranch {
        /// What is added to.
        lhs: Reg,
        /// What is added.
        add: i32,
        /// The comparison of the sum.
        op: CmpOp,
        /// Second operand of the comparison.
        rhs: Reg,
        /// Where it leads when the comparison holds.
        target: Pc,
    },
    /// `r0 = value`, then `exit`
    ExitWith {
        /// Of 32 or 64 bits.
        width: Width,
        /// The result.
        value: i32,
    },
}

/// An operation, and where it comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FusedOp {
    /// The first instruction that it stands for.
    pub pc: Pc,
    /// Length in slots of its window, which starts at `pc`: the operation and those that follow it
    /// with positions inside of the window stand for the instructions of the window. An engine that
    /// cannot do the operation's access runs these instead, in their order, and then goes on at the
    /// first operation behind the window, or where the window's last instruction jumps to.
    pub slots: u32,
    /// What to do.
    pub op: Fused,
}

impl FusedOp {
    /// One past the last slot of the window.
    #[must_use]
    pub const fn end(&self) -> Pc {
        Pc(self.pc.0 + self.slots)
    }
}

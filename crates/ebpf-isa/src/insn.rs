//! Decoded instructions.

use core::fmt;

use crate::opcode::{AluOp, AtomicOp, ByteOrder, CmpOp, Extend, Size, Width};
use crate::uapi::HelperId;
use crate::{Pc, Reg, RegSet};

/// The second operand of an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operand {
    /// A register.
    Reg(Reg),
    /// An immediate, sign-extended to 64 bits where the operation is 64 bits wide.
    Imm(i32),
}

impl Operand {
    /// The register, if it is one.
    #[inline]
    #[must_use]
    pub const fn reg(self) -> Option<Reg> {
        match self {
            Self::Reg(reg) => Some(reg),
            Self::Imm(_) => None,
        }
    }

    /// The registers that it names: one or none.
    #[inline]
    const fn regs(self) -> RegSet {
        match self {
            Self::Reg(reg) => RegSet::of(reg),
            Self::Imm(_) => RegSet::EMPTY,
        }
    }
}

/// A 64-bit immediate, stored with an alignment of 4 so that [`Insn`] stays at 16 bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Imm64([u32; 2]);

impl Imm64 {
    /// Wraps a value.
    #[inline]
    #[must_use]
    pub const fn new(value: u64) -> Self {
        Self([value as u32, (value >> 32) as u32])
    }

    /// The value.
    #[inline]
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0[0] as u64 | (self.0[1] as u64) << 32
    }
}

impl fmt::Debug for Imm64 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.get())
    }
}

/// A map of the program, by its place in the program's list of maps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MapIdx(pub u32);

impl MapIdx {
    /// As an index into a program's list of maps.
    #[must_use]
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// Which of the two encodings of a map reference an instruction uses (RFC 9669, section 5.4).
///
/// Both name the same map here, the one with this place in the program's list: whoever hands
/// instructions to a kernel puts the file descriptor there. The form is kept so that encoding
/// gives back the bytes that were decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MapForm {
    /// Source 1 or 2: the kernel expects a file descriptor.
    Fd,
    /// Source 5 or 6: the kernel expects an index into its array of descriptors.
    Idx,
}

/// What a wide load puts into its register: a symbol, never an address or a file descriptor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum WideSource {
    /// A number.
    Imm(Imm64),
    /// The handle of a map, as helpers take it.
    Map(MapIdx, MapForm),
    /// The address of a byte in the value of a one-element array map.
    MapValue(MapIdx, u32, MapForm),
    /// The address of a kernel variable: BTF type id, and the module's BTF (0: the kernel's own).
    Btf {
        /// Type id of the variable.
        id: u32,
        /// Which BTF the id belongs to.
        module: u32,
    },
    /// The address of the subprogram that starts here.
    Func(Pc),
}

/// What a call calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CallTarget {
    /// A helper function.
    Helper(HelperId),
    /// The subprogram that starts here.
    Subprog(Pc),
    /// A kernel function: BTF type id, and the index of the module's BTF (0: the kernel's own).
    Kfunc {
        /// Type id of the function.
        btf_id: u32,
        /// Index into the table of BTFs.
        module: i16,
    },
    /// The subprogram whose address a register holds (`callx`). It is LLVM's, which emits it for
    /// calls of function pointers; neither RFC 9669 nor Linux has it.
    Reg(Reg),
    /// A function of the host that is neither helper nor kernel function, by a number of the host's
    /// own below [`CallTarget::MAX_NATIVES`]. Only a rewriter inserts such calls: they are never
    /// decoded, have no encoding, and no verifier accepts them.
    Native(u32),
}

impl CallTarget {
    /// Numbers of functions of the host are below this. Engines use those from here on for what they
    /// need themselves.
    pub const MAX_NATIVES: u32 = 1 << 16;
}

/// A decoded instruction, at most 16 bytes. Jumps and calls hold the [`Pc`] they lead to, not an
/// offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Insn {
    /// `dst = dst op src`
    Alu {
        /// The operation.
        op: AluOp,
        /// Of 32 or 64 bits.
        width: Width,
        /// First operand and destination.
        dst: Reg,
        /// Second operand.
        src: Operand,
    },
    /// `dst = src`
    Mov {
        /// Of 32 or 64 bits.
        width: Width,
        /// Destination.
        dst: Reg,
        /// Source.
        src: Operand,
    },
    /// `dst = sign extension of the low bits of src`
    MovSx {
        /// Width of the result before zero extension.
        width: Width,
        /// Destination.
        dst: Reg,
        /// Source.
        src: Reg,
        /// Number of bits that are extended: 8, 16, or (for a 64-bit result) 32, as a size.
        from: Size,
    },
    /// `dst = -dst`
    Neg {
        /// Of 32 or 64 bits.
        width: Width,
        /// Operand and destination.
        dst: Reg,
    },
    /// Byte order conversion of the low bits of `dst`; the rest is cleared.
    Swap {
        /// Which conversion.
        order: ByteOrder,
        /// Of 2, 4 or 8 bytes.
        size: Size,
        /// Operand and destination.
        dst: Reg,
    },
    /// Conversion of a pointer between address spaces (Linux, for arenas).
    AddrSpaceCast {
        /// Destination.
        dst: Reg,
        /// Source.
        src: Reg,
        /// Address space of the result.
        to: u16,
        /// Address space of the source.
        from: u16,
    },
    /// `dst = 64-bit value or symbol`; takes two slots.
    LoadWide {
        /// Destination.
        dst: Reg,
        /// What is loaded.
        source: WideSource,
    },
    /// `dst = *(size *)(base + off)`
    Load {
        /// Width of the access.
        size: Size,
        /// How the value is extended to 64 bits.
        extend: Extend,
        /// Destination.
        dst: Reg,
        /// Register with the address.
        base: Reg,
        /// Offset in bytes.
        off: i16,
    },
    /// `*(size *)(base + off) = src`
    Store {
        /// Width of the access.
        size: Size,
        /// Register with the address.
        base: Reg,
        /// Offset in bytes.
        off: i16,
        /// What is stored; an immediate is sign-extended.
        src: Operand,
    },
    /// Atomic read-modify-write of `*(size *)(base + off)`.
    Atomic {
        /// The operation.
        op: AtomicOp,
        /// 4 or 8 bytes.
        size: Size,
        /// Whether the old value goes to `src` (`r0` for compare-and-exchange).
        fetch: bool,
        /// Register with the address.
        base: Reg,
        /// Offset in bytes.
        off: i16,
        /// The operand.
        src: Reg,
    },
    /// `dst = load_acquire((size *)(base + off))`
    LoadAcquire {
        /// Width of the access.
        size: Size,
        /// Destination.
        dst: Reg,
        /// Register with the address.
        base: Reg,
        /// Offset in bytes.
        off: i16,
    },
    /// `store_release((size *)(base + off), src)`
    StoreRelease {
        /// Width of the access.
        size: Size,
        /// Register with the address.
        base: Reg,
        /// Offset in bytes.
        off: i16,
        /// What is stored.
        src: Reg,
    },
    /// `r0 = *(size *)skb[index + imm]`, converted to host order; ends the program with 0 where
    /// the packet is too short. Reads `r6`, destroys `r1` to `r5`.
    LoadPacket {
        /// 1, 2 or 4 bytes.
        size: Size,
        /// Register that is added to the offset.
        index: Option<Reg>,
        /// Constant part of the offset.
        imm: i32,
    },
    /// `goto target`
    Jump {
        /// Where it leads.
        target: Pc,
        /// Whether it is encoded with a 32-bit offset (`gotol`).
        long: bool,
    },
    /// `if lhs op rhs goto target`
    Branch {
        /// The comparison.
        op: CmpOp,
        /// Of 32 or 64 bits.
        width: Width,
        /// First operand.
        lhs: Reg,
        /// Second operand.
        rhs: Operand,
        /// Where it leads when the comparison holds.
        target: Pc,
    },
    /// `may_goto target`: the verifier treats both ways as possible; at run time it falls through
    /// until a budget is used up.
    MayGoto {
        /// Where it leads at the end of the budget.
        target: Pc,
    },
    /// `r0 = target(r1, r2, r3, r4, r5)`
    Call(CallTarget),
    /// Return from the subprogram or the program with `r0`.
    Exit,
}

/// The registers that an instruction uses, and those that it changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Operands {
    /// See [`Insn::reads`].
    pub reads: RegSet,
    /// See [`Insn::writes`].
    pub writes: RegSet,
}

/// Where control may go from an instruction, apart from calls and returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Successors {
    /// The next instruction, if control can fall through.
    pub next: Option<Pc>,
    /// The target of a jump.
    pub target: Option<Pc>,
}

impl Insn {
    /// Number of slots: 2 for a wide load, otherwise 1.
    #[inline]
    #[must_use]
    pub const fn slots(self) -> u32 {
        match self {
            Self::LoadWide { .. } => 2,
            _ => 1,
        }
    }

    /// Where a jump leads, conditional or not; calls are no jumps.
    #[inline]
    #[must_use]
    pub const fn jump_target(self) -> Option<Pc> {
        match self {
            Self::Jump { target, .. } | Self::Branch { target, .. } | Self::MayGoto { target } => {
                Some(target)
            }
            _ => None,
        }
    }

    /// The subprogram that a call or a wide load refers to.
    #[inline]
    #[must_use]
    pub const fn subprog_ref(self) -> Option<Pc> {
        match self {
            Self::Call(CallTarget::Subprog(pc))
            | Self::LoadWide { source: WideSource::Func(pc), .. } => Some(pc),
            _ => None,
        }
    }

    /// Whether the instruction takes one slot, refers to no position of the program, and always goes on to the
    /// next instruction, so that it can stand anywhere. A packet load can end the program.
    #[inline]
    #[must_use]
    pub const fn is_plain(&self) -> bool {
        !matches!(
            self,
            Self::Jump { .. }
                | Self::Branch { .. }
                | Self::MayGoto { .. }
                | Self::LoadWide { .. }
                | Self::LoadPacket { .. }
                | Self::Call(CallTarget::Subprog(_))
                | Self::Exit
        )
    }

    /// Whether control never goes on to the next instruction.
    #[inline]
    #[must_use]
    pub const fn is_terminator(self) -> bool {
        matches!(self, Self::Jump { .. } | Self::Exit)
    }

    /// Where control may go from this instruction at `at`.
    #[inline]
    #[must_use]
    pub fn successors(self, at: Pc) -> Successors {
        let next = if self.is_terminator() { None } else { at.checked_add(self.slots()) };
        Successors { next, target: self.jump_target() }
    }

    /// Registers whose value the instruction uses. A call is taken to read all five argument
    /// registers; its prototype knows better.
    #[inline]
    #[must_use]
    pub const fn reads(self) -> RegSet {
        self.operands().reads
    }

    /// Registers that hold another value afterwards, or none that may be used (`r1` to `r5` after
    /// a call).
    #[inline]
    #[must_use]
    pub const fn writes(self) -> RegSet {
        self.operands().writes
    }

    /// [`Self::reads`] and [`Self::writes`] at once.
    #[inline]
    #[must_use]
    pub const fn operands(self) -> Operands {
        const NONE: RegSet = RegSet::EMPTY;
        const RESULT: RegSet = RegSet::ARGS.with(Reg::R0);
        let (reads, writes) = match self {
            Self::Alu { dst, src, .. } => (src.regs().with(dst), RegSet::of(dst)),
            Self::Mov { dst, src, .. } => (src.regs(), RegSet::of(dst)),
            Self::MovSx { dst, src, .. } | Self::AddrSpaceCast { dst, src, .. } => {
                (RegSet::of(src), RegSet::of(dst))
            }
            Self::Neg { dst, .. } | Self::Swap { dst, .. } => (RegSet::of(dst), RegSet::of(dst)),
            Self::LoadWide { dst, .. } => (NONE, RegSet::of(dst)),
            Self::Load { dst, base, .. } | Self::LoadAcquire { dst, base, .. } => {
                (RegSet::of(base), RegSet::of(dst))
            }
            Self::Store { base, src, .. } => (src.regs().with(base), NONE),
            Self::StoreRelease { base, src, .. } => (RegSet::of(base).with(src), NONE),
            Self::Atomic { op: AtomicOp::Cmpxchg, base, src, .. } => {
                (RegSet::of(base).with(src).with(Reg::R0), RegSet::of(Reg::R0))
            }
            Self::Atomic { fetch, base, src, .. } => {
                (RegSet::of(base).with(src), if fetch { RegSet::of(src) } else { NONE })
            }
            Self::LoadPacket { index: Some(index), .. } => {
                (RegSet::of(Reg::R6).with(index), RESULT)
            }
            Self::LoadPacket { index: None, .. } => (RegSet::of(Reg::R6), RESULT),
            Self::Branch { lhs, rhs, .. } => (rhs.regs().with(lhs), NONE),
            Self::Call(CallTarget::Reg(callee)) => (RegSet::ARGS.with(callee), RESULT),
            Self::Call(_) => (RegSet::ARGS, RESULT),
            Self::Exit => (RegSet::of(Reg::R0), NONE),
            Self::Jump { .. } | Self::MayGoto { .. } => (NONE, NONE),
        };
        Operands { reads, writes }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instruction_fits_sixteen_bytes() {
        assert_eq!(size_of::<Insn>(), 16);
        assert_eq!(size_of::<Option<Insn>>(), 16);
    }

    #[test]
    fn a_wide_immediate_keeps_its_value() {
        assert_eq!(Imm64::new(0x1122_3344_5566_7788).get(), 0x1122_3344_5566_7788);
        assert_eq!(Imm64::new(u64::MAX).get(), u64::MAX);
    }

    #[test]
    fn compare_and_exchange_reads_and_writes_r0() {
        let cmpxchg = Insn::Atomic {
            op: AtomicOp::Cmpxchg,
            size: Size::Dw,
            fetch: true,
            base: Reg::R1,
            off: 0,
            src: Reg::R2,
        };
        assert_eq!(cmpxchg.reads().iter().collect::<Vec<_>>(), [Reg::R0, Reg::R1, Reg::R2]);
        assert_eq!(cmpxchg.writes().iter().collect::<Vec<_>>(), [Reg::R0]);
    }
}

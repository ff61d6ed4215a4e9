//! Conformance groups (RFC 9669, section 2.4).

use crate::opcode::{Extend, Size, Width};
use crate::{AluOp, CallTarget, Insn};

/// A set of instructions that a runtime may claim to support. An instruction is listed under the
/// smallest group that has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ConformanceGroup {
    /// What is in no other group.
    Base32,
    /// 64-bit arithmetic, comparisons, loads and stores.
    Base64,
    /// 32-bit multiplication, division and remainder.
    Divmul32,
    /// 64-bit multiplication, division and remainder.
    Divmul64,
    /// 32-bit atomic operations.
    Atomic32,
    /// 64-bit atomic operations.
    Atomic64,
    /// Packet loads.
    Packet,
    /// What LLVM adds to the RFC: calls through registers.
    Callx,
    /// What Linux adds to the RFC: load-acquire, store-release, `may_goto`, address-space casts.
    Linux,
}

impl ConformanceGroup {
    /// Every group.
    pub const ALL: [Self; 9] = [
        Self::Base32,
        Self::Base64,
        Self::Divmul32,
        Self::Divmul64,
        Self::Atomic32,
        Self::Atomic64,
        Self::Packet,
        Self::Callx,
        Self::Linux,
    ];

    /// The label of the RFC; `callx` and `linux` for what is not in it.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Base32 => "base32",
            Self::Base64 => "base64",
            Self::Divmul32 => "divmul32",
            Self::Divmul64 => "divmul64",
            Self::Atomic32 => "atomic32",
            Self::Atomic64 => "atomic64",
            Self::Packet => "packet",
            Self::Callx => "callx",
            Self::Linux => "linux",
        }
    }
}

impl Insn {
    /// The conformance group that the instruction belongs to.
    #[must_use]
    pub const fn conformance_group(self) -> ConformanceGroup {
        use ConformanceGroup::{
            Atomic32, Atomic64, Base32, Base64, Callx, Divmul32, Divmul64, Linux, Packet,
        };
        const fn by_width(
            width: Width,
            narrow: ConformanceGroup,
            wide: ConformanceGroup,
        ) -> ConformanceGroup {
            match width {
                Width::W32 => narrow,
                Width::W64 => wide,
            }
        }
        const fn by_size(
            size: Size,
            narrow: ConformanceGroup,
            wide: ConformanceGroup,
        ) -> ConformanceGroup {
            match size {
                Size::Dw => wide,
                Size::B | Size::H | Size::W => narrow,
            }
        }
        match self {
            Self::Alu { op, width, .. } => match op {
                AluOp::Mul | AluOp::Div | AluOp::SDiv | AluOp::Mod | AluOp::SMod => {
                    by_width(width, Divmul32, Divmul64)
                }
                _ => by_width(width, Base32, Base64),
            },
            Self::Mov { width, .. }
            | Self::MovSx { width, .. }
            | Self::Neg { width, .. }
            | Self::Branch { width, .. } => by_width(width, Base32, Base64),
            // Sign-extending loads fill 64 bits whatever their size.
            Self::Load { extend: Extend::Sign, .. } | Self::LoadWide { .. } => Base64,
            Self::Swap { size, .. } | Self::Load { size, .. } | Self::Store { size, .. } => {
                by_size(size, Base32, Base64)
            }
            Self::Atomic { size, .. } => by_size(size, Atomic32, Atomic64),
            Self::LoadPacket { .. } => Packet,
            Self::LoadAcquire { .. }
            | Self::StoreRelease { .. }
            | Self::MayGoto { .. }
            | Self::AddrSpaceCast { .. } => Linux,
            Self::Call(CallTarget::Reg(_)) => Callx,
            Self::Jump { .. } | Self::Call(_) | Self::Exit => Base32,
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::text::assemble;

    #[test]
    fn instructions_are_in_the_groups_of_the_rfc() {
        let group = |line: &str| {
            let program = assemble(&format!("{line}\nexit")).unwrap();
            program.insns().next().unwrap().1.conformance_group().label()
        };
        assert_eq!(group("w1 += 1"), "base32");
        assert_eq!(group("r1 += 1"), "base64");
        assert_eq!(group("w1 s/= 2"), "divmul32");
        assert_eq!(group("r1 *= r2"), "divmul64");
        assert_eq!(group("r1 = be32 r1"), "base32");
        assert_eq!(group("r1 = bswap64 r1"), "base64");
        assert_eq!(group("r1 = *(u32 *)(r2 +0)"), "base32");
        assert_eq!(group("r1 = *(u64 *)(r2 +0)"), "base64");
        assert_eq!(group("r1 = *(s8 *)(r2 +0)"), "base64");
        assert_eq!(group("callx r1"), "callx");
        assert_eq!(group("r1 = 1 ll"), "base64");
        assert_eq!(group("if w1 == 0 goto pc+0"), "base32");
        assert_eq!(group("if r1 == 0 goto pc+0"), "base64");
        assert_eq!(group("gotol pc+0"), "base32");
        assert_eq!(group("call bpf_ktime_get_ns#5"), "base32");
        assert_eq!(group("lock *(u32 *)(r1 +0) += r2"), "atomic32");
        assert_eq!(group("r2 = atomic64_xchg((u64 *)(r1 +0), r2)"), "atomic64");
        assert_eq!(group("r0 = *(u16 *)skb[4]"), "packet");
        assert_eq!(group("may_goto pc+0"), "linux");
    }
}

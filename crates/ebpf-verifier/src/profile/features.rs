//! Instructions and rules that came with a version of the kernel.

use ebpf_isa::{AluOp, AtomicOp, ByteOrder, Extend, Insn, Width};

use super::{Span, Version};

macro_rules! features {
    ($($(#[$meta:meta])* $name:ident = $text:literal, $span:expr;)*) => {
        /// Something that a kernel has or does not have.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum Feature { $($(#[$meta])* $name,)* }

        impl Feature {
            /// Every feature, oldest first.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// The name in profiles.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }

            /// The versions of Linux that have it, on x86-64.
            #[must_use]
            pub const fn span(self) -> Span {
                match self { $(Self::$name => $span,)* }
            }
        }
    };
}

features! {
    /// Comparisons of 32 bits.
    Jmp32 = "jmp32", Span::since(5, 1);
    /// Atomic operations other than addition, and what they fetch.
    Atomics = "atomics", Span::since(5, 12);
    /// Signed division, loads and moves that extend the sign, byte swaps without regard to the
    /// machine's order, and far jumps.
    CpuV4 = "cpu-v4", Span::since(6, 6);
    /// `may_goto`.
    MayGoto = "may-goto", Span::since(6, 9);
    /// Casts between the address spaces of arenas.
    AddrSpaceCast = "addr-space-cast", Span::since(6, 9);
    /// A lookup in an array by a constant key within its bounds does not give null.
    ConstantKeys = "constant-keys", Span::since(6, 14);
    /// Load-acquire and store-release.
    LoadAcquire = "load-acquire", Span::since(6, 15);
}

impl Feature {
    /// A feature by its name in profiles.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|feature| feature.name() == name)
    }

    const fn bit(self) -> u32 {
        1 << self as u32
    }

    /// The feature that a kernel needs to know the instruction; `None` if every kernel does.
    #[inline]
    pub(crate) fn of_insn(insn: &Insn) -> Option<Self> {
        match insn {
            Insn::Alu { op: AluOp::SDiv | AluOp::SMod, .. }
            | Insn::MovSx { .. }
            | Insn::Load { extend: Extend::Sign, .. }
            | Insn::Swap { order: ByteOrder::Swap, .. }
            | Insn::Jump { long: true, .. } => Some(Self::CpuV4),
            Insn::Branch { width: Width::W32, .. } => Some(Self::Jmp32),
            Insn::Atomic { op: AtomicOp::Add, fetch: false, .. } => None,
            Insn::Atomic { .. } => Some(Self::Atomics),
            Insn::MayGoto { .. } => Some(Self::MayGoto),
            Insn::AddrSpaceCast { .. } => Some(Self::AddrSpaceCast),
            Insn::LoadAcquire { .. } | Insn::StoreRelease { .. } => Some(Self::LoadAcquire),
            _ => None,
        }
    }
}

/// A set of features.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Features(u32);

impl Features {
    /// No feature.
    pub const NONE: Self = Self(0);

    /// The features of a version.
    #[must_use]
    pub const fn of(version: Version) -> Self {
        let mut bits = 0;
        let mut index = 0;
        while index < Feature::ALL.len() {
            let feature = Feature::ALL[index];
            if feature.span().contains(version) {
                bits |= feature.bit();
            }
            index += 1;
        }
        Self(bits)
    }

    /// The set with one more.
    #[must_use]
    pub const fn with(self, feature: Feature) -> Self {
        Self(self.0 | feature.bit())
    }

    /// Whether `feature` is in the set.
    #[must_use]
    pub const fn has(self, feature: Feature) -> bool {
        self.0 & feature.bit() != 0
    }

    pub(super) const fn bits(self) -> u32 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use ebpf_isa::text::assemble;

    use super::*;

    fn features(minor: u16) -> impl Iterator<Item = &'static str> {
        let features = Features::of(Version::new(6, minor));
        Feature::ALL.iter().filter(move |&&f| features.has(f)).map(|feature| feature.name())
    }

    #[test]
    fn features_come_with_versions() {
        assert!(features(5).eq(["jmp32", "atomics"]));
        assert!(features(13).eq(["jmp32", "atomics", "cpu-v4", "may-goto", "addr-space-cast"]));
        assert_eq!(features(18).count(), Feature::ALL.len());
        for feature in Feature::ALL {
            assert_eq!(Feature::from_name(feature.name()), Some(*feature));
            assert!(Features::NONE.with(*feature).has(*feature));
        }
        assert_eq!(Feature::from_name("telepathy"), None);
    }

    #[test]
    fn instructions_need_features() {
        let feature = |line: &str| {
            let program = assemble(&format!("{line}\nexit")).unwrap();
            Feature::of_insn(&program.insns().next().unwrap().1).map(Feature::name)
        };
        assert_eq!(feature("r1 += 1"), None);
        assert_eq!(feature("r1 = be32 r1"), None);
        assert_eq!(feature("lock *(u32 *)(r1 +0) += r2"), None);
        assert_eq!(feature("r2 = atomic64_xchg((u64 *)(r1 +0), r2)"), Some("atomics"));
        assert_eq!(feature("if w1 == 0 goto pc+0"), Some("jmp32"));
        for line in ["w1 s/= 2", "r1 = bswap64 r1", "r1 = *(s8 *)(r2 +0)", "gotol pc+0"] {
            assert_eq!(feature(line), Some("cpu-v4"), "{line}");
        }
        assert_eq!(feature("may_goto pc+0"), Some("may-goto"));
    }
}

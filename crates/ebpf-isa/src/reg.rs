//! Registers.

use core::fmt;

/// A BPF register (RFC 9669, section 2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Reg {
    /// Return value of calls and of the program.
    R0,
    /// First argument; a program starts with its context here.
    R1,
    /// Second argument.
    R2,
    /// Third argument.
    R3,
    /// Fourth argument.
    R4,
    /// Fifth argument.
    R5,
    /// Preserved across calls.
    R6,
    /// Preserved across calls.
    R7,
    /// Preserved across calls.
    R8,
    /// Preserved across calls.
    R9,
    /// The read-only frame pointer: one past the highest byte of the stack frame.
    R10,
    /// The auxiliary register, number 11: for code that a rewriter inserts, and exists only after
    /// rewriting. It is never decoded, has no encoding, and no verifier accepts it.
    ///
    /// Engines may keep it where they keep intermediate results. So a value lasts only from a move
    /// (or wide load) into it, through arithmetic on it other than shifts, multiplications and
    /// divisions, up to the first instruction that has it as source operand, which is one of
    /// [`Alu`], [`Mov`], [`Branch`], [`Store`] and [`LoadPacket`] (as index), with nothing else
    /// between. In any other use its value is unspecified.
    ///
    /// [`Alu`]: crate::Insn::Alu
    /// [`Mov`]: crate::Insn::Mov
    /// [`Branch`]: crate::Insn::Branch
    /// [`Store`]: crate::Insn::Store
    /// [`LoadPacket`]: crate::Insn::LoadPacket
    Ax,
}

impl Reg {
    /// All registers of programs, by number: those but [`Reg::Ax`].
    pub const ALL: [Self; 11] = [
        Self::R0,
        Self::R1,
        Self::R2,
        Self::R3,
        Self::R4,
        Self::R5,
        Self::R6,
        Self::R7,
        Self::R8,
        Self::R9,
        Self::R10,
    ];
    /// The registers that carry arguments into a call; a call destroys them.
    pub const ARGS: [Self; 5] = [Self::R1, Self::R2, Self::R3, Self::R4, Self::R5];
    /// The frame pointer.
    pub const FP: Self = Self::R10;
    /// Length of a register file with a place for each register, [`Reg::Ax`] too.
    pub const COUNT: usize = 12;

    /// The register of a program with this number; `None` above 10.
    #[inline]
    #[must_use]
    pub const fn new(number: u8) -> Option<Self> {
        Some(match number {
            0 => Self::R0,
            1 => Self::R1,
            2 => Self::R2,
            3 => Self::R3,
            4 => Self::R4,
            5 => Self::R5,
            6 => Self::R6,
            7 => Self::R7,
            8 => Self::R8,
            9 => Self::R9,
            10 => Self::R10,
            _ => return None,
        })
    }

    /// The number, 0 to 11.
    #[inline]
    #[must_use]
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// As an index into register files.
    #[inline]
    #[must_use]
    pub const fn index(self) -> usize {
        self as usize
    }
}

impl fmt::Display for Reg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "r{}", self.number())
    }
}

/// A set of registers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct RegSet(u16);

impl RegSet {
    /// No register.
    pub const EMPTY: Self = Self(0);
    /// The registers that carry arguments into a call.
    pub const ARGS: Self = Self(0b11_1110);

    /// One register.
    #[inline]
    #[must_use]
    pub const fn of(reg: Reg) -> Self {
        Self::EMPTY.with(reg)
    }

    /// This set with `reg` in it.
    #[inline]
    #[must_use]
    pub const fn with(self, reg: Reg) -> Self {
        Self(self.0 | 1 << reg.number())
    }

    /// This set without `reg`.
    #[inline]
    #[must_use]
    pub const fn without(self, reg: Reg) -> Self {
        Self(self.0 & !(1 << reg.number()))
    }

    /// The registers in either set.
    #[inline]
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// The registers of this set that are not in `other`.
    #[inline]
    #[must_use]
    pub const fn difference(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Whether `reg` is in the set.
    #[inline]
    #[must_use]
    pub const fn contains(self, reg: Reg) -> bool {
        self.0 & 1 << reg.number() != 0
    }

    /// Whether no register is in the set.
    #[inline]
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// One bit for each register, by number.
    #[inline]
    #[must_use]
    pub const fn bits(self) -> u16 {
        self.0
    }

    /// The registers of the set, by number.
    #[inline]
    pub fn iter(self) -> impl Iterator<Item = Reg> {
        let mut rest = self.0;
        core::iter::from_fn(move || {
            let lowest = match rest.trailing_zeros() as u8 {
                11 => Some(Reg::Ax),
                number => Reg::new(number),
            };
            rest &= rest.wrapping_sub(1);
            lowest
        })
    }
}

impl FromIterator<Reg> for RegSet {
    fn from_iter<I: IntoIterator<Item = Reg>>(regs: I) -> Self {
        regs.into_iter().fold(Self::EMPTY, Self::with)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_argument_registers_are_a_set() {
        assert_eq!(Reg::ARGS.into_iter().collect::<RegSet>(), RegSet::ARGS);
        assert_eq!(RegSet::of(Reg::R10).iter().collect::<Vec<_>>(), [Reg::R10]);
        assert_eq!(RegSet::ARGS.with(Reg::R10).bits(), 0b100_0011_1110);
    }

    #[test]
    fn the_auxiliary_register_is_the_last_and_no_program_names_it() {
        assert_eq!(Reg::Ax.index() + 1, Reg::COUNT);
        assert_eq!(Reg::new(Reg::Ax.number()), None);
        assert!(!Reg::ALL.contains(&Reg::Ax));
        let set = RegSet::of(Reg::Ax).with(Reg::R1);
        assert_eq!(set.iter().collect::<Vec<_>>(), [Reg::R1, Reg::Ax]);
    }
}

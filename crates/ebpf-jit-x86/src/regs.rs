//! x86-64 registers, and which of them hold what.

use ebpf_isa::Reg;

/// A general-purpose register, by its number in the encoding.
///
/// A closed type: whatever encodes a register takes one of these, so no number is ever out of
/// range and silently masked to another register.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Gpr {
    Rax,
    Rcx,
    Rdx,
    Rbx,
    Rsp,
    Rbp,
    Rsi,
    Rdi,
    R8,
    R9,
    R10,
    R11,
    R12,
    R13,
    R14,
    R15,
}

impl From<Gpr> for u8 {
    /// The number, 0 to 15.
    fn from(reg: Gpr) -> Self {
        reg as Self
    }
}

impl Gpr {
    /// The low three bits of the number: what fits in ModRM.
    pub(crate) const fn low(self) -> u8 {
        self as u8 & 7
    }

    /// The fourth bit of the number: what goes into REX.
    pub(crate) const fn high(self) -> u8 {
        self as u8 >> 3
    }

    /// Whether the low byte of the register has a name only under a REX prefix: without one its
    /// number means `ah`, `ch`, `dh` or `bh`.
    pub(crate) const fn byte_needs_rex(self) -> bool {
        matches!(self, Self::Rsp | Self::Rbp | Self::Rsi | Self::Rdi)
    }
}

/// Where each BPF register lives.
///
/// Arguments are where the System V ABI wants them, so that calls move nothing; what BPF calls
/// preserve, the ABI preserves too; the frame pointer is the machine's own.
const HOMES: [Gpr; Reg::COUNT] = [
    Gpr::Rax, // r0: result of calls and of the program
    Gpr::Rdi, // r1 to r5: arguments
    Gpr::Rsi,
    Gpr::Rdx,
    Gpr::Rcx,
    Gpr::R8,
    Gpr::Rbx, // r6 to r9: preserved
    Gpr::R13,
    Gpr::R14,
    Gpr::R15,
    Gpr::Rbp, // r10: frame pointer
    Gpr::R10, // auxiliary register
];

/// Holds the run's `*mut ExecEnv` in programs that need it; preserved by calls.
pub(crate) const ENV: Gpr = Gpr::R12;
/// The second argument of the entry, where the environment arrives.
pub(crate) const ENV_AT_ENTRY: Gpr = Gpr::Rsi;
/// The sixth argument, where helpers expect the environment.
pub(crate) const ENV_FOR_HELPERS: Gpr = Gpr::R9;

/// Scratch registers: no BPF register of a program lives there, and calls destroy them.
///
/// The second one is also the home of [`Reg::Ax`]. Its value need not outlast the instruction that
/// has it as source operand, and that instruction reads it before it uses more scratch than the
/// first. The third one holds the [`ALLOWANCE`] of programs with fuel.
pub(crate) const SCRATCH: [Gpr; 3] = [Gpr::R9, Gpr::R10, Gpr::R11];

/// Holds how many instructions may run before the fuel is looked at again, in programs with fuel.
pub(crate) const ALLOWANCE: Gpr = SCRATCH[2];

/// What the machine's convention lets no function destroy (System V ABI, section 3.2.1).
pub(crate) const CALLEE_SAVED: [Gpr; 6] =
    [Gpr::Rbp, Gpr::Rbx, Gpr::R12, Gpr::R13, Gpr::R14, Gpr::R15];

/// BPF registers that a function preserves for its caller. Only unverified programs and dead code
/// write `r10`; it is preserved like the others.
pub(crate) const PRESERVED: [Reg; 5] = [Reg::R6, Reg::R7, Reg::R8, Reg::R9, Reg::R10];

impl From<Reg> for Gpr {
    fn from(reg: Reg) -> Self {
        HOMES[reg.index()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_register_has_a_home_of_its_own() {
        let mut taken = vec![Gpr::Rsp, ENV];
        taken.extend(SCRATCH);
        for reg in Reg::ALL {
            assert!(!taken.contains(&Gpr::from(reg)), "{reg}");
            taken.push(reg.into());
        }
        assert_eq!(taken.len(), 16, "every register has its use");
    }

    #[test]
    fn the_auxiliary_register_lives_in_scratch() {
        assert_eq!(Gpr::from(Reg::Ax), SCRATCH[1]);
    }

    #[test]
    fn no_home_needs_a_sib_byte_as_base() {
        // The bound on the length of loads and stores relies on it.
        assert!(Reg::ALL.into_iter().all(|reg| Gpr::from(reg).low() != Gpr::Rsp.low()));
    }
}

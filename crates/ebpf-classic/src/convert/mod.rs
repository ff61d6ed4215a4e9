//! Conversion to eBPF.
//!
//! `A` becomes `r0`, `X` another register, and the cells of scratch memory become registers or
//! words of the stack; a two-way jump becomes one that falls through. What is left to do is access
//! to the packet. A classic load checks itself and ends the program with 0 outside of the packet;
//! in eBPF a verifier demands that the program checks. So:
//!
//! - A check covers every load that follows on **all** ways that can end with something else than
//!   0. A packet which is too short for one of them gets 0 anyway, whichever way it would have
//!   taken, so nobody sees that the answer comes earlier. In the same way loads at `X + k` share a
//!   check, as long as `X` does not change.
//! - What ends with 0 on all ways is not computed, and instructions that nothing reaches are left
//!   out (a verifier refuses them).
//! - A value that is only compared with constants for equality or for common bits stays in network
//!   byte order, and the constants are swapped instead.
//! - Neighbouring loads that are each compared with a constant, and must all be equal, become one
//!   load of up to eight bytes and one comparison.
//!
//! All of it takes time linear in the length of the filter.

mod analysis;
mod emit;
mod indirect;
mod packet;
mod ranges;
mod target;
mod wide;

use alloc::vec::Vec;

use ebpf_isa::{Pc, Program, ProgramError};

use ranges::Ranges;
pub use target::Target;

use crate::ancillary::Ancillary;
use crate::filter::{ClassicPc, Filter};
use crate::raw::SockFilter;
use crate::seccomp::SeccompError;

/// What the converted program returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Returns {
    /// What the filter ends with: the number of bytes to keep, 0 to drop the packet.
    #[default]
    Value,
    /// One of two numbers, for instance `XDP_PASS` and `XDP_DROP`.
    Action {
        /// Where the filter ends with anything but 0.
        accept: u32,
        /// Where it ends with 0.
        reject: u32,
    },
}

/// How to convert.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Options {
    /// For which kind of program.
    pub target: Target,
    /// What the program returns.
    pub returns: Returns,
}

/// Why a filter cannot be converted.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ConvertError {
    /// Ancillary data that programs of this kind cannot get at.
    #[error("insn {pc}: no `{}` in {target}: {reason}", ancillary.name())]
    Ancillary {
        /// The load.
        pc: ClassicPc,
        /// What it loads.
        ancillary: Ancillary,
        /// For which kind of program.
        target: Target,
        /// Why not.
        reason: &'static str,
    },
    /// An offset from the network header, where nobody says where that is.
    #[error("insn {pc}: no offsets from the network header in {target}")]
    NetworkHeader {
        /// The load.
        pc: ClassicPc,
        /// For which kind of program.
        target: Target,
    },
    /// An action from a program whose packet loads end it with 0 themselves.
    #[error("{target} programs return what the filter ends with, no actions")]
    Action {
        /// For which kind of program.
        target: Target,
    },
    /// A filter that no system calls can be judged by.
    #[error(transparent)]
    Seccomp(#[from] SeccompError),
    /// The converted program is too large.
    #[error("the converted filter: {0}")]
    Program(#[from] ProgramError),
}

impl ConvertError {
    /// The instruction that it is about; `None` where it is about all of them.
    #[must_use]
    pub const fn pc(&self) -> Option<ClassicPc> {
        match self {
            Self::Ancillary { pc, .. } | Self::NetworkHeader { pc, .. } => Some(*pc),
            Self::Seccomp(error) => Some(error.pc()),
            Self::Action { .. } | Self::Program(_) => None,
        }
    }
}

/// A converted filter, with the one it was made of.
#[derive(Debug, Clone, PartialEq)]
pub struct Converted {
    /// The eBPF program.
    pub program: Program,
    original: Vec<SockFilter>,
    origins: Vec<Option<ClassicPc>>,
    starts: Vec<Option<Pc>>,
}

impl Converted {
    /// The classic program, exactly as it was given: what a kernel gives back for
    /// `SO_GET_FILTER`, and what can be moved to a system without eBPF.
    #[must_use]
    pub fn original(&self) -> &[SockFilter] {
        &self.original
    }

    /// The classic instruction that the one at `pc` was made for; `None` for the instructions that
    /// set up registers, and for the common end of loads that leave the packet.
    #[must_use]
    pub fn origin(&self, pc: Pc) -> Option<ClassicPc> {
        self.origins.get(pc.index()).copied().flatten()
    }

    /// The first instruction that was made for a classic one; `None` if there is none, because
    /// nothing reaches it or nothing depends on it. Instructions that became one begin at the same
    /// place.
    #[must_use]
    pub fn start(&self, pc: ClassicPc) -> Option<Pc> {
        self.starts.get(pc.index()).copied().flatten()
    }
}

/// Converts a filter to a program that does the same, on every packet of up to 65,535 bytes, and
/// that the verifier accepts: see [`Target`] for what each kind of program can and cannot do.
///
/// # Errors
/// The filter needs something that the target does not have.
///
/// ```
/// use ebpf_classic::{Filter, Options, convert, text};
///
/// let filter = Filter::new(text::parse("ldh [12]\njne #0x800, drop\nret #-1\ndrop: ret #0")?)?;
/// let converted = convert(&filter, &Options::default())?;
/// assert_eq!(converted.original(), filter.original());
/// let listing = converted.program.listing().to_string();
/// // The constant is swapped, not the bytes of the packet.
/// assert!(listing.contains("if w0 != 0x8 goto"), "{listing}");
/// # Ok::<(), Box<dyn core::error::Error>>(())
/// ```
pub fn convert(filter: &Filter, options: &Options) -> Result<Converted, ConvertError> {
    let ranges = Ranges::new(filter);
    target::check(filter, &ranges, options)?;
    let (program, positions) = emit::emit(filter, &ranges, options)?;
    let original = filter.original().to_vec();
    Ok(Converted { program, original, origins: positions.origins, starts: positions.starts })
}

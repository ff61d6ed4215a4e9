//! The kernel's own text.

use core::fmt::{self, Display, Formatter};

use super::disasm::Listing;
use crate::insn::{CallTarget, Insn, WideSource};
use crate::{Pc, Program, encode};

/// An instruction at its position, which displays with its opcode as the verifier of Linux 6.18
/// prints it: `(61) r1 = *(u32 *)(r0 +0)`. The [module](super) has a table of how that differs
/// from canonical text.
///
/// Addresses are printed as for a reader who may not see pointers: `0x0`. An instruction without
/// encoding has no opcode and is printed without one.
#[derive(Debug, Clone, Copy)]
pub struct KernelText<'a> {
    insn: Insn,
    at: Pc,
    kfunc: Option<&'a str>,
}

impl Insn {
    /// The text of this instruction at `at`, byte for byte as the kernel prints it.
    #[must_use]
    pub const fn kernel_text(self, at: Pc) -> KernelText<'static> {
        KernelText { insn: self, at, kfunc: None }
    }
}

impl KernelText<'_> {
    /// The same, with the name of the kernel function that the instruction calls. Only BTF has it;
    /// without it the call prints as in canonical text. Other instructions stay as they are.
    #[must_use]
    pub const fn with_kfunc_name<'a>(&self, name: &'a str) -> KernelText<'a> {
        KernelText { insn: self.insn, at: self.at, kfunc: Some(name) }
    }
}

impl Display for KernelText<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if let Ok((slot, _)) = encode(self.insn, self.at) {
            write!(f, "({:02x}) ", slot.opcode)?;
        }
        match (self.insn, self.kfunc) {
            (Insn::LoadWide { dst, source }, _) => {
                write!(f, "{dst} = {:#x}", printed_value(source, self.at))
            }
            (Insn::Call(CallTarget::Kfunc { btf_id, .. }), Some(name)) => {
                write!(f, "call {name}#{btf_id}")
            }
            (insn, _) => insn.text(self.at).fmt(f),
        }
    }
}

/// The number that stands for the source of a wide load: numbers and distances to subprograms as
/// they are in the two slots, and addresses hidden.
fn printed_value(source: WideSource, at: Pc) -> u64 {
    match source {
        WideSource::Imm(imm) => imm.get(),
        WideSource::Func(target) => u64::from(at.offset_to(target) as u32),
        WideSource::Map(..) | WideSource::MapValue(..) | WideSource::Btf { .. } => 0,
    }
}

/// A program as the kernel prints it: a line an instruction, `12: (61) r1 = *(u32 *)(r0 +0)`,
/// without names and source lines.
#[derive(Debug, Clone, Copy)]
pub struct KernelListing<'a> {
    program: &'a Program,
}

impl<'a> Listing<'a> {
    /// The same program in the kernel's own text.
    #[must_use]
    pub const fn kernel(self) -> KernelListing<'a> {
        KernelListing { program: self.program() }
    }
}

impl Display for KernelListing<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let mut lines = self.program.insns();
        lines.try_for_each(|(pc, insn)| writeln!(f, "{pc}: {}", insn.kernel_text(pc)))
    }
}

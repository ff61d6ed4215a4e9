//! What a program type's host adds to rewriting.

use ebpf_isa::{Insn, Pc, Size};
use ebpf_patch::HostField;

use super::{HookCode, RewriteError};
use crate::rules::Object;

/// How the host lays out a program type's context, and what it runs before and after its programs.
pub trait RewriteHooks {
    /// Where the host keeps the field of the context that is accessed.
    ///
    /// # Errors
    /// The host does not provide the field: [`ContextAccessInsn::unsupported`].
    fn context_field(&self, access: &ContextAccessInsn) -> Result<HostField, RewriteError>;

    /// Where the host keeps the field of an object of the kernel that is accessed; its offset is in the
    /// object.
    ///
    /// # Errors
    /// The host does not provide the field, which is the default.
    fn object_field(
        &self,
        object: Object,
        access: &ContextAccessInsn,
    ) -> Result<HostField, RewriteError> {
        let &ContextAccessInsn { pc, offset, size, .. } = access;
        Err(RewriteError::UnsupportedObject { pc, object, offset, size })
    }

    /// Writes code that runs before the program's first instruction, but not again when a loop comes
    /// back there. None by default.
    ///
    /// The context is in `r1`, and must be there when it ends. It may also end the program, with `exit`; then
    /// neither program nor epilogue run. `writes_packet` tells whether the
    /// program stores into the packet directly.
    fn gen_prologue(&self, writes_packet: bool, code: &mut HookCode<'_>) {
        let _ = (writes_packet, code);
    }

    /// Writes code that runs in the place of every exit of the main program, with its result in `r0`; what `r0`
    /// is at the end is the result. None by default.
    ///
    /// The context is had by [`HookCode::load_saved_context`]. It does not run where a tail call leaves the
    /// program (the target has its own), and where the run is ended by a trap or a helper.
    fn gen_epilogue(&self, code: &mut HookCode<'_>) {
        let _ = code;
    }
}

/// An instruction that accesses the context, with an access that the verifier allowed, or that a hook
/// makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ContextAccessInsn {
    /// Where it is in the program as it was verified; for accesses of hooks, its slot in their code.
    pub pc: Pc,
    /// Offset into the context as programs see it, in bytes.
    pub offset: u16,
    /// Width of the access.
    pub size: Size,
    /// Whether it is a store.
    pub write: bool,
}

impl ContextAccessInsn {
    /// The error of a hook that does not provide the field.
    #[must_use]
    pub const fn unsupported(&self) -> RewriteError {
        RewriteError::UnsupportedField { pc: self.pc, offset: self.offset, size: self.size }
    }

    pub(super) fn new(pc: Pc, insn: Insn) -> Option<Self> {
        let (offset, size, write) = match insn {
            Insn::Load { size, off, .. } => (off, size, false),
            Insn::Store { size, off, .. } => (off, size, true),
            _ => return None,
        };
        Some(Self { pc, offset: u16::try_from(offset).ok()?, size, write })
    }
}

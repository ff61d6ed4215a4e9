//! Why a program has no image.

use ebpf_image::ImageError;
use ebpf_isa::Pc;
use ebpf_patch::PatchError;

/// Why [`compile`](crate::compile) refused a program.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum JitError {
    /// An instruction that this compiler has no code for: rewrite it before compiling, or use the
    /// interpreter.
    #[error("insn {pc}: {what} cannot be compiled")]
    Unsupported {
        /// Where.
        pc: Pc,
        /// What kind of instruction, in words.
        what: &'static str,
    },
    /// The program gets too long when its constants are blinded.
    #[error("blinding constants: {0}")]
    Blinding(#[from] PatchError),
    /// The code does not make an image: it is too long.
    #[error(transparent)]
    Image(#[from] ImageError),
}

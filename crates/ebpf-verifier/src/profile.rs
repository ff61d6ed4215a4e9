//! Kernel versions as data.

use ebpf_isa::abi;

use crate::digest::DigestWriter;

/// What a verdict depends on besides the program: the limits of a kernel version.
///
/// Programs are judged as if root had loaded them (`CAP_SYS_ADMIN`), on x86-64 with the JIT on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KernelProfile {
    /// Name, as reports show it.
    pub name: &'static str,
    /// Slots of a program.
    pub max_slots: u32,
    /// Instructions that may be processed, over all paths.
    pub max_processed: u32,
    /// Branches that may wait to be explored.
    pub max_pending: u32,
    /// Frames of one chain of calls.
    pub max_frames: u32,
    /// Bytes of stack of one chain of calls.
    pub max_stack: u32,
    /// A frame's size is rounded up to a multiple of this.
    pub stack_rounding: u32,
    /// Subprograms of a program, the main one included.
    pub max_subprograms: u32,
    /// Maps that a program may refer to.
    pub max_maps: u32,
}

impl KernelProfile {
    /// Linux 6.18.
    pub const LINUX_6_18: Self = Self {
        name: "linux-6.18",
        max_slots: 1_000_000,
        max_processed: 1_000_000,
        max_pending: 8192,
        max_frames: abi::MAX_CALL_DEPTH as u32,
        max_stack: abi::STACK_SIZE as u32,
        stack_rounding: 16,
        max_subprograms: 256,
        max_maps: 64,
    };

    pub(crate) fn digest(&self, digest: &mut DigestWriter) {
        digest.str(self.name);
        for limit in [
            self.max_slots,
            self.max_processed,
            self.max_pending,
            self.max_frames,
            self.max_stack,
            self.stack_rounding,
            self.max_subprograms,
            self.max_maps,
        ] {
            digest.u32(limit);
        }
    }
}

impl Default for KernelProfile {
    fn default() -> Self {
        Self::LINUX_6_18
    }
}

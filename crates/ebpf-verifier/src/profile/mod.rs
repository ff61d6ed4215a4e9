//! Kernels as data.

mod features;
mod version;

use alloc::borrow::Cow;
use alloc::vec::Vec;

use ebpf_isa::abi;
use ebpf_isa::uapi::{HelperId, ProgramType};

use crate::digest::DigestWriter;

pub use features::{Feature, Features};
pub use version::{Span, Version};

/// What a verdict depends on besides the program: the kernel that gives it, and its machine.
///
/// Programs are judged as if root had loaded them (`CAP_SYS_ADMIN`), on x86-64 with the JIT on.
/// Rules carry the versions that they hold in ([`Span`]); a profile made by asking a running kernel
/// says more precisely which instructions and helpers it takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KernelProfile {
    /// Name, as reports show it.
    pub name: Cow<'static, str>,
    /// Which rows of the tables hold.
    pub version: Version,
    /// Instructions and rules that kernels have or do not have.
    pub features: Features,
    /// The helpers of a program type, where the kernel was asked. Types that are not listed have
    /// those of the version.
    pub helpers: Vec<TypeHelpers>,
    /// Possible processors of the machine that loads the program, where that is known: they bound
    /// what `bpf_get_smp_processor_id` returns. Where it is not, a program that calls it is judged
    /// once for any number and once for each of [`KernelProfile::PROCESSORS_TRIED`], and only
    /// accepted if all of these accept it.
    pub processors: Option<u32>,
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

/// The helpers that programs of one type may call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TypeHelpers {
    /// The type.
    pub program_type: ProgramType,
    /// The helpers.
    pub helpers: Vec<HelperId>,
}

impl KernelProfile {
    /// Linux 6.18, on a machine with any number of processors.
    pub const LINUX_6_18: Self = Self {
        name: Cow::Borrowed("linux-6.18"),
        version: Version::new(6, 18),
        features: Features::of(Version::new(6, 18)),
        helpers: Vec::new(),
        processors: None,
        max_slots: 1_000_000,
        max_processed: 1_000_000,
        max_pending: 8192,
        max_frames: abi::MAX_CALL_DEPTH as u32,
        max_stack: abi::STACK_SIZE as u32,
        stack_rounding: 16,
        max_subprograms: 256,
        max_maps: 64,
    };

    /// The greatest limits that a profile should have, however it was made: verification takes no
    /// more memory and time than is known up to these. They are those of Linux 6.18, with some room
    /// for other kernels where that costs little. Frames are never more than these, whatever the
    /// profile says.
    pub const GREATEST_LIMITS: Self = {
        let mut profile = Self::LINUX_6_18;
        profile.stack_rounding = 512;
        profile.max_subprograms = 1024;
        profile.max_maps = 1024;
        profile
    };

    /// Numbers of processors that a program which asks for the processor is judged for, where the
    /// machine is not known: the fewest, at which the answer is a constant, a few, and the most that
    /// x86-64 can have.
    pub const PROCESSORS_TRIED: [u32; 5] = [1, 2, 4, 64, 8192];

    /// The limits, by the names of their fields.
    #[must_use]
    pub fn limits(&self) -> [(&'static str, u32); 8] {
        [
            ("max_slots", self.max_slots),
            ("max_processed", self.max_processed),
            ("max_pending", self.max_pending),
            ("max_frames", self.max_frames),
            ("max_stack", self.max_stack),
            ("stack_rounding", self.stack_rounding),
            ("max_subprograms", self.max_subprograms),
            ("max_maps", self.max_maps),
        ]
    }

    /// Frames that a chain of calls may have.
    pub(crate) fn frames(&self) -> usize {
        abi::MAX_CALL_DEPTH.min(self.max_frames as usize)
    }

    /// A limit by the name of its field; `None` if there is no such limit.
    pub fn limit_mut(&mut self, name: &str) -> Option<&mut u32> {
        Some(match name {
            "max_slots" => &mut self.max_slots,
            "max_processed" => &mut self.max_processed,
            "max_pending" => &mut self.max_pending,
            "max_frames" => &mut self.max_frames,
            "max_stack" => &mut self.max_stack,
            "stack_rounding" => &mut self.stack_rounding,
            "max_subprograms" => &mut self.max_subprograms,
            "max_maps" => &mut self.max_maps,
            _ => return None,
        })
    }

    /// Whether programs of a type may call a helper that came and went with `span`.
    pub(crate) fn has_helper(&self, program_type: ProgramType, id: HelperId, span: Span) -> bool {
        match self.helpers.iter().find(|listed| listed.program_type == program_type) {
            Some(listed) => listed.helpers.contains(&id),
            None => span.contains(self.version),
        }
    }

    pub(crate) fn digest(&self, digest: &mut DigestWriter) {
        digest.str(&self.name);
        digest.u32(self.version.number());
        digest.u32(self.features.bits());
        digest.u64(self.helpers.len() as u64);
        for TypeHelpers { program_type, helpers } in &self.helpers {
            digest.u32(program_type.number());
            digest.u64(helpers.len() as u64);
            helpers.iter().for_each(|id| digest.u32(id.0));
        }
        digest.u32(self.processors.unwrap_or(0));
        self.limits().into_iter().for_each(|(_, limit)| digest.u32(limit));
    }
}

impl Default for KernelProfile {
    fn default() -> Self {
        Self::LINUX_6_18
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_found_by_their_names() {
        let mut profile = KernelProfile::default();
        for (name, limit) in profile.clone().limits() {
            assert_eq!(profile.limit_mut(name).copied(), Some(limit), "{name}");
            *profile.limit_mut(name).unwrap() += 1;
        }
        for ((name, old), (_, new)) in
            KernelProfile::default().limits().into_iter().zip(profile.limits())
        {
            assert_eq!(new, old + 1, "{name}");
        }
        assert_eq!(profile.limit_mut("max"), None);
    }

    #[test]
    fn a_list_of_helpers_goes_before_the_version() {
        let mut profile = KernelProfile::default();
        let (xdp, filter) = (ProgramType::Xdp, ProgramType::SocketFilter);
        let (old, new) = (Span::since(5, 18), Span::since(6, 19));
        assert!(profile.has_helper(xdp, HelperId(1), old));
        assert!(!profile.has_helper(xdp, HelperId(1), new));
        profile.helpers = [TypeHelpers { program_type: xdp, helpers: [HelperId(2)].into() }].into();
        assert!(!profile.has_helper(xdp, HelperId(1), old));
        assert!(profile.has_helper(xdp, HelperId(2), new));
        assert!(profile.has_helper(filter, HelperId(1), old));
    }
}

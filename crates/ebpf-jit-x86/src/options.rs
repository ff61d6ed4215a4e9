//! What a compilation may be asked for.

use std::collections::BTreeSet;

use ebpf_isa::uapi::HelperId;

/// What stands between a program and the memory it names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum MemoryMode {
    /// Nothing: for verified programs.
    #[default]
    Unchecked,
    /// A check before each access: it must lie in the stack or in one of
    /// [`ExecEnv::regions`](ebpf_isa::abi::ExecEnv::regions). Stack frames lie apart from return
    /// addresses, at most [`MAX_CALL_DEPTH`](ebpf_isa::abi::MAX_CALL_DEPTH) deep; registers and
    /// frames start as zeros. What goes wrong is a [`Trap`](ebpf_isa::abi::Trap).
    Checked,
}

/// What [`compile`](crate::compile) is asked for; [`Options::default`] is what verified programs
/// need.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Options {
    /// Whether accesses are checked.
    pub memory: MemoryMode,
    /// Whether instructions are counted and charged to
    /// [`ExecEnv::fuel`](ebpf_isa::abi::ExecEnv::fuel), as in the interpreter: a run ends with
    /// [`OutOfFuel`](ebpf_isa::abi::TrapKind::OutOfFuel) where there is less of it than was used.
    pub fuel: bool,
    /// Whether every subprogram links its frame through `rbp`, for profilers and debuggers that
    /// walk the stack by frame pointers. Otherwise only those do that have a BPF stack: the others
    /// leave `rbp` to their caller, so a walk skips them but is never lost, and a leaf without stack
    /// costs no frame at all. With checked memory `rbp` points into the BPF stack, which lies
    /// apart, and there is nothing to walk in either case.
    pub frame_pointers: bool,
    /// The seed of [constant blinding](ebpf_patch::blind_constants), if constants are blinded: no
    /// number of the program appears in its code, so that nobody can write code by choosing numbers.
    /// The seed is a secret, to be drawn anew for each program. Positions in the image and in traps
    /// are those of the program as given, and what blinding adds is not counted.
    pub blinding: Option<[u64; 2]>,
    /// Helpers that may end the program, by setting
    /// [`ExecEnv::ended`](ebpf_isa::abi::ExecEnv::ended): only calls of these cost a test. Programs
    /// that tail-call each other are to be compiled with the same set.
    pub ending_helpers: BTreeSet<HelperId>,
}

impl Options {
    /// For programs that nobody verified: checked memory, and fuel.
    #[must_use]
    pub fn checked() -> Self {
        Self { memory: MemoryMode::Checked, fuel: true, ..Self::default() }
    }

    /// With memory checked, or not.
    #[must_use]
    pub fn with_memory(mut self, memory: MemoryMode) -> Self {
        self.memory = memory;
        self
    }

    /// With instructions counted, or not.
    #[must_use]
    pub fn with_fuel(mut self, fuel: bool) -> Self {
        self.fuel = fuel;
        self
    }

    /// With linked frames, or not.
    #[must_use]
    pub fn with_frame_pointers(mut self, frame_pointers: bool) -> Self {
        self.frame_pointers = frame_pointers;
        self
    }

    /// With constants blinded under this seed.
    #[must_use]
    pub fn with_blinding(mut self, seed: [u64; 2]) -> Self {
        self.blinding = Some(seed);
        self
    }

    /// With these helpers taken as ones that may end the program.
    #[must_use]
    pub fn with_ending_helpers(mut self, helpers: impl IntoIterator<Item = HelperId>) -> Self {
        self.ending_helpers.extend(helpers);
        self
    }

    /// Whether memory is checked.
    pub(crate) fn checks_memory(&self) -> bool {
        self.memory == MemoryMode::Checked
    }
}

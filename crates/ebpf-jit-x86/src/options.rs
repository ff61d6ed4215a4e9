//! What a compilation may be asked for.

use std::collections::BTreeSet;

use ebpf_isa::uapi::HelperId;

/// What stands between a program and the memory it names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum MemoryMode {
    /// Nothing: for verified programs.
    #[default]
    Unchecked,
    /// A call of [`ExecEnv::check`](ebpf_isa::abi::ExecEnv::check) before each access, for any
    /// program. Stack frames lie apart from return addresses, at most
    /// [`MAX_CALL_DEPTH`](ebpf_isa::abi::MAX_CALL_DEPTH) deep; registers and frames start as
    /// zeros; instructions are counted and charged to
    /// [`ExecEnv::fuel`](ebpf_isa::abi::ExecEnv::fuel) as in the interpreter. What goes wrong is a
    /// [`Trap`](ebpf_isa::abi::Trap).
    Checked,
}

/// What [`compile`](crate::compile) is asked for; [`Options::default`] is what verified programs
/// need.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Options {
    /// Whether accesses are checked.
    pub memory: MemoryMode,
    /// Helpers that may end the program, by setting
    /// [`ExecEnv::ended`](ebpf_isa::abi::ExecEnv::ended): only calls of these cost a test. Programs
    /// that tail-call each other are to be compiled with the same set.
    pub ending_helpers: BTreeSet<HelperId>,
}

impl Options {
    /// For programs that nobody verified.
    #[must_use]
    pub fn checked() -> Self {
        Self { memory: MemoryMode::Checked, ..Self::default() }
    }

    /// With these helpers taken as ones that may end the program.
    #[must_use]
    pub fn with_ending_helpers(mut self, helpers: impl IntoIterator<Item = HelperId>) -> Self {
        self.ending_helpers.extend(helpers);
        self
    }
}

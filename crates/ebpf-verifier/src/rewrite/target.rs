//! What runs the rewritten program.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;

use ebpf_isa::uapi::HelperId;

use crate::kfunc::Modules;

/// What the machine that runs a rewritten program needs, and what its host offers. The default is what
/// our engines need, which is nothing, and a host that offers nothing.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Target {
    /// Whether divisions by zero trap, and those of the smallest number by -1.
    pub division_traps: bool,
    /// Whether a 32-bit operation leaves something in the upper half of its register, unless it moves the
    /// register to itself.
    pub keeps_upper_halves: bool,
    /// By map, in the program's order, what its values are like if lookups in it may be inlined.
    pub arrays: Vec<Option<ArrayLayout>>,
    /// How many native functions hooks may call: those whose numbers are below this.
    pub natives: u32,
    /// The number of the native function that walks over the elements of a map
    /// ([`ElementCursor`](ebpf_isa::abi::ElementCursor)), if the host has one. Its arguments are a map
    /// and the address of the cursor.
    pub next_element: Option<u32>,
    /// The modules whose functions hooks may call.
    pub modules: Modules,
    /// The helpers that hooks may call; `None` for all, which is for whoever binds them to see to.
    pub helpers: Option<BTreeSet<HelperId>>,
}

/// The values of an array, one after the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ArrayLayout {
    /// How many there are.
    pub entries: u32,
    /// Bytes from the start of one to that of the next.
    pub stride: u32,
}

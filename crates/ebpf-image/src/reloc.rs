//! What an image leaves open until it is placed.

use crate::CodeOffset;
use core::fmt;
use core::ops::Range;

/// Something outside the image whose address is known only where the image runs.
///
/// The numbers are names that the image's producer and the resolver of its placement agree upon. None is an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Symbol {
    /// A helper function, by its number in the kernel's ABI (`BPF_FUNC_…`).
    Helper(u32),
    /// A kernel function.
    Kfunc {
        /// Type id of the function in the module's BTF.
        btf_id: u32,
        /// Index of the module's BTF in the program's table; 0 is the base BTF.
        module: u16,
    },
    /// The handle of a map, by the map's index in the program: what a helper takes as its map argument.
    Map(u32),
    /// An address inside the values of a map.
    MapValue {
        /// Index of the map in the program.
        map: u32,
        /// Bytes from the start of the map's first value.
        offset: u32,
    },
    /// A function of the embedding runtime that is neither helper nor kfunc, by a number of the runtime's own.
    Native(u32),
}

impl fmt::Display for Symbol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Helper(id) => write!(f, "helper#{id}"),
            Self::Kfunc { btf_id, module } => write!(f, "kfunc#{btf_id}@{module}"),
            Self::Map(map) => write!(f, "map#{map}"),
            Self::MapValue { map, offset } => write!(f, "map#{map}[0]+{offset}"),
            Self::Native(id) => write!(f, "native#{id}"),
        }
    }
}

/// One field of the code that is filled in at placement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Reloc {
    /// Offset of the **field's first byte** (not of the instruction that contains it).
    pub at: CodeOffset,
    /// What the field is, and whose address goes into it.
    pub kind: RelocKind,
}

/// The shape of a relocated field. The image's own bytes in the field are ignored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RelocKind {
    /// The 4-byte displacement of a 5-byte `call rel32` (opcode `E8`, at `at - 1`). It is relative to the end of the
    /// field. Where the target is out of reach, the linker lets it call a stub that jumps there.
    Call(Symbol),
    /// An 8-byte little-endian absolute address, as in `mov r64, imm64`.
    Address(Symbol),
}

impl RelocKind {
    /// The symbol whose address the field depends on.
    #[must_use]
    pub fn symbol(self) -> Symbol {
        match self {
            Self::Call(symbol) | Self::Address(symbol) => symbol,
        }
    }

    /// Length of the field, in bytes.
    #[must_use]
    pub fn field_len(self) -> usize {
        match self {
            Self::Call(_) => 4,
            Self::Address(_) => 8,
        }
    }
}

impl Reloc {
    /// The bytes of the code that the field occupies.
    #[must_use]
    pub fn field(self) -> Range<usize> {
        let start = self.at.index();
        start..start.saturating_add(self.kind.field_len())
    }
}

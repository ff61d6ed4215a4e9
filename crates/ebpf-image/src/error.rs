//! Why parts do not make an image.

use crate::{CodeOffset, Symbol};
use thiserror::Error;

/// Why [`Image::new`](crate::Image::new) refused its parts: in each case an error of the compiler that produced them.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ImageError {
    /// The code is too long for displacements of 32 bits.
    #[error("code of {len} bytes is too long: an image holds at most {max}", max = crate::Image::MAX_CODE_LEN)]
    CodeTooLong {
        /// Length of the code, in bytes.
        len: usize,
    },
    /// There is no entry point: the first one is where the program starts, so one is needed.
    #[error("the image has no entry point: give the program's entry as the first")]
    NoEntry,
    /// An entry point lies at or behind the end of the code.
    #[error("entry point {index} at {offset} is outside the code of {len} bytes")]
    EntryOutside {
        /// Position in the list of entry points.
        index: usize,
        /// Where it points.
        offset: CodeOffset,
        /// Length of the code, in bytes.
        len: usize,
    },
    /// A relocated field reaches beyond the code.
    #[error("relocation at {at} for {symbol} is outside the code of {len} bytes")]
    RelocOutside {
        /// First byte of the field.
        at: CodeOffset,
        /// The field's symbol.
        symbol: Symbol,
        /// Length of the code, in bytes.
        len: usize,
    },
    /// Two relocated fields share bytes, or a field covers the opcode of a relocated call.
    #[error("relocation at {at} for {symbol} overlaps the one at {previous}")]
    RelocOverlap {
        /// First byte of the later field.
        at: CodeOffset,
        /// The later field's symbol.
        symbol: Symbol,
        /// First byte of the earlier field.
        previous: CodeOffset,
    },
    /// The byte before a call's field is not `E8`, so the field is not the displacement of a `call rel32`.
    #[error("call relocation at {at} for {symbol} does not follow the opcode e8 of call rel32")]
    NotACall {
        /// First byte of the field.
        at: CodeOffset,
        /// The field's symbol.
        symbol: Symbol,
    },
    /// An entry of the pc map starts before its predecessor.
    #[error("pc map entry {index} at {offset} is out of order: sort the map by code offset")]
    PcMapUnsorted {
        /// Position in the map.
        index: usize,
        /// The entry's code offset.
        offset: CodeOffset,
    },
    /// An entry of the pc map starts behind the end of the code.
    #[error("pc map entry {index} at {offset} is outside the code of {len} bytes")]
    PcMapOutside {
        /// Position in the map.
        index: usize,
        /// The entry's code offset.
        offset: CodeOffset,
        /// Length of the code, in bytes.
        len: usize,
    },
}

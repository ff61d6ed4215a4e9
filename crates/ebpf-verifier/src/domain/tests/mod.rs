//! Tests of the domain as a whole: against what the kernel prints, for soundness over concrete
//! values of 64 bits, and exhaustively over words of 4 bits.

mod kernel;
mod kernel_text;
mod soundness;
mod toy;

//! Tests of the domain as a whole: against what the kernel prints, for soundness over concrete
//! values of 64 bits, and exhaustively over words of 4 bits.

mod exhaustive;
mod expr;
mod goals;
mod kernel;
mod kernel_text;
mod paths;
mod proofs;
mod reference;
mod rules;
mod solver;
mod soundness;
mod term;
mod toy;
mod words;

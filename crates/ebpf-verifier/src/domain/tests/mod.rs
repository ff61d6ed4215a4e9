//! Tests of the domain as a whole.
//!
//! [`kernel`] compares with what the kernel prints. The others are about soundness: [`rules`] says
//! what each rule must be right about; [`exhaustive`] tries that on all values of four bits,
//! [`sampled`] on some of six and of ten, and [`proofs`] has a solver prove it for all of 64,
//! running the same rules on terms ([`term`], [`paths`]). [`mutants`] are rules that all of them
//! must refuse.
//! [`shortcuts`] compares what is left out with doing it all.
//! [`soundness`] goes through the public operations at 64 bits, [`toy`] at four.

mod exhaustive;
mod expr;
mod goals;
mod kernel;
mod kernel_text;
mod members;
mod mutants;
mod parallel;
mod paths;
mod proofs;
mod reference;
mod rules;
mod sampled;
mod shortcuts;
mod solver;
mod soundness;
mod term;
mod toy;
mod words;

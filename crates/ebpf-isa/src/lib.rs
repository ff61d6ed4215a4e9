//! The BPF instruction set: instructions, programs, text, semantics, and the ABI between engines.

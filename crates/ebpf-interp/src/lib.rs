//! An interpreter for BPF programs, with checked and unchecked memory.

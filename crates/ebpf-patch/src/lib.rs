//! Rewriting of BPF programs in linear time.

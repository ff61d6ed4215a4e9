//! The whole BPF pipeline: load, verify, rewrite, compile or interpret, place, run.

//! Compiled BPF code as plain data: bytes, relocations, pc map.

//! BPF ELF objects: programs, maps, relocations, line information.

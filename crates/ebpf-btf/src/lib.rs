//! BTF and BTF.ext: types, functions and line information of BPF objects.

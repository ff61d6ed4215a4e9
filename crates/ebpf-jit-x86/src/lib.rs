//! A compiler from BPF to x86-64 that is a pure function from program to image.

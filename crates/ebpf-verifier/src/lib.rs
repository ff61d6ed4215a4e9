//! The verdict of the Linux BPF verifier, in user space.

//! The types of the running kernel.

use ebpf_btf::Btf;
use ebpf_verifier::KernelTypes;

/// Where the kernel shows its own types.
pub const KERNEL_BTF: &str = "/sys/kernel/btf/vmlinux";

/// The types of the running kernel. Reading them takes a good part of a second.
///
/// # Errors
/// There are none, or they cannot be read: why.
pub fn types() -> Result<KernelTypes, String> {
    let bytes = std::fs::read(KERNEL_BTF).map_err(|error| error.to_string())?;
    let btf = Btf::parse(&bytes).map_err(|error| error.to_string())?;
    Ok(KernelTypes::new(btf))
}

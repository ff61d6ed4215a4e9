//! Results as text for people, in the kernel's form, and as data.

pub(crate) mod diagnostic;
pub(crate) mod json;
pub(crate) mod kernel;
pub(crate) mod lcov;
pub(crate) mod maps;
pub(crate) mod run;
pub(crate) mod table;

use ebpf_runtime::isa::Facts;

/// Bytes of stack of each subprogram, in the form of the kernel's log: `32+8`.
pub(crate) fn stack_depth(facts: &Facts) -> String {
    let depths: Vec<String> =
        facts.subprogs.iter().map(|subprog| subprog.stack_depth.to_string()).collect();
    depths.join("+")
}

#[cfg(test)]
mod tests {
    use ebpf_runtime::isa::SubprogFacts;

    use super::*;

    #[test]
    fn stack_depths_are_joined_as_the_kernel_does() {
        let subprogs = [32, 8].map(|stack_depth| SubprogFacts { stack_depth }).to_vec();
        assert_eq!(stack_depth(&Facts { subprogs }), "32+8");
    }
}

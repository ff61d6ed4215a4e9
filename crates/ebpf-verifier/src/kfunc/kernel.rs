//! The functions that the kernel itself has for programs of every type.
//!
//! Their types are in the kernel's, but not what they do with iterators: one table says that, by name.

use ebpf_btf::Kind;

use super::module::Module;
use super::proto::{IterType, IterUse, KfuncArg, KfuncArgKind, KfuncProto, KfuncRet};
use crate::kernel_types::KernelTypes;

/// Numbers from one to another.
static NUMBERS: IterType = IterType { name: "num", slots: 1 };
/// The bits that are set in some words.
static BITS: IterType = IterType { name: "bits", slots: 2 };

/// The functions that are known here, as they are called with the id 1.
fn functions() -> [KfuncProto; 6] {
    use IterUse::{Destroy, New, Next};
    use KfuncArgKind::{Ignored, Iter, Scalar};
    [
        function("bpf_iter_bits_destroy", &[Iter(Destroy, &BITS)], KfuncRet::Void),
        function("bpf_iter_bits_new", &[Iter(New, &BITS), Ignored, Scalar], KfuncRet::Scalar),
        function("bpf_iter_bits_next", &[Iter(Next, &BITS)], KfuncRet::Item(4)),
        function("bpf_iter_num_destroy", &[Iter(Destroy, &NUMBERS)], KfuncRet::Void),
        function("bpf_iter_num_new", &[Iter(New, &NUMBERS), Scalar, Scalar], KfuncRet::Scalar),
        function("bpf_iter_num_next", &[Iter(Next, &NUMBERS)], KfuncRet::Item(4)),
    ]
}

fn function(name: &'static str, args: &[KfuncArgKind], ret: KfuncRet) -> KfuncProto {
    KfuncProto::new(1, name).args(args.iter().cloned().map(KfuncArg::from)).returns(ret)
}

/// The prototype of the kernel's function of this name, if it is known here, with this id.
#[must_use]
pub fn kernel_function(name: &str, btf_id: u32) -> Option<KfuncProto> {
    let found = functions().into_iter().find(|function| function.name == name)?;
    Some(KfuncProto { btf_id, ..found })
}

/// The base: those of the kernel's own functions that are known here, by the ids that they have in its
/// types.
#[must_use]
pub fn kernel_module(types: &KernelTypes) -> Module {
    let there = functions().into_iter().filter_map(|function| {
        let id = types.index().find(Kind::Func, &function.name)?;
        Some(KfuncProto { btf_id: id.0, ..function })
    });
    Module::of_kernel(there.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prototypes_are_sound_and_in_order() {
        assert!(functions().is_sorted_by_key(|function| function.name.clone()));
        for function in functions() {
            assert_eq!(function.problem(), None, "{}", function.name);
        }
    }
}

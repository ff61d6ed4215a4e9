//! The functions that the kernel itself has.
//!
//! Their types are in the kernel's, but not what they do with iterators and dynptrs, nor which programs
//! may call them: tables say that, by name.

use ebpf_btf::Kind;
use ebpf_isa::uapi::ProgramType;

use super::module::Module;
use super::proto::{IterType, IterUse, KfuncArg, KfuncArgKind, KfuncProto, KfuncRet};
use crate::kernel_types::KernelTypes;

/// Numbers from one to another.
static NUMBERS: IterType = IterType { name: "num", slots: 1 };
/// The bits that are set in some words.
static BITS: IterType = IterType { name: "bits", slots: 2 };

/// The functions that are known here, as they are called with the id 1.
fn functions() -> [KfuncProto; 15] {
    use crate::kfunc::NewDynptr as Of;
    use IterUse::{Destroy, New, Next};
    use KfuncArgKind::{Context, Dynptr, Ignored, Iter, NewDynptr, Scalar};
    use KfuncRet::Void;
    let (number, item) = (KfuncRet::Scalar, KfuncRet::Item(4));
    [
        function("bpf_dynptr_adjust", &[Dynptr, Scalar, Scalar], number.clone()),
        function("bpf_dynptr_clone", &[Dynptr, NewDynptr(Of::Copy)], number.clone()),
        function("bpf_dynptr_from_skb", &[Context, Scalar, NewDynptr(Of::Skb)], number.clone())
            .trusted_args(),
        function("bpf_dynptr_from_xdp", &[Context, Scalar, NewDynptr(Of::Xdp)], number.clone())
            .trusted_args(),
        function("bpf_dynptr_is_null", &[Dynptr], number.clone()),
        function("bpf_dynptr_is_rdonly", &[Dynptr], number.clone()),
        function("bpf_dynptr_size", &[Dynptr], number.clone()),
        slice("bpf_dynptr_slice", false),
        slice("bpf_dynptr_slice_rdwr", true),
        function("bpf_iter_bits_destroy", &[Iter(Destroy, &BITS)], Void),
        function("bpf_iter_bits_new", &[Iter(New, &BITS), Ignored, Scalar], number.clone()),
        function("bpf_iter_bits_next", &[Iter(Next, &BITS)], item.clone()),
        function("bpf_iter_num_destroy", &[Iter(Destroy, &NUMBERS)], Void),
        function("bpf_iter_num_new", &[Iter(New, &NUMBERS), Scalar, Scalar], number),
        function("bpf_iter_num_next", &[Iter(Next, &NUMBERS)], item),
    ]
}

/// A slice of a dynptr at some offset, in a buffer if it is not in one piece, and if there is a buffer.
fn slice(name: &'static str, writable: bool) -> KfuncProto {
    let (dynptr, size) = (KfuncArgKind::Dynptr.into(), KfuncArgKind::SliceSize.into());
    let args = [dynptr, KfuncArg::SCALAR, KfuncArg::BUFFER.or_null(), size];
    KfuncProto::new(1, name).args(args).returns(KfuncRet::Slice { writable })
}

/// Whether programs of this type may call a function.
fn may_call(program_type: ProgramType, name: &str) -> bool {
    match name {
        "bpf_dynptr_from_skb" => matches!(
            program_type,
            ProgramType::SchedCls
                | ProgramType::SchedAct
                | ProgramType::SkSkb
                | ProgramType::SocketFilter
                | ProgramType::CgroupSkb
                | ProgramType::LwtIn
                | ProgramType::LwtOut
                | ProgramType::LwtXmit
                | ProgramType::LwtSeg6local
        ),
        "bpf_dynptr_from_xdp" => program_type == ProgramType::Xdp,
        _ => true,
    }
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

/// The base: those of the kernel's own functions that are known here and that programs of this type may
/// call, by the ids that they have in its types.
#[must_use]
pub fn kernel_module(types: &KernelTypes, program_type: ProgramType) -> Module {
    let allowed = |function: &KfuncProto| may_call(program_type, &function.name);
    let there = functions().into_iter().filter(allowed).filter_map(|function| {
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

//! Fields of map values that the kernel guards.

use alloc::collections::BTreeSet;
use alloc::vec;

use ebpf_btf::{Btf, Type, TypeId};

/// Structures that the kernel treats as objects of their own inside of a map's value.
const GUARDED: [&str; 10] = [
    "bpf_spin_lock",
    "bpf_res_spin_lock",
    "bpf_timer",
    "bpf_wq",
    "bpf_task_work",
    "bpf_list_head",
    "bpf_list_node",
    "bpf_rb_root",
    "bpf_rb_node",
    "bpf_refcount",
];

/// Whether a value of this type has a field that the kernel guards: one of its own structures, or a
/// pointer with a type tag (`__kptr`, `__uptr`, ...). Tags that mean nothing to the kernel count
/// too, which errs on the side of saying yes.
#[must_use]
pub fn has_special_fields(btf: &Btf, value: TypeId) -> bool {
    let (mut seen, mut pending) = (BTreeSet::new(), vec![value]);
    while let Some(id) = pending.pop() {
        if !seen.insert(id) {
            continue;
        }
        match btf.type_by_id(id) {
            Ok(Type::Struct(composite) | Type::Union(composite)) => {
                if GUARDED.contains(&btf.type_name(id)) {
                    return true;
                }
                pending.extend(composite.members.iter().map(|member| member.ty));
            }
            Ok(Type::Ptr(target)) => {
                if matches!(btf.type_by_id(*target), Ok(Type::TypeTag { .. })) {
                    return true;
                }
            }
            Ok(Type::Array(array)) => pending.push(array.element),
            Ok(Type::Typedef { target, .. }) => pending.push(*target),
            Ok(
                Type::Volatile(target)
                | Type::Const(target)
                | Type::Restrict(target)
                | Type::TypeTag { target, .. },
            ) => {
                pending.push(*target);
            }
            Ok(Type::Var(var)) => pending.push(var.ty),
            Ok(Type::Datasec { vars, .. }) => pending.extend(vars.iter().map(|placed| placed.var)),
            // Broken types may hide anything.
            Err(_) => return true,
            Ok(_) => {}
        }
    }
    false
}

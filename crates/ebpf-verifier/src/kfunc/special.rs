//! Functions of the kernel that its verifier knows by name.

/// Functions of the base whose calls change more of what is known of a program than a prototype
/// says, so that code which is not verified cannot call them.
const SPECIAL: &[&str] = &[
    "bpf_cast_to_kern_ctx",
    "bpf_dynptr_clone",
    "bpf_dynptr_from_skb",
    "bpf_dynptr_from_xdp",
    "bpf_dynptr_slice",
    "bpf_dynptr_slice_rdwr",
    "bpf_iter_css_task_new",
    "bpf_list_pop_back",
    "bpf_list_pop_front",
    "bpf_list_push_back_impl",
    "bpf_list_push_front_impl",
    "bpf_obj_drop_impl",
    "bpf_obj_new_impl",
    "bpf_percpu_obj_drop_impl",
    "bpf_percpu_obj_new_impl",
    "bpf_rbtree_add_impl",
    "bpf_rbtree_first",
    "bpf_rbtree_remove",
    "bpf_rdonly_cast",
    "bpf_refcount_acquire_impl",
    "bpf_throw",
    "bpf_wq_set_callback_impl",
];

/// Whether the base's function of this name is one of them.
pub(super) fn is_special(name: &str) -> bool {
    SPECIAL.binary_search(&name).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_sorted() {
        assert!(SPECIAL.is_sorted());
        assert!(is_special("bpf_throw") && !is_special("bpf_throws"));
    }
}

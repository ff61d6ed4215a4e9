//! What the kernel has in its source, and not in its types, about the arguments of tracepoints and
//! iterators: found by loading a program for each argument of each of them on Linux 6.18.44, and for
//! tracepoints that this one was built without, in the source of 6.12.

use super::trust::Trust;

/// What an argument of an iterator is, if its type does not say so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum IteratorArgument {
    /// A pointer to a structure of this name; whether it may be null.
    Structure(&'static str, Trust, bool),
    /// A key or value of an element, or null.
    Buffer { writable: bool },
}

const KEY: IteratorArgument = IteratorArgument::Buffer { writable: false };
const VALUE: IteratorArgument = IteratorArgument::Buffer { writable: true };

/// A pointer that may be null.
const fn plain(structure: &'static str) -> IteratorArgument {
    IteratorArgument::Structure(structure, Trust::Plain, true)
}

/// A pointer that may be null, and is otherwise there as long as the program runs.
const fn trusted(structure: &'static str) -> IteratorArgument {
    IteratorArgument::Structure(structure, Trust::Trusted, true)
}

/// The iterators, and what is special about arguments of theirs, by place.
pub(super) static ITERATORS: [(&str, &[(usize, IteratorArgument)]); 18] = [
    ("bpf_link", &[(1, plain("bpf_link"))]),
    ("bpf_map", &[(1, trusted("bpf_map"))]),
    ("bpf_map_elem", &[(2, KEY), (3, VALUE)]),
    ("bpf_prog", &[(1, plain("bpf_prog"))]),
    ("bpf_sk_storage_map", &[(2, plain("sock")), (3, VALUE)]),
    ("cgroup", &[(1, trusted("cgroup"))]),
    ("dmabuf", &[(1, plain("dma_buf"))]),
    ("ipv6_route", &[(1, plain("fib6_info"))]),
    ("kmem_cache", &[(1, trusted("kmem_cache"))]),
    ("ksym", &[(1, plain("kallsym_iter"))]),
    ("netlink", &[(1, plain("netlink_sock"))]),
    ("sockmap", &[(2, KEY), (3, plain("sock"))]),
    ("task", &[(1, trusted("task_struct"))]),
    ("task_file", &[(1, plain("task_struct")), (3, plain("file"))]),
    ("task_vma", &[(1, plain("task_struct")), (2, plain("vm_area_struct"))]),
    ("tcp", &[(1, trusted("sock_common"))]),
    ("udp", &[(1, trusted("udp_sock"))]),
    ("unix", &[(1, plain("unix_sock"))]),
];

/// Arguments of tracepoints that may be an error number instead of a pointer. What the kernel makes of
/// them is not known here.
pub(super) static UNKNOWN: [(&str, usize); 2] = [("cachefiles_lookup", 2), ("mr_integ_alloc", 3)];

/// Tracepoints with arguments that may be null; which of them, as bits.
#[rustfmt::skip]
pub(super) static NULLABLE: [(u16, &[&str]); 6] = [
    (0b1, &[
        "afs_protocol_error", "cachefiles_io_error", "cachefiles_lookup", "cachefiles_mark_active",
        "cachefiles_mark_failed", "cachefiles_mark_inactive", "cachefiles_ondemand_close",
        "cachefiles_ondemand_copen", "cachefiles_ondemand_cread", "cachefiles_ondemand_fd_release",
        "cachefiles_ondemand_fd_write", "cachefiles_ondemand_open", "cachefiles_ondemand_read",
        "cachefiles_prep_read", "cachefiles_rename", "cachefiles_unlink", "cachefiles_vfs_error",
        "mm_collapse_huge_page_isolate", "mm_page_alloc", "mm_page_alloc_zone_locked",
        "mm_page_pcpu_drain", "rxrpc_recvdata", "tmigr_update_events", "xfs_blockgc_flush_all",
        "xfs_blockgc_start", "xfs_blockgc_stop", "xfs_blockgc_worker", "xfs_defer_add_item",
        "xfs_defer_cancel_item", "xfs_defer_cancel_list", "xfs_defer_create_intent",
        "xfs_defer_finish_item", "xfs_defer_isolate_paused", "xfs_defer_item_pause",
        "xfs_defer_item_unpause", "xfs_defer_pending_abort", "xfs_defer_pending_finish",
        "xfs_defer_relog_intent", "xfs_fs_sync_fs", "xfs_inodegc_flush", "xfs_inodegc_push",
        "xfs_inodegc_queue", "xfs_inodegc_start", "xfs_inodegc_stop", "xfs_inodegc_throttle",
        "xs_stream_read_data",
    ]),
    (0b10, &[
        "afs_flock_ev", "afs_make_fs_call", "afs_make_fs_call1", "afs_make_fs_call2",
        "afs_make_fs_calli", "break_lease_block", "break_lease_noblock", "break_lease_unblock",
        "device_pm_callback_start", "ext4_mballoc_discard", "ext4_mballoc_free", "fcntl_setlk",
        "flock_lock_inode", "folio_wait_writeback", "generic_delete_lease", "hugetlbfs_alloc_inode",
        "locks_remove_posix", "mm_khugepaged_collapse_file", "mm_khugepaged_scan_file",
        "mm_khugepaged_scan_pmd", "netfs_failure", "posix_lock_inode", "rxrpc_resend",
        "sched_pi_setprio", "time_out_leases", "writeback_dirty_folio", "xfs_blockgc_free_space",
        "xfs_ioc_free_eofblocks", "xprt_get_cong", "xprt_put_cong", "xprt_release_cong",
        "xprt_reserve_cong",
    ]),
    (0b11, &[
        "tcp_send_reset",
    ]),
    (0b100, &[
        "fib_table_lookup", "sched_stick_numa", "sched_swap_numa", "tcp_sendmsg_locked",
        "tegra_dma_tx_status", "xfs_btree_overlapped_query_range", "xfs_btree_updkeys",
    ]),
    (0b1000, &[
        "kfree_skb", "qdisc_dequeue",
    ]),
    (0b10000, &[
        "host1x_cdma_push_gather", "xfs_map_blocks_alloc", "xfs_map_blocks_found",
    ]),
];

//! Prototypes of helpers.

use alloc::vec::Vec;

use ebpf_isa::uapi::{HelperId, ProgramType};

use crate::rules::helper::{ArgKind, HelperProto, RetKind};

/// The prototypes of those helpers that are the same for programs of this type as for others.
/// Which of them such a program may call is for [`super::availability`] to say.
pub(in crate::rules) fn prototypes(program_type: ProgramType) -> Vec<HelperProto> {
    let all = [common_helpers(), xdp_helpers(), sk_buff_helpers(), traffic_control_helpers()];
    let same = |proto: &HelperProto| !DIFFERENT.contains(&(program_type, proto.id.0));
    all.into_iter().flatten().filter(same).collect()
}

/// Helpers that are not what they are for other types.
const DIFFERENT: &[(ProgramType, u32)] = &[(ProgramType::SkReuseport, 46)];

/// Helpers of every networking program type.
fn common_helpers() -> Vec<HelperProto> {
    use ArgKind::{Anything, Map, MapKey, MapValue, Memory, Size};
    let helper = |id, name| HelperProto::new(HelperId(id), name);
    [
        helper(1, "map_lookup_elem")
            .since(3, 19)
            .args(&[Map, MapKey])
            .returns(RetKind::MapValueOrNull)
            .packet_args(),
        helper(2, "map_update_elem")
            .since(3, 19)
            .args(&[Map, MapKey, MapValue, Anything])
            .packet_args(),
        helper(3, "map_delete_elem").since(3, 19).args(&[Map, MapKey]).packet_args(),
        helper(5, "ktime_get_ns").since(4, 1),
        helper(6, "trace_printk").since(4, 1).args(&[Memory, Size]).gpl_only(),
        helper(7, "get_prandom_u32").since(4, 1),
        helper(8, "get_smp_processor_id").returns(RetKind::Processor).since(4, 1),
        helper(42, "get_numa_node_id").since(4, 10),
        helper(118, "jiffies64").since(5, 6),
        helper(125, "ktime_get_boot_ns").since(5, 7),
        helper(160, "ktime_get_coarse_ns").since(5, 11),
        helper(208, "ktime_get_tai_ns").since(6, 1),
    ]
    .into()
}

/// Checksums over two pieces of memory.
fn csum_diff() -> HelperProto {
    use ArgKind::{Anything, MemoryOrNull, SizeOrZero};
    HelperProto::new(HelperId(28), "csum_diff")
        .since(4, 6)
        .args(&[MemoryOrNull, SizeOrZero, MemoryOrNull, SizeOrZero, Anything])
        .packet_args()
}

/// Helpers of XDP programs.
fn xdp_helpers() -> Vec<HelperProto> {
    use ArgKind::{Anything, Context, Memory, Output, Size};
    let helper = |id, name| HelperProto::new(HelperId(id), name);
    [
        helper(23, "redirect").since(4, 4).args(&[Anything, Anything]),
        csum_diff(),
        helper(44, "xdp_adjust_head").since(4, 10).args(&[Context, Anything]).moves_packet(),
        helper(54, "xdp_adjust_meta").since(4, 15).args(&[Context, Anything]).moves_packet(),
        helper(65, "xdp_adjust_tail").since(4, 18).args(&[Context, Anything]).moves_packet(),
        helper(188, "xdp_get_buff_len").since(5, 18).args(&[Context]),
        helper(189, "xdp_load_bytes").since(5, 18).args(&[Context, Anything, Output, Size]),
        helper(190, "xdp_store_bytes").since(5, 18).args(&[Context, Anything, Memory, Size]),
    ]
    .into()
}

/// Helpers of socket filters and traffic control, which read the packet through its `sk_buff`.
fn sk_buff_helpers() -> Vec<HelperProto> {
    use ArgKind::{Anything, Context, Output, Size};
    let helper = |id, name| HelperProto::new(HelperId(id), name);
    [
        helper(26, "skb_load_bytes").since(4, 5).args(&[Context, Anything, Output, Size]),
        helper(46, "get_socket_cookie").since(4, 12).args(&[Context]),
        helper(47, "get_socket_uid").since(4, 12).args(&[Context]),
        helper(68, "skb_load_bytes_relative")
            .since(4, 18)
            .args(&[Context, Anything, Output, Size, Anything]),
    ]
    .into()
}

/// Helpers of traffic control alone.
fn traffic_control_helpers() -> Vec<HelperProto> {
    use ArgKind::{Anything, Context, Memory, Size};
    let helper = |id, name| HelperProto::new(HelperId(id), name);
    let numbers = [Context, Anything, Anything, Anything, Anything];
    [
        helper(9, "skb_store_bytes")
            .since(4, 1)
            .args(&[Context, Anything, Memory, Size, Anything])
            .moves_packet(),
        helper(10, "l3_csum_replace").since(4, 1).args(&numbers).moves_packet(),
        helper(11, "l4_csum_replace").since(4, 1).args(&numbers).moves_packet(),
        helper(13, "clone_redirect").since(4, 2).args(&numbers[..3]).moves_packet(),
        helper(17, "get_cgroup_classid").since(4, 3).args(&numbers[..1]),
        helper(18, "skb_vlan_push").since(4, 3).args(&numbers[..3]).moves_packet(),
        helper(19, "skb_vlan_pop").since(4, 3).args(&numbers[..1]).moves_packet(),
        helper(23, "redirect").since(4, 4).args(&[Anything, Anything]),
        helper(24, "get_route_realm").since(4, 4).args(&numbers[..1]),
        helper(31, "skb_change_proto").since(4, 8).args(&numbers[..3]).moves_packet(),
        helper(32, "skb_change_type").since(4, 8).args(&numbers[..2]),
        helper(34, "get_hash_recalc").since(4, 8).args(&numbers[..1]),
        helper(38, "skb_change_tail").since(4, 9).args(&numbers[..3]).moves_packet(),
        helper(39, "skb_pull_data").since(4, 9).args(&numbers[..2]).moves_packet(),
        helper(40, "csum_update").since(4, 9).args(&numbers[..2]),
        helper(41, "set_hash_invalid").since(4, 9).args(&numbers[..1]),
        helper(43, "skb_change_head").since(4, 10).args(&numbers[..3]).moves_packet(),
        helper(48, "set_hash").since(4, 13).args(&numbers[..2]),
        helper(50, "skb_adjust_room").since(4, 13).args(&numbers[..4]).moves_packet(),
    ]
    .into()
}

//! The kernel's contexts and helpers, row by row. `docs/kernel-facts.md` says where they are from.

use alloc::borrow::Cow;
use alloc::vec::Vec;

use ebpf_isa::Size;
use ebpf_isa::uapi::{AttachType, HelperId};

use super::{ArgKind, ContextField, FieldAccess, FieldKind, HelperProto, RetKind};

const WORD: FieldAccess = FieldAccess::Exactly(Size::W);
const NARROW: FieldAccess = FieldAccess::UpTo(Size::W);
const DOUBLE: FieldAccess = FieldAccess::Exactly(Size::Dw);

const fn field(name: &'static str, start: u16, end: u16, read: FieldAccess) -> ContextField {
    ContextField {
        name: Cow::Borrowed(name),
        start,
        end,
        read,
        write: FieldAccess::Never,
        kind: FieldKind::Scalar,
        only_for: None,
    }
}

impl ContextField {
    const fn written(mut self, write: FieldAccess) -> Self {
        self.write = write;
        self
    }

    const fn holds(mut self, kind: FieldKind) -> Self {
        self.kind = kind;
        self
    }

    const fn only_for(mut self, attach_type: AttachType) -> Self {
        self.only_for = Some(attach_type);
        self
    }
}

/// `struct xdp_md`.
pub(super) fn xdp_md() -> Vec<ContextField> {
    [
        field("data", 0, 4, WORD).holds(FieldKind::PacketData),
        field("data_end", 4, 8, WORD).holds(FieldKind::PacketEnd),
        field("data_meta", 8, 12, WORD).holds(FieldKind::PacketMeta),
        field("ingress_ifindex", 12, 16, WORD),
        field("rx_queue_index", 16, 20, WORD),
        field("egress_ifindex", 20, 24, WORD).only_for(AttachType::XdpDevmap),
    ]
    .into()
}

/// `struct __sk_buff` with everything that some program type may do to it.
fn sk_buff() -> [ContextField; 34] {
    [
        field("len", 0, 4, NARROW),
        field("pkt_type", 4, 8, NARROW),
        field("mark", 8, 12, NARROW).written(WORD),
        field("queue_mapping", 12, 16, NARROW).written(WORD),
        field("protocol", 16, 20, NARROW),
        field("vlan_present", 20, 24, NARROW),
        field("vlan_tci", 24, 28, NARROW),
        field("vlan_proto", 28, 32, NARROW),
        field("priority", 32, 36, NARROW).written(WORD),
        field("ingress_ifindex", 36, 40, NARROW),
        field("ifindex", 40, 44, NARROW),
        field("tc_index", 44, 48, NARROW).written(WORD),
        field("cb", 48, 68, FieldAccess::Inside).written(FieldAccess::Inside),
        field("hash", 68, 72, NARROW),
        field("tc_classid", 72, 76, NARROW).written(WORD),
        field("data", 76, 80, WORD).holds(FieldKind::PacketData),
        field("data_end", 80, 84, WORD).holds(FieldKind::PacketEnd),
        field("napi_id", 84, 88, NARROW),
        field("family", 88, 92, NARROW),
        field("remote_ip4", 92, 96, WORD),
        field("local_ip4", 96, 100, WORD),
        field("remote_ip6", 100, 116, WORD),
        field("local_ip6", 116, 132, WORD),
        field("remote_port", 132, 136, NARROW),
        field("local_port", 136, 140, NARROW),
        field("data_meta", 140, 144, WORD).holds(FieldKind::PacketMeta),
        field("flow_keys", 144, 152, FieldAccess::Never),
        field("tstamp", 152, 160, DOUBLE).written(DOUBLE),
        field("wire_len", 160, 164, NARROW),
        field("gso_segs", 164, 168, NARROW),
        field("sk", 168, 176, DOUBLE).holds(FieldKind::Unsupported),
        field("gso_size", 176, 180, NARROW),
        field("tstamp_type", 180, 181, FieldAccess::Exactly(Size::B)),
        field("hwtstamp", 184, 192, DOUBLE),
    ]
}

/// `struct __sk_buff` for one program type: without the fields that are hidden from it, and with
/// stores only to those that it may write.
pub(super) fn sk_buff_for(hidden: &[&str], writable: &[&str]) -> Vec<ContextField> {
    let visible = sk_buff().into_iter().filter(|field| !hidden.contains(&&*field.name));
    let limited = |field: ContextField| match writable.contains(&&*field.name) {
        true => field,
        false => field.written(FieldAccess::Never),
    };
    visible.map(limited).collect()
}

/// Helpers of every networking program type.
pub(super) fn common_helpers() -> Vec<HelperProto> {
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
pub(super) fn csum_diff() -> HelperProto {
    use ArgKind::{Anything, MemoryOrNull, SizeOrZero};
    HelperProto::new(HelperId(28), "csum_diff")
        .since(4, 6)
        .args(&[MemoryOrNull, SizeOrZero, MemoryOrNull, SizeOrZero, Anything])
        .packet_args()
}

/// Helpers of XDP programs.
pub(super) fn xdp_helpers() -> Vec<HelperProto> {
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
pub(super) fn sk_buff_helpers() -> Vec<HelperProto> {
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
pub(super) fn traffic_control_helpers() -> Vec<HelperProto> {
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
        csum_diff(),
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

/// Helpers that all networking program types may call on Linux 6.18, without a row above.
const COMMON_UNSUPPORTED: &[u32] = &[
    12, 14, 15, 16, 22, 25, 35, 37, 55, 80, 87, 88, 89, 93, 94, 105, 106, 109, 112, 113, 114, 115,
    117, 120, 123, 130, 131, 132, 133, 134, 136, 137, 138, 139, 140, 141, 148, 149, 153, 154, 156,
    157, 158, 164, 165, 169, 170, 171, 172, 175, 176, 177, 178, 180, 181, 182, 191, 194, 195, 196,
    197, 198, 199, 200, 201, 202, 203, 209, 210, 211,
];

/// Those of XDP programs alone.
pub(super) const XDP_UNSUPPORTED: &[u32] =
    &[17, 51, 69, 84, 85, 86, 99, 100, 110, 163, 204, 205, 206, 207];

/// Those of socket filters alone.
pub(super) const SOCKET_FILTER_UNSUPPORTED: &[u32] = &[17, 122];

/// Those of traffic control alone.
pub(super) const SCHED_CLS_UNSUPPORTED: &[u32] = &[
    20, 21, 29, 30, 33, 66, 69, 79, 83, 84, 85, 86, 95, 96, 97, 98, 99, 100, 107, 108, 110, 122,
    124, 135, 151, 152, 155, 163, 192, 204, 205, 206, 207,
];

/// The helpers of a program type without a row here: the common ones and its own.
pub(super) fn unsupported_helpers(own: &[u32]) -> Vec<HelperId> {
    COMMON_UNSUPPORTED.iter().chain(own).map(|&id| HelperId(id)).collect()
}

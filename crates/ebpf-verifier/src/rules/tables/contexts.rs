//! Contexts of the kernel's program types, and its objects that programs may read.

use alloc::borrow::Cow;
use alloc::vec::Vec;

use ebpf_isa::Size;
use ebpf_isa::uapi::AttachType::{self, *};

use crate::rules::context::{ContextField, FieldAccess, FieldKind};
use crate::rules::object::Object;

const BYTE: FieldAccess = FieldAccess::Exactly(Size::B);
const WORD: FieldAccess = FieldAccess::Exactly(Size::W);
const DOUBLE: FieldAccess = FieldAccess::Exactly(Size::Dw);
const NARROW: FieldAccess = FieldAccess::UpTo(Size::W);
const FIRST: FieldAccess = FieldAccess::FirstUpTo(Size::W);
const INSIDE: FieldAccess = FieldAccess::INSIDE;
const WORDS: FieldAccess = FieldAccess::Between(Size::W, Size::Dw);

const fn field(name: &'static str, start: u16, end: u16, read: FieldAccess) -> ContextField {
    ContextField {
        name: Cow::Borrowed(name),
        start,
        end,
        read,
        write: FieldAccess::Never,
        kind: FieldKind::Scalar,
        only_for: &[],
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

    const fn only_for(mut self, attach_types: &'static [AttachType]) -> Self {
        self.only_for = attach_types;
        self
    }
}

/// `struct xdp_md`.
pub(in crate::rules) fn xdp_md() -> Vec<ContextField> {
    [
        field("data", 0, 4, WORD).holds(FieldKind::PacketData),
        field("data_end", 4, 8, WORD).holds(FieldKind::PacketEnd),
        field("data_meta", 8, 12, WORD).holds(FieldKind::PacketMeta),
        field("ingress_ifindex", 12, 16, WORD),
        field("rx_queue_index", 16, 20, WORD),
        field("egress_ifindex", 20, 24, WORD).only_for(&[XdpDevmap]),
    ]
    .into()
}

/// `struct __sk_buff` with everything that some program type may do to it.
fn sk_buff() -> [ContextField; 34] {
    let socket = FieldKind::ObjectOrNull(Object::SockCommon);
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
        field("cb", 48, 68, INSIDE).written(INSIDE),
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
        field("flow_keys", 144, 152, DOUBLE).holds(FieldKind::Object(Object::FlowKeys)),
        field("tstamp", 152, 160, DOUBLE).written(DOUBLE),
        field("wire_len", 160, 164, NARROW),
        field("gso_segs", 164, 168, NARROW),
        field("sk", 168, 176, DOUBLE).holds(socket),
        field("gso_size", 176, 180, NARROW),
        field("tstamp_type", 180, 181, BYTE),
        field("hwtstamp", 184, 192, DOUBLE),
    ]
}

/// Fields of `struct __sk_buff` of the socket that the packet belongs to.
pub(in crate::rules) const SKB_ADDRESSES: &[&str] =
    &["family", "remote_ip4", "local_ip4", "remote_ip6", "local_ip6", "remote_port", "local_port"];

/// Fields of `struct __sk_buff` that only traffic control has.
pub(in crate::rules) const SKB_TRAFFIC_CONTROL: &[&str] =
    &["tc_classid", "data_meta", "wire_len", "tstamp_type"];

/// Times of `struct __sk_buff`.
pub(in crate::rules) const SKB_TIMES: &[&str] = &["tstamp", "hwtstamp"];

/// `struct __sk_buff` for one program type: without the fields that are hidden from it, and with
/// stores only to those that it may write.
pub(in crate::rules) fn sk_buff_for(hidden: &[&[&str]], writable: &[&str]) -> Vec<ContextField> {
    let is_hidden = |name: &str| name == "flow_keys" || hidden.concat().contains(&name);
    let visible = sk_buff().into_iter().filter(|field| !is_hidden(&field.name));
    let limited = |field: ContextField| match writable.contains(&&*field.name) {
        true => field,
        false => field.written(FieldAccess::Never),
    };
    visible.map(limited).collect()
}

/// `struct __sk_buff` for flow dissectors, which see a packet and the keys that they find in it.
pub(in crate::rules) fn sk_buff_to_dissect() -> Vec<ContextField> {
    let seen = ["data", "data_end", "flow_keys"];
    sk_buff().into_iter().filter(|field| seen.contains(&&*field.name)).collect()
}

/// Attach types of programs that see a socket as it is made or closed.
pub(in crate::rules) const SOCK_MADE: &[AttachType] =
    &[CgroupInetSockCreate, CgroupInetSockRelease];
/// Attach types of programs that see a socket after it got its address.
pub(in crate::rules) const POST_BIND: &[AttachType] = &[CgroupInet4PostBind, CgroupInet6PostBind];

/// `struct bpf_sock` as the context of a socket's cgroup.
pub(in crate::rules) fn cgroup_sock() -> Vec<ContextField> {
    let hook = |field: ContextField| match &*field.name {
        "bound_dev_if" | "mark" | "priority" => field.written(WORD).only_for(SOCK_MADE),
        "src_ip4" => field.only_for(&[CgroupInet4PostBind]),
        "src_ip6" => field.only_for(&[CgroupInet6PostBind]),
        "src_port" => field.only_for(POST_BIND),
        _ => field,
    };
    SOCKET.iter().cloned().map(hook).collect()
}

/// What a process hands to a program that it runs: so many bytes.
pub(in crate::rules) fn syscall() -> Vec<ContextField> {
    [field("arguments", 0, u16::MAX, INSIDE).written(INSIDE)].into()
}

/// `struct bpf_sock`.
pub(in crate::rules) static SOCKET: [ContextField; 14] = [
    field("bound_dev_if", 0, 4, WORD),
    field("family", 4, 8, FIRST),
    field("type", 8, 12, FIRST),
    field("protocol", 12, 16, FIRST),
    field("mark", 16, 20, WORD),
    field("priority", 20, 24, WORD),
    field("src_ip4", 24, 28, NARROW),
    field("src_ip6", 28, 44, NARROW),
    field("src_port", 44, 48, FIRST),
    field("dst_port", 48, 50, NARROW),
    field("dst_ip4", 52, 56, NARROW),
    field("dst_ip6", 56, 72, NARROW),
    field("state", 72, 76, FIRST),
    field("rx_queue_mapping", 76, 80, FIRST),
];

/// Fields of `struct bpf_sock` that sockets only have once they are full ones.
pub(in crate::rules) const FULL_SOCKET: &[&str] = &["type", "protocol", "mark", "priority"];

/// `struct bpf_tcp_sock`: numbers of four bytes, and two of eight.
pub(in crate::rules) static TCP_SOCK: [ContextField; 4] = [
    field("counters", 0, 80, WORD),
    field("bytes_received", 80, 88, FieldAccess::Exactly(Size::Dw)),
    field("bytes_acked", 88, 96, FieldAccess::Exactly(Size::Dw)),
    field("more_counters", 96, 112, WORD),
];

/// `struct bpf_xdp_sock`.
pub(in crate::rules) static XDP_SOCK: [ContextField; 1] = [field("queue_id", 0, 4, WORD)];

const INET4: &[AttachType] = &[
    CgroupInet4Bind,
    CgroupInet4Connect,
    CgroupUdp4Sendmsg,
    CgroupUdp4Recvmsg,
    CgroupInet4Getpeername,
    CgroupInet4Getsockname,
];
const INET6: &[AttachType] = &[
    CgroupInet6Bind,
    CgroupInet6Connect,
    CgroupUdp6Sendmsg,
    CgroupUdp6Recvmsg,
    CgroupInet6Getpeername,
    CgroupInet6Getsockname,
];

/// `struct bpf_sock_addr`.
pub(in crate::rules) fn sock_addr() -> Vec<ContextField> {
    [
        field("user_family", 0, 4, WORD),
        field("user_ip4", 4, 8, NARROW).written(WORD).only_for(INET4),
        field("user_ip6", 8, 24, INSIDE).written(WORDS).only_for(INET6),
        field("user_port", 24, 28, NARROW).written(WORD),
        field("family", 28, 32, WORD),
        field("type", 32, 36, WORD),
        field("protocol", 36, 40, WORD),
        field("msg_src_ip4", 40, 44, NARROW).written(WORD).only_for(&[CgroupUdp4Sendmsg]),
        field("msg_src_ip6", 44, 60, INSIDE).written(WORDS).only_for(&[CgroupUdp6Sendmsg]),
        field("sk", 64, 72, DOUBLE).holds(FieldKind::Object(Object::Socket)),
    ]
    .into()
}

/// `struct bpf_sock_ops`.
pub(in crate::rules) fn sock_ops() -> Vec<ContextField> {
    [
        field("op", 0, 4, WORD),
        field("reply", 4, 8, WORD).written(WORD),
        field("args", 8, 20, WORD),
        field("connection", 20, 164, WORD),
        field("sk_txhash", 164, 168, WORD).written(WORD),
        field("bytes_received", 168, 176, DOUBLE),
        field("bytes_acked", 176, 184, DOUBLE),
        field("sk", 184, 192, DOUBLE).holds(FieldKind::ObjectOrNull(Object::Socket)),
        field("skb_data", 192, 200, DOUBLE).holds(FieldKind::PacketData),
        field("skb_data_end", 200, 208, DOUBLE).holds(FieldKind::PacketEnd),
        field("skb_len", 208, 212, WORD),
        field("skb_tcp_flags", 212, 216, FIRST),
        field("skb_hwtstamp", 216, 224, DOUBLE),
    ]
    .into()
}

/// `struct sk_msg_md`.
pub(in crate::rules) fn sk_msg() -> Vec<ContextField> {
    [
        field("data", 0, 8, DOUBLE).holds(FieldKind::PacketData),
        field("data_end", 8, 16, DOUBLE).holds(FieldKind::PacketEnd),
        field("connection", 16, 68, WORD),
        field("size", 68, 72, WORD),
        field("sk", 72, 80, DOUBLE).holds(FieldKind::Object(Object::Socket)),
    ]
    .into()
}

/// `struct sk_reuseport_md`.
pub(in crate::rules) fn sk_reuseport() -> Vec<ContextField> {
    [
        field("data", 0, 8, DOUBLE).holds(FieldKind::PacketData),
        field("data_end", 8, 16, DOUBLE).holds(FieldKind::PacketEnd),
        field("len", 16, 20, NARROW),
        field("eth_protocol", 20, 24, FieldAccess::Between(Size::H, Size::W)),
        field("ip_protocol", 24, 28, NARROW),
        field("bind_inany", 28, 32, NARROW),
        field("hash", 32, 36, WORD),
        field("sk", 40, 48, DOUBLE).holds(FieldKind::Object(Object::Socket)),
        field("migrating_sk", 48, 56, DOUBLE).holds(FieldKind::ObjectOrNull(Object::SockCommon)),
    ]
    .into()
}

/// `struct bpf_sk_lookup`.
pub(in crate::rules) fn sk_lookup() -> Vec<ContextField> {
    [
        field("sk", 0, 8, DOUBLE).holds(FieldKind::ObjectOrNull(Object::Socket)),
        field("connection", 8, 68, NARROW),
    ]
    .into()
}

/// `struct bpf_sysctl`.
pub(in crate::rules) fn sysctl() -> Vec<ContextField> {
    [field("write", 0, 4, NARROW), field("file_pos", 4, 8, NARROW).written(WORD)].into()
}

/// `struct bpf_sockopt`.
pub(in crate::rules) fn sockopt() -> Vec<ContextField> {
    [
        field("sk", 0, 8, DOUBLE).holds(FieldKind::Object(Object::Socket)),
        field("optval", 8, 16, DOUBLE).holds(FieldKind::PacketData),
        field("optval_end", 16, 24, DOUBLE).holds(FieldKind::PacketEnd),
        field("option", 24, 32, WORD).written(WORD).only_for(&[CgroupSetsockopt]),
        field("option", 24, 32, WORD).only_for(&[CgroupGetsockopt]),
        field("optlen", 32, 36, WORD).written(WORD),
        field("retval", 36, 40, WORD).written(WORD).only_for(&[CgroupGetsockopt]),
    ]
    .into()
}

/// `struct bpf_cgroup_dev_ctx`.
pub(in crate::rules) fn cgroup_device() -> Vec<ContextField> {
    [field("access_type", 0, 4, NARROW), field("major", 4, 8, WORD), field("minor", 8, 12, WORD)]
        .into()
}

/// `struct bpf_nf_ctx`: two pointers to types of the kernel.
pub(in crate::rules) fn netfilter() -> Vec<ContextField> {
    [field("state and skb", 0, 16, DOUBLE).holds(FieldKind::Unsupported)].into()
}

/// The arguments of a raw tracepoint.
pub(in crate::rules) fn raw_tracepoint() -> Vec<ContextField> {
    [field("args", 0, 96, INSIDE)].into()
}

/// The arguments of a raw tracepoint whose first one can be written through.
pub(in crate::rules) fn raw_tracepoint_writable() -> Vec<ContextField> {
    [field("buffer", 0, 1, DOUBLE).holds(FieldKind::Unsupported), field("args", 1, 96, INSIDE)]
        .into()
}

/// The arguments of what the program is attached to, of their types.
pub(in crate::rules) fn arguments() -> Vec<ContextField> {
    [field("args", 0, 96, INSIDE).holds(FieldKind::Argument)].into()
}

/// The record of a tracepoint behind its hidden beginning.
pub(in crate::rules) fn tracepoint() -> Vec<ContextField> {
    [field("record", 8, 8192, INSIDE)].into()
}

/// `struct pt_regs` of x86-64.
pub(in crate::rules) fn pt_regs() -> Vec<ContextField> {
    [field("regs", 0, 168, INSIDE)].into()
}

/// `struct bpf_perf_event_data` of x86-64.
pub(in crate::rules) fn perf_event() -> Vec<ContextField> {
    [
        field("regs", 0, 168, DOUBLE),
        field("sample_period", 168, 176, INSIDE),
        field("addr", 176, 184, INSIDE),
    ]
    .into()
}

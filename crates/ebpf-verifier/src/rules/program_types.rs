//! Ready-made rules of the kernel's program types.

use alloc::sync::Arc;
use alloc::vec::Vec;

use ebpf_isa::uapi::AttachType::{self, *};
use ebpf_isa::uapi::ProgramType;

use super::tables::contexts::{
    self, POST_BIND, SKB_ADDRESSES, SKB_TIMES, SKB_TRAFFIC_CONTROL, SOCK_MADE, sk_buff_for,
    sk_buff_to_dissect,
};
use super::tables::helpers::prototypes;
use super::{
    ContextField, ExitRange, ExitRule, HelperSet, PacketAccess, ProgramTypeRules, TableRules,
};

/// The rules of a program type; `None` if there are none here.
#[must_use]
pub fn of(program_type: ProgramType) -> Option<Arc<dyn ProgramTypeRules>> {
    Some(Arc::new(table(program_type)?))
}

/// XDP: a packet at the driver, before the stack.
#[must_use]
pub fn xdp() -> Arc<TableRules> {
    known(ProgramType::Xdp)
}

/// Socket filters: a packet at a socket, read through helpers.
#[must_use]
pub fn socket_filter() -> Arc<TableRules> {
    known(ProgramType::SocketFilter)
}

/// Traffic control: a packet at a network interface, in either direction.
#[must_use]
pub fn sched_cls() -> Arc<TableRules> {
    known(ProgramType::SchedCls)
}

fn known(program_type: ProgramType) -> Arc<TableRules> {
    Arc::new(table(program_type).expect("the type has a row below"))
}

fn table(program_type: ProgramType) -> Option<TableRules> {
    Some(TableRules {
        program_type,
        attach_types: attach_types(program_type),
        default_attach: default_attach(program_type),
        context: context(program_type)?,
        helpers: prototypes(program_type),
        helper_set: HelperSet::Kernel,
        packet: packet_access(program_type),
        exit: exit_rules(program_type),
    })
}

fn context(program_type: ProgramType) -> Option<Vec<ContextField>> {
    use ProgramType as Type;
    let tc_writable =
        ["mark", "queue_mapping", "priority", "tc_index", "cb", "tc_classid", "tstamp"];
    let hidden_from_sockets =
        [SKB_ADDRESSES, SKB_TRAFFIC_CONTROL, SKB_TIMES, &["data", "data_end"]];
    let hidden_from_tunnels = [SKB_ADDRESSES, SKB_TRAFFIC_CONTROL, SKB_TIMES];
    let hidden_from_streams = [SKB_TRAFFIC_CONTROL, SKB_TIMES, &["mark"]];
    Some(match program_type {
        Type::SocketFilter => sk_buff_for(&hidden_from_sockets, &["cb"]),
        Type::SchedCls | Type::SchedAct => sk_buff_for(&[SKB_ADDRESSES], &tc_writable),
        Type::CgroupSkb => {
            sk_buff_for(&[SKB_TRAFFIC_CONTROL], &["mark", "priority", "cb", "tstamp"])
        }
        Type::LwtIn | Type::LwtOut | Type::LwtXmit | Type::LwtSeg6local => {
            sk_buff_for(&hidden_from_tunnels, &["mark", "priority", "cb"])
        }
        Type::SkSkb => sk_buff_for(&hidden_from_streams, &["tc_index", "priority"]),
        Type::FlowDissector => sk_buff_to_dissect(),
        Type::Xdp => contexts::xdp_md(),
        Type::CgroupSock => contexts::cgroup_sock(),
        Type::CgroupSockAddr => contexts::sock_addr(),
        Type::SockOps => contexts::sock_ops(),
        Type::SkMsg => contexts::sk_msg(),
        Type::SkReuseport => contexts::sk_reuseport(),
        Type::SkLookup => contexts::sk_lookup(),
        Type::CgroupDevice => contexts::cgroup_device(),
        Type::CgroupSysctl => contexts::sysctl(),
        Type::CgroupSockopt => contexts::sockopt(),
        Type::Netfilter => contexts::netfilter(),
        Type::Kprobe => contexts::pt_regs(),
        Type::Tracepoint => contexts::tracepoint(),
        Type::RawTracepoint => contexts::raw_tracepoint(),
        Type::RawTracepointWritable => contexts::raw_tracepoint_writable(),
        Type::PerfEvent => contexts::perf_event(),
        Type::Tracing => contexts::arguments(),
        Type::Syscall => contexts::syscall(),
        Type::Unspec | Type::LircMode2 | Type::StructOps | Type::Ext | Type::Lsm => return None,
    })
}

/// How programs of the type can be attached; empty for in any way.
const fn attach_types(program_type: ProgramType) -> &'static [AttachType] {
    match program_type {
        ProgramType::CgroupSkb => &[CgroupInetIngress, CgroupInetEgress],
        ProgramType::CgroupSock => &CGROUP_SOCK,
        ProgramType::CgroupSockAddr => &SOCK_ADDR,
        ProgramType::CgroupSockopt => &[CgroupGetsockopt, CgroupSetsockopt],
        ProgramType::SkReuseport => &[SkReuseportSelect, SkReuseportSelectOrMigrate],
        ProgramType::SkLookup => &[SkLookup],
        ProgramType::Netfilter => &[Netfilter],
        ProgramType::Syscall => &[CgroupInetIngress],
        _ => &[],
    }
}

/// What attach type 0 stands for.
const fn default_attach(program_type: ProgramType) -> AttachType {
    match program_type {
        ProgramType::CgroupSock => CgroupInetSockCreate,
        ProgramType::SkReuseport => SkReuseportSelect,
        _ => CgroupInetIngress,
    }
}

const fn packet_access(program_type: ProgramType) -> PacketAccess {
    match program_type {
        ProgramType::LwtIn
        | ProgramType::LwtOut
        | ProgramType::LwtSeg6local
        | ProgramType::SkReuseport
        | ProgramType::FlowDissector
        | ProgramType::CgroupSkb => PacketAccess::Read,
        ProgramType::SchedCls
        | ProgramType::SchedAct
        | ProgramType::Xdp
        | ProgramType::LwtXmit
        | ProgramType::SkSkb
        | ProgramType::SkMsg => PacketAccess::ReadWrite,
        ProgramType::CgroupSockopt => PacketAccess::Buffer,
        _ => PacketAccess::None,
    }
}

/// Where a program sees a socket.
const CGROUP_SOCK: [AttachType; 4] = concat([SOCK_MADE, POST_BIND]);

/// Where a program sees an address.
const SOCK_ADDR: [AttachType; 17] = concat([BIND, SENT_TO, TOLD]);

/// Where a socket gets its own address.
const BIND: &[AttachType] = &[CgroupInet4Bind, CgroupInet6Bind];

/// Where it is about to use another one's address.
const SENT_TO: &[AttachType] = &[
    CgroupInet4Connect,
    CgroupInet6Connect,
    CgroupUnixConnect,
    CgroupUdp4Sendmsg,
    CgroupUdp6Sendmsg,
    CgroupUnixSendmsg,
];

/// Where it is told an address: the program has no say, and its return value is always 1.
const TOLD: &[AttachType] = &[
    CgroupUdp4Recvmsg,
    CgroupUdp6Recvmsg,
    CgroupUnixRecvmsg,
    CgroupInet4Getpeername,
    CgroupInet6Getpeername,
    CgroupUnixGetpeername,
    CgroupInet4Getsockname,
    CgroupInet6Getsockname,
    CgroupUnixGetsockname,
];

const fn concat<const LISTS: usize, const N: usize>(
    lists: [&[AttachType]; LISTS],
) -> [AttachType; N] {
    let mut all = [lists[0][0]; N];
    let (mut list, mut next) = (0, 0);
    while list < LISTS {
        let (_, rest) = all.split_at_mut(next);
        rest.split_at_mut(lists[list].len()).0.copy_from_slice(lists[list]);
        next += lists[list].len();
        list += 1;
    }
    assert!(next == N, "the lists have another length");
    all
}

fn exit_rules(program_type: ProgramType) -> Vec<ExitRule> {
    let rule = |only_for, min, max| ExitRule { only_for, range: ExitRange { min, max } };
    let yes_or_no = rule(&[], 0, 1);
    match program_type {
        ProgramType::CgroupSkb => [rule(&[CgroupInetEgress], 0, 3), yes_or_no].into(),
        ProgramType::CgroupSockAddr => [rule(TOLD, 1, 1), rule(BIND, 0, 3), yes_or_no].into(),
        ProgramType::CgroupSock
        | ProgramType::SockOps
        | ProgramType::CgroupDevice
        | ProgramType::CgroupSysctl
        | ProgramType::CgroupSockopt
        | ProgramType::SkLookup
        | ProgramType::Netfilter => [yes_or_no].into(),
        ProgramType::Kprobe => [rule(&[TraceKprobeSession], 0, 1)].into(),
        ProgramType::Tracing => [rule(&[TraceIter], 0, 1)].into(),
        _ => Vec::new(),
    }
}

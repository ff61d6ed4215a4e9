//! Prototypes of helpers.

use alloc::vec::Vec;

use ebpf_isa::uapi::{HelperId, ProgramType};

use crate::rules::helper::{ArgKind, HelperProto, RetKind};
use crate::rules::{Object, Structure};

use ArgKind::{
    Anything, Callback, ConstString, Context, ContextOrNull, Dynptr, File, FullSockOrNull,
    Header20, Header40, LocalDynptr, Map, MapKey, MapValue, MapValueOrNull, MapValueOutput, Memory,
    MemoryOrNull, NoFlags, Output, ReleasedDynptr, ReleasedRingbuf, ReleasedSock, ReservedSize,
    RingbufDynptr, SeqFile, Size, SizeOrZero, SkBuff, Sock, SockCommon, SockOrNull, SpinLock,
    StackOrNull, Task, Timer, U32Update, U64Output, Update, UpdateOrNull, XdpBuff,
};
use Structure::{
    Registers, Socket, Tcp6Sock, TcpRequestSock, TcpSock, TcpTimewaitSock, Udp6Sock, UnixSock,
};

/// The prototypes of helpers for programs of this type. Which of them such a program may call is
/// for [`super::availability`] to say.
pub(in crate::rules) fn prototypes(program_type: ProgramType) -> Vec<HelperProto> {
    let all = [
        common(),
        maps(),
        tracing(),
        structures(),
        xdp(),
        packets(),
        traffic_control(),
        tunnels(),
        sockets(program_type),
        socket_storage(program_type),
        tcp(),
        messages(),
        cgroups(program_type),
    ];
    let same = |proto: &HelperProto| !DIFFERENT.contains(&(program_type, proto.id.0));
    all.into_iter().flatten().filter(same).collect()
}

/// Helpers that are not what they are for other types, or that the kernel refuses there in words of
/// its own.
const DIFFERENT: &[(ProgramType, u32)] = &[
    (ProgramType::Tracing, 46),
    (ProgramType::Tracing, 49),
    (ProgramType::Tracing, 57),
    (ProgramType::Tracing, 107),
    (ProgramType::Tracing, 108),
    (ProgramType::Tracing, 147),
    (ProgramType::Tracing, 173),
    (ProgramType::Tracing, 188),
    (ProgramType::Tracepoint, 173),
    (ProgramType::RawTracepoint, 173),
    (ProgramType::RawTracepointWritable, 173),
    (ProgramType::PerfEvent, 173),
    (ProgramType::Syscall, 25),
    (ProgramType::Syscall, 27),
    (ProgramType::Syscall, 46),
    (ProgramType::Syscall, 67),
    (ProgramType::Syscall, 107),
    (ProgramType::Syscall, 108),
    (ProgramType::Syscall, 173),
    (ProgramType::Syscall, 188),
];

/// What takes or gives structures of the kernel.
fn structures() -> Vec<HelperProto> {
    let cast = RetKind::CastToStructureOrNull;
    let text = [SeqFile, Memory, Size, MemoryOrNull, SizeOrZero];
    let packet = |packet| [packet, Map, Anything, Memory, SizeOrZero];
    [
        helper(111, "skb_output").since(5, 5).args(&packet(SkBuff)).gpl_only(),
        helper(121, "xdp_output").since(5, 7).args(&packet(XdpBuff)).gpl_only(),
        helper(126, "seq_printf").since(5, 7).args(&text).gpl_only(),
        helper(127, "seq_write").since(5, 7).args(&[SeqFile, Memory, SizeOrZero]).gpl_only(),
        helper(136, "skc_to_tcp6_sock").since(5, 9).args(&[Sock]).returns(cast(Tcp6Sock)),
        helper(137, "skc_to_tcp_sock").since(5, 9).args(&[Sock]).returns(cast(TcpSock)),
        helper(138, "skc_to_tcp_timewait_sock")
            .since(5, 9)
            .args(&[Sock])
            .returns(cast(TcpTimewaitSock)),
        helper(139, "skc_to_tcp_request_sock")
            .since(5, 9)
            .args(&[Sock])
            .returns(cast(TcpRequestSock)),
        helper(140, "skc_to_udp6_sock").since(5, 9).args(&[Sock]).returns(cast(Udp6Sock)),
        helper(141, "get_task_stack")
            .since(5, 9)
            .args(&[Task, Output, SizeOrZero, Anything])
            .returns(RetKind::ErrorOrLength),
        helper(158, "get_current_task_btf")
            .since(5, 11)
            .returns(RetKind::Trusted(Structure::Task))
            .gpl_only(),
        helper(162, "sock_from_file")
            .since(5, 11)
            .args(&[File])
            .returns(RetKind::StructureOrNull(Socket)),
        helper(175, "task_pt_regs")
            .since(5, 15)
            .args(&[Task])
            .returns(RetKind::Structure(Registers))
            .gpl_only(),
        helper(178, "skc_to_unix_sock")
            .since(5, 16)
            .args(&[Sock])
            .returns(RetKind::StructureOrNull(UnixSock)),
    ]
    .into()
}

const fn helper(id: u32, name: &'static str) -> HelperProto {
    HelperProto::new(HelperId(id), name)
}

/// What programs of most types may call.
fn common() -> Vec<HelperProto> {
    [
        helper(5, "ktime_get_ns").since(4, 1),
        helper(6, "trace_printk").since(4, 1).args(&[Memory, Size]).gpl_only(),
        helper(7, "get_prandom_u32").since(4, 1),
        helper(8, "get_smp_processor_id").returns(RetKind::Processor).since(4, 1),
        helper(14, "get_current_pid_tgid").since(4, 2),
        helper(15, "get_current_uid_gid").since(4, 2),
        helper(16, "get_current_comm").since(4, 2).args(&[Output, Size]),
        helper(35, "get_current_task").since(4, 8).gpl_only(),
        helper(42, "get_numa_node_id").since(4, 10),
        helper(80, "get_current_cgroup_id").since(4, 18),
        helper(105, "strtol").since(5, 2).args(&[Memory, Size, Anything, U64Output]),
        helper(106, "strtoul").since(5, 2).args(&[Memory, Size, Anything, U64Output]),
        helper(118, "jiffies64").since(5, 6),
        helper(120, "get_ns_current_pid_tgid")
            .since(5, 7)
            .args(&[Anything, Anything, Output, Size]),
        helper(123, "get_current_ancestor_cgroup_id").since(5, 7).args(&[Anything]),
        helper(125, "ktime_get_boot_ns").since(5, 7),
        helper(160, "ktime_get_coarse_ns").since(5, 11),
        helper(177, "trace_vprintk")
            .since(5, 16)
            .args(&[Memory, Size, MemoryOrNull, SizeOrZero])
            .gpl_only(),
        helper(148, "copy_from_user")
            .since(5, 10)
            .args(&[Output, SizeOrZero, Anything])
            .may_sleep(),
        helper(165, "snprintf")
            .since(5, 13)
            .args(&[UpdateOrNull, SizeOrZero, ConstString, MemoryOrNull, SizeOrZero])
            .gpl_only(),
        helper(166, "sys_bpf").since(5, 14).args(&[Anything, Memory, Size]),
        helper(168, "sys_close").since(5, 14).args(&[Anything]),
        helper(182, "strncmp").since(5, 17).args(&[Memory, Size, ConstString]),
        helper(HelperId::LOOP.0, "loop").since(5, 17).args(&[
            Anything,
            Callback,
            StackOrNull,
            Anything,
        ]),
        helper(208, "ktime_get_tai_ns").since(6, 1),
    ]
    .into()
}

/// What is done with maps.
fn maps() -> Vec<HelperProto> {
    let lookup = RetKind::MapValueOrNull;
    [
        helper(1, "map_lookup_elem")
            .since(3, 19)
            .args(&[Map, MapKey])
            .returns(lookup)
            .packet_args(),
        helper(2, "map_update_elem")
            .since(3, 19)
            .args(&[Map, MapKey, MapValue, Anything])
            .packet_args(),
        helper(3, "map_delete_elem").since(3, 19).args(&[Map, MapKey]).packet_args(),
        helper(12, "tail_call").since(4, 2).args(&[Context, Map, Anything]).returns(RetKind::Void),
        helper(22, "perf_event_read").since(4, 3).args(&[Map, Anything]).gpl_only(),
        helper(25, "perf_event_output")
            .since(4, 4)
            .args(&[Context, Map, Anything, Memory, SizeOrZero])
            .gpl_only(),
        helper(37, "current_task_under_cgroup").since(4, 9).args(&[Map, Anything]),
        helper(81, "get_local_storage")
            .since(4, 19)
            .args(&[Map, NoFlags])
            .returns(RetKind::MapValue),
        helper(55, "perf_event_read_value")
            .since(4, 15)
            .args(&[Map, Anything, Output, Size])
            .gpl_only(),
        helper(87, "map_push_elem").since(4, 20).args(&[Map, MapValue, Anything]).packet_args(),
        helper(88, "map_pop_elem").since(4, 20).args(&[Map, MapValueOutput]),
        helper(89, "map_peek_elem").since(4, 20).args(&[Map, MapValueOutput]),
        helper(HelperId::SPIN_LOCK.0, "spin_lock")
            .since(5, 1)
            .args(&[SpinLock])
            .returns(RetKind::Void),
        helper(HelperId::SPIN_UNLOCK.0, "spin_unlock")
            .since(5, 1)
            .args(&[SpinLock])
            .returns(RetKind::Void),
        helper(HelperId::TIMER_INIT.0, "timer_init")
            .since(5, 15)
            .args(&[Timer, Map, Anything])
            .gpl_only(),
        helper(HelperId::TIMER_SET_CALLBACK.0, "timer_set_callback")
            .since(5, 15)
            .args(&[Timer, Callback])
            .gpl_only(),
        helper(HelperId::TIMER_START.0, "timer_start")
            .since(5, 15)
            .args(&[Timer, Anything, Anything])
            .gpl_only(),
        helper(HelperId::TIMER_CANCEL.0, "timer_cancel").since(5, 15).args(&[Timer]).gpl_only(),
        helper(130, "ringbuf_output").since(5, 8).args(&[Map, Memory, SizeOrZero, Anything]),
        helper(131, "ringbuf_reserve")
            .since(5, 8)
            .args(&[Map, ReservedSize, Anything])
            .returns(RetKind::ReservedOrNull),
        helper(132, "ringbuf_submit")
            .since(5, 8)
            .args(&[ReleasedRingbuf, Anything])
            .returns(RetKind::Void),
        helper(133, "ringbuf_discard")
            .since(5, 8)
            .args(&[ReleasedRingbuf, Anything])
            .returns(RetKind::Void),
        helper(HelperId::DYNPTR_FROM_MEM.0, "dynptr_from_mem").since(5, 19).args(&[
            Output,
            SizeOrZero,
            Anything,
            LocalDynptr,
        ]),
        helper(198, "ringbuf_reserve_dynptr").since(5, 19).args(&[
            Map,
            Anything,
            Anything,
            RingbufDynptr,
        ]),
        helper(199, "ringbuf_submit_dynptr")
            .since(5, 19)
            .args(&[ReleasedDynptr, Anything])
            .returns(RetKind::Void),
        helper(200, "ringbuf_discard_dynptr")
            .since(5, 19)
            .args(&[ReleasedDynptr, Anything])
            .returns(RetKind::Void),
        helper(201, "dynptr_read")
            .since(5, 19)
            .args(&[Output, SizeOrZero, Dynptr, Anything, Anything]),
        helper(202, "dynptr_write")
            .since(5, 19)
            .args(&[Dynptr, Anything, Memory, SizeOrZero, Anything]),
        helper(203, "dynptr_data")
            .since(5, 19)
            .args(&[Dynptr, Anything, ReservedSize])
            .returns(RetKind::SliceOrNull),
        helper(134, "ringbuf_query").since(5, 8).args(&[Map, Anything]),
        helper(HelperId::FOR_EACH_MAP_ELEM.0, "for_each_map_elem").since(5, 13).args(&[
            Map,
            Callback,
            StackOrNull,
            Anything,
        ]),
        helper(195, "map_lookup_percpu_elem")
            .since(5, 19)
            .args(&[Map, MapKey, Anything])
            .returns(lookup)
            .packet_args(),
    ]
    .into()
}

/// What tells of the kernel and of processes.
fn tracing() -> Vec<HelperProto> {
    let read = [Output, SizeOrZero, Anything];
    let copied = RetKind::ErrorOrLength;
    [
        helper(4, "probe_read").since(4, 1).args(&read).gpl_only(),
        helper(27, "get_stackid").since(4, 6).args(&[Context, Map, Anything]).gpl_only(),
        helper(45, "probe_read_str").since(4, 11).args(&read).returns(copied).gpl_only(),
        helper(56, "perf_prog_read_value").since(4, 15).args(&[Context, Output, Size]).gpl_only(),
        helper(67, "get_stack")
            .since(4, 18)
            .args(&[Context, Output, SizeOrZero, Anything])
            .returns(copied)
            .gpl_only(),
        helper(119, "read_branch_records")
            .since(5, 6)
            .args(&[Context, UpdateOrNull, SizeOrZero, Anything])
            .gpl_only(),
        helper(109, "send_signal").since(5, 3).args(&[Anything]),
        helper(112, "probe_read_user").since(5, 5).args(&read).gpl_only(),
        helper(113, "probe_read_kernel").since(5, 5).args(&read).gpl_only(),
        helper(114, "probe_read_user_str").since(5, 5).args(&read).returns(copied).gpl_only(),
        helper(115, "probe_read_kernel_str").since(5, 5).args(&read).returns(copied).gpl_only(),
        helper(117, "send_signal_thread").since(5, 6).args(&[Anything]),
        helper(173, "get_func_ip").since(5, 15).args(&[Context]).gpl_only(),
        helper(174, "get_attach_cookie").since(5, 15).args(&[Context]),
    ]
    .into()
}

/// What is done with the packet at a driver, and where packets are sent.
fn xdp() -> Vec<HelperProto> {
    [
        helper(23, "redirect").since(4, 4).args(&[Anything, Anything]),
        helper(28, "csum_diff")
            .since(4, 6)
            .args(&[MemoryOrNull, SizeOrZero, MemoryOrNull, SizeOrZero, Anything])
            .packet_args(),
        helper(44, "xdp_adjust_head").since(4, 10).args(&[Context, Anything]).moves_packet(),
        helper(51, "redirect_map").since(4, 14).args(&[Map, Anything, Anything]),
        helper(54, "xdp_adjust_meta").since(4, 15).args(&[Context, Anything]).moves_packet(),
        helper(65, "xdp_adjust_tail").since(4, 18).args(&[Context, Anything]).moves_packet(),
        helper(69, "fib_lookup").since(4, 18).args(&[Context, Update, Size, Anything]).gpl_only(),
        helper(163, "check_mtu")
            .since(5, 12)
            .args(&[Context, Anything, U32Update, Anything, Anything])
            .gpl_only(),
        helper(188, "xdp_get_buff_len").since(5, 18).args(&[Context]),
        helper(189, "xdp_load_bytes").since(5, 18).args(&[Context, Anything, Output, Size]),
        helper(190, "xdp_store_bytes").since(5, 18).args(&[Context, Anything, Memory, Size]),
    ]
    .into()
}

/// What reads a packet through its `sk_buff`.
fn packets() -> Vec<HelperProto> {
    [
        helper(26, "skb_load_bytes").since(4, 5).args(&[Context, Anything, Output, Size]),
        helper(47, "get_socket_uid").since(4, 12).args(&[Context]),
        helper(68, "skb_load_bytes_relative")
            .since(4, 18)
            .args(&[Context, Anything, Output, Size, Anything]),
        helper(79, "skb_cgroup_id").since(4, 18).args(&[Context]),
        helper(83, "skb_ancestor_cgroup_id").since(4, 19).args(&[Context, Anything]),
        helper(97, "skb_ecn_set_ce").since(5, 1).args(&[Context]),
        helper(122, "get_netns_cookie").since(5, 7).args(&[ContextOrNull]),
        helper(151, "skb_cgroup_classid").since(5, 10).args(&[Context]),
    ]
    .into()
}

/// What changes a packet through its `sk_buff`.
fn traffic_control() -> Vec<HelperProto> {
    let numbers = [Context, Anything, Anything, Anything, Anything];
    [
        helper(9, "skb_store_bytes")
            .since(4, 1)
            .args(&[Context, Anything, Memory, Size, Anything])
            .moves_packet(),
        helper(10, "l3_csum_replace").since(4, 1).args(&numbers).moves_packet(),
        helper(11, "l4_csum_replace").since(4, 1).args(&numbers).moves_packet(),
        helper(13, "clone_redirect").since(4, 2).args(&numbers[..3]).moves_packet(),
        helper(18, "skb_vlan_push").since(4, 3).args(&numbers[..3]).moves_packet(),
        helper(19, "skb_vlan_pop").since(4, 3).args(&numbers[..1]).moves_packet(),
        helper(24, "get_route_realm").since(4, 4).args(&numbers[..1]),
        helper(31, "skb_change_proto").since(4, 8).args(&numbers[..3]).moves_packet(),
        helper(32, "skb_change_type").since(4, 8).args(&numbers[..2]),
        helper(33, "skb_under_cgroup").since(4, 8).args(&[Context, Map, Anything]),
        helper(34, "get_hash_recalc").since(4, 8).args(&numbers[..1]),
        helper(38, "skb_change_tail").since(4, 9).args(&numbers[..3]).moves_packet(),
        helper(39, "skb_pull_data").since(4, 9).args(&numbers[..2]).moves_packet(),
        helper(40, "csum_update").since(4, 9).args(&numbers[..2]),
        helper(41, "set_hash_invalid").since(4, 9).args(&numbers[..1]),
        helper(43, "skb_change_head").since(4, 10).args(&numbers[..3]).moves_packet(),
        helper(48, "set_hash").since(4, 13).args(&numbers[..2]),
        helper(50, "skb_adjust_room").since(4, 13).args(&numbers[..4]).moves_packet(),
        helper(135, "csum_level").since(5, 8).args(&numbers[..2]),
        helper(152, "redirect_neigh").since(5, 10).args(&[
            Anything,
            MemoryOrNull,
            SizeOrZero,
            Anything,
        ]),
        helper(155, "redirect_peer").since(5, 10).args(&[Anything, Anything]),
        helper(192, "skb_set_tstamp").since(5, 18).args(&numbers[..3]),
    ]
    .into()
}

/// Tunnels and what encloses a packet.
fn tunnels() -> Vec<HelperProto> {
    let bytes = [Context, Anything, Memory, Size];
    [
        helper(20, "skb_get_tunnel_key").since(4, 3).args(&[Context, Output, Size, Anything]),
        helper(21, "skb_set_tunnel_key").since(4, 3).args(&[Context, Memory, Size, Anything]),
        helper(29, "skb_get_tunnel_opt").since(4, 6).args(&[Context, Output, Size]),
        helper(30, "skb_set_tunnel_opt").since(4, 6).args(&[Context, Memory, Size]),
        helper(66, "skb_get_xfrm_state")
            .since(4, 18)
            .args(&[Context, Anything, Output, Size, Anything]),
        helper(73, "lwt_push_encap").since(4, 18).args(&bytes).moves_packet(),
        helper(74, "lwt_seg6_store_bytes").since(4, 18).args(&bytes).moves_packet(),
        helper(75, "lwt_seg6_adjust_srh")
            .since(4, 18)
            .args(&[Context, Anything, Anything])
            .moves_packet(),
        helper(76, "lwt_seg6_action").since(4, 18).args(&bytes).moves_packet(),
    ]
    .into()
}

/// Sockets and their options.
fn sockets(program_type: ProgramType) -> Vec<HelperProto> {
    let lookup = [Context, Memory, SizeOrZero, Anything, Anything];
    // Whose options these are, whose cookie, and for whom a socket is chosen.
    let options = if program_type == ProgramType::CgroupSockopt { Sock } else { Context };
    let cookie = if program_type == ProgramType::SkReuseport { SockOrNull } else { Context };
    let chosen = if program_type == ProgramType::SkLookup { FullSockOrNull } else { Sock };
    [
        helper(46, "get_socket_cookie").since(4, 12).args(&[cookie]),
        helper(49, "setsockopt").since(4, 13).args(&[options, Anything, Anything, Memory, Size]),
        helper(57, "getsockopt").since(4, 15).args(&[options, Anything, Anything, Output, Size]),
        helper(59, "sock_ops_cb_flags_set").since(4, 16).args(&[Context, Anything]),
        helper(64, "bind").since(4, 17).args(&[Context, Memory, Size]),
        helper(84, "sk_lookup_tcp")
            .since(4, 20)
            .args(&lookup)
            .returns(RetKind::AcquiredOrNull(Object::Socket))
            .packet_args(),
        helper(85, "sk_lookup_udp")
            .since(4, 20)
            .args(&lookup)
            .returns(RetKind::AcquiredOrNull(Object::Socket))
            .packet_args(),
        helper(86, "sk_release").since(4, 20).args(&[ReleasedSock]),
        helper(82, "sk_select_reuseport").since(4, 19).args(&[Context, Map, MapKey, Anything]),
        helper(124, "sk_assign").since(5, 7).args(&[Context, chosen, Anything]),
        helper(128, "sk_cgroup_id").since(5, 8).args(&[Sock]),
        helper(129, "sk_ancestor_cgroup_id").since(5, 8).args(&[Sock, Anything]),
        helper(95, "sk_fullsock")
            .since(5, 1)
            .args(&[SockCommon])
            .returns(RetKind::CastOrNull(Object::Socket)),
        helper(96, "tcp_sock")
            .since(5, 1)
            .args(&[SockCommon])
            .returns(RetKind::CastOrNull(Object::TcpSock)),
        helper(98, "get_listener_sock")
            .since(5, 1)
            .args(&[SockCommon])
            .returns(RetKind::ObjectOrNull(Object::Socket)),
        helper(99, "skc_lookup_tcp")
            .since(5, 2)
            .args(&lookup)
            .returns(RetKind::AcquiredOrNull(Object::SockCommon))
            .packet_args(),
    ]
    .into()
}

/// What programs keep with a socket.
fn socket_storage(program_type: ProgramType) -> Vec<HelperProto> {
    let owner = if program_type == ProgramType::CgroupSock { Context } else { Sock };
    [
        helper(107, "sk_storage_get")
            .since(5, 2)
            .args(&[Map, owner, MapValueOrNull, Anything])
            .returns(RetKind::MapValueOrNull),
        helper(108, "sk_storage_delete").since(5, 2).args(&[Map, Sock]),
    ]
    .into()
}

/// Headers of TCP: cookies and options.
fn tcp() -> Vec<HelperProto> {
    let headers = [Sock, Memory, Size, Memory, Size];
    let header = |id, name, args: &[ArgKind]| {
        helper(id, name).since(6, 0).args(args).gpl_only().packet_args()
    };
    [
        helper(100, "tcp_check_syncookie").since(5, 2).args(&headers).gpl_only().packet_args(),
        helper(110, "tcp_gen_syncookie").since(5, 3).args(&headers).gpl_only().packet_args(),
        helper(142, "load_hdr_opt").since(5, 10).args(&[Context, Update, Size, Anything]),
        helper(143, "store_hdr_opt")
            .since(5, 10)
            .args(&[Context, Memory, Size, Anything])
            .moves_packet(),
        helper(144, "reserve_hdr_opt").since(5, 10).args(&[Context, Anything, Anything]),
        header(204, "tcp_raw_gen_syncookie_ipv4", &[Header20, Memory, SizeOrZero]),
        header(205, "tcp_raw_gen_syncookie_ipv6", &[Header40, Memory, SizeOrZero]),
        header(206, "tcp_raw_check_syncookie_ipv4", &[Header20, Header20]),
        header(207, "tcp_raw_check_syncookie_ipv6", &[Header40, Header20]),
    ]
    .into()
}

/// Messages and streams of sockets.
fn messages() -> Vec<HelperProto> {
    let numbers = [Context, Anything, Anything, Anything];
    let by_key = [Context, Map, MapKey, Anything];
    [
        helper(53, "sock_map_update").since(4, 14).args(&by_key),
        helper(70, "sock_hash_update").since(4, 18).args(&by_key),
        helper(71, "msg_redirect_hash").since(4, 18).args(&by_key),
        helper(72, "sk_redirect_hash").since(4, 18).args(&by_key),
        helper(52, "sk_redirect_map").since(4, 14).args(&[Context, Map, Anything, Anything]),
        helper(60, "msg_redirect_map").since(4, 17).args(&[Context, Map, Anything, Anything]),
        helper(61, "msg_apply_bytes").since(4, 17).args(&numbers[..2]),
        helper(62, "msg_cork_bytes").since(4, 17).args(&numbers[..2]),
        helper(63, "msg_pull_data").since(4, 17).args(&numbers).moves_packet(),
        helper(90, "msg_push_data").since(4, 20).args(&numbers).moves_packet(),
        helper(91, "msg_pop_data").since(5, 0).args(&numbers).moves_packet(),
    ]
    .into()
}

/// Groups of processes and what they are allowed.
fn cgroups(program_type: ProgramType) -> Vec<HelperProto> {
    let of_packet = matches!(
        program_type,
        ProgramType::SchedCls
            | ProgramType::SchedAct
            | ProgramType::LwtIn
            | ProgramType::LwtOut
            | ProgramType::LwtXmit
            | ProgramType::LwtSeg6local
    );
    // That of the packet's socket, or of the process.
    let classid: &[ArgKind] = if of_packet { &[Context] } else { &[] };
    [
        helper(17, "get_cgroup_classid").since(4, 3).args(classid),
        helper(101, "sysctl_get_name").since(5, 2).args(&[Context, Update, Size, Anything]),
        helper(102, "sysctl_get_current_value").since(5, 2).args(&[Context, Output, Size]),
        helper(103, "sysctl_get_new_value").since(5, 2).args(&[Context, Output, Size]),
        helper(104, "sysctl_set_new_value").since(5, 2).args(&[Context, Memory, Size]),
        helper(186, "get_retval").since(5, 18),
        helper(187, "set_retval").since(5, 18).args(&[Anything]),
    ]
    .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prototypes_have_the_documented_arguments() {
        /// That of a packet's socket has an argument more than that of a process.
        const CGROUP_CLASSID: HelperId = HelperId(17);
        let counted = |proto: &HelperProto| u8::try_from(proto.arguments()).ok();
        for &program_type in ProgramType::ALL {
            for proto in prototypes(program_type) {
                if proto.id != CGROUP_CLASSID {
                    assert_eq!(counted(&proto), proto.id.arguments(), "{}", proto.name);
                }
            }
        }
    }
}

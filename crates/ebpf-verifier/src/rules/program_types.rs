//! Ready-made rules of the kernel's program types.

use alloc::sync::Arc;

use ebpf_isa::uapi::ProgramType;

use super::{PacketAccess, ProgramTypeRules, TableRules, tables};

/// The rules of a program type; `None` if there are none here.
#[must_use]
pub fn of(program_type: ProgramType) -> Option<Arc<dyn ProgramTypeRules>> {
    match program_type {
        ProgramType::Xdp => Some(xdp()),
        ProgramType::SocketFilter => Some(socket_filter()),
        ProgramType::SchedCls => Some(sched_cls()),
        _ => None,
    }
}

/// XDP: a packet at the driver, before the stack.
#[must_use]
pub fn xdp() -> Arc<TableRules> {
    Arc::new(TableRules {
        program_type: ProgramType::Xdp,
        context: tables::xdp_md(),
        helpers: [tables::common_helpers(), tables::xdp_helpers()].concat(),
        unsupported_helpers: tables::unsupported_helpers(tables::XDP_UNSUPPORTED),
        packet: PacketAccess::ReadWrite,
        exit: None,
    })
}

/// Socket filters: a packet at a socket, read through helpers.
#[must_use]
pub fn socket_filter() -> Arc<TableRules> {
    let hidden = [
        "tc_classid",
        "data",
        "data_end",
        "data_meta",
        "family",
        "remote_ip4",
        "local_ip4",
        "remote_ip6",
        "local_ip6",
        "remote_port",
        "local_port",
        "tstamp",
        "wire_len",
        "tstamp_type",
        "hwtstamp",
    ];
    Arc::new(TableRules {
        program_type: ProgramType::SocketFilter,
        context: tables::sk_buff_for(&hidden, &["cb"]),
        helpers: [tables::common_helpers(), tables::sk_buff_helpers()].concat(),
        unsupported_helpers: tables::unsupported_helpers(tables::SOCKET_FILTER_UNSUPPORTED),
        packet: PacketAccess::None,
        exit: None,
    })
}

/// Traffic control: a packet at a network interface, in either direction.
#[must_use]
pub fn sched_cls() -> Arc<TableRules> {
    let hidden = [
        "family",
        "remote_ip4",
        "local_ip4",
        "remote_ip6",
        "local_ip6",
        "remote_port",
        "local_port",
    ];
    let writable = ["mark", "queue_mapping", "priority", "tc_index", "cb", "tc_classid", "tstamp"];
    Arc::new(TableRules {
        program_type: ProgramType::SchedCls,
        context: tables::sk_buff_for(&hidden, &writable),
        helpers: [
            tables::common_helpers(),
            tables::sk_buff_helpers(),
            tables::traffic_control_helpers(),
        ]
        .concat(),
        unsupported_helpers: tables::unsupported_helpers(tables::SCHED_CLS_UNSUPPORTED),
        packet: PacketAccess::ReadWrite,
        exit: None,
    })
}

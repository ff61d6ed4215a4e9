//! What the name of a program's section says about the program.

use ebpf_isa::uapi::{AttachType, ProgramType};

/// What the name of a program's section says about the program: libbpf's conventions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SectionKind {
    /// The program's type.
    pub program_type: ProgramType,
    /// The attach type that it is loaded for, where it has one.
    pub attach_type: Option<AttachType>,
    /// Whether it may sleep (`BPF_F_SLEEPABLE`).
    pub sleepable: bool,
    /// Whether it understands packets in fragments (`BPF_F_XDP_HAS_FRAGS`).
    pub frags: bool,
}

impl SectionKind {
    /// The kind of the programs in a section of this name; none where the name follows no
    /// convention.
    ///
    /// A leading `?`, which asks libbpf not to load the program by itself, is skipped.
    pub fn of(section: &str) -> Option<SectionKind> {
        let section = section.strip_prefix('?').unwrap_or(section);
        SECTIONS.iter().find(|row| row.matches(section)).map(|row| row.kind)
    }
}

/// A row of the table of names.
struct Row {
    name: &'static str,
    /// Whether `name/anything` is meant too.
    open: bool,
    kind: SectionKind,
}

impl Row {
    fn matches(&self, section: &str) -> bool {
        match section.strip_prefix(self.name) {
            Some("") => true,
            Some(rest) => self.open && rest.starts_with('/'),
            None => false,
        }
    }

    const fn new(name: &'static str, open: bool, program_type: ProgramType) -> Row {
        Row {
            name,
            open,
            kind: SectionKind { program_type, attach_type: None, sleepable: false, frags: false },
        }
    }

    const fn at(mut self, attach_type: AttachType) -> Row {
        self.kind.attach_type = Some(attach_type);
        self
    }

    const fn sleepable(mut self) -> Row {
        self.kind.sleepable = true;
        self
    }

    const fn frags(mut self) -> Row {
        self.kind.frags = true;
        self
    }
}

/// A name that is meant exactly.
const fn exact(name: &'static str, program_type: ProgramType) -> Row {
    Row::new(name, false, program_type)
}

/// A name that may go on after a `/`, mostly with what the program is to be attached to.
const fn open(name: &'static str, program_type: ProgramType) -> Row {
    Row::new(name, true, program_type)
}

use AttachType as At;
use ProgramType as Type;

/// The names of `Documentation/bpf/libbpf/program_types.rst`, with the `.multi` and `.session`
/// forms of later releases.
#[rustfmt::skip]
const SECTIONS: &[Row] = &[
    exact("xdp", Type::Xdp).at(At::Xdp),
    exact("xdp.frags", Type::Xdp).at(At::Xdp).frags(),
    exact("xdp/cpumap", Type::Xdp).at(At::XdpCpumap),
    exact("xdp.frags/cpumap", Type::Xdp).at(At::XdpCpumap).frags(),
    exact("xdp/devmap", Type::Xdp).at(At::XdpDevmap),
    exact("xdp.frags/devmap", Type::Xdp).at(At::XdpDevmap).frags(),

    exact("tc", Type::SchedCls),
    exact("classifier", Type::SchedCls),
    exact("action", Type::SchedAct),
    exact("tc/ingress", Type::SchedCls).at(At::TcxIngress),
    exact("tc/egress", Type::SchedCls).at(At::TcxEgress),
    exact("tcx/ingress", Type::SchedCls).at(At::TcxIngress),
    exact("tcx/egress", Type::SchedCls).at(At::TcxEgress),
    exact("netkit/primary", Type::SchedCls).at(At::NetkitPrimary),
    exact("netkit/peer", Type::SchedCls).at(At::NetkitPeer),

    exact("socket", Type::SocketFilter),
    exact("sockops", Type::SockOps).at(At::CgroupSockOps),
    exact("sk_skb", Type::SkSkb),
    exact("sk_skb/stream_parser", Type::SkSkb).at(At::SkSkbStreamParser),
    exact("sk_skb/stream_verdict", Type::SkSkb).at(At::SkSkbStreamVerdict),
    exact("sk_skb/verdict", Type::SkSkb).at(At::SkSkbVerdict),
    exact("sk_msg", Type::SkMsg).at(At::SkMsgVerdict),
    exact("sk_lookup", Type::SkLookup).at(At::SkLookup),
    exact("sk_reuseport", Type::SkReuseport).at(At::SkReuseportSelect),
    exact("sk_reuseport/migrate", Type::SkReuseport).at(At::SkReuseportSelectOrMigrate),
    exact("flow_dissector", Type::FlowDissector).at(At::FlowDissector),
    exact("lwt_in", Type::LwtIn),
    exact("lwt_out", Type::LwtOut),
    exact("lwt_xmit", Type::LwtXmit),
    exact("lwt_seg6local", Type::LwtSeg6local),
    exact("lirc_mode2", Type::LircMode2).at(At::LircMode2),
    exact("netfilter", Type::Netfilter).at(At::Netfilter),

    exact("cgroup/skb", Type::CgroupSkb),
    exact("cgroup_skb/ingress", Type::CgroupSkb).at(At::CgroupInetIngress),
    exact("cgroup_skb/egress", Type::CgroupSkb).at(At::CgroupInetEgress),
    exact("cgroup/dev", Type::CgroupDevice).at(At::CgroupDevice),
    exact("cgroup/sysctl", Type::CgroupSysctl).at(At::CgroupSysctl),
    exact("cgroup/getsockopt", Type::CgroupSockopt).at(At::CgroupGetsockopt),
    exact("cgroup/setsockopt", Type::CgroupSockopt).at(At::CgroupSetsockopt),
    exact("cgroup/sock", Type::CgroupSock).at(At::CgroupInetSockCreate),
    exact("cgroup/sock_create", Type::CgroupSock).at(At::CgroupInetSockCreate),
    exact("cgroup/sock_release", Type::CgroupSock).at(At::CgroupInetSockRelease),
    exact("cgroup/post_bind4", Type::CgroupSock).at(At::CgroupInet4PostBind),
    exact("cgroup/post_bind6", Type::CgroupSock).at(At::CgroupInet6PostBind),
    exact("cgroup/bind4", Type::CgroupSockAddr).at(At::CgroupInet4Bind),
    exact("cgroup/bind6", Type::CgroupSockAddr).at(At::CgroupInet6Bind),
    exact("cgroup/connect4", Type::CgroupSockAddr).at(At::CgroupInet4Connect),
    exact("cgroup/connect6", Type::CgroupSockAddr).at(At::CgroupInet6Connect),
    exact("cgroup/connect_unix", Type::CgroupSockAddr).at(At::CgroupUnixConnect),
    exact("cgroup/sendmsg4", Type::CgroupSockAddr).at(At::CgroupUdp4Sendmsg),
    exact("cgroup/sendmsg6", Type::CgroupSockAddr).at(At::CgroupUdp6Sendmsg),
    exact("cgroup/sendmsg_unix", Type::CgroupSockAddr).at(At::CgroupUnixSendmsg),
    exact("cgroup/recvmsg4", Type::CgroupSockAddr).at(At::CgroupUdp4Recvmsg),
    exact("cgroup/recvmsg6", Type::CgroupSockAddr).at(At::CgroupUdp6Recvmsg),
    exact("cgroup/recvmsg_unix", Type::CgroupSockAddr).at(At::CgroupUnixRecvmsg),
    exact("cgroup/getpeername4", Type::CgroupSockAddr).at(At::CgroupInet4Getpeername),
    exact("cgroup/getpeername6", Type::CgroupSockAddr).at(At::CgroupInet6Getpeername),
    exact("cgroup/getpeername_unix", Type::CgroupSockAddr).at(At::CgroupUnixGetpeername),
    exact("cgroup/getsockname4", Type::CgroupSockAddr).at(At::CgroupInet4Getsockname),
    exact("cgroup/getsockname6", Type::CgroupSockAddr).at(At::CgroupInet6Getsockname),
    exact("cgroup/getsockname_unix", Type::CgroupSockAddr).at(At::CgroupUnixGetsockname),

    open("kprobe", Type::Kprobe),
    open("kretprobe", Type::Kprobe),
    open("ksyscall", Type::Kprobe),
    open("kretsyscall", Type::Kprobe),
    open("kprobe.multi", Type::Kprobe).at(At::TraceKprobeMulti),
    open("kretprobe.multi", Type::Kprobe).at(At::TraceKprobeMulti),
    open("kprobe.session", Type::Kprobe).at(At::TraceKprobeSession),
    open("uprobe", Type::Kprobe),
    open("uprobe.s", Type::Kprobe).sleepable(),
    open("uretprobe", Type::Kprobe),
    open("uretprobe.s", Type::Kprobe).sleepable(),
    open("uprobe.multi", Type::Kprobe).at(At::TraceUprobeMulti),
    open("uprobe.multi.s", Type::Kprobe).at(At::TraceUprobeMulti).sleepable(),
    open("uretprobe.multi", Type::Kprobe).at(At::TraceUprobeMulti),
    open("uretprobe.multi.s", Type::Kprobe).at(At::TraceUprobeMulti).sleepable(),
    open("usdt", Type::Kprobe),
    open("usdt.s", Type::Kprobe).sleepable(),
    open("tp", Type::Tracepoint),
    open("tracepoint", Type::Tracepoint),
    open("raw_tp", Type::RawTracepoint),
    open("raw_tracepoint", Type::RawTracepoint),
    open("raw_tp.w", Type::RawTracepointWritable),
    open("raw_tracepoint.w", Type::RawTracepointWritable),
    exact("perf_event", Type::PerfEvent),

    open("tp_btf", Type::Tracing).at(At::TraceRawTp),
    open("fentry", Type::Tracing).at(At::TraceFentry),
    open("fentry.s", Type::Tracing).at(At::TraceFentry).sleepable(),
    open("fexit", Type::Tracing).at(At::TraceFexit),
    open("fexit.s", Type::Tracing).at(At::TraceFexit).sleepable(),
    open("fmod_ret", Type::Tracing).at(At::ModifyReturn),
    open("fmod_ret.s", Type::Tracing).at(At::ModifyReturn).sleepable(),
    open("iter", Type::Tracing).at(At::TraceIter),
    open("iter.s", Type::Tracing).at(At::TraceIter).sleepable(),
    open("lsm", Type::Lsm).at(At::LsmMac),
    open("lsm.s", Type::Lsm).at(At::LsmMac).sleepable(),
    open("lsm_cgroup", Type::Lsm).at(At::LsmCgroup),
    open("freplace", Type::Ext),
    open("struct_ops", Type::StructOps),
    open("struct_ops.s", Type::StructOps).sleepable(),
    exact("syscall", Type::Syscall).sleepable(),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(
        section: &str,
        program_type: Type,
        attach_type: Option<At>,
        sleepable: bool,
        frags: bool,
    ) {
        let expected = SectionKind { program_type, attach_type, sleepable, frags };
        assert_eq!(SectionKind::of(section), Some(expected), "{section}");
    }

    #[test]
    fn names_say_type_attach_type_and_flags() {
        check("xdp", Type::Xdp, Some(At::Xdp), false, false);
        check("xdp.frags/devmap", Type::Xdp, Some(At::XdpDevmap), false, true);
        check("tc", Type::SchedCls, None, false, false);
        check("?tc", Type::SchedCls, None, false, false);
        check("tcx/ingress", Type::SchedCls, Some(At::TcxIngress), false, false);
        check("cgroup_skb/egress", Type::CgroupSkb, Some(At::CgroupInetEgress), false, false);
        check("kprobe", Type::Kprobe, None, false, false);
        check("kprobe/do_unlinkat+8", Type::Kprobe, None, false, false);
        check("kprobe.multi/tcp_*", Type::Kprobe, Some(At::TraceKprobeMulti), false, false);
        check("tracepoint/syscalls/sys_enter_openat", Type::Tracepoint, None, false, false);
        check("raw_tp.w/writable", Type::RawTracepointWritable, None, false, false);
        check("lsm.s/file_open", Type::Lsm, Some(At::LsmMac), true, false);
        check("lsm_cgroup/socket_bind", Type::Lsm, Some(At::LsmCgroup), false, false);
        check("syscall", Type::Syscall, None, true, false);
    }

    #[test]
    fn other_names_say_nothing() {
        for section in [
            "",
            "?",
            ".text",
            "xdp2",
            "xdp/",
            "xdp/foo",
            "xdp_ingress",
            "kprobes/x",
            "kprobe.x/y",
            "tcx",
            "socket/1",
            "XDP",
        ] {
            assert_eq!(SectionKind::of(section), None, "{section}");
        }
    }

    #[test]
    fn no_name_is_listed_twice() {
        for (at, row) in SECTIONS.iter().enumerate() {
            assert!(SECTIONS[..at].iter().all(|earlier| earlier.name != row.name), "{}", row.name);
        }
    }
}

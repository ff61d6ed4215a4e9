//! Objects of the kernel that programs get pointers to.

use ebpf_isa::Size;

use super::context::{self, ContextAccess, ContextField, ContextQuery};
use super::tables::contexts;

/// What a pointer to an object of the kernel points to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Object {
    /// `struct bpf_flow_keys`: what a flow dissector fills.
    FlowKeys,
    /// `struct bpf_sock` of which only what all states of a socket have is there.
    SockCommon,
    /// `struct bpf_sock`.
    Socket,
    /// `struct bpf_tcp_sock`.
    TcpSock,
    /// `struct bpf_xdp_sock`.
    XdpSock,
}

impl Object {
    /// What messages call it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::FlowKeys => "flow_keys",
            Self::SockCommon => "sock_common",
            Self::Socket => "sock",
            Self::TcpSock => "tcp_sock",
            Self::XdpSock => "xdp_sock",
        }
    }

    /// What messages call a pointer to it that may be null.
    #[must_use]
    pub const fn name_or_null(self) -> &'static str {
        match self {
            Self::FlowKeys => "flow_keys_or_null",
            Self::SockCommon => "sock_common_or_null",
            Self::Socket => "sock_or_null",
            Self::TcpSock => "tcp_sock_or_null",
            Self::XdpSock => "xdp_sock_or_null",
        }
    }

    fn layout(self) -> Layout {
        match self {
            Self::FlowKeys => Layout::Bytes(56),
            Self::SockCommon => Layout::Fields(&contexts::SOCKET, contexts::FULL_SOCKET),
            Self::Socket => Layout::Fields(&contexts::SOCKET, &[]),
            Self::TcpSock => Layout::Fields(&contexts::TCP_SOCK, &[]),
            Self::XdpSock => Layout::Fields(&contexts::XDP_SOCK, &[]),
        }
    }

    /// Whether it is memory that programs may read and write, byte by byte.
    pub(crate) fn is_memory(self) -> bool {
        matches!(self.layout(), Layout::Bytes(_))
    }

    /// Whether programs may load so many bytes at this offset.
    pub(crate) fn may_load(self, off: i32, size: Size) -> bool {
        match self.layout() {
            Layout::Bytes(bytes) => {
                let off = u32::try_from(off).ok();
                let end = off.and_then(|off| off.checked_add(size.bytes().into()));
                end.is_some_and(|end| end <= bytes)
            }
            Layout::Fields(fields, hidden) => {
                let there = fields.iter().filter(|field| !hidden.contains(&&*field.name));
                let query = ContextQuery {
                    off,
                    size,
                    write: false,
                    sign_extended: false,
                    attach_type: None,
                };
                matches!(context::access(there, &query), ContextAccess::Allowed(_))
            }
        }
    }
}

/// A structure of the kernel that helpers take or give a pointer to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Structure {
    /// `struct task_struct`
    Task,
    /// `struct pt_regs`
    Registers,
    /// `struct seq_file`
    SeqFile,
    /// `struct file`
    File,
    /// `struct path`
    Path,
    /// `struct sk_buff`
    SkBuff,
    /// `struct xdp_buff`
    XdpBuff,
    /// `struct socket`
    Socket,
    /// `struct sock_common`
    SockCommon,
    /// `struct tcp_sock`
    TcpSock,
    /// `struct tcp6_sock`
    Tcp6Sock,
    /// `struct tcp_timewait_sock`
    TcpTimewaitSock,
    /// `struct tcp_request_sock`
    TcpRequestSock,
    /// `struct udp6_sock`
    Udp6Sock,
    /// `struct unix_sock`
    UnixSock,
}

impl Structure {
    /// The name of its type.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Task => "task_struct",
            Self::Registers => "pt_regs",
            Self::SeqFile => "seq_file",
            Self::File => "file",
            Self::Path => "path",
            Self::SkBuff => "sk_buff",
            Self::XdpBuff => "xdp_buff",
            Self::Socket => "socket",
            Self::SockCommon => "sock_common",
            Self::TcpSock => "tcp_sock",
            Self::Tcp6Sock => "tcp6_sock",
            Self::TcpTimewaitSock => "tcp_timewait_sock",
            Self::TcpRequestSock => "tcp_request_sock",
            Self::Udp6Sock => "udp6_sock",
            Self::UnixSock => "unix_sock",
        }
    }
}

/// What an object consists of.
enum Layout {
    /// So many bytes.
    Bytes(u32),
    /// Fields that can be read, but for those with these names.
    Fields(&'static [ContextField], &'static [&'static str]),
}

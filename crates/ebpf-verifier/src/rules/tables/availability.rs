//! Which helpers programs of a type may call on Linux 6.18, whether or not there is a prototype here.

use ebpf_isa::uapi::AttachType::{self, *};
use ebpf_isa::uapi::{HelperId, ProgramType};

use crate::rules::attached;

/// Whether programs of this type may call the helper.
pub(in crate::rules) fn may_call(
    program_type: ProgramType,
    attach_type: Option<AttachType>,
    id: HelperId,
) -> bool {
    let is_listed = |numbers: &[u32]| numbers.contains(&id.0);
    if RETVAL.contains(&id.0) {
        return has_retval(program_type) && !attached(WITHOUT_RETVAL, attach_type);
    }
    let depends = DEPENDING.iter().find(|row| row.0 == program_type && is_listed(row.1));
    match depends {
        Some(row) => attached(row.2, attach_type),
        None => is_listed(COMMON) || is_listed(own(program_type)),
    }
}

/// Helpers of every program type.
const COMMON: &[u32] = &[
    1, 2, 3, 5, 6, 7, 8, 12, 14, 15, 16, 17, 22, 35, 37, 42, 55, 80, 87, 88, 89, 93, 94, 105, 106,
    109, 112, 113, 114, 115, 117, 118, 120, 123, 125, 130, 131, 132, 133, 134, 141, 148, 149, 153,
    154, 156, 157, 158, 164, 165, 169, 170, 171, 172, 175, 176, 177, 180, 181, 182, 191, 194, 195,
    197, 198, 199, 200, 201, 202, 203, 208, 209, 210, 211,
];

/// Helpers of tracing.
const TRACING: &[u32] = &[4, 25, 27, 45, 67, 173, 174];

/// Helpers of tracing whose programs see arguments with their types.
const TYPED_TRACING: &[u32] = &[
    4, 25, 27, 45, 46, 67, 107, 108, 111, 121, 136, 137, 138, 139, 140, 147, 162, 173, 178, 188,
    196,
];

/// Helpers of traffic control.
const TRAFFIC_CONTROL: &[u32] = &[
    9, 10, 11, 13, 18, 19, 20, 21, 23, 24, 25, 26, 28, 29, 30, 31, 32, 33, 34, 38, 39, 40, 41, 43,
    46, 47, 48, 50, 66, 68, 69, 79, 83, 84, 85, 86, 95, 96, 97, 98, 99, 100, 107, 108, 110, 122,
    124, 135, 136, 137, 138, 139, 140, 151, 152, 155, 160, 163, 178, 192, 196, 204, 205, 206, 207,
];

/// Those helpers of a type that not all types have.
const fn own(program_type: ProgramType) -> &'static [u32] {
    match program_type {
        ProgramType::Kprobe
        | ProgramType::Tracepoint
        | ProgramType::RawTracepoint
        | ProgramType::RawTracepointWritable => TRACING,
        ProgramType::Tracing => TYPED_TRACING,
        ProgramType::SchedCls | ProgramType::SchedAct => TRAFFIC_CONTROL,
        ProgramType::SocketFilter => {
            &[25, 26, 46, 47, 68, 122, 136, 137, 138, 139, 140, 160, 178, 196]
        }
        ProgramType::Xdp => &[
            23, 25, 28, 44, 51, 54, 65, 69, 84, 85, 86, 99, 100, 110, 136, 137, 138, 139, 140, 160,
            163, 178, 188, 189, 190, 196, 204, 205, 206, 207,
        ],
        ProgramType::PerfEvent => &[4, 25, 27, 45, 56, 67, 119, 173, 174],
        ProgramType::CgroupSkb => &[
            25, 26, 46, 47, 68, 79, 81, 83, 84, 85, 86, 95, 96, 97, 98, 99, 107, 108, 122, 128,
            129, 136, 137, 138, 139, 140, 160, 178, 196,
        ],
        ProgramType::CgroupSock => &[25, 46, 81, 107, 122, 160],
        ProgramType::LwtIn => {
            &[24, 25, 26, 28, 33, 34, 39, 73, 136, 137, 138, 139, 140, 160, 178, 196]
        }
        ProgramType::LwtOut => {
            &[24, 25, 26, 28, 33, 34, 39, 136, 137, 138, 139, 140, 160, 178, 196]
        }
        ProgramType::LwtXmit => &[
            9, 10, 11, 13, 20, 21, 23, 24, 25, 26, 28, 29, 30, 33, 34, 38, 39, 40, 41, 43, 73, 135,
            136, 137, 138, 139, 140, 160, 178, 196,
        ],
        ProgramType::SockOps => &[
            25, 46, 49, 53, 57, 59, 70, 81, 96, 107, 108, 122, 136, 137, 138, 139, 140, 142, 143,
            144, 160, 178, 196,
        ],
        ProgramType::SkSkb => &[
            9, 25, 26, 38, 39, 43, 46, 47, 50, 52, 72, 84, 85, 86, 99, 136, 137, 138, 139, 140,
            160, 178, 196,
        ],
        ProgramType::CgroupDevice => &[25, 81],
        ProgramType::SkMsg => {
            &[25, 60, 61, 62, 63, 71, 90, 91, 107, 108, 122, 136, 137, 138, 139, 140, 160, 178, 196]
        }
        ProgramType::CgroupSockAddr => &[
            25, 46, 49, 57, 81, 84, 85, 86, 99, 107, 108, 122, 136, 137, 138, 139, 140, 160, 178,
            196,
        ],
        ProgramType::LwtSeg6local => {
            &[24, 25, 26, 28, 33, 34, 39, 74, 75, 76, 136, 137, 138, 139, 140, 160, 178, 196]
        }
        ProgramType::SkReuseport => &[26, 46, 68, 82, 160],
        ProgramType::FlowDissector => &[26, 136, 137, 138, 139, 140, 160, 178, 196],
        ProgramType::CgroupSysctl => &[25, 81, 101, 102, 103, 104, 160],
        ProgramType::CgroupSockopt => &[25, 81, 96, 107, 108, 122],
        ProgramType::Syscall => &[
            4, 25, 27, 45, 46, 67, 107, 108, 111, 121, 136, 137, 138, 139, 140, 147, 162, 166, 167,
            168, 173, 178, 179, 188, 196,
        ],
        ProgramType::SkLookup => &[25, 86, 124, 136, 137, 138, 139, 140, 160, 178, 196],
        _ => &[],
    }
}

/// Helpers that only programs with some attach types may call.
const DEPENDING: &[(ProgramType, &[u32], &[AttachType])] = &[
    (ProgramType::CgroupSockAddr, &[64], &[CgroupInet4Connect, CgroupInet6Connect]),
    (ProgramType::CgroupSockopt, &[49, 57], &[CgroupSetsockopt]),
    // Only some iterators have the first two.
    (ProgramType::Tracing, &[49, 57, 126, 127, 150], &[TraceIter]),
    (ProgramType::Tracing, &[174], &[TraceRawTp]),
];

/// `get_retval` and `set_retval`.
const RETVAL: [u32; 2] = [186, 187];

/// Types of cgroups, but for those of packets.
const fn has_retval(program_type: ProgramType) -> bool {
    matches!(
        program_type,
        ProgramType::CgroupSock
            | ProgramType::CgroupDevice
            | ProgramType::CgroupSockAddr
            | ProgramType::CgroupSysctl
            | ProgramType::CgroupSockopt
            | ProgramType::SockOps
    )
}

/// Attach types at which what the program returns is all that counts.
const WITHOUT_RETVAL: &[AttachType] = &[
    CgroupInetIngress,
    CgroupInetEgress,
    CgroupSockOps,
    CgroupUdp4Recvmsg,
    CgroupUdp6Recvmsg,
    CgroupInet4Getpeername,
    CgroupInet6Getpeername,
    CgroupInet4Getsockname,
    CgroupInet6Getsockname,
    CgroupUnixRecvmsg,
    CgroupUnixGetpeername,
    CgroupUnixGetsockname,
];

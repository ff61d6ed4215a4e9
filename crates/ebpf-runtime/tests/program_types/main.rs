//! The tables of the verifier, row by row, against the running kernel: tiny programs, each judged
//! by both. Where the kernel cannot be asked, or is no Linux 6.18, the tests say so and pass.

#![cfg(feature = "kernel")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod contexts;
mod helpers;
mod malformed;
mod map_helpers;

use ebpf_isa::uapi::AttachType::{self, *};
use ebpf_isa::uapi::ProgramType;
use ebpf_isa::{Program, RawInsn, text};
use ebpf_runtime::kernel::{Oracle, ProgramLoad};
use ebpf_verifier::{Environment, ErrorCode, Options, Version, program_types, verify};

/// What is said of a program: nothing if it is accepted, or the error number and the reason.
type Verdict = Result<(), (i32, String)>;

/// Whether the running kernel is the one that the tables are of.
fn is_linux_6_18() -> bool {
    if let Err(error) = Oracle::new() {
        ebpf_testkit::skip(&error.to_string());
        return false;
    }
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let is_known = Version::parse(release.trim()) == Some(Version::new(6, 18));
    if !is_known {
        ebpf_testkit::skip(&format!("the tables are those of Linux 6.18, not of {release}"));
    }
    is_known
}

/// A program type and the attach types that its rules tell apart.
const TYPES: &[(ProgramType, &[AttachType])] = &[
    (ProgramType::SocketFilter, &[]),
    (ProgramType::Kprobe, &[PerfEvent, TraceKprobeSession]),
    (ProgramType::SchedCls, &[]),
    (ProgramType::SchedAct, &[]),
    (ProgramType::Tracepoint, &[]),
    (ProgramType::Xdp, &[Xdp, XdpDevmap]),
    (ProgramType::PerfEvent, &[]),
    (ProgramType::CgroupSkb, &[CgroupInetIngress, CgroupInetEgress]),
    (
        ProgramType::CgroupSock,
        &[
            CgroupInetIngress,
            CgroupInetSockCreate,
            CgroupInetSockRelease,
            CgroupInet4PostBind,
            CgroupInet6PostBind,
        ],
    ),
    (ProgramType::LwtIn, &[]),
    (ProgramType::LwtOut, &[]),
    (ProgramType::LwtXmit, &[]),
    (ProgramType::SockOps, &[CgroupInetIngress, CgroupSockOps, SkSkbStreamParser]),
    (ProgramType::SkSkb, &[SkSkbStreamParser, SkSkbStreamVerdict, SkSkbVerdict]),
    (ProgramType::CgroupDevice, &[CgroupInetIngress, CgroupDevice]),
    (ProgramType::SkMsg, &[SkMsgVerdict]),
    (ProgramType::RawTracepoint, &[]),
    (
        ProgramType::CgroupSockAddr,
        &[
            CgroupInet4Bind,
            CgroupInet6Bind,
            CgroupInet4Connect,
            CgroupInet6Connect,
            CgroupUnixConnect,
            CgroupUdp4Sendmsg,
            CgroupUdp6Sendmsg,
            CgroupUnixSendmsg,
            CgroupUdp4Recvmsg,
            CgroupUdp6Recvmsg,
            CgroupUnixRecvmsg,
            CgroupInet4Getpeername,
            CgroupInet6Getsockname,
        ],
    ),
    (ProgramType::LwtSeg6local, &[]),
    (ProgramType::SkReuseport, &[CgroupInetIngress, SkReuseportSelect, SkReuseportSelectOrMigrate]),
    (ProgramType::FlowDissector, &[]),
    (ProgramType::CgroupSysctl, &[CgroupInetIngress, CgroupSysctl]),
    (ProgramType::RawTracepointWritable, &[]),
    (ProgramType::CgroupSockopt, &[CgroupGetsockopt, CgroupSetsockopt]),
    (ProgramType::SkLookup, &[SkLookup]),
    (ProgramType::Netfilter, &[Netfilter]),
    (ProgramType::Syscall, &[]),
];

/// Every row of [`TYPES`], an attach type each.
fn kinds() -> impl Iterator<Item = (ProgramType, AttachType)> {
    TYPES.iter().flat_map(|&(program_type, attach_types)| {
        let any = if attach_types.is_empty() { &[CgroupInetIngress] } else { attach_types };
        any.iter().map(move |&attach_type| (program_type, attach_type))
    })
}

/// `BPF_F_SLEEPABLE`.
const SLEEPABLE: u32 = 1 << 4;

/// Whether such programs are loaded as ones that may sleep: those that only load so.
fn may_sleep(program_type: ProgramType) -> bool {
    program_type == ProgramType::Syscall
}

fn by_kernel(slots: &[RawInsn], kind: (ProgramType, AttachType)) -> Verdict {
    let load = ProgramLoad {
        program_type: kind.0.number(),
        attach_type: kind.1.number(),
        flags: if may_sleep(kind.0) { SLEEPABLE } else { 0 },
        license: "GPL",
        slots,
        ..ProgramLoad::default()
    };
    load.load().map(drop).map_err(|refusal| (refusal.errno.0, refusal.message))
}

/// What our verifier says; `None` where it does not know.
fn by_us(program: &Program, env: &Environment) -> Option<Verdict> {
    match verify(program, env, &Options::default()) {
        Ok(_) => Some(Ok(())),
        Err(rejection) if rejection.code == ErrorCode::Unsupported => None,
        Err(rejection) => Some(Err((rejection.errno, rejection.message))),
    }
}

fn environment(kind: (ProgramType, AttachType)) -> Environment {
    let mut env = Environment::new(program_types::of(kind.0).unwrap());
    env.sleepable = may_sleep(kind.0);
    env.attach_type = (kind.1.number() != 0).then_some(kind.1);
    env
}

/// Compares both verdicts on programs of one kind; gives how many there are of which ours is known,
/// and adds a line about each that differs.
fn compare(
    kind: (ProgramType, AttachType),
    programs: impl Iterator<Item = String>,
    differences: &mut Vec<String>,
) -> usize {
    let env = environment(kind);
    let mut known = 0;
    for asm in programs {
        let program = text::assemble(&asm).unwrap();
        let Some(ours) = by_us(&program, &env) else { continue };
        known += 1;
        let kernel = by_kernel(&program.to_slots().unwrap(), kind);
        if ours != kernel {
            let (program_type, attach_type) = kind;
            differences.push(format!(
                "{program_type} {attach_type}: {}: the kernel says {kernel:?}, we {ours:?}",
                asm.replace('\n', "; ")
            ));
        }
    }
    known
}

/// Fails where something differs, showing the first of it.
fn none(differences: &[String]) {
    let shown = &differences[..differences.len().min(40)];
    assert!(differences.is_empty(), "{} differ:\n{}", differences.len(), shown.join("\n"));
}

//! Which types of arguments stand for the program's context.

use ebpf_btf::{Btf, Type, TypeId};
use ebpf_isa::uapi::ProgramType;

use crate::error::PrototypeFault;

/// The name of the type that the kernel has for the context of such programs, if it has a name there.
const fn context_name(program_type: ProgramType) -> Option<&'static str> {
    use ProgramType as Type;
    Some(match program_type {
        Type::SocketFilter
        | Type::SchedCls
        | Type::SchedAct
        | Type::CgroupSkb
        | Type::LwtIn
        | Type::LwtOut
        | Type::LwtXmit
        | Type::LwtSeg6local
        | Type::SkSkb
        | Type::FlowDissector => "__sk_buff",
        Type::Xdp => "xdp_md",
        Type::CgroupSock => "bpf_sock",
        Type::CgroupSockAddr => "bpf_sock_addr",
        Type::SockOps => "bpf_sock_ops",
        Type::SkMsg => "sk_msg_md",
        Type::Kprobe => "pt_regs",
        Type::PerfEvent => "bpf_perf_event_data",
        Type::RawTracepoint | Type::RawTracepointWritable => "bpf_raw_tracepoint_args",
        Type::CgroupDevice => "bpf_cgroup_dev_ctx",
        Type::CgroupSysctl => "bpf_sysctl",
        Type::CgroupSockopt => "bpf_sockopt",
        Type::SkReuseport => "sk_reuseport_md",
        Type::SkLookup => "bpf_sk_lookup",
        Type::Netfilter => "bpf_nf_ctx",
        Type::Tracepoint => "__u64",
        _ => return None,
    })
}

/// The typedef that stands for the registers of a probed function.
const REGISTERS: &str = "bpf_user_pt_regs_t";

/// What programs call the kernel's own type behind a context.
const fn behind(context: &str) -> &'static str {
    match context.as_bytes() {
        b"__sk_buff" => "sk_buff",
        b"xdp_md" => "xdp_buff",
        _ => "",
    }
}

/// Whether a pointer to this type stands for the context by the type's name.
pub(super) fn is_context(btf: &Btf, pointee: TypeId, program_type: ProgramType) -> bool {
    if program_type == ProgramType::Kprobe && is_registers(btf, pointee) {
        return true;
    }
    let Some((Type::Struct(composite) | Type::Union(composite), wanted)) =
        resolved(btf, pointee).zip(context_name(program_type))
    else {
        return false;
    };
    let name = btf.name(composite.name);
    // Some programs declare a structure of the typedef's name.
    if program_type == ProgramType::Kprobe && name == REGISTERS {
        return true;
    }
    name == wanted || (!name.is_empty() && name == behind(wanted))
}

/// Checks the type behind a pointer that is tagged as the context.
pub(super) fn check_tagged(
    btf: &Btf,
    argument: usize,
    pointee: TypeId,
    program_type: ProgramType,
) -> Result<(), PrototypeFault> {
    use ProgramType as Program;
    let has_registers = matches!(program_type, Program::Kprobe | Program::PerfEvent);
    if has_registers && is_registers(btf, pointee) {
        return Ok(());
    }
    let ty = resolved(btf, pointee).unwrap_or(&Type::Void);
    let name = btf.name(ty.name());
    match (ty, program_type) {
        (Type::Void, _) => return Ok(()),
        _ if name.is_empty() => return Err(PrototypeFault::ContextUnnamed { argument }),
        (_, Program::Tracepoint) => return Ok(()),
        (Type::Struct(_), _) if has_registers && name == "pt_regs" => return Ok(()),
        (Type::Int(int), Program::RawTracepoint | Program::RawTracepointWritable)
            if int.size == 8 =>
        {
            return Ok(());
        }
        _ => {}
    }
    let wanted = context_name(program_type).ok_or(PrototypeFault::ContextVoid { argument })?;
    match ty {
        Type::Struct(_) if name == wanted => Ok(()),
        _ => Err(PrototypeFault::ContextType { argument, wanted }),
    }
}

/// The type without its modifiers.
fn resolved(btf: &Btf, id: TypeId) -> Option<&Type> {
    btf.type_by_id(btf.resolve(id).ok()?).ok()
}

/// Whether the first typedef of the type is that of registers.
fn is_registers(btf: &Btf, id: TypeId) -> bool {
    let modified = |id: &TypeId| btf.type_by_id(*id).ok()?.modified();
    let types = core::iter::successors(Some(id), modified).take(ebpf_btf::MAX_RESOLVE_DEPTH);
    let mut typedefs = types.filter_map(|id| match btf.type_by_id(id) {
        Ok(Type::Typedef { name, .. }) => Some(btf.name(*name)),
        _ => None,
    });
    typedefs.next() == Some(REGISTERS)
}

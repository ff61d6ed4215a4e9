//! Which helpers programs may call, with which arguments.

use ebpf_isa::uapi::HelperId;
use ebpf_verifier::rules::{ArgKind, HelperProto};

use super::{compare, environment, is_linux_6_18, kinds, none};

pub(super) fn known_helpers() -> impl Iterator<Item = HelperId> {
    (1..).map(HelperId).take_while(|id| id.name().is_some())
}

/// No argument is initialised, so that the answer tells whether the call is allowed at all, and
/// whether the helper takes arguments.
#[test]
fn helpers_are_allowed_as_by_the_kernel() {
    if !is_linux_6_18() {
        return;
    }
    let mut differences = Vec::new();
    for kind in kinds() {
        let calls = known_helpers().map(|id| format!("r1 = 0\ncall {id}\nr0 = 1\nexit"));
        compare(kind, calls, &mut differences);
    }
    none(&differences);
}

/// The context is in `r6`; 64 bytes below the frame pointer are zero.
pub(super) const SETUP: &str = "r6 = r1\n*(u64 *)(r10 -64) = 0\n*(u64 *)(r10 -56) = 0\n";

/// What fits an argument, as an instruction that sets register `n`; `None` for a map.
pub(super) fn fitting(kind: ArgKind, n: usize) -> Option<String> {
    Some(match kind {
        ArgKind::Context => format!("r{n} = r6\n"),
        ArgKind::Memory
        | ArgKind::MemoryOrNull
        | ArgKind::Output
        | ArgKind::Update
        | ArgKind::UpdateOrNull
        | ArgKind::Header20
        | ArgKind::Header40
        | ArgKind::U32Update
        | ArgKind::U64Output => format!("r{n} = r10\nr{n} += -64\n"),
        ArgKind::Size | ArgKind::SizeOrZero | ArgKind::ReservedSize => format!("r{n} = 8\n"),
        ArgKind::Unused
        | ArgKind::Anything
        | ArgKind::NoFlags
        | ArgKind::ContextOrNull
        | ArgKind::SockOrNull
        | ArgKind::FullSockOrNull => format!("r{n} = 0\n"),
        ArgKind::Map
        | ArgKind::MapKey
        | ArgKind::MapValue
        | ArgKind::MapValueOrNull
        | ArgKind::Sock
        | ArgKind::MapValueOutput
        | ArgKind::SpinLock
        | ArgKind::Timer
        | ArgKind::SockCommon
        | ArgKind::ReleasedSock
        | ArgKind::ReleasedRingbuf
        | ArgKind::Callback
        | ArgKind::ConstString
        | ArgKind::Dynptr
        | ArgKind::LocalDynptr
        | ArgKind::RingbufDynptr
        | ArgKind::ReleasedDynptr
        | ArgKind::Task
        | ArgKind::SeqFile
        | ArgKind::File
        | ArgKind::Path
        | ArgKind::SkBuff
        | ArgKind::XdpBuff
        | ArgKind::StackOrNull => return None,
    })
}

/// What may or may not fit: nothing, numbers, the context and the stack, moved and not.
pub(super) fn others(n: usize) -> [String; 10] {
    [
        format!("r{n} = r9\n"),
        format!("r{n} = 0\n"),
        format!("r{n} = 64\n"),
        format!("r{n} = 65\n"),
        format!("r{n} = -1\n"),
        format!("r{n} = *(u32 *)(r10 -64)\n"),
        format!("r{n} = r6\n"),
        format!("r{n} = r6\nr{n} += 8\n"),
        format!("r{n} = r10\nr{n} += -62\n"),
        format!("r{n} = r10\nr{n} += -520\n"),
    ]
}

/// Calls with fitting arguments, and with each of them replaced by others. What a helper leaves on
/// the stack and in `r0` is then looked at.
fn calls(proto: &HelperProto) -> Vec<String> {
    let kinds = proto.args;
    let args: Option<Vec<String>> =
        kinds.iter().enumerate().map(|(index, &kind)| fitting(kind, index + 1)).collect();
    let Some(args) = args else {
        return Vec::new();
    };
    let after = [
        "r0 = 1\nexit",
        "r1 = *(u64 *)(r10 -64)\nif r1 == 0 goto pc+1\nr0 = r9\nr0 = 1\nexit",
        "if r0 == 7 goto pc+1\nr0 = 1\nr0 = 1\nexit",
        "if r0 s< 4097 goto pc+1\nr0 = r9\nr0 = 1\nexit",
        "if r0 s> -4096 goto pc+1\nr0 = r9\nr0 = 1\nexit",
        "if r0 s> 8 goto pc+1\nr0 = 1\nr0 = 1\nexit",
    ];
    let call = |args: &[String], after: &str| {
        format!("{SETUP}{}call {}\n{after}", args.concat(), proto.id)
    };
    let fitting = after.iter().map(|after| call(&args, after));
    let used = kinds.iter().take_while(|&&kind| kind != ArgKind::Unused).count();
    let misfits = (0..used).flat_map(|index| {
        let replaced = others(index + 1).into_iter().map(move |other| (index, other));
        replaced.map(|(index, other)| {
            let mut args = args.clone();
            args[index] = other;
            call(&args, after[0])
        })
    });
    fitting.chain(misfits).collect()
}

#[test]
fn arguments_are_judged_as_by_the_kernel() {
    if !is_linux_6_18() {
        return;
    }
    let (mut differences, mut known) = (Vec::new(), 0);
    for kind in kinds() {
        let rules = environment(kind).program_type;
        let allowed = known_helpers().filter(|&id| rules.may_call(id, Some(kind.1)));
        // What it returns is bounded by the machine's number of processors.
        let allowed = allowed.filter(|&id| id != HelperId::GET_SMP_PROCESSOR_ID);
        let protos = allowed.filter_map(|id| rules.helper(id));
        let programs: Vec<String> = protos.flat_map(calls).collect();
        known += compare(kind, programs.into_iter(), &mut differences);
    }
    assert!(known > 10_000, "{known}");
    none(&differences);
}

/// Whether packet pointers are void after a call with fitting arguments.
#[test]
fn packets_are_moved_as_by_the_kernel() {
    if !is_linux_6_18() {
        return;
    }
    let packet = "r7 = *(u32 *)(r1 +76)\nr8 = *(u32 *)(r1 +80)\nr2 = r7\nr2 += 8\n\
                  if r2 <= r8 goto pc+2\nr0 = 1\nexit\n";
    let mut differences = Vec::new();
    for kind in kinds() {
        let rules = environment(kind).program_type;
        let allowed = known_helpers().filter(|&id| rules.may_call(id, Some(kind.1)));
        let protos = allowed.filter_map(|id| rules.helper(id));
        let programs = protos.filter_map(|proto| {
            let args = proto.args.iter().enumerate();
            let args: Option<String> = args.map(|(index, &arg)| fitting(arg, index + 1)).collect();
            let call = format!("{}call {}\nr3 = *(u8 *)(r7 +0)\nr0 = 1\nexit", args?, proto.id);
            Some(format!("{SETUP}{packet}{call}"))
        });
        compare(kind, programs, &mut differences);
    }
    none(&differences);
}

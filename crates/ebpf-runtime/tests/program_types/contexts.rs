//! Every access to every context: each offset, width and direction.

use ebpf_isa::Size;
use ebpf_isa::uapi::ProgramType;

use super::{compare, is_linux_6_18, kinds, none};

/// Bytes of the longest context but for tracepoints', and some more.
const END: i16 = 232;
/// Both ends of a tracepoint's record. The kernel allows loads from before it, too, which are
/// refused here.
const RECORD: [std::ops::Range<i16>; 2] = [0..32, 8176..8200];

fn offsets(program_type: ProgramType) -> Vec<i16> {
    match program_type {
        ProgramType::Tracepoint => RECORD.into_iter().flatten().collect(),
        _ => (-8..END).collect(),
    }
}

/// Loads whose result is then used as a pointer, so that the refusal tells what it is, and stores.
fn accesses(off: i16) -> impl Iterator<Item = String> {
    let place = move |kind: &str, size: Size| {
        let (bits, sign) = (size.bits(), if off < 0 { '-' } else { '+' });
        format!("*({kind}{bits} *)(r1 {sign}{})", off.unsigned_abs())
    };
    Size::ALL.iter().flat_map(move |&size| {
        let mut asm = vec![
            format!("r2 = {}\nr3 = *(u8 *)(r2 +0)\nr0 = 1\nexit", place("u", size)),
            format!("r2 = 0\n{} = r2\nr0 = 1\nexit", place("u", size)),
        ];
        if size != Size::Dw {
            asm.push(format!("r2 = {}\nr3 = *(u8 *)(r2 +0)\nr0 = 1\nexit", place("s", size)));
        }
        if off % 4 == 0 {
            asm.push(format!("{} = 0\nr0 = 1\nexit", place("u", size)));
        }
        asm
    })
}

#[test]
fn accesses_to_contexts_are_judged_as_by_the_kernel() {
    if !is_linux_6_18() {
        return;
    }
    let mut differences = Vec::new();
    for kind in kinds() {
        let programs = offsets(kind.0).into_iter().flat_map(accesses);
        assert!(compare(kind, programs, &mut differences) > 200, "{kind:?}");
    }
    none(&differences);
}

/// How programs get a pointer to an object: type, the load, whether it may be null, and a helper
/// that makes another one of it.
const OBJECTS: [(ProgramType, ebpf_isa::uapi::AttachType, &str); 4] = {
    use ebpf_isa::uapi::AttachType::{CgroupInetIngress, SkLookup, SkMsgVerdict};
    [
        (ProgramType::FlowDissector, CgroupInetIngress, "r2 = *(u64 *)(r1 +144)"),
        (ProgramType::SkMsg, SkMsgVerdict, "r2 = *(u64 *)(r1 +72)"),
        (ProgramType::CgroupSkb, CgroupInetIngress, "r2 = *(u64 *)(r1 +168)"),
        (ProgramType::SkLookup, SkLookup, "r2 = *(u64 *)(r1 +0)"),
    ]
};

#[test]
fn accesses_to_objects_are_judged_as_by_the_kernel() {
    if !is_linux_6_18() {
        return;
    }
    let mut differences = Vec::new();
    for (program_type, attach_type, load) in OBJECTS {
        let programs = (-8..124).flat_map(accesses).map(|access| {
            let access = access.replace("r1 ", "r2 ").replace("r2 = 0", "r4 = 0");
            let access = access.replace(" = r2", " = r4").replace("r2 = *", "r5 = *");
            let access = access.replace("r3 = *(u8 *)(r2 +0)", "r3 = *(u8 *)(r5 +0)");
            format!("{load}\nif r2 == 0 goto out\n{access}\nout:\nr0 = 1\nexit")
        });
        assert!(compare((program_type, attach_type), programs, &mut differences) > 200);
    }
    none(&differences);
}

/// Constants and unknown numbers as return values.
#[test]
fn return_values_are_judged_as_by_the_kernel() {
    if !is_linux_6_18() {
        return;
    }
    let mut differences = Vec::new();
    for kind in kinds() {
        let constants = (-2..6).map(|value| format!("r0 = {value}\nexit"));
        let others =
            ["r0 = *(u8 *)(r10 -8)\nexit", "r0 = *(u64 *)(r10 -8)\nexit", "r0 = r10\nexit"];
        let programs = constants.chain(others.map(str::to_owned));
        compare(kind, programs, &mut differences);
    }
    none(&differences);
}

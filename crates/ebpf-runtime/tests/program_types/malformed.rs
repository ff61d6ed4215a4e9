//! Slots that are no program.

use ebpf_isa::RawInsn;
use ebpf_isa::uapi::ProgramType;
use ebpf_runtime::kernel::ProgramLoad;
use ebpf_testkit::Rng;
use ebpf_verifier::{Environment, ErrorCode, check_slots, program_types};

use super::{is_linux_6_18, none};

/// Programs tried.
const PROGRAMS: u32 = 20_000;

/// Opcodes of everything that the structure of a program depends on.
const OPCODES: [u8; 20] = [
    0x18, 0x18, 0x05, 0x06, 0x15, 0x1d, 0x16, 0x85, 0x85, 0x95, 0x95, 0x61, 0x71, 0x0d, 0x8d, 0x9d,
    0x00, 0xb7, 0xff, 0x41,
];

fn slot(rng: &mut Rng) -> RawInsn {
    let near = |rng: &mut Rng| rng.range(0..7) as i32 - 3;
    let rarely = |rng: &mut Rng| i32::from(rng.chance(1, 8));
    let opcode = *rng.pick(&OPCODES);
    let kinds: &[u8] = if matches!(opcode, 0x18 | 0x85) { &[0, 1, 2, 4, 7] } else { &[0] };
    RawInsn {
        opcode,
        dst: rarely(rng) as u8,
        src: *rng.pick(kinds),
        off: near(rng) as i16,
        imm: if matches!(opcode, 0x06 | 0x85) { near(rng) } else { rarely(rng) },
    }
}

fn program(rng: &mut Rng) -> Vec<RawInsn> {
    let mut slots = vec![RawInsn { opcode: 0xb7, ..RawInsn::default() }];
    for _ in 0..rng.range(1..7) {
        let slot = slot(rng);
        slots.push(slot);
        if slot.opcode == 0x18 && !rng.chance(1, 4) {
            slots.push(RawInsn::default());
        }
    }
    slots.push(RawInsn { opcode: 0x95, ..RawInsn::default() });
    slots
}

/// Asks the kernel; `None` where it began to explore the program.
fn complaint_of_kernel(slots: &[RawInsn]) -> Option<(i32, String)> {
    let program_type = ProgramType::SocketFilter.number();
    let load = ProgramLoad { program_type, license: "GPL", slots, ..ProgramLoad::default() };
    let refusal = load.load().err()?;
    let explored = refusal.statistics.is_some_and(|statistics| statistics.processed > 0);
    (!explored).then_some((refusal.errno.0, refusal.message))
}

#[test]
fn malformed_programs_are_refused_in_the_words_of_the_kernel() {
    if !is_linux_6_18() {
        return;
    }
    let env = Environment::new(program_types::socket_filter());
    let mut rng = Rng::seed(9);
    let (mut differences, mut passed) = (Vec::new(), 0);
    for _ in 0..PROGRAMS {
        let slots = program(&mut rng);
        let ours = match check_slots(&slots, &|_| None, &env) {
            Ok(()) => None,
            Err(rejection) if rejection.code == ErrorCode::Unsupported => continue,
            Err(rejection) => Some((rejection.errno, rejection.message)),
        };
        passed += u32::from(ours.is_none());
        let kernel = complaint_of_kernel(&slots);
        if ours != kernel {
            differences.push(format!("{slots:x?}: the kernel says {kernel:?}, we {ours:?}"));
        }
    }
    none(&differences);
    assert!((PROGRAMS / 100..PROGRAMS / 2).contains(&passed), "{passed} are well formed");
}

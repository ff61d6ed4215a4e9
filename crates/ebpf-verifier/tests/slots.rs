//! Slots that are no program: what is said first. The words are those of Linux 6.18.

use ebpf_isa::uapi::{MapDesc, MapType};
use ebpf_isa::{MapIdx, RawInsn};
use ebpf_verifier::{Environment, ErrorCode, MapInfo, check_slots, program_types};

/// One slot: opcode, destination, source, offset, immediate.
const fn slot(opcode: u8, dst: u8, src: u8, off: i16, imm: i32) -> RawInsn {
    RawInsn { opcode, dst, src, off, imm }
}

const MOV: RawInsn = slot(0xb7, 0, 0, 0, 0);
const EXIT: RawInsn = slot(0x95, 0, 0, 0, 0);
const SECOND: RawInsn = slot(0, 0, 0, 0, 0);

fn complaint(slots: &[RawInsn]) -> Option<(ErrorCode, String)> {
    let desc =
        MapDesc { map_type: MapType::Array, key_size: 4, value_size: 16, max_entries: 4, flags: 0 };
    let mut env = Environment::new(program_types::socket_filter());
    env.maps = vec![MapInfo::new("map", desc)];
    let rejection = check_slots(slots, &|pc| (pc.0 == 1).then_some(MapIdx(0)), &env).err()?;
    Some((rejection.code, rejection.message))
}

#[test]
fn structure_is_judged_in_the_words_of_the_kernel() {
    let wide = |src, imm| slot(0x18, 1, src, 0, imm);
    let goto = |off| slot(0x05, 0, 0, off, 0);
    let unknown = slot(0xff, 0, 0, 0, 0);
    let calls = slot(0x85, 0, 1, 0, 1);
    let tail_call = slot(0x85, 0, 0, 0, 12);
    let rows: [(&[RawInsn], &str); 20] = [
        (&[MOV, slot(0x85, 0, 1, 0, 7), EXIT], "call to invalid destination"),
        (&[MOV, slot(0x85, 0, 1, 0, -3), EXIT], "call to invalid destination"),
        (&[goto(-2), EXIT], "jump out of range from insn 0 to -1"),
        (&[MOV, goto(1), EXIT], "jump out of range from insn 1 to 3"),
        (&[slot(0x06, 0, 0, 0, 9), EXIT], "jump out of range from insn 0 to 10"),
        (&[MOV], "last insn is not an exit or jmp"),
        (&[unknown], "last insn is not an exit or jmp"),
        (
            &[calls, EXIT, tail_call, unknown, EXIT],
            "tail_call is not allowed in subprogs without BTF",
        ),
        (
            &[calls, EXIT, tail_call, slot(0x40, 0, 0, 0, 4), EXIT],
            "LD_ABS is not allowed in subprogs without BTF",
        ),
        (&[tail_call, unknown, EXIT], "unknown opcode ff"),
        (&[unknown, EXIT], "unknown opcode ff"),
        (&[slot(0x8d, 0, 0, 0, 0), EXIT], "unknown opcode 8d"),
        (&[slot(0x01, 0, 0, 0, 0), EXIT], "BPF_LDX uses reserved fields"),
        (&[slot(0x61, 0, 1, 0, 1), EXIT], "BPF_LDX uses reserved fields"),
        (&[wide(0, 0), EXIT, EXIT], "invalid bpf_ld_imm64 insn"),
        (&[wide(7, 0), SECOND, EXIT], "unrecognized bpf_ld_imm64 insn"),
        (&[wide(1, 0), slot(0, 0, 0, 0, 1), EXIT], "unrecognized bpf_ld_imm64 insn"),
        (&[wide(1, 5), SECOND, EXIT], "fd 5 is not pointing to valid bpf_map"),
        (&[goto(1), MOV, EXIT], "unreachable insn 1"),
        (
            &[slot(0x15, 1, 0, 1, 0), wide(0, 0), SECOND, EXIT],
            "jump into the middle of ldimm64 insn 1",
        ),
    ];
    for (slots, expected) in rows {
        assert_eq!(complaint(slots).map(|(_, message)| message).as_deref(), Some(expected));
    }
}

#[test]
fn what_only_exploration_finds_is_left_to_it() {
    let reserved = slot(0xb7, 0, 0, 1, 0);
    let bad_register = slot(0xbf, 0, 11, 0, 0);
    for slots in [&[reserved, EXIT][..], &[bad_register, EXIT], &[slot(0x95, 1, 0, 0, 0)]] {
        assert_eq!(complaint(slots), None, "{slots:?}");
    }
    let map = slot(0x18, 1, 1, 0, 5);
    assert_eq!(complaint(&[MOV, map, SECOND, EXIT]), None, "the map at 1 is there");
}

#[test]
fn sizes_and_kernel_functions() {
    assert_eq!(complaint(&[]).unwrap().0, ErrorCode::LimitSlots);
    let calls = |count: i32| -> Vec<RawInsn> {
        let call = |index| slot(0x85, 0, 1, 0, count - index - 1 + 1 + 2 * index);
        let bodies = (0..count).flat_map(|_| [MOV, EXIT]);
        (0..count).map(call).chain([EXIT]).chain(bodies).collect()
    };
    assert_eq!(complaint(&calls(255)), None);
    let too_many = (ErrorCode::LimitSubprograms, "too many subprograms".to_owned());
    assert_eq!(complaint(&calls(256)), Some(too_many));
    let kernel_function = slot(0x85, 0, 2, 0, 1);
    assert_eq!(complaint(&[kernel_function, EXIT]).unwrap().0, ErrorCode::Unsupported);
}

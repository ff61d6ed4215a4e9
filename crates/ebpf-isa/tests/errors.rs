//! Every way in which slots are no instructions, and instructions no program.

use std::collections::BTreeMap;

use ebpf_isa::{
    CallTarget, DecodeError, EncodeError, Insn, LineInfo, LineTable, MapForm, MapIdx, Operand, Pc,
    Program, ProgramError, RawInsn, Reg, Size, SlotBytesError, SourceLine, SubprogInfo, WideSource,
    Width, decode, decode_all, encode,
};

const EXIT: [u8; 8] = [0x95, 0, 0, 0, 0, 0, 0, 0];

fn slots(bytes: &[[u8; 8]]) -> Vec<RawInsn> {
    bytes.iter().copied().map(RawInsn::from_bytes).collect()
}

/// The error of the first slot.
#[track_caller]
fn decode_error(bytes: &[[u8; 8]]) -> DecodeError {
    decode(&slots(bytes), Pc::ENTRY).expect_err("the slot is malformed")
}

#[track_caller]
fn program_error(bytes: &[[u8; 8]]) -> ProgramError {
    Program::from_slots(&slots(bytes)).expect_err("the program is not sound")
}

#[test]
fn unknown_opcodes() {
    let pc = Pc(0);
    let unknown = [
        0x8c, // neg with a register source
        0xdf, // bswap with the source bit
        0xe4, 0xf7, // no such arithmetic
        0x0d, 0x0e, // ja with a register
        0x86, // call in class jmp32
        0x96, // exit in class jmp32
        0xe6, 0xf5, // no such jump
        0x00, 0x08, // 32-bit and 16-bit immediates
        0x38, 0x58, // packet loads of 8 bytes
        0x78, // mode mem in class ld
        0x99, // sign-extending load of 8 bytes
        0x01, 0xa1, 0xe1, // no such mode
        0x82, 0xc2, // sign-extending and atomic in class st
        0x83, // sign-extending in class stx
        0xcb, 0xd3, // atomic addition of 2 bytes, of 1 byte
    ];
    for opcode in unknown {
        let error = decode_error(&[[opcode, 0, 0, 0, 0, 0, 0, 0], [0; 8]]);
        assert_eq!(error, DecodeError::UnknownOpcode { pc, opcode }, "{opcode:#04x}");
    }
}

/// The opcode of calls through registers is known only as LLVM 19 and gcc have it.
#[test]
fn calls_through_registers() {
    let opcode = 0x8d;
    let unknown = DecodeError::UnknownOpcode { pc: Pc(0), opcode };
    for slot in [
        [opcode, 0x0b, 0, 0, 0, 0, 0, 0],
        [opcode, 0x20, 0, 0, 0, 0, 0, 0],
        [opcode, 0x02, 1, 0, 0, 0, 0, 0],
        [opcode, 0x00, 0, 0, 2, 0, 0, 0],
    ] {
        assert_eq!(decode_error(&[slot]), unknown, "{slot:02x?}");
    }
}

#[test]
fn registers_above_10() {
    let bad = |number| DecodeError::BadRegister { pc: Pc(0), number };
    assert_eq!(decode_error(&[[0xbf, 0x0b, 0, 0, 0, 0, 0, 0]]), bad(11));
    assert_eq!(decode_error(&[[0xbf, 0xb0, 0, 0, 0, 0, 0, 0]]), bad(11));
    assert_eq!(decode_error(&[[0x61, 0xf0, 0, 0, 0, 0, 0, 0]]), bad(15));
    assert!(decode(&slots(&[[0xbf, 0xaa, 0, 0, 0, 0, 0, 0]]), Pc(0)).is_ok());
}

#[test]
fn reserved_fields() {
    let cases: &[([u8; 8], &str)] = &[
        ([0x07, 0x10, 0, 0, 0, 0, 0, 0], "src"),  // r0 += imm
        ([0x07, 0, 1, 0, 0, 0, 0, 0], "off"),     // r0 += imm
        ([0x0f, 0, 0, 0, 1, 0, 0, 0], "imm"),     // r0 += r0
        ([0x37, 0, 2, 0, 1, 0, 0, 0], "off"),     // neither div nor sdiv
        ([0xb7, 0, 8, 0, 0, 0, 0, 0], "off"),     // movsx of an immediate
        ([0xbf, 0, 8, 0, 1, 0, 0, 0], "imm"),     // movsx
        ([0x87, 0, 0, 0, 1, 0, 0, 0], "imm"),     // neg
        ([0xdc, 0x10, 0, 0, 16, 0, 0, 0], "src"), // be16
        ([0x05, 1, 0, 0, 0, 0, 0, 0], "dst"),     // ja
        ([0x05, 0, 0, 0, 1, 0, 0, 0], "imm"),     // ja
        ([0x06, 0, 1, 0, 0, 0, 0, 0], "off"),     // gotol
        ([0x15, 0x10, 0, 0, 0, 0, 0, 0], "src"),  // jeq with an immediate
        ([0x1d, 0, 0, 0, 1, 0, 0, 0], "imm"),     // jeq with a register
        ([0x85, 1, 0, 0, 1, 0, 0, 0], "dst"),     // call
        ([0x85, 0, 1, 0, 1, 0, 0, 0], "off"),     // call of a helper
        ([0x95, 0, 0, 0, 1, 0, 0, 0], "imm"),     // exit
        ([0xe5, 0, 0, 0, 1, 0, 0, 0], "imm"),     // may_goto
        ([0x61, 0, 0, 0, 1, 0, 0, 0], "imm"),     // load
        ([0x62, 0x10, 0, 0, 0, 0, 0, 0], "src"),  // store of an immediate
        ([0x63, 0, 0, 0, 1, 0, 0, 0], "imm"),     // store of a register
        ([0x20, 0, 1, 0, 0, 0, 0, 0], "off"),     // packet load
        ([0x20, 0x10, 0, 0, 0, 0, 0, 0], "src"),  // packet load, absolute
        ([0x18, 0, 1, 0, 0, 0, 0, 0], "off"),     // wide load
    ];
    for &(bytes, field) in cases {
        let expected = DecodeError::ReservedField { pc: Pc(0), opcode: bytes[0], field };
        assert_eq!(decode_error(&[bytes, [0; 8]]), expected, "{bytes:x?}");
    }
    let map_with_high_half = [[0x18, 0x10, 0, 0, 0, 0, 0, 0], [0, 0, 0, 0, 1, 0, 0, 0]];
    let expected = DecodeError::ReservedField { pc: Pc(0), opcode: 0x18, field: "next_imm" };
    assert_eq!(decode_error(&map_with_high_half), expected);
}

#[test]
fn variants_that_do_not_exist() {
    let cases: &[([u8; 8], &str, i64)] = &[
        ([0xbf, 0, 24, 0, 0, 0, 0, 0], "sign extension", 24),
        ([0xbc, 0, 32, 0, 0, 0, 0, 0], "sign extension", 32),
        ([0xbc, 0, 1, 0, 0, 0, 0, 0], "sign extension", 1),
        ([0xbf, 0, 1, 0, 0, 0, 0, 0], "address space", 0),
        ([0xd7, 0, 0, 0, 8, 0, 0, 0], "byte swap", 8),
        ([0xd4, 0, 0, 0, 0, 0, 0, 0], "byte swap", 0),
        ([0xe5, 0x10, 0, 0, 0, 0, 0, 0], "conditional jump", 1),
        ([0x85, 0x30, 0, 0, 0, 0, 0, 0], "call", 3),
        ([0x18, 0x70, 0, 0, 0, 0, 0, 0], "wide load", 7),
        ([0xdb, 0, 0, 0, 0x10, 0, 0, 0], "atomic operation", 0x10),
        ([0xdb, 0, 0, 0, 0xe0, 0, 0, 0], "atomic operation", 0xe0), // xchg without fetch
        ([0xc3, 0, 0, 0, 0xf0, 0, 0, 0], "atomic operation", 0xf0), // cmpxchg without fetch
    ];
    for &(bytes, what, value) in cases {
        let expected = DecodeError::BadVariant { pc: Pc(0), opcode: bytes[0], what, value };
        assert_eq!(decode_error(&[bytes, [0; 8]]), expected, "{bytes:x?}");
    }
}

#[test]
fn wide_loads_are_whole() {
    let first = [0x18, 1, 0, 0, 1, 0, 0, 0];
    let half = DecodeError::HalfWideLoad { pc: Pc(0) };
    assert_eq!(decode_error(&[first]), half);
    for second in [EXIT, [0, 1, 0, 0, 0, 0, 0, 0], [0, 0, 1, 0, 0, 0, 0, 0]] {
        assert_eq!(decode_error(&[first, second]), half);
    }
    let lone_second_half = DecodeError::UnknownOpcode { pc: Pc(0), opcode: 0 };
    assert_eq!(program_error(&[[0; 8], EXIT]), ProgramError::Decode(lone_second_half));
}

#[test]
fn jumps_to_negative_positions() {
    let expected = DecodeError::TargetOutOfRange { pc: Pc(0), offset: -2 };
    assert_eq!(decode_error(&[[0x05, 0, 0xfe, 0xff, 0, 0, 0, 0]]), expected);
    assert_eq!(decode_error(&[[0x85, 0x10, 0, 0, 0xfe, 0xff, 0xff, 0xff]]), expected);
    assert_eq!(expected.to_string(), "insn 0: jump by -2 leaves the program");
}

#[test]
fn the_position_of_an_error_is_that_of_its_slot() {
    let error = decode_all(&slots(&[EXIT, EXIT, [0xff; 8]])).unwrap_err();
    assert_eq!(error, DecodeError::UnknownOpcode { pc: Pc(2), opcode: 0xff });
    assert_eq!(error.pc(), Pc(2));
    assert_eq!(error.to_string(), "insn 2: unknown opcode 0xff");
    assert_eq!(ProgramError::from(error).pc(), Some(Pc(2)));
}

#[test]
fn bytes_come_in_eights() {
    assert_eq!(RawInsn::slots(&EXIT), Ok(slots(&[EXIT])));
    assert_eq!(RawInsn::slots(&EXIT[..7]), Err(SlotBytesError { len: 7 }));
}

#[test]
fn lengths_of_programs() {
    assert_eq!(program_error(&[]), ProgramError::Empty);
    let exits = |len| Program::new(vec![Some(Insn::Exit); len], BTreeMap::new(), LineTable::new());
    assert!(exits(Program::MAX_SLOTS).is_ok());
    let slots = Program::MAX_SLOTS + 1;
    assert_eq!(exits(slots), Err(ProgramError::TooLong { slots }));
}

#[test]
fn targets_are_instructions() {
    let (pc, wide) = (Pc(0), [0x18, 0, 0, 0, 0, 0, 0, 0]);
    let target = Pc(2);
    let jump = [0x05, 0, 1, 0, 0, 0, 0, 0];
    let call = [0x85, 0x10, 0, 0, 1, 0, 0, 0];
    for insn in [jump, call] {
        assert_eq!(program_error(&[insn, EXIT]), ProgramError::TargetOutOfRange { pc, target });
        assert_eq!(
            program_error(&[insn, wide, [0; 8], EXIT]),
            ProgramError::TargetInWideLoad { pc, target }
        );
    }
}

#[test]
fn subprograms_are_closed() {
    let call = [0x85, 0x10, 0, 0, 1, 0, 0, 0];
    let (jump_on, jump_back) = ([0x05, 0, 0, 0, 0, 0, 0, 0], [0x05, 0, 0xfd, 0xff, 0, 0, 0, 0]);
    let mov = [0xb7, 0, 0, 0, 0, 0, 0, 0];
    let leaves = |pc, target, start| ProgramError::JumpLeavesSubprog { pc, target, start };
    assert_eq!(program_error(&[call, jump_on, EXIT]), leaves(Pc(1), Pc(2), Pc(0)));
    assert_eq!(program_error(&[call, EXIT, jump_back]), leaves(Pc(2), Pc(0), Pc(2)));
    assert_eq!(program_error(&[call, mov, EXIT]), ProgramError::FallsThrough { pc: Pc(1) });
    assert_eq!(program_error(&[mov]), ProgramError::FallsThrough { pc: Pc(0) });
    assert_eq!(program_error(&[call]), ProgramError::TargetOutOfRange { pc: Pc(0), target: Pc(2) });
}

#[test]
fn given_slots_must_agree_with_their_instructions() {
    let source = WideSource::Map(MapIdx(0), MapForm::Fd);
    let wide = Some(Insn::LoadWide { dst: Reg::R1, source });
    let new = |slots| Program::new(slots, BTreeMap::new(), LineTable::new());
    let split = |pc| Err(ProgramError::SplitWideLoad { pc });
    assert_eq!(new(vec![wide, Some(Insn::Exit)]), split(Pc(1)));
    assert_eq!(new(vec![Some(Insn::Exit), None]), split(Pc(1)));
    assert_eq!(new(vec![Some(Insn::Exit), wide]), split(Pc(1)));
    assert!(new(vec![wide, None, Some(Insn::Exit)]).is_ok());
}

#[test]
fn what_is_known_must_belong_to_something() {
    let exits = vec![Some(Insn::Exit); 2];
    let infos = BTreeMap::from([(Pc(1), SubprogInfo::default())]);
    let error = Program::new(exits.clone(), infos, LineTable::new());
    assert_eq!(error, Err(ProgramError::NoSubprogAt { pc: Pc(1) }));

    let lines = |positions: &[u32]| {
        let mut table = LineTable::new();
        for &pc in positions {
            table.push(Pc(pc), SourceLine { file: "a.c", text: "", line: 1, col: 1 });
        }
        Program::new(exits.clone(), BTreeMap::new(), table)
    };
    assert!(lines(&[0, 1]).is_ok());
    for (positions, pc) in [(&[0, 0], Pc(0)), (&[1, 0], Pc(0)), (&[0, 2], Pc(2))] {
        assert_eq!(lines(positions), Err(ProgramError::BadLine { pc }));
    }
}

#[test]
fn lines_hold_until_the_next() {
    let mut table = LineTable::new();
    table.push(Pc(1), SourceLine { file: "a.c", text: "x = 1;", line: 7, col: 2 });
    table.push(Pc(3), SourceLine { file: "a.c", text: "y = 2;", line: 8, col: 0 });
    let line_at = |pc| table.at(Pc(pc)).map(|line| line.line);
    assert_eq!([line_at(0), line_at(1), line_at(2), line_at(9)], [None, Some(7), Some(7), Some(8)]);
    assert_eq!(table.starting_at(Pc(2)), None);
    assert_eq!(table.starting_at(Pc(3)).map(|line| line.text), Some("y = 2;"));
    let moved: Vec<LineInfo> =
        table.entries().iter().map(|info| LineInfo { pc: Pc(info.pc.0 + 5), ..*info }).collect();
    assert_eq!(table.with_entries(moved).at(Pc(6)).map(|line| line.text), Some("x = 1;"));
}

#[test]
fn what_has_no_encoding() {
    let (pc, dst) = (Pc(7), Reg::R1);
    let form = |what| Err(EncodeError::NoSuchForm { pc, what });
    let from = Size::Dw;
    assert_eq!(
        encode(Insn::MovSx { width: Width::W64, dst, src: dst, from }, pc),
        form("sign extension")
    );
    let target = Pc(7 + 1 + 32768);
    assert_eq!(
        encode(Insn::Jump { target, long: false }, pc),
        Err(EncodeError::OffsetTooFar { pc, target, bits: 16 })
    );
    assert!(encode(Insn::Jump { target, long: true }, pc).is_ok());
    let target = Pc(u32::MAX);
    assert_eq!(
        encode(Insn::Jump { target, long: true }, pc),
        Err(EncodeError::OffsetTooFar { pc, target, bits: 32 })
    );
    let mov = |dst, src| Insn::Mov { width: Width::W64, dst, src: Operand::Reg(src) };
    let auxiliary = Err(EncodeError::AuxiliaryRegister { pc });
    assert_eq!(encode(mov(Reg::Ax, Reg::R1), pc), auxiliary);
    assert_eq!(encode(mov(Reg::R10, Reg::Ax), pc), auxiliary);
    let source = WideSource::Func(Pc(0));
    assert_eq!(encode(Insn::LoadWide { dst: Reg::Ax, source }, pc), auxiliary);
    assert!(encode(mov(Reg::R10, Reg::R10), pc).is_ok());
    let native = Insn::Call(CallTarget::Native(3));
    assert_eq!(encode(native, pc), Err(EncodeError::NativeCall { pc }));
    assert_eq!(native.text(pc).to_string(), "call native#3");
}

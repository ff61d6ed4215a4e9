//! Round trips, and that no input makes anything panic.

mod strategy;

use ebpf_isa::text::assemble;
use ebpf_isa::{Decoded, Insn, Pc, Program, RawInsn, decode, encode};
use proptest::collection::vec;
use proptest::prelude::*;

/// Slots with `insn` at `at`.
fn slots_at(insn: Insn, at: Pc) -> Vec<RawInsn> {
    let (first, second) = encode(insn, at).expect("generated instructions have an encoding");
    let mut slots = vec![RawInsn::default(); at.index()];
    slots.push(first);
    slots.extend(second);
    slots
}

/// Slots that often decode: an opcode of every family, few bits in the other fields.
fn likely_slot() -> impl Strategy<Value = RawInsn> {
    let bits = || prop_oneof![4 => Just(0_i32), 1 => any::<i32>(), 1 => 0..0x120_i32, 1 => Just(1)];
    (any::<u8>(), 0..12_u8, prop_oneof![0..3_u8, 0..12_u8], bits(), bits())
        .prop_map(|(opcode, dst, src, off, imm)| RawInsn { opcode, dst, src, off: off as i16, imm })
}

/// Text made of pieces of the language.
fn likely_text() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(&[
        "%r1",
        "[%r2",
        "+8]",
        "mov32",
        "movsx832",
        "movsx3232",
        "lddw",
        "ldxdw",
        "ldxwsx",
        "ldindw",
        "stxb",
        "jsgt32",
        "ja",
        "fetch",
        "add",
        "cmpxchg32",
        "swap64",
        "local",
        "callx",
        "xchg_64",
        "cmpxchg32_32",
        "ld_pseudo",
        "<name>:",
        "95 00 00 00 00 00 00 00",
        "18 11 00 00 05 00 00 00",
        ".text",
        ".section",
        "x,\"ax\"",
        ".p2align",
        ".byte",
        "r1",
        "w2",
        "r11",
        "=",
        "+=",
        "s>>=",
        "0x",
        "-",
        "5",
        "99999999999999999999",
        "(",
        ")",
        "*",
        "u32",
        "s8",
        "if",
        "goto",
        "gotol",
        "pc",
        "+3",
        "-2",
        "call",
        "lock",
        "ll",
        "map",
        "[0]",
        "idx:",
        "func",
        "exit",
        "\n",
        "\n",
        "name:",
        "name",
        "#",
        ";",
        "//",
        " ",
        "skb",
        "be16",
        "atomic64_fetch_add",
        "atomic_cmpxchg",
        "kfunc#1",
        "bpf_tail_call",
        "é",
        "\t",
        "<",
        ">",
        "addr_space_cast",
        "load_acquire",
        "store_release",
        "may_goto",
        ",",
        "12:",
    ]);
    vec((piece, any::<bool>()), 0..40).prop_map(|pieces| {
        let spaced =
            |(piece, space): (&str, bool)| format!("{piece}{}", if space { " " } else { "" });
        pieces.into_iter().map(spaced).collect()
    })
}

/// Lines of which many are instructions or labels, in all dialects.
fn likely_line() -> impl Strategy<Value = String> {
    let piece = |pieces: &'static [&'static str]| prop::sample::select(pieces);
    let source =
        || piece(&["%r2", "r2", "-1", "0x7fffffff", "w2", "[%r2]", "[r10-8]", "L", "exit"]);
    let first = piece(&[
        "mov",
        "add32",
        "movsx832",
        "neg",
        "be16",
        "lddw",
        "ldxw",
        "ldxsh",
        "jeq",
        "jset32",
        "ja",
        "stdw",
        "stxb",
        "ldabsw",
        "ldindb",
        "lock add",
        "lock fetch xor32",
        "call local",
        "call",
    ]);
    let mnemonic = (first, vec(source(), 0..4));
    prop_oneof![
        4 => mnemonic.prop_map(|(first, operands)| format!("{first} {}", operands.join(", "))),
        1 => piece(&[
            "r1 = xchg_64(r2 + 0x8, r1)",
            "w0 = cmpxchg32_32(r2 - 8, w0, w1)",
            "ld_pseudo r1, 4, 1",
            "goto 1",
            "0: 85 10 00 00 01 00 00 00\tcall 0x1",
            "1: 18 11 00 00 05 00 00 00 00 00 00 00 00 00 00 00",
            ".p2align 3",
        ]).prop_map(str::to_string),
        1 => piece(&["L:", "5:", "<M>:", "<a b>:", "<>:", "0010 <7>:", ".Ltmp0:", "exit: exit"])
            .prop_map(str::to_string),
    ]
}

proptest! {
    #[test]
    fn decode_inverts_encode(
        (at, insn) in (0..70_000_u32).prop_flat_map(|at| (Just(Pc(at)), strategy::insn(Pc(at))))
    ) {
        let slots = slots_at(insn, at);
        let next = Pc(slots.len() as u32);
        prop_assert_eq!(decode(&slots, at), Ok(Decoded { insn, next }));
    }

    #[test]
    fn encode_inverts_decode(slots in vec(likely_slot(), 1..3)) {
        if let Ok(Decoded { insn, next }) = decode(&slots, Pc::ENTRY) {
            let (first, second) = encode(insn, Pc::ENTRY).expect("what decodes has an encoding");
            prop_assert_eq!(first, slots[0]);
            prop_assert_eq!(second, slots.get(1).copied().filter(|_| next == Pc(2)));
        }
    }

    #[test]
    fn programs_survive_their_slots(program in strategy::program()) {
        let again = Program::from_slots(&program.to_slots().unwrap()).unwrap();
        prop_assert_eq!(again.slots(), program.slots());
    }

    #[test]
    fn programs_survive_their_text(program in strategy::program()) {
        let text = program.listing().to_string();
        prop_assert_eq!(assemble(&text).map_err(|error| format!("{error}\n{text}")), Ok(program));
    }

    #[test]
    fn any_bytes_are_a_program_or_an_error(bytes in vec(any::<[u8; 8]>(), 0..8)) {
        let slots: Vec<RawInsn> = bytes.into_iter().map(RawInsn::from_bytes).collect();
        let _ = Program::from_slots(&slots);
    }

    #[test]
    fn likely_slots_are_a_program_or_an_error(mut slots in vec(likely_slot(), 0..6)) {
        slots.push(RawInsn { opcode: 0x95, ..RawInsn::default() });
        if let Ok(program) = Program::from_slots(&slots) {
            prop_assert_eq!(program.to_slots(), Ok(slots));
        }
    }

    #[test]
    fn any_text_is_a_program_or_an_error(text in ".*") {
        let _ = assemble(&text);
    }

    #[test]
    fn likely_text_is_a_program_or_an_error(text in likely_text()) {
        let _ = assemble(&text);
    }

    #[test]
    fn what_is_read_can_be_written(lines in vec(likely_line(), 1..8)) {
        let text = format!("{}\nexit", lines.join("\n"));
        if let Ok(program) = assemble(&text) {
            let listing = program.listing().to_string();
            prop_assert_eq!(assemble(&listing), Ok(program), "{}\n{}", text, listing);
        }
    }
}

//! What the assembler reads beyond canonical text, and what it says about the rest.

use ebpf_isa::text::{AsmError, Expected, assemble};
use ebpf_isa::{
    CallTarget, EncodeError, Imm64, Insn, MapForm, MapIdx, Operand, Pc, Program, ProgramError, Reg,
    WideSource, Width,
};

/// The instruction of a line, followed by enough of a program to make it whole.
#[track_caller]
fn insn(line: &str) -> Insn {
    let program = assemble(&format!("{line}\nr0 = 0\nexit")).expect(line);
    program.get(Pc::ENTRY).expect("an instruction at the entry")
}

/// Both lines give the same instruction.
#[track_caller]
fn same(line: &str, canonical: &str) {
    assert_eq!(insn(line), insn(canonical));
    assert_eq!(insn(line).text(Pc::ENTRY).to_string(), canonical);
}

/// What is said about a text.
#[track_caller]
fn complaint(text: &str) -> String {
    assemble(text).expect_err(text).to_string()
}

fn mov(width: Width, imm: i32) -> Insn {
    Insn::Mov { width, dst: Reg::R1, src: Operand::Imm(imm) }
}

fn wide(source: WideSource) -> Insn {
    Insn::LoadWide { dst: Reg::R1, source }
}

fn names(program: &Program) -> Vec<(u32, Option<&str>)> {
    let name = |subprog: &'_ ebpf_isa::Subprog| subprog.start.0;
    program.subprogs().iter().map(|sub| (name(sub), sub.info.name.as_deref())).collect()
}

#[test]
fn immediates_of_32_bits() {
    assert_eq!(insn("r1 = 2147483647"), mov(Width::W64, i32::MAX));
    assert_eq!(insn("r1 = -2147483648"), mov(Width::W64, i32::MIN));
    assert_eq!(insn("r1 = -0x80000000"), mov(Width::W64, i32::MIN));
    assert_eq!(insn("r1 = 0xffffffff"), mov(Width::W64, -1));
    assert_eq!(insn("w1 = 0x80000000"), mov(Width::W32, i32::MIN));
}

#[test]
fn immediates_of_64_bits() {
    let imm = |value| wide(WideSource::Imm(Imm64::new(value)));
    assert_eq!(insn("r1 = 0xffffffffffffffff ll"), imm(u64::MAX));
    assert_eq!(insn("r1 = -1 ll"), imm(u64::MAX));
    assert_eq!(insn("r1 = -9223372036854775808 ll"), imm(1 << 63));
    assert_eq!(insn("r1 = 0 ll"), imm(0));
}

#[test]
fn symbols_of_wide_loads() {
    let map = MapIdx(7);
    assert_eq!(insn("r1 = map[7] ll"), wide(WideSource::Map(map, MapForm::Fd)));
    assert_eq!(insn("r1 = map[idx:7] ll"), wide(WideSource::Map(map, MapForm::Idx)));
    assert_eq!(insn("r1 = map[7][0]+12 ll"), wide(WideSource::MapValue(map, 12, MapForm::Fd)));
    assert_eq!(insn("r1 = map[idx:7][0]+0 ll"), wide(WideSource::MapValue(map, 0, MapForm::Idx)));
    assert_eq!(insn("r1 = btf[5] ll"), wide(WideSource::Btf { id: 5, module: 0 }));
    assert_eq!(insn("r1 = btf[5, 2] ll"), wide(WideSource::Btf { id: 5, module: 2 }));
}

#[test]
fn blanks_are_free() {
    same("  r1+=r2  ", "r1 += r2");
    same("r1  =  *( u32* )( r2+8 )", "r1 = *(u32 *)(r2 +8)");
    same("if r1 s>=-1 goto pc+1", "if r1 s>= 0xffffffff goto pc+1");
    same("\tr1 s>>=\t3", "r1 s>>= 3");
}

#[test]
fn spelling_of_llvm() {
    same("r1 = *(u64 *)(r10 - 0x8)", "r1 = *(u64 *)(r10 -8)");
    same("w1 = *(u8 *)(r2 + 0)", "r1 = *(u8 *)(r2 +0)");
    same("*(u32 *)(r10 - 4) = w3", "*(u32 *)(r10 -4) = r3");
    same("lock *(u32 *)(r1 + 0) += w2", "lock *(u32 *)(r1 +0) += r2");
    same(
        "r2 = atomic_fetch_add((u64 *)(r1 + 0), r2)",
        "r2 = atomic64_fetch_add((u64 *)(r1 +0), r2)",
    );
    same("w2 = atomic_fetch_or((u32 *)(r1 + 4), w2)", "r2 = atomic_fetch_or((u32 *)(r1 +4), r2)");
    same("goto +0x1 <LBB0_2>", "goto pc+1");
    same("if r1 == 0x0 goto +1 <main+0x10>", "if r1 == 0x0 goto pc+1");
    same("r0 = *(u32 *)skb[r7 + -4]", "r0 = *(u32 *)skb[r7 + -4]");
    same("r0 = *(u32 *)skb[r7 - 4]", "r0 = *(u32 *)skb[r7 + -4]");
}

#[test]
fn helpers_by_name_and_number() {
    same("call 1", "call bpf_map_lookup_elem#1");
    same("call bpf_map_lookup_elem", "call bpf_map_lookup_elem#1");
    same("call unknown#70000", "call unknown#70000");
    same("call kfunc#12 module#-3", "call kfunc#12 module#-3");
    same("call kfunc#12", "call kfunc#12");
}

#[test]
fn comments_and_numbers_of_lines_are_skipped() {
    let text = "# a program\n\n; return 1; @ a.c:3\n  0: r0 = 1 ; here\n // and\n9: exit # there\n";
    assert_eq!(assemble(text), assemble("r0 = 1\nexit"));
}

#[test]
fn labels_lead_forward_and_back() {
    let text = "
        goto skip
        r0 = 0x123456789 ll
    skip:
        if r1 > 2 goto done
        r1 += 1
        goto skip
    done:
        exit";
    let same = "goto pc+2\nr0 = 0x123456789 ll\nif r1 > 2 goto pc+2\nr1 += 1\ngoto pc-3\nexit";
    assert_eq!(assemble(text), assemble(same));
}

#[test]
fn labels_name_the_subprograms_they_start() {
    let text = "
    main:
    loop:
        call callee
        r1 = func address ll
        goto loop
    callee:
        exit
    unused:
        exit
    address:
        exit";
    let program = assemble(text).unwrap();
    assert_eq!(program.get(Pc(0)), Some(Insn::Call(CallTarget::Subprog(Pc(4)))));
    assert_eq!(program.get(Pc(1)), Some(wide(WideSource::Func(Pc(6)))));
    let expected = [(0, Some("main")), (4, Some("callee")), (6, Some("address"))];
    assert_eq!(names(&program), expected);
}

#[test]
fn a_label_wins_over_a_helper_of_its_name() {
    let program = assemble("call bpf_tail_call\nexit\nbpf_tail_call:\nexit").unwrap();
    assert_eq!(program.get(Pc(0)), Some(Insn::Call(CallTarget::Subprog(Pc(2)))));
}

#[test]
fn a_label_may_occur_twice_until_it_is_used() {
    assert!(assemble("call pc+2\ncall pc+2\nexit\nsame:\nexit\nsame:\nexit").is_ok());
    assert_eq!(
        complaint("goto same\nsame:\nexit\nsame:\nexit"),
        "line 1, column 6: expected a label that is defined once, found \"same\""
    );
}

#[test]
fn an_error_says_where_and_what() {
    let expected = Expected::Register;
    let error = AsmError::Syntax { line: 3, column: 10, found: "w11".into(), expected };
    assert_eq!(error.to_string(), "line 3, column 10: expected a register, found \"w11\"");
    assert_eq!(assemble("r0 = 0\n# text\n    r1 = w11\nexit"), Err(error));
    assert_eq!(complaint("é = 1"), "line 1, column 1: expected an instruction, found \"é\"");
    assert_eq!(
        complaint("exit é x"),
        "line 1, column 6: expected the end of the line, found \"é\""
    );
    let long = format!("r0 = {}", "x".repeat(1000));
    assert_eq!(
        complaint(&long),
        format!("line 1, column 6: expected a value, found {:?}", "x".repeat(40))
    );
}

/// One line for each thing that can be expected, and some that nearly are instructions.
#[test]
fn complaints() {
    let cases = [
        ("frobnicate", "1: expected an instruction, found \"frobnicate\""),
        ("r1 + r2", "4: expected an assignment, found \"+\""),
        ("r1", "3: expected an assignment, found the end of the line"),
        ("r1 = ", "5: expected a value, found the end of the line"),
        ("r1 = w2", "6: expected a 64-bit register, found \"w2\""),
        ("w1 += r2", "7: expected a 32-bit register, found \"r2\""),
        ("r1 += r01", "7: expected a register, found \"r01\""),
        ("r1 += foo", "7: expected a register or an integer, found \"foo\""),
        (
            "r1 += 4294967296",
            "7: expected an integer from -2147483648 to 2147483647, found \"4294967296\"",
        ),
        ("r1 += 0x100000000", "7: expected an integer from 0 to 4294967295, found \"0x100000000\""),
        ("r1 += 5x", "7: expected an integer from -2147483648 to 2147483647, found \"5x\""),
        (
            "r1 = -2147483649",
            "6: expected an integer from -2147483648 to 2147483647, found \"-2147483649\"",
        ),
        (
            "r1 = 18446744073709551616 ll",
            "6: expected an integer from -2147483648 to 2147483647, found \"18446744073709551616\"",
        ),
        ("w1 = 5 ll", "8: expected the end of the line, found \"ll\""),
        ("r1 = -r2", "7: expected register r1, found \"r2\""),
        ("r1 = be16 r2", "11: expected register r1, found \"r2\""),
        ("r1 = (u8)r2", "7: expected `s8`, `s16` or `s32`, found \"u8\""),
        ("r1 = *(u24 *)(r2 +0)", "8: expected the type of a memory access, found \"u24\""),
        ("r1 = *(u8 *)(w2 +0)", "14: expected a 64-bit register, found \"w2\""),
        ("r1 = *(u8 *)(r2)", "16: expected `+` or `-` and a distance, found \")\""),
        (
            "r1 = *(u8 *)(r2 +32768)",
            "18: expected an integer from -32768 to 32767, found \"32768\"",
        ),
        ("w1 = *(s8 *)(r2 +0)", "7: expected an unsigned type of up to 32 bits, found \"(s8\""),
        ("*(s8 *)(r2 +0) = 1", "2: expected an unsigned type, found \"(s8\""),
        ("lock *(u32 *)(r1 +0) -= r2", "22: expected `+=`, `|=`, `&=` or `^=`, found \"-=\""),
        (
            "r0 = atomic_fetch_xchg((u32 *)(r1 +0), r0)",
            "6: expected a value, found \"atomic_fetch_xchg\"",
        ),
        ("r2 = atomic64_xchg((u32 *)(r1 +0), r2)", "20: expected `(u64 *)`, found \"(u32\""),
        ("r2 = atomic_xchg((u32 *)(r1 +0), r3)", "34: expected register r2, found \"r3\""),
        ("r3 = atomic_cmpxchg((u32 *)(r1 +0), r0, r2)", "1: expected register r0, found \"r3\""),
        ("r1 = map[x] ll", "10: expected an integer from 0 to 4294967295, found \"x\""),
        ("r1 = map[0]", "12: expected `ll`, found the end of the line"),
        ("if r1 = 2 goto pc+0", "7: expected a comparison, found \"=\""),
        ("if r1 == 2 gotol pc+0", "12: expected `goto`, found \"gotol\""),
        ("goto", "5: expected `pc+N` or a label, found the end of the line"),
        ("goto pc-2", "6: expected a position in the program, found \"pc\""),
        ("goto nowhere", "6: expected a label that is defined, found \"nowhere\""),
        ("goto +1 <x", "10: expected `>`, found \"x\""),
        ("call", "5: expected `pc+N` or a label, found the end of the line"),
        ("call bpf_tail_call#13", "20: expected the number of this helper, found \"13\""),
        (
            "call kfunc#1 module#32768",
            "21: expected an integer from -32768 to 32767, found \"32768\"",
        ),
        ("name: frobnicate", "7: expected an instruction, found \"frobnicate\""),
    ];
    for (line, expected) in cases {
        let text = format!("{line}\nexit");
        assert_eq!(complaint(&text), format!("line 1, column {expected}"), "{line}");
    }
}

#[test]
fn forms_without_encoding_are_refused() {
    let refused = |what| EncodeError::NoSuchForm { pc: Pc(1), what };
    let cases = [
        ("w1 = (s32)w2", "sign extension"),
        ("r1 = (s64)r2", "sign extension"),
        ("r1 = be8 r1", "byte swap"),
        ("r1 = *(s64 *)(r2 +0)", "sign-extending load"),
        ("r0 = *(u64 *)skb[0]", "packet load"),
        ("lock *(u16 *)(r1 +0) += r2", "atomic operation"),
        ("r1 = addr_space_cast(r2, 0, 0)", "address-space cast"),
    ];
    for (line, what) in cases {
        let error = AsmError::Encode { line: 3, error: refused(what) };
        assert_eq!(assemble(&format!("r0 = 0\n\n{line}\nexit")), Err(error), "{line}");
    }
}

#[test]
fn a_conditional_jump_reaches_32767_slots() {
    let jump = |distance: usize| {
        assemble(&format!("if r1 == 0 goto end\n{}end:\nexit", "r0 = 0\n".repeat(distance)))
    };
    assert!(jump(32767).is_ok());
    let error = EncodeError::OffsetTooFar { pc: Pc(0), target: Pc(32769), bits: 16 };
    assert_eq!(jump(32768), Err(AsmError::Encode { line: 1, error }));
}

#[test]
fn what_is_no_program_is_told_by_line() {
    let at = |line, error| Err(AsmError::Program { line, error });
    assert_eq!(assemble(""), at(1, ProgramError::Empty));
    assert_eq!(assemble("# nothing\n"), at(1, ProgramError::Empty));
    assert_eq!(assemble("\nr0 = 0\n"), at(2, ProgramError::FallsThrough { pc: Pc(0) }));
    let target = Pc(2);
    assert_eq!(
        assemble("exit\n\ngoto end\nend:"),
        at(3, ProgramError::TargetOutOfRange { pc: Pc(1), target })
    );
}

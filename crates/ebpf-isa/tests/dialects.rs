//! What the assembler reads of the spelling of LLVM and the dialect of uBPF. Whole families of
//! instructions are in `fixtures/isa`.

use ebpf_isa::text::{AsmError, assemble};
use ebpf_isa::{CallTarget, DecodeError, Insn, Pc, Program, Reg};

fn program(text: &str) -> Program {
    assemble(text).unwrap_or_else(|error| panic!("{error}, in\n{text}"))
}

/// Both texts give the same instructions; the names of subprograms may differ.
#[track_caller]
fn same(text: &str, canonical: &str) {
    assert_eq!(program(text).slots(), program(canonical).slots(), "{text}");
}

/// The lines do, each followed by enough of a program to make it whole.
#[track_caller]
fn same_line(line: &str, canonical: &str) {
    let whole = |line| format!("{line}\nr0 = 0\nr0 = 0\nexit");
    same(&whole(line), &whole(canonical));
}

/// What is said about a line.
#[track_caller]
fn complaint(line: &str) -> String {
    assemble(&format!("{line}\nexit")).expect_err(line).to_string()
}

#[test]
fn exchanges_of_llvm() {
    same_line("r2 = xchg_64(r1 + 0, r2)", "r2 = atomic64_xchg((u64 *)(r1 +0), r2)");
    same_line("w2 = xchg32_32(r1 - 0x8, w2)", "r2 = atomic_xchg((u32 *)(r1 -8), r2)");
    same_line("r0 = cmpxchg_64(r1 + 8, r0, r2)", "r0 = atomic64_cmpxchg((u64 *)(r1 +8), r0, r2)");
    same_line("w0 = cmpxchg32_32(r1 + 0, w0, w2)", "r0 = atomic_cmpxchg((u32 *)(r1 +0), r0, r2)");
}

#[test]
fn exchanges_of_llvm_have_registers_of_their_width() {
    let cases = [
        ("w2 = xchg_64(r1 + 0, w2)", "1: expected a 64-bit register, found \"w2\""),
        ("r2 = xchg32_32(r1 + 0, r2)", "1: expected a 32-bit register, found \"r2\""),
        ("r2 = xchg_64(r1 + 0, r3)", "22: expected register r2, found \"r3\""),
        ("w3 = cmpxchg32_32(r1 + 0, w0, w2)", "1: expected register w0, found \"w3\""),
        ("r2 = xchg_64(r1, r2)", "16: expected `+` or `-` and a distance, found \",\""),
        ("r2 = add_64(r1 + 0, r2)", "6: expected a value, found \"add_64\""),
    ];
    for (line, expected) in cases {
        assert_eq!(complaint(line), format!("line 1, column {expected}"), "{line}");
    }
}

#[test]
fn sections_without_flags_are_code_by_their_name() {
    let text = ".section .text.hot\nr0 = 1\n.section maps\nr0 = 2\n.data\n.section .text\nexit";
    same(text, "r0 = 1\nexit");
}

#[test]
fn operations_of_llvm() {
    same_line("r1 = load_acquire((u64 *)(r2 + 0x0))", "r1 = load_acquire((u64 *)(r2 +0))");
    same_line("w1 = load_acquire((u8 *)(r2 - 0x1))", "r1 = load_acquire((u8 *)(r2 -1))");
    same_line("store_release((u32 *)(r1 + 0x4), w2)", "store_release((u32 *)(r1 +4), r2)");
    same_line("r0 = *(u16 *)skb[r3]", "r0 = *(u16 *)skb[r3 + 0]");
    same_line("r0 = *(u8 *)skb[0x5]", "r0 = *(u8 *)skb[5]");
    same_line("*(u64 *)(r10 - 0x8) = -0x80000000", "*(u64 *)(r10 -8) = -2147483648");
    same_line("goto 1", "goto pc+1");
    same_line("if r1 s> -1 goto 1", "if r1 s> 0xffffffff goto pc+1");
    same_line("gotol +0x1 <LBB0_3>", "gotol pc+1");
    same_line("may_goto +1", "may_goto pc+1");
}

/// Numbers are helpers; distances have `pc` in front.
#[test]
fn calls_of_llvm() {
    same_line("call 0x1", "call bpf_map_lookup_elem#1");
    same_line("call +1", "call bpf_map_lookup_elem#1");
    same_line("call -1", "call unknown#4294967295");
}

#[test]
fn wide_loads_of_llvm() {
    same_line("ld_pseudo\tr1, 0x1, 0x5", "r1 = map[5] ll");
    same_line("ld_pseudo r1, 2, 0x1000000005", "r1 = map[5][0]+16 ll");
    same_line("ld_pseudo r1, 3, 7", "r1 = btf[7] ll");
    same_line("ld_pseudo r1, 0, -1", "r1 = 0xffffffffffffffff ll");
    assert_eq!(
        complaint("ld_pseudo r1, 7, 5"),
        "line 1, column 15: expected the source of a wide load, found \"7\""
    );
    same(
        "r0 = 0\nexit\nld_pseudo r1, 4, 0xfffffffd\nexit",
        "r0 = 0\nexit\nr1 = func pc-3 ll\nexit",
    );
}

/// As clang writes it, apart from blanks.
#[test]
fn files_of_clang() {
    let text = r#"
	.text
	.file	"counter.c"
	.section	xdp,"ax",@progbits
	.globl	count                           # -- Begin function count
	.p2align	3
	.type	count,@function
count:                                  # @count
.Lfunc_begin0:
	.loc	0 1 0                           # counter.c:1:0
	.cfi_startproc
# %bb.0:
	#DEBUG_VALUE: count:context <- $r1
	w8 = 100
LBB0_1:                                 # =>This Inner Loop Header: Depth=1
	w8 += -1
	if w8 != 0 goto LBB0_1
.Ltmp0: call helper
	exit
.Lfunc_end0:
	.size	count, .Lfunc_end0-count
	.cfi_endproc
                                        # -- End function
	.section	.rodata,"a",@progbits
table:
	.long	7                               # 0x7
	.asciz	"exit; # no comment"
	.section	license,"aw",@progbits
_license:
	.asciz	"GPL"
	.text
helper:
	w0 = 2
	exit
	.section	.debug_str,"MS",@progbits,1
	.asciz	"counter.c"
	.addrsig
"#;
    same(text, "w8 = 100\nw8 += -1\nif w8 != 0 goto pc-2\ncall pc+1\nexit\nw0 = 2\nexit");
    let names = |program: &Program| {
        let names = program.subprogs().iter().map(|subprog| subprog.info.name.clone());
        names.collect::<Vec<_>>()
    };
    assert_eq!(names(&program(text)), [Some("count".into()), Some("helper".into())]);
}

#[test]
fn what_needs_a_linker_is_refused() {
    let expected = "line 1, column 6: expected a value, found \"counts\"";
    assert_eq!(complaint("r1 = counts ll"), expected);
    let expected = "line 1, column 1: expected an instruction, found \".byte\"";
    assert_eq!(complaint(".byte 149"), expected);
    assert_eq!(
        complaint("\t\t0000000000000010:  R_BPF_64_64\tcounts"),
        "line 1, column 22: expected an instruction, found \"R_BPF_64_64\""
    );
}

#[test]
fn calls_through_registers() {
    for text in ["callx r3", "callx %r3", "0: 8d 03 00 00 00 00 00 00 callx r3"] {
        let call = program(&format!("{text}\nexit")).get(Pc(0));
        assert_eq!(call, Some(Insn::Call(CallTarget::Reg(Reg::R3))), "{text}");
    }
    let expected = "line 1, column 7: expected a 64-bit register, found \"w3\"";
    assert_eq!(complaint("callx w3"), expected);
    assert!(complaint("callx r3 +1").contains("column 10"));
}

/// The call is of the subprogram: its text does not say so, its bytes do.
#[test]
fn listings_with_bytes() {
    let text = "
prog.o:\tfile format elf64-bpf

Disassembly of section .text:

0000000000000000 <main>:
; return callee(1, 2);
       0:\t18 01 00 00 88 77 66 55 00 00 00 00 44 33 22 11\tr1 = 0x1122334455667788 ll
       2:\t85 10 00 00 01 00 00 00\tcall 0x1
       3:\t95 00 00 00 00 00 00 00\texit

0000000000000020 <callee>:
       4:\td3 21 00 00 00 01 00 00\t<unknown>
       5:\t95 00 00 00 00 00 00 00\texit
";
    let canonical = "main:\nr1 = 0x1122334455667788 ll\ncall callee\nexit\n\
                     callee:\nr1 = load_acquire((u8 *)(r2 +0))\nexit";
    assert_eq!(program(text), program(canonical));
}

#[test]
fn bytes_of_listings_that_are_no_instruction() {
    let error = DecodeError::UnknownOpcode { pc: Pc(1), opcode: 0x8d };
    // As LLVM before version 19 has it.
    let text = "0: b7 00 00 00 00 00 00 00 r0 = 0x0\n1: 8d 00 00 00 03 00 00 00 callx r3";
    assert_eq!(assemble(text), Err(AsmError::Decode { line: 2, error }));
    let half = DecodeError::HalfWideLoad { pc: Pc(0) };
    let text = "18 01 00 00 00 00 00 00\n00 00 00 00 00 00 00 00";
    assert_eq!(assemble(text), Err(AsmError::Decode { line: 1, error: half }));
}

#[test]
fn registers_and_memory_of_ubpf() {
    for mov in ["mov %r1, %r2", "mov r1, r2", "mov64 r1,r2", "\tmov\t%r1 , %r2 # comment"] {
        same_line(mov, "r1 = r2");
    }
    same_line("mov32 %r1, 0xffffffff", "w1 = -1");
    same_line("ldxdw %r1, [%r2]", "r1 = *(u64 *)(r2 +0)");
    same_line("ldxdw r1, [r2 + 0x10]", "r1 = *(u64 *)(r2 +16)");
    same_line("stxb [%r10-1], %r3", "*(u8 *)(r10 -1) = r3");
    same_line("ldxbsx %r1, [%r2+1]", "r1 = *(s8 *)(r2 +1)");
    same_line("ldxsb %r1, [%r2+1]", "r1 = *(s8 *)(r2 +1)");
    same_line("lddw %r0, 0x1122334455667788", "r0 = 0x1122334455667788 ll");
    same_line("lddw %r0, -1", "r0 = 0xffffffffffffffff ll");
}

#[test]
fn widths_of_ubpf() {
    same_line("neg %r1", "r1 = -r1");
    same_line("neg64 %r1", "r1 = -r1");
    same_line("neg32 %r1", "w1 = -w1");
    same_line("arsh32 %r1, 3", "w1 s>>= 3");
    same_line("bswap16 %r1", "r1 = bswap16 r1");
    same_line("swap16 %r1", "r1 = bswap16 r1");
    same_line("jsgt64 %r1, -1, +1", "if r1 s> 0xffffffff goto pc+1");
    same_line("lock add64 [%r1], %r2", "lock *(u64 *)(r1 +0) += r2");
    same_line("lock fetch xchg [%r1], %r2", "r2 = atomic64_xchg((u64 *)(r1 +0), r2)");
}

#[test]
fn targets_of_ubpf() {
    let text = "
        mov %r0, 0
        jeq %r1, 5, taken
        ja +1
    taken:
        mov %r0, 1
        exit";
    same(text, "r0 = 0\nif r1 == 5 goto pc+1\ngoto pc+1\nr0 = 1\nexit");
    same("call local double\nexit\ndouble: add %r0, %r0\nexit", "call pc+1\nexit\nr0 += r0\nexit");
    same("call local +1\nexit\nexit", "call pc+1\nexit\nexit");
    same("call local\nexit\nlocal:\nexit", "call pc+1\nexit\nexit");
    same_line("call 5", "call bpf_ktime_get_ns#5");
}

#[test]
fn exit_is_a_target_of_ubpf() {
    same("jeq %r1, 1, exit\nja32 exit\nexit", "if r1 == 1 goto pc+1\ngotol pc+0\nexit");
    same("call pc+2\nja exit\nexit\nja exit\nexit", "call pc+2\ngoto pc+0\nexit\ngoto pc+0\nexit");
    same("ja +1\nexit\nja exit", "goto pc+1\nexit\ngoto pc-2");
    same("ja exit\nexit\nexit: exit", "goto pc+1\nexit\nexit");
    assert_eq!(
        assemble("ja exit").unwrap_err().to_string(),
        "line 1, column 4: expected a label that is defined, found \"exit\""
    );
}

#[test]
fn complaints_about_ubpf() {
    let cases = [
        ("mov %r11, 1", "6: expected a register, found \"r11\""),
        ("mov %r1 1", "9: expected `,`, found \"1\""),
        ("mov %r1, %w2", "11: expected a 64-bit register, found \"w2\""),
        ("mov %r1, x", "10: expected a register or an integer, found \"x\""),
        ("add %r1, 011", "10: expected an integer from -2147483648 to 2147483647, found \"011\""),
        ("movsx3232 %r1, %r2", "encoding"),
        ("movsx8 %r1, %r2", "1: expected an instruction, found \"movsx8\""),
        ("addx %r1, 1", "1: expected an instruction, found \"addx\""),
        ("neg %r1, 1", "8: expected the end of the line, found \",\""),
        ("ldxw %r1, %r2", "11: expected `[`, found \"%r2\""),
        ("ldxw %r1, [%r2 8]", "16: expected `+` or `-` and a distance, found \"8\""),
        ("stxw [%r1+32768], %r2", "11: expected an integer from -32768 to 32767, found \"32768\""),
        ("stw [%r1], %r2", "12: expected an integer from -2147483648 to 2147483647, found \"%r2\""),
        ("stxw [%r1], 2", "13: expected a register, found \"2\""),
        ("jeq %r1, +1", "10: expected a register or an integer, found \"+1\""),
        ("jeq %r1, 1, nowhere", "13: expected a label that is defined, found \"nowhere\""),
        ("lock sub [%r1], %r2", "6: expected the name of an atomic operation, found \"sub\""),
        ("lock fetch", "11: expected the name of an atomic operation, found the end of the line"),
        ("r1 = %r2", "6: expected a value, found \"%r2\""),
    ];
    for (line, expected) in cases {
        let expected = match expected {
            "encoding" => "line 1: insn 0: sign extension does not exist in this form".to_string(),
            expected => format!("line 1, column {expected}"),
        };
        assert_eq!(complaint(line), expected, "{line}");
    }
}

//! Text byte for byte as the kernel prints it. The expected lines were seen in logs of the verifier
//! of Linux 6.18.

use ebpf_isa::text::assemble;
use ebpf_isa::{CallTarget, Insn, Pc, Size, Width};

#[track_caller]
fn kernel_text(canonical: &str) -> String {
    let program = assemble(&format!("{canonical}\nr0 = 0\nexit\nr0 = 0\nexit")).expect(canonical);
    let insn = program.get(Pc::ENTRY).expect("an instruction at the entry");
    insn.kernel_text(Pc::ENTRY).to_string()
}

/// The text is the canonical one, behind the opcode.
#[test]
fn opcodes_are_part_of_the_text() {
    let cases = [
        ("(05)", "goto pc+1"),
        ("(06)", "gotol pc+1"),
        ("(07)", "r1 += -1"),
        ("(20)", "r0 = *(u32 *)skb[12]"),
        ("(37)", "r1 s/= -1"),
        ("(48)", "r0 = *(u16 *)skb[r7 + -1]"),
        ("(56)", "if w2 != 0x7fffffff goto pc+0"),
        ("(62)", "*(u32 *)(r10 -4) = -2147483648"),
        ("(81)", "r1 = *(s32 *)(r1 +0)"),
        ("(85)", "call bpf_ktime_get_ns#5"),
        ("(85)", "call pc+2"),
        ("(85)", "call unknown#65536"),
        ("(95)", "exit"),
        ("(bc)", "w1 = (s16)w2"),
        ("(bf)", "r1 = addr_space_cast(r2, 0, 1)"),
        ("(d4)", "r1 = le64 r1"),
        ("(d7)", "r1 = bswap16 r1"),
        ("(db)", "r2 = atomic64_fetch_add((u64 *)(r1 +0), r2)"),
        ("(e5)", "may_goto pc+1"),
    ];
    for (opcode, text) in cases {
        assert_eq!(kernel_text(text), format!("{opcode} {text}"));
    }
}

#[test]
fn wide_loads_are_a_number() {
    let cases = [
        ("r1 = 0x1122334455667788 ll", "(18) r1 = 0x1122334455667788"),
        ("r1 = 0x80000000 ll", "(18) r1 = 0x80000000"),
        ("r1 = 0 ll", "(18) r1 = 0x0"),
        ("r1 = map[3] ll", "(18) r1 = 0x0"),
        ("r1 = map[idx:3] ll", "(18) r1 = 0x0"),
        ("r1 = map[3][0]+4 ll", "(18) r1 = 0x0"),
        ("r1 = btf[7] ll", "(18) r1 = 0x0"),
        ("r2 = func pc+3 ll", "(18) r2 = 0x3"),
    ];
    for (canonical, kernel) in cases {
        assert_eq!(kernel_text(canonical), kernel);
    }
}

#[test]
fn an_earlier_subprogram_is_a_number_of_32_bits() {
    let source = ebpf_isa::WideSource::Func(Pc::ENTRY);
    let insn = Insn::LoadWide { dst: ebpf_isa::Reg::R2, source };
    assert_eq!(insn.kernel_text(Pc(4)).to_string(), "(18) r2 = 0xfffffffb");
}

#[test]
fn kernel_functions_have_the_name_that_is_given() {
    let call = Insn::Call(CallTarget::Kfunc { btf_id: 64245, module: 3 });
    let text = call.kernel_text(Pc::ENTRY);
    assert_eq!(text.to_string(), "(85) call kfunc#64245 module#3");
    let named = text.with_kfunc_name("bpf_iter_num_next");
    assert_eq!(named.to_string(), "(85) call bpf_iter_num_next#64245");
    let exit = Insn::Exit.kernel_text(Pc::ENTRY).with_kfunc_name("bpf_iter_num_next");
    assert_eq!(exit.to_string(), "(95) exit");
}

#[test]
fn what_has_no_encoding_has_no_opcode() {
    let reg = ebpf_isa::Reg::R1;
    let insn = Insn::MovSx { width: Width::W64, dst: reg, src: reg, from: Size::Dw };
    assert_eq!(insn.kernel_text(Pc::ENTRY).to_string(), "r1 = (s64)r1");
}

#[test]
fn listings_have_no_names() {
    let program = assemble("main:\nr1 = 0x80000000 ll\ncall callee\nexit\ncallee:\nr0 = 0\nexit");
    let listing = program.unwrap().listing().kernel().to_string();
    let expected = "0: (18) r1 = 0x80000000\n2: (85) call pc+1\n3: (95) exit\n\
                    4: (b7) r0 = 0\n5: (95) exit\n";
    assert_eq!(listing, expected);
}

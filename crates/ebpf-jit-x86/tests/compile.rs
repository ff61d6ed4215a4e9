//! What holds of every image: jumps, maps, entries, errors.

use ebpf_image::{CodeOffset, Image, RelocKind, SourcePc, Symbol};
use ebpf_isa::uapi::HelperId;
use ebpf_isa::{
    AluOp, AtomicOp, CallTarget, CmpOp, Extend, Facts, Imm64, Insn, LineTable, MapForm, MapIdx,
    Operand, Pc, Program, Reg, Size, SubprogFacts, WideSource, Width,
};
use ebpf_jit_x86::{JitError, Options};

/// Compiles as for verified programs.
fn compile(program: &Program, facts: Option<&Facts>) -> Result<Image, JitError> {
    ebpf_jit_x86::compile(program, facts, &Options::default())
}

const NOTHING: Insn = Insn::Mov { width: Width::W64, dst: Reg::R1, src: Operand::Reg(Reg::R1) };
/// `mov edi, 1`: five bytes, as estimated for moves of an immediate at most seven.
const FIVE_BYTES: Insn = Insn::Mov { width: Width::W64, dst: Reg::R1, src: Operand::Imm(1) };
/// `mov rdi, -1`: seven bytes, the most a move of an immediate takes.
const SEVEN_BYTES: Insn = Insn::Mov { width: Width::W64, dst: Reg::R1, src: Operand::Imm(-1) };
/// `add rdi, rsi`: three bytes, the most that arithmetic on registers takes.
const THREE_BYTES: Insn =
    Insn::Alu { op: AluOp::Add, width: Width::W64, dst: Reg::R1, src: Operand::Reg(Reg::R2) };
/// `add rdi, 1`: four bytes, the most that arithmetic with a small immediate takes.
const FOUR_BYTES: Insn =
    Insn::Alu { op: AluOp::Add, width: Width::W64, dst: Reg::R1, src: Operand::Imm(1) };

fn program(insns: &[Insn]) -> Program {
    let second_slot = |insn: &Insn| (insn.slots() == 2).then_some(None);
    let slots = insns.iter().flat_map(|insn| [Some(Some(*insn)), second_slot(insn)]).flatten();
    Program::new(slots.collect(), Default::default(), LineTable::new()).expect("a sound program")
}

fn jump(target: usize) -> Insn {
    Insn::Jump { target: Pc(target as u32), long: false }
}

fn branch(target: usize) -> Insn {
    let op = CmpOp::Eq;
    let (width, lhs, rhs) = (Width::W64, Reg::R1, Operand::Imm(0));
    Insn::Branch { op, width, lhs, rhs, target: Pc(target as u32) }
}

/// Instructions of exactly this many bytes, at least 6.
fn filler(bytes: usize) -> Vec<Insn> {
    let fours = bytes % 3;
    let mut insns = vec![FOUR_BYTES; fours];
    insns.extend(vec![THREE_BYTES; (bytes - 4 * fours) / 3]);
    insns
}

#[test]
fn a_jump_forward_is_short_up_to_127_bytes() {
    for (bytes, expected) in [(126, [0xeb, 126]), (127, [0xeb, 127]), (128, [0xe9, 128])] {
        let mut insns = filler(bytes);
        insns.insert(0, jump(insns.len() + 1));
        insns.push(Insn::Exit);
        let image = compile(&program(&insns), None).unwrap();
        assert_eq!(image.code()[..2], expected, "over {bytes} bytes");
    }
}

#[test]
fn a_branch_forward_is_short_up_to_127_bytes() {
    for (bytes, expected) in [(127, &[0x74, 127][..]), (128, &[0x0f, 0x84, 128, 0, 0, 0])] {
        let mut insns = filler(bytes);
        insns.insert(0, branch(insns.len() + 1));
        insns.push(Insn::Exit);
        let image = compile(&program(&insns), None).unwrap();
        assert_eq!(image.code()[3..3 + expected.len()], *expected, "over {bytes} bytes");
    }
}

#[test]
fn a_jump_back_is_short_up_to_128_bytes() {
    for (bytes, expected) in [(126, &[0xeb, 0x80][..]), (127, &[0xe9, 0x7c, 0xff, 0xff, 0xff])] {
        let mut insns = filler(bytes);
        insns.push(jump(0));
        let image = compile(&program(&insns), None).unwrap();
        assert_eq!(image.code()[bytes..], *expected, "over {bytes} bytes");
    }
}

#[test]
fn a_jump_to_the_next_instruction_is_none() {
    let image = compile(&program(&[jump(1), Insn::Exit]), None).unwrap();
    assert_eq!(image.code(), [0xc3]);
}

#[test]
fn the_pc_map_knows_each_instruction_and_the_frame() {
    let wide =
        Insn::LoadWide { dst: Reg::R6, source: WideSource::MapValue(MapIdx(1), 8, MapForm::Fd) };
    let image = compile(&program(&[wide, FIVE_BYTES, NOTHING, SEVEN_BYTES, Insn::Exit]), None);
    let image = image.unwrap();
    // push rbx; movabs rbx, ..; mov edi, 1; mov rdi, -1; pop rbx; ret
    let expected = [(0, 0), (1, 0), (11, 1), (11, 2), (16, 3), (16, 4), (23, 5)];
    let map: Vec<_> = image.pc_map().iter().collect();
    assert_eq!(map, expected.map(|(at, pc)| (CodeOffset(at), SourcePc(pc))));
    assert_eq!(image.relocs()[0].at, CodeOffset(3));
    let value = Symbol::MapValue { map: 1, offset: 8 };
    assert_eq!(image.relocs()[0].kind, RelocKind::Address(value));
}

#[test]
fn each_subprogram_is_an_entry() {
    let call = Insn::Call(CallTarget::Subprog(Pc(2)));
    let image = compile(&program(&[call, Insn::Exit, FIVE_BYTES, Insn::Exit]), None).unwrap();
    // push rcx; call; pop rcx; ret; mov edi, 1; ret
    let entries: Vec<_> = image.entries().iter().map(|e| (e.offset.0, e.pc.0)).collect();
    assert_eq!(entries, [(0, 0), (8, 2)]);
    assert_eq!(image.code()[1..6], [0xe8, 2, 0, 0, 0]);
}

#[test]
fn facts_make_frames_smaller() {
    let store = Insn::Store { size: Size::Dw, base: Reg::R10, off: -8, src: Operand::Imm(0) };
    let program = program(&[store, Insn::Exit]);
    let frame = |facts: Option<&Facts>| compile(&program, facts).unwrap().code()[4..11].to_vec();
    let facts = Facts { subprogs: vec![SubprogFacts { stack_depth: 20 }] };
    assert_eq!(frame(None), [0x48, 0x81, 0xec, 0, 2, 0, 0], "sub rsp, 512");
    assert_eq!(frame(Some(&facts))[..4], [0x48, 0x83, 0xec, 24], "sub rsp, 24");
    assert_eq!(frame(Some(&Facts::default())), frame(None), "nothing is known");
}

#[test]
fn what_cannot_be_compiled_is_named() {
    let (dst, src, base, off) = (Reg::R1, Reg::R2, Reg::R3, 0);
    let cases = [
        (Insn::Call(CallTarget::Kfunc { btf_id: 1, module: -1 }), "a kernel function of no module"),
        (
            Insn::Atomic { op: AtomicOp::Add, size: Size::H, fetch: false, base, off, src },
            "an atomic operation of less than 4 bytes",
        ),
        (Insn::Call(CallTarget::Reg(dst)), "a call through a register (the interpreter runs it)"),
    ];
    for (insn, what) in cases {
        let program = program(&[NOTHING, insn, Insn::Exit]);
        let error = JitError::Unsupported { pc: Pc(1), what };
        assert_eq!(compile(&program, None), Err(error));
    }
    let btf = Insn::LoadWide { dst, source: WideSource::Btf { id: 7, module: 0 } };
    let error = compile(&program(&[btf, Insn::Exit]), None).unwrap_err();
    assert_eq!(error.to_string(), "insn 0: the address of a kernel variable cannot be compiled");
}

#[test]
fn what_native_code_may_call_is_an_entry_once() {
    let func = |dst| Insn::LoadWide { dst, source: WideSource::Func(Pc(5)) };
    let program = program(&[func(Reg::R1), func(Reg::R2), Insn::Exit, Insn::Exit]);
    for options in [Options::default(), Options::checked()] {
        let image = ebpf_jit_x86::compile(&program, None, &options).unwrap();
        let entries: Vec<_> = image.entries().iter().map(|e| (e.pc.0, e.name.as_str())).collect();
        assert_eq!(entries, [(0, ""), (5, ""), (5, ".callback")]);
        assert!(image.entries()[1].offset < image.entries()[2].offset);
    }
}

/// Every form of every instruction, with registers and immediates of every encoding.
fn every_form() -> Vec<Insn> {
    const IMMS: [i32; 8] = [0, 1, -1, 127, -128, 255, 0x1000, i32::MIN];
    const OFFS: [i16; 5] = [0, 8, -128, 128, i16::MIN];
    let mut forms = Vec::new();
    let regs = || Reg::ALL.into_iter().filter(|&reg| reg != Reg::FP);
    for width in [Width::W32, Width::W64] {
        for dst in regs() {
            let sources = Reg::ALL.map(Operand::Reg).into_iter().chain(IMMS.map(Operand::Imm));
            for src in sources {
                forms.push(Insn::Mov { width, dst, src });
                for &op in AluOp::ALL {
                    forms.push(Insn::Alu { op, width, dst, src });
                }
                for &op in CmpOp::ALL {
                    forms.push(Insn::Branch { op, width, lhs: dst, rhs: src, target: Pc(0) });
                }
            }
            forms.push(Insn::Neg { width, dst });
            for (src, &from) in
                Reg::ALL.iter().flat_map(|&src| Size::ALL.iter().map(move |s| (src, s)))
            {
                forms.push(Insn::MovSx { width, dst, src, from });
            }
        }
    }
    for (dst, &size) in regs().flat_map(|dst| Size::ALL.iter().map(move |size| (dst, size))) {
        for &order in ebpf_isa::ByteOrder::ALL {
            forms.push(Insn::Swap { order, size, dst });
        }
        for (base, off) in Reg::ALL.iter().flat_map(|&base| OFFS.map(|off| (base, off))) {
            for extend in [Extend::Zero, Extend::Sign] {
                forms.push(Insn::Load { size, extend, dst, base, off });
            }
            forms.push(Insn::LoadAcquire { size, dst, base, off });
            forms.push(Insn::StoreRelease { size, src: dst, base, off });
            forms.push(Insn::Store { size, base, off, src: Operand::Reg(dst) });
            for imm in IMMS {
                forms.push(Insn::Store { size, base, off, src: Operand::Imm(imm) });
            }
            let fetches: &[bool] = if size.bytes() >= 4 { &[false, true] } else { &[] };
            for (&op, &fetch) in
                AtomicOp::ALL.iter().flat_map(|op| fetches.iter().map(move |f| (op, f)))
            {
                forms.push(Insn::Atomic { op, size, fetch, base, off, src: dst });
            }
        }
    }
    for value in [0, 1, u64::MAX, 1 << 63] {
        let source = WideSource::Imm(Imm64::new(value));
        forms.extend(regs().map(|dst| Insn::LoadWide { dst, source }));
    }
    for (dst, src) in regs().flat_map(|dst| Reg::ALL.map(|src| (dst, src))) {
        forms.push(Insn::AddrSpaceCast { dst, src, to: 0, from: 1 });
    }
    for size in [Size::B, Size::H, Size::W] {
        for index in regs().map(Some).chain([None]) {
            forms.extend(IMMS.map(|imm| Insn::LoadPacket { size, index, imm }));
        }
    }
    forms.push(Insn::Jump { target: Pc(0), long: false });
    forms.push(Insn::MayGoto { target: Pc(0) });
    forms.push(Insn::MayGoto { target: Pc(1) });
    forms.push(Insn::Call(CallTarget::Helper(HelperId(1))));
    forms.push(Insn::Call(CallTarget::Helper(HelperId(2))));
    forms.push(Insn::Call(CallTarget::Helper(HelperId::TAIL_CALL)));
    forms.push(Insn::Call(CallTarget::Kfunc { btf_id: 7, module: 1 }));
    forms
}

/// The longest epilogues, with and without a BPF stack: the bound on the length of an exit holds.
#[test]
fn frames_that_save_everything() {
    let mov = |dst| Insn::Mov { width: Width::W64, dst, src: Operand::Imm(1) };
    let mut insns = [Reg::R6, Reg::R7, Reg::R8, Reg::R9, Reg::R10].map(mov).to_vec();
    insns.push(Insn::Call(CallTarget::Helper(HelperId(1))));
    insns.push(Insn::Exit);
    let image = compile(&program(&insns), None).unwrap();
    // pop rcx, rbp, r15, r14, r13, rbx, r12
    let pops = [0x59, 0x5d, 0x41, 0x5f, 0x41, 0x5e, 0x41, 0x5d, 0x5b, 0x41, 0x5c];
    assert!(image.code().ends_with(&[&pops[..], &[0xc3]].concat()), "ret");
    insns.insert(0, Insn::Mov { width: Width::W64, dst: Reg::R1, src: Operand::Reg(Reg::R10) });
    let image = compile(&program(&insns), None).unwrap();
    assert!(image.code().ends_with(&[&pops[1..], &[0xc9, 0xc3]].concat()), "leave; ret");
}

/// Compiling each form alone runs the assertion that no code is longer than was estimated when
/// short jumps over it were chosen; an independent disassembler reads all of it back.
#[test]
fn every_form_compiles_to_whole_instructions() {
    use iced_x86::{Decoder, DecoderOptions};
    let forms = every_form();
    assert!(forms.len() > 20_000, "{}", forms.len());
    for options in every_option() {
        for &insn in &forms {
            for program in surroundings(insn) {
                let image = ebpf_jit_x86::compile(&program, None, &options).unwrap();
                let mut starts: Vec<_> =
                    image.pc_map().starts().iter().map(|at| at.index()).collect();
                let mut decoder = Decoder::with_ip(64, image.code(), 0, DecoderOptions::NONE);
                while decoder.can_decode() {
                    let at = decoder.position();
                    let decoded = decoder.decode();
                    assert!(!decoded.is_invalid(), "{insn:?} {:02x?}", image.code());
                    starts.retain(|&start| start != at);
                }
                assert!(starts.is_empty(), "{insn:?}: one starts inside of another");
            }
        }
    }
}

/// Every combination of what can be asked for.
fn every_option() -> Vec<Options> {
    let mut all = vec![Options::default(), Options::checked().with_fuel(false)];
    for switch in [
        |options: Options| options.with_fuel(true),
        |options: Options| options.with_frame_pointers(true),
        |options: Options| options.with_ending_helpers([HelperId(2)]),
    ] {
        let switched: Vec<_> = all.iter().cloned().map(switch).collect();
        all.extend(switched);
    }
    all
}

/// An instruction in a main program, and at its longest: in a subprogram that saves everything,
/// behind many that are not counted yet, and at a high position.
fn surroundings(insn: Insn) -> Vec<Program> {
    let alone = program(&[insn, Insn::Exit]);
    let is_jump = insn.jump_target().is_some();
    let is_special = matches!(insn, Insn::Call(_) | Insn::LoadPacket { .. });
    if is_jump || !is_special {
        return vec![alone];
    }
    let call = Insn::Call(CallTarget::Subprog(Pc(2)));
    let mov = |dst| Insn::Mov { width: Width::W64, dst, src: Operand::Imm(1) };
    let store = Insn::Store { size: Size::Dw, base: Reg::R10, off: -8, src: Operand::Imm(0) };
    let mut insns = vec![call, Insn::Exit, store];
    insns.extend([Reg::R6, Reg::R7, Reg::R8, Reg::R9, Reg::R10].map(mov));
    insns.extend([NOTHING; 200]);
    insns.extend([insn, Insn::Exit]);
    vec![alone, program(&insns)]
}

#[test]
fn the_same_program_gives_the_same_image() {
    let insns: Vec<_> =
        every_form().into_iter().filter(|insn| insn.jump_target().is_none()).collect();
    let program = program(&[&insns[..], &[Insn::Exit]].concat());
    assert_eq!(compile(&program, None), compile(&program.clone(), None));
}

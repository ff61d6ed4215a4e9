//! Every verb with every register, read back by an independent disassembler.

use iced_x86::{Decoder, DecoderOptions, Formatter, IntelFormatter};

use super::*;
use Gpr::*;
use Width::{W32, W64};

const GPRS: [Gpr; 16] =
    [Rax, Rcx, Rdx, Rbx, Rsp, Rbp, Rsi, Rdi, R8, R9, R10, R11, R12, R13, R14, R15];
const DISPS: [i32; 9] = [0, 1, -1, 127, -128, 128, -129, 0x7fff, -0x8000];
const IMMS: [i32; 12] = [0, 1, -1, 127, -128, 128, -129, 255, 256, 0x1234_5678, i32::MAX, i32::MIN];

/// The name of a register's low `bytes`.
fn name(reg: Gpr, bytes: u8) -> String {
    let number = u8::from(reg) as usize;
    let old = ["ax", "cx", "dx", "bx", "sp", "bp", "si", "di"];
    match (bytes, old.get(number)) {
        (8, Some(old)) => format!("r{old}"),
        (4, Some(old)) => format!("e{old}"),
        (2, Some(old)) => (*old).to_string(),
        (_, Some(old)) if number < 4 => format!("{}l", &old[..1]),
        (_, Some(old)) => format!("{old}l"),
        (8, None) => format!("r{number}"),
        (4, None) => format!("r{number}d"),
        (2, None) => format!("r{number}w"),
        (_, None) => format!("r{number}b"),
    }
}

fn bytes(width: Width) -> u8 {
    match width {
        W32 => 4,
        W64 => 8,
    }
}

fn pointer(size: Size) -> &'static str {
    match size {
        Size::B => "byte ptr ",
        Size::H => "word ptr ",
        Size::W => "dword ptr ",
        Size::Dw => "qword ptr ",
    }
}

fn memory(mem: Mem) -> String {
    let base = name(mem.base, 8);
    match mem.disp {
        0 => format!("[{base}]"),
        disp if disp < 0 => format!("[{base}-0x{:x}]", disp.unsigned_abs()),
        disp => format!("[{base}+0x{disp:x}]"),
    }
}

/// An immediate as the disassembler prints it in an operation of so many bytes.
fn hex(imm: i32, bytes: u8) -> String {
    let mask = u64::MAX >> (64 - 8 * u32::from(bytes));
    format!("0x{:x}", i64::from(imm) as u64 & mask)
}

fn emitted(emit: impl FnOnce(&mut Emitter)) -> Vec<u8> {
    let mut emitter = Emitter::new(Positions::with_capacity(0, 0));
    emit(&mut emitter);
    emitter.finish().0
}

/// Instructions as the disassembler reads them; relative targets count from the code's start.
fn text(code: &[u8]) -> Vec<String> {
    let mut formatter = IntelFormatter::new();
    let options = formatter.options_mut();
    options.set_hex_prefix("0x");
    options.set_hex_suffix("");
    options.set_uppercase_hex(false);
    options.set_small_hex_numbers_in_decimal(false);
    options.set_show_branch_size(false);
    options.set_branch_leading_zeros(false);
    options.set_memory_size_options(iced_x86::MemorySizeOptions::Minimal);
    let mut decoder = Decoder::with_ip(64, code, 0, DecoderOptions::NONE);
    let mut lines = Vec::new();
    while decoder.can_decode() {
        let insn = decoder.decode();
        assert!(!insn.is_invalid(), "{code:02x?}");
        let mut line = String::new();
        formatter.format(&insn, &mut line);
        lines.push(line);
    }
    lines
}

/// Checks that exactly this instruction is emitted.
#[track_caller]
fn check(emit: impl FnOnce(&mut Emitter), expected: &str) {
    let code = emitted(emit);
    assert_eq!(text(&code), [expected], "{code:02x?}");
}

fn pairs() -> impl Iterator<Item = (Gpr, Gpr)> {
    GPRS.into_iter().flat_map(|a| GPRS.into_iter().map(move |b| (a, b)))
}

fn mems() -> impl Iterator<Item = Mem> {
    GPRS.into_iter().flat_map(|base| DISPS.into_iter().map(move |disp| Mem { base, disp }))
}

const ARITH: [(Arith, &str); 7] = [
    (Arith::Add, "add"),
    (Arith::Or, "or"),
    (Arith::Adc, "adc"),
    (Arith::And, "and"),
    (Arith::Sub, "sub"),
    (Arith::Xor, "xor"),
    (Arith::Cmp, "cmp"),
];

const SHIFTS: [(Shift, &str); 5] = [
    (Shift::Rol, "rol"),
    (Shift::Ror, "ror"),
    (Shift::Shl, "shl"),
    (Shift::Shr, "shr"),
    (Shift::Sar, "sar"),
];

#[test]
fn two_registers() {
    for (a, b) in pairs() {
        for width in [W32, W64] {
            let names = format!("{},{}", name(a, bytes(width)), name(b, bytes(width)));
            for (op, mnemonic) in ARITH {
                check(|e| e.arith(op, width, a, b), &format!("{mnemonic} {names}"));
            }
            check(|e| e.test(width, a, b), &format!("test {names}"));
            check(|e| e.imul(width, a, b), &format!("imul {names}"));
            if a != b || width == W32 {
                check(|e| e.mov(width, a, b), &format!("mov {names}"));
            }
        }
    }
    assert!(emitted(|e| e.mov(W64, Rdx, Rdx)).is_empty());
}

#[test]
fn extensions() {
    let cases = [
        (Extend::Zero, Size::B, W64, "movzx", 4, 1),
        (Extend::Zero, Size::H, W64, "movzx", 4, 2),
        (Extend::Zero, Size::W, W64, "mov", 4, 4),
        (Extend::Sign, Size::B, W32, "movsx", 4, 1),
        (Extend::Sign, Size::H, W32, "movsx", 4, 2),
        (Extend::Sign, Size::W, W32, "mov", 4, 4),
        (Extend::Sign, Size::B, W64, "movsx", 8, 1),
        (Extend::Sign, Size::H, W64, "movsx", 8, 2),
        (Extend::Sign, Size::W, W64, "movsxd", 8, 4),
    ];
    for (dst, src) in pairs() {
        for (extend, size, width, mnemonic, to, from) in cases {
            let expected = format!("{mnemonic} {},{}", name(dst, to), name(src, from));
            check(|e| e.mov_extend(extend, size, width, dst, src), &expected);
        }
    }
}

#[test]
fn immediates() {
    for (reg, imm) in GPRS.into_iter().flat_map(|reg| IMMS.map(|imm| (reg, imm))) {
        for width in [W32, W64] {
            let (name, imm_text) = (name(reg, bytes(width)), hex(imm, bytes(width)));
            for (op, mnemonic) in ARITH {
                let expected = format!("{mnemonic} {name},{imm_text}");
                check(|e| e.arith_imm(op, width, reg, imm), &expected);
            }
            // With equal registers the disassembler prints one of them.
            let src = if reg == R9 { Rsi } else { R9 };
            let expected = format!("imul {name},{},{imm_text}", self::name(src, bytes(width)));
            check(|e| e.imul_imm(width, reg, src, imm), &expected);
        }
    }
}

#[test]
fn tests_of_bits_take_the_narrowest_form() {
    let cases = [
        (W64, 0x7f, 1),
        (W64, 0xff, 1),
        (W32, 0x80, 1),
        (W64, 0x100, 4),
        (W64, i32::MAX, 4),
        (W32, -1, 4),
        (W64, -1, 8),
        (W64, i32::MIN, 8),
    ];
    for reg in GPRS {
        for (width, imm, size) in cases {
            let expected = format!("test {},{}", name(reg, size), hex(imm, size));
            check(|e| e.test_imm(width, reg, imm), &expected);
        }
    }
}

#[test]
fn constants_take_the_shortest_form() {
    let cases = [
        (0, 4, None),
        (1, 4, Some("0x1")),
        (0xffff_ffff, 4, Some("0xffffffff")),
        (0xffff_ffff_8000_0000, 8, Some("0xffffffff80000000")),
        (0x1_0000_0000, 8, Some("0x100000000")),
        (0xffff_ffff_7fff_ffff, 8, Some("0xffffffff7fffffff")),
    ];
    for reg in GPRS {
        for (value, size, text) in cases {
            let name = name(reg, size);
            let expected = match text {
                Some(text) => format!("mov {name},{text}"),
                None => format!("xor {name},{name}"),
            };
            check(|e| e.mov_imm(reg, value), &expected);
        }
    }
    let lengths = [0, 1, 0xffff_ffff_8000_0000, 1 << 32]
        .map(|value| emitted(|e| e.mov_imm(Rax, value)).len());
    assert_eq!(lengths, [2, 5, 7, 10]);
}

#[test]
fn one_register() {
    for reg in GPRS {
        for width in [W32, W64] {
            let name = name(reg, bytes(width));
            for (op, mnemonic) in [(Unary::Neg, "neg"), (Unary::Div, "div"), (Unary::Idiv, "idiv")]
            {
                check(|e| e.unary(op, width, reg), &format!("{mnemonic} {name}"));
            }
            for (op, mnemonic) in SHIFTS {
                check(|e| e.shift_imm(op, width, reg, 1), &format!("{mnemonic} {name},0x1"));
                check(|e| e.shift_imm(op, width, reg, 31), &format!("{mnemonic} {name},0x1f"));
                check(|e| e.shift_cl(op, width, reg), &format!("{mnemonic} {name},cl"));
            }
            check(|e| e.bswap(width, reg), &format!("bswap {name}"));
            let expected = format!("lea {name},[r11+0x1]");
            check(|e| e.lea(width, reg, Mem { base: R11, disp: 1 }), &expected);
        }
        check(|e| e.rol16_by_8(reg), &format!("rol {},0x8", name(reg, 2)));
        check(|e| e.push(reg), &format!("push {}", name(reg, 8)));
        check(|e| e.pop(reg), &format!("pop {}", name(reg, 8)));
    }
    check(|e| e.sign_extend_into_rdx(W32), "cdq");
    check(|e| e.sign_extend_into_rdx(W64), "cqo");
}

#[test]
fn loads_and_stores() {
    let loads = [
        (Extend::Zero, Size::B, "movzx", 4, "byte ptr "),
        (Extend::Zero, Size::H, "movzx", 4, "word ptr "),
        (Extend::Zero, Size::W, "mov", 4, ""),
        (Extend::Zero, Size::Dw, "mov", 8, ""),
        (Extend::Sign, Size::B, "movsx", 8, "byte ptr "),
        (Extend::Sign, Size::H, "movsx", 8, "word ptr "),
        (Extend::Sign, Size::W, "movsxd", 8, ""),
        (Extend::Sign, Size::Dw, "mov", 8, ""),
    ];
    for mem in mems() {
        let address = memory(mem);
        for reg in GPRS {
            for (extend, size, mnemonic, to, ptr) in loads {
                let expected = format!("{mnemonic} {},{ptr}{address}", name(reg, to));
                check(|e| e.load(extend, size, reg, mem), &expected);
            }
            for &size in Size::ALL {
                let expected = format!("mov {address},{}", name(reg, size.bytes()));
                check(|e| e.store(size, mem, reg), &expected);
            }
        }
        for (&size, imm) in Size::ALL.iter().flat_map(|size| IMMS.map(|imm| (size, imm))) {
            let expected = format!("mov {}{address},{}", pointer(size), hex(imm, size.bytes()));
            check(|e| e.store_imm(size, mem, imm), &expected);
        }
    }
}

#[test]
fn operations_with_memory() {
    for mem in mems() {
        let address = memory(mem);
        for (width, (op, mnemonic)) in [W32, W64].into_iter().flat_map(|w| ARITH.map(|op| (w, op)))
        {
            let size = bytes(width);
            for reg in GPRS {
                let expected = format!("{mnemonic} {},{address}", name(reg, size));
                check(|e| e.arith_load(op, width, reg, mem), &expected);
            }
            let pointer = if width == W32 { "dword ptr " } else { "qword ptr " };
            for imm in IMMS {
                let expected = format!("{mnemonic} {pointer}{address},{}", hex(imm, size));
                check(|e| e.arith_mem_imm(op, width, mem, imm), &expected);
            }
        }
        for reg in GPRS {
            check(|e| e.lea(W64, reg, mem), &format!("lea {},{address}", name(reg, 8)));
        }
        check(|e| e.push_mem(mem), &format!("push qword ptr {address}"));
        check(|e| e.pop_mem(mem), &format!("pop qword ptr {address}"));
    }
}

#[test]
fn calls_and_jumps_to_registers_and_back() {
    for reg in GPRS {
        check(|e| e.call_reg(reg), &format!("call {}", name(reg, 8)));
        check(|e| e.jump_reg(reg), &format!("jmp {}", name(reg, 8)));
    }
    let code = emitted(|e| {
        e.ret();
        let start = e.here();
        e.call_back(start);
        e.jump_back(None, start);
        e.jump_back(Some(Cond::NotEqual), start);
    });
    assert_eq!(text(&code), ["ret", "call 0x1", "jmp 0x1", "jne 0x1"]);
}

#[test]
fn locked_operations() {
    for (mem, reg) in mems().flat_map(|mem| GPRS.map(|reg| (mem, reg))) {
        for width in [W32, W64] {
            let operands = format!("{},{}", memory(mem), name(reg, bytes(width)));
            for (op, mnemonic) in ARITH.into_iter().filter(|&(op, _)| op != Arith::Cmp) {
                let expected = format!("lock {mnemonic} {operands}");
                check(|e| e.lock_arith(op, width, mem, reg), &expected);
            }
            check(|e| e.lock_xadd(width, mem, reg), &format!("lock xadd {operands}"));
            check(|e| e.lock_cmpxchg(width, mem, reg), &format!("lock cmpxchg {operands}"));
            check(|e| e.xchg(width, mem, reg), &format!("xchg {operands}"));
        }
    }
}

#[test]
fn displacements_take_the_shortest_form() {
    let len =
        |base, disp| emitted(|e| e.load(Extend::Zero, Size::W, Rax, Mem { base, disp })).len();
    assert_eq!([0, 127, -128, 128, -129].map(|disp| len(Rdi, disp)), [2, 3, 3, 6, 6]);
    assert_eq!(len(Rbp, 0), 3, "rbp needs a displacement");
    assert_eq!(len(R13, 0), 4, "r13 needs one, and a prefix");
    assert_eq!(len(Rsp, 0), 3, "rsp needs a SIB byte");
    assert_eq!(len(R12, 8), 5, "r12 needs one, and a prefix");
}

#[test]
fn no_prefix_is_emitted_without_need() {
    assert_eq!(emitted(|e| e.arith(Arith::Add, W32, Rax, Rdi)).len(), 2);
    assert_eq!(emitted(|e| e.store(Size::B, Mem { base: Rdi, disp: 0 }, Rcx)).len(), 2);
    assert_eq!(
        emitted(|e| e.load(Extend::Zero, Size::B, Rsi, Mem { base: Rdi, disp: 0 })).len(),
        3
    );
    assert_eq!(emitted(|e| e.push(Rbx)).len(), 1);
}

#[test]
fn a_negated_condition_differs_in_the_lowest_bit() {
    for cond in [Cond::Below, Cond::Equal, Cond::BelowEqual, Cond::Less, Cond::LessEqual] {
        assert_eq!(cond.negated() as u8, cond as u8 ^ 1);
        assert_eq!(cond.negated().negated(), cond);
    }
}

#[test]
fn jumps_within_an_instruction() {
    let code = emitted(|e| {
        let start = e.here();
        let skip = e.skip(Some(Cond::BelowEqual));
        let done = e.skip(None);
        e.land(skip);
        e.ret();
        e.land(done);
        e.repeat(Some(Cond::NotEqual), start);
    });
    assert_eq!(text(&code), ["jbe 0x4", "jmp 0x5", "ret", "jne 0x0"]);
}

#[test]
fn calls_and_addresses_leave_fields_open() {
    let mut e = Emitter::new(Positions::with_capacity(0, 0));
    e.mov_address(R9, Symbol::Map(3));
    e.call_symbol(Symbol::Helper(5));
    let (code, relocs, _) = e.finish();
    assert_eq!(text(&code), ["mov r9,0x0", "call 0xf"]);
    let expected = [
        Reloc { at: CodeOffset(2), kind: RelocKind::Address(Symbol::Map(3)) },
        Reloc { at: CodeOffset(11), kind: RelocKind::Call(Symbol::Helper(5)) },
    ];
    assert_eq!(relocs, expected);
}

#[test]
fn frames() {
    assert_eq!(text(&emitted(|e| e.enter(0))), ["push rbp", "mov rbp,rsp"]);
    assert_eq!(text(&emitted(|e| e.enter(512))), ["push rbp", "mov rbp,rsp", "sub rsp,0x200"]);
    check(Emitter::leave, "leave");
    check(Emitter::ret, "ret");
}

/// `[base+index+disp]`, in whichever order the two come: the one with a shorter encoding is the base.
fn sums(base: Gpr, index: Gpr, disp: i32) -> [String; 2] {
    let disp = match disp {
        0 => String::new(),
        disp if disp < 0 => format!("-0x{:x}", disp.unsigned_abs()),
        disp => format!("+0x{disp:x}"),
    };
    [(base, index), (index, base)].map(|(a, b)| format!("[{}+{}{disp}]", name(a, 8), name(b, 8)))
}

#[test]
fn sums_as_addresses() {
    for (base, index) in pairs().filter(|&(_, index)| index != Rsp) {
        for disp in DISPS {
            let code = emitted(|e| {
                e.load_indexed(Extend::Zero, Size::H, R9, (base, index, disp));
                e.load_indexed(Extend::Sign, Size::W, Rax, (base, index, disp));
            });
            let wanted = sums(base, index, disp).map(|address| {
                [format!("movzx r9d,word ptr {address}"), format!("movsxd rax,{address}")]
            });
            let text = text(&code);
            assert!(wanted.iter().any(|wanted| text == *wanted), "{text:?}, {code:02x?}");
        }
        let code = emitted(|e| {
            e.lea_sum(W64, R14, base, index);
            e.lea_sum(W32, Rcx, base, index);
        });
        let wanted = sums(base, index, 0)
            .map(|address| [format!("lea r14,{address}"), format!("lea ecx,{address}")]);
        let text = text(&code);
        assert!(wanted.iter().any(|wanted| text == *wanted), "{text:?}, {code:02x?}");
    }
    let len = |base, index| emitted(|e| e.lea_sum(W64, Rax, base, index)).len();
    assert_eq!([len(Rdi, Rbp), len(Rbp, Rdi), len(R13, Rdi), len(Rbp, R13)], [4, 4, 4, 5]);
}

#[test]
fn immediates_on_the_stack() {
    for imm in IMMS {
        check(|e| e.push_imm(imm), &format!("push {}", hex(imm, 8)));
    }
    assert_eq!([0, 127, -128, 128].map(|imm| emitted(|e| e.push_imm(imm)).len()), [2, 2, 2, 5]);
    check(|e| e.ret_and_drop(24), "ret 0x18");
}

#[test]
fn zeros() {
    check(Emitter::zero_vector, "xorps xmm0,xmm0");
    for mem in mems() {
        check(|e| e.store_zeros_at(mem), &format!("movups {},xmm0", memory(mem)));
    }
    let lines = text(&emitted(|e| e.store_zeros(R10)));
    let expected = ["0x40", "0x30", "0x20", "0x10"].map(|at| format!("movups [r10-{at}],xmm0"));
    assert_eq!(lines, expected);
}

#[test]
fn jumps_and_addresses_ahead() {
    let code = emitted(|e| {
        let start = e.here();
        let (one, other) = (e.far_skip(Some(Cond::Greater)), e.far_skip(None));
        let address = e.lea_ahead(R9);
        e.land_far(one);
        e.ret();
        e.land_far(other);
        e.land_at(address, start);
        e.repeat(None, start);
    });
    assert_eq!(text(&code), ["jg 0x12", "jmp 0x13", "lea r9,[0x0]", "ret", "jmp 0x0"]);
}

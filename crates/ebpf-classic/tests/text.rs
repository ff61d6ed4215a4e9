//! Text in and out. The listings of the first test are what tcpdump 4.99 prints.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use ebpf_classic::text::{Form, TextErrorKind, display, parse};
use ebpf_classic::{Op, SockFilter};
use ebpf_testkit::fixtures_dir;
use proptest::prelude::*;
use proptest::sample::select;

const FORMS: [Form; 5] =
    [Form::Listing, Form::C, Form::Decimal, Form::DecimalComma, Form::Assembly];

fn fixture(name: &str) -> String {
    std::fs::read_to_string(fixtures_dir().join("classic").join(name)).unwrap()
}

#[test]
fn every_form_of_tcpdump_is_read_and_written() {
    for filter in ["port_22", "ssh_payload"] {
        let program = parse(&fixture(&format!("{filter}.dd"))).unwrap();
        for (extension, form) in [("dd", Form::C), ("txt", Form::Listing), ("ddd", Form::Decimal)] {
            let text = fixture(&format!("{filter}.{extension}"));
            // A listing does not show the constants that libpcap leaves in instructions without any.
            let read = parse(&text).unwrap();
            let (read, expected) = match form {
                Form::Listing => (shown(&read), shown(&program)),
                _ => (read, program.clone()),
            };
            assert_eq!(read, expected, "{filter}.{extension}");
            let without_blanks = |text: &str| {
                text.lines().map(|line| line.trim_end().to_string()).collect::<Vec<_>>()
            };
            assert_eq!(Form::of(&text), form);
            let written = display(&program, form).to_string();
            assert_eq!(without_blanks(&written), without_blanks(&text));
        }
    }
}

/// The program without what its listing does not show.
fn shown(program: &[SockFilter]) -> Vec<SockFilter> {
    let clear = |insn: &SockFilter| match Op::from_code(insn.code) {
        Some(Op::Tax | Op::Txa) => SockFilter { k: 0, ..*insn },
        _ => *insn,
    };
    program.iter().map(clear).collect()
}

#[test]
fn assembly_is_read() {
    #[rustfmt::skip]
    let rows: [(&str, u16, u32); 40] = [
        ("ld [12]", 0x20, 12), ("ldh [0xc]", 0x28, 12), ("ldb [014]", 0x30, 12), ("ldb [0b11]", 0x30, 3),
        ("ld [x+4]", 0x40, 4), ("ldh [%x + 4]", 0x48, 4), ("ldb [x + -4]", 0x50, 0xffff_fffc), ("ldb [x]", 0x50, 0),
        ("ldb [x-4]", 0x50, 0xffff_fffc), ("ldb [-2097152]", 0x30, 0xffe0_0000),
        ("ldi #5", 0, 5), ("ldi 5", 0, 5), ("ld #-1", 0, 0xffff_ffff), ("ld M[3]", 0x60, 3),
        ("ld len", 0x80, 0), ("ld #len", 0x80, 0), ("ld #pktlen", 0x80, 0),
        ("ld proto", 0x20, 0xffff_f000), ("ldh #type", 0x28, 0xffff_f004), ("ldb [vlanp]", 0x30, 0xffff_f030),
        ("ld vlan_avail", 0x20, 0xffff_f030), ("ld rand", 0x20, 0xffff_f038), ("ld [random]", 0x20, 0xffff_f038),
        ("ldx #5", 1, 5), ("ldxi 5", 1, 5), ("ldx M[0]", 0x61, 0), ("ldx len", 0x81, 0),
        ("ldx 4*([14]&0xf)", 0xb1, 14), ("ldxb 4 * ( [ 14 ] & 0xf )", 0xb1, 14),
        ("st M[1]", 2, 1), ("stx M[2]", 3, 2), ("add #1", 4, 1), ("add x", 0xc, 0), ("xor %x", 0xac, 0),
        ("neg", 0x84, 0), ("tax", 7, 0), ("txa", 0x87, 0), ("ret a", 0x16, 0), ("ret %a", 0x16, 0), ("ret #-1", 6, u32::MAX),
    ];
    for (text, code, k) in rows {
        assert_eq!(parse(text), Ok(vec![SockFilter::new(code, k)]), "{text}");
    }
}

#[test]
fn jumps_lead_to_labels() {
    let program = parse(
        "begin: jeq #1, end, other   /* both */
                jne #2, end          ; the rest falls through
                jlt x, end, other
                jle #4,end
                jneq #5,end,other
         other:
                ja end
         end:   ret #0",
    );
    let branch = |code, k, jt, jf| SockFilter { code, jt, jf, k };
    let expected = [
        branch(0x15, 1, 5, 4),
        branch(0x15, 2, 0, 4),
        branch(0x3d, 0, 2, 3),
        branch(0x25, 4, 0, 2),
        branch(0x15, 5, 0, 1),
        SockFilter::new(0x05, 0),
        SockFilter::new(0x06, 0),
    ];
    assert_eq!(program.unwrap(), expected);
}

#[test]
fn mistakes_are_where_they_are() {
    use TextErrorKind::{
        BackwardJump, Count, DuplicateLabel, Empty, Expected, Position, TooFar, TooLarge,
        UndefinedLabel, UnknownInstruction,
    };
    let far = format!("jeq #1, end, end\n{}end: ret #0", "tax\n".repeat(256));
    let rows: [(&str, usize, usize, TextErrorKind); 20] = [
        ("", 1, 1, Empty),
        ("; nothing\n", 1, 1, Empty),
        ("ret #0\nfoo", 2, 1, UnknownInstruction("foo".into())),
        ("ret #0 1", 1, 8, Expected("the end of the line")),
        ("ldh M[1]", 1, 5, Expected("[k], [x + k] or the name of ancillary data")),
        (
            "ld #nonsense",
            1,
            4,
            Expected("[k], [x + k], #k, #len, M[k] or the name of ancillary data"),
        ),
        ("ldx [0]", 1, 5, Expected("#k, #len, M[k] or 4*([k]&0xf)")),
        ("ldxb 4*([14]&7)", 1, 6, Expected("4*([k]&0xf)")),
        ("(007) ldh [12]\n(008) ret a", 1, 1, Position { written: 7, at: 0 }),
        ("(x) ret a", 1, 2, Expected("a decimal number")),
        ("ret x", 1, 5, Expected("#k or a")),
        ("ld #0x1ffffffff", 1, 5, TooLarge { max: u32::MAX }),
        ("jeq #1, end", 1, 9, UndefinedLabel("end".into())),
        ("a: tax\na: tax", 2, 1, DuplicateLabel("a".into())),
        ("a: ja a", 1, 7, BackwardJump("a".into())),
        (&far, 1, 9, TooFar { label: "end".into(), distance: 256 }),
        ("{ 0x10000, 0, 0, 0 },", 1, 3, TooLarge { max: 0xffff }),
        ("{ 6, 256, 0, 0 },", 1, 6, TooLarge { max: 255 }),
        ("2,6 0 0 0", 1, 1, Count { announced: 2, found: 1 }),
        ("1\n6 0 0", 2, 6, Expected("four numbers an instruction")),
    ];
    for (text, line, column, kind) in rows {
        let error = parse(text).unwrap_err();
        assert_eq!((error.line, error.column, error.kind), (line, column, kind), "{text}");
    }
}

/// As in `bpf_asm`, the case of letters does not matter, but for labels.
#[test]
fn capital_letters_are_read() {
    let capital = "LD #Proto\nLDX 4*([14]&0XF)\nLDB [X+2]\nST m[1]\nADD %X\nJEQ #1, a, A\n\
                   a: LDX #LEN\nA: RET A\n";
    let small = "ld #proto\nldx 4*([14]&0xf)\nldb [x+2]\nst M[1]\nadd x\njeq #1, a, b\n\
                 a: ldx #len\nb: ret a\n";
    assert_eq!(parse(capital).unwrap(), parse(small).unwrap());
}

fn program() -> impl Strategy<Value = Vec<SockFilter>> {
    let ops: Vec<Op> = (0..256).filter_map(Op::from_code).collect();
    let k = prop_oneof![any::<u32>(), 0_u32..40, 0xffff_f000..=u32::MAX];
    let insn = (select(ops), any::<u8>(), any::<u8>(), k);
    prop::collection::vec(insn, 1..40).prop_map(|insns| {
        let len = insns.len();
        let put = |(at, (op, jt, jf, k)): (usize, (Op, u8, u8, u32))| {
            // What an instruction does not use has no text.
            let left = (len - at) as u32;
            let cut = |skip: u8| (u32::from(skip) % left) as u8;
            match op {
                Op::Jump => SockFilter::new(op.code(), k % left),
                Op::Branch(_, ebpf_classic::Src::X) => {
                    SockFilter { code: op.code(), jt: cut(jt), jf: cut(jf), k: 0 }
                }
                Op::Branch(..) => SockFilter { code: op.code(), jt: cut(jt), jf: cut(jf), k },
                Op::Alu(_, ebpf_classic::Src::X)
                | Op::Neg
                | Op::Tax
                | Op::Txa
                | Op::RetA
                | Op::LoadLen(_) => SockFilter::new(op.code(), 0),
                _ => SockFilter::new(op.code(), k),
            }
        };
        let mut program: Vec<SockFilter> = insns.into_iter().enumerate().map(put).collect();
        program.push(SockFilter::new(0x06, 0));
        program
    })
}

proptest! {
    #[test]
    fn what_is_written_is_read(program in program()) {
        for form in FORMS {
            let text = display(&program, form).to_string();
            prop_assert_eq!(parse(&text), Ok(program.clone()), "{}", text);
            prop_assert_eq!(Form::of(&text), form, "{}", text);
        }
    }

    #[test]
    fn any_text_is_read_or_refused(text in "[ \\n\\t{}()\\[\\],;:#%*&x0-9a-fM+/-]{0,60}|\\PC{0,40}") {
        let _ = parse(&text);
    }

    #[test]
    fn any_bytes_are_written(bytes in prop::collection::vec(any::<[u8; 8]>(), 0..20)) {
        let program: Vec<SockFilter> = bytes.into_iter().map(SockFilter::from_ne_bytes).collect();
        for form in FORMS {
            let _ = display(&program, form).to_string();
        }
    }
}

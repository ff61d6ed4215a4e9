//! Random programs of three functions that work on a block of memory.
//!
//! What they compute with are numbers and, for accesses alone, the addresses of the block and the
//! frame, so that a result does not depend on where the stack is.

use std::ops::Range;

use ebpf_isa::Program;
use ebpf_isa::text::assemble;

use crate::Rng;

/// Bytes of the block that the programs work on.
pub const BLOCK_BYTES: usize = 64;
const BLOCK: u64 = BLOCK_BYTES as u64;
/// How many functions there are.
const FUNCTIONS: u32 = 3;
/// `r9` keeps the block's address, `r6` is what packet loads ask for.
const NUMBERS: [u8; 8] = [0, 1, 2, 3, 4, 5, 7, 8];
const ALU: &[&str] =
    &["+=", "-=", "*=", "/=", "s/=", "%=", "s%=", "|=", "&=", "^=", "<<=", ">>=", "s>>="];
const COMPARISONS: &[&str] = &["==", "!=", ">", ">=", "<", "<=", "s>", "s>=", "s<", "s<=", "&"];
const ATOMIC: &[&str] = &["add", "or", "and", "xor"];

/// Numbers at the edges of their types, and of shifts.
const EDGES: [u64; 12] = [
    0,
    1,
    7,
    31,
    32,
    63,
    64,
    0x7f,
    0x7fff_ffff,
    0x8000_0000,
    0x7fff_ffff_ffff_ffff,
    0xffff_ffff_ffff_ffff,
];

struct Generator<'r> {
    rng: &'r mut Rng,
    text: String,
    labels: u32,
    /// Whether the program may do what no verifier lets pass.
    is_wild: bool,
}

/// A program that ends and does not trap, so that every engine may run it.
#[must_use]
pub fn tame_program(rng: &mut Rng) -> Program {
    program(rng, false, 5..40)
}

/// A program of about so many statements a function that may do anything: loop, recurse, touch any
/// address.
#[must_use]
pub fn wild_program(rng: &mut Rng, statements: u64) -> Program {
    program(rng, true, statements..statements + 1)
}

fn program(rng: &mut Rng, is_wild: bool, statements: Range<u64>) -> Program {
    let mut generator = Generator { rng, text: String::new(), labels: 0, is_wild };
    for function in 0..FUNCTIONS {
        generator.function(function, statements.clone());
    }
    assemble(&generator.text).unwrap_or_else(|error| panic!("{error}, in\n{}", generator.text))
}

impl Generator<'_> {
    fn line(&mut self, line: &str) {
        self.text.push_str(line);
        self.text.push('\n');
    }

    fn number(&mut self) -> u8 {
        *self.rng.pick(&NUMBERS)
    }

    fn imm(&mut self) -> i32 {
        let any = self.rng.next_u64() as i32;
        *self.rng.pick(&[0, 1, -1, 7, 63, 255, i32::MAX, i32::MIN, any, any, any])
    }

    fn value(&mut self) -> u64 {
        let (edge, any) = (*self.rng.pick(&EDGES), self.rng.next_u64());
        *self.rng.pick(&[any, edge, edge.wrapping_neg(), edge << 32 | any >> 32])
    }

    /// `r` or `w`.
    fn width(&mut self) -> char {
        *self.rng.pick(&['r', 'w'])
    }

    fn operand(&mut self, width: char) -> String {
        match self.rng.chance(1, 2) {
            true => self.imm().to_string(),
            false => format!("{width}{}", self.number()),
        }
    }

    /// An address of so many bytes in the block or the frame, at a multiple of them.
    fn place(&mut self, bytes: u64) -> String {
        if self.is_wild && self.rng.chance(1, 16) {
            return self.wild_place();
        }
        let offset = self.rng.range(0..BLOCK / bytes) * bytes;
        match self.rng.chance(1, 2) {
            true => format!("r9 +{offset}"),
            false => format!("r10 -{}", BLOCK - offset),
        }
    }

    /// An address at the limits of the block or the frame, or anywhere.
    fn wild_place(&mut self) -> String {
        match self.rng.range(0..3) {
            0 => format!("r9 {:+}", self.rng.range(0..BLOCK + 18) as i64 - 9),
            1 => {
                let offset = *self.rng.pick(&[-513, -512, -505, -63, -7, -1, 0, 8, 504, 505]);
                format!("r10 {offset:+}")
            }
            _ => {
                let offset = *self.rng.pick(&[-32768, -8, -1, 0, 1, 4, 32767]);
                format!("r{} {offset:+}", self.number())
            }
        }
    }

    fn set(&mut self, regs: &[u8]) {
        for reg in regs {
            let value = self.value();
            self.line(&format!("r{reg} = {value:#x} ll"));
        }
    }

    fn function(&mut self, index: u32, statements: Range<u64>) {
        self.line(&format!("f{index}:\nr9 = r1\nr6 = r1"));
        self.set(&NUMBERS);
        for slot in 1..=BLOCK / 8 {
            let imm = self.imm();
            self.line(&format!("*(u64 *)(r10 -{}) = {imm}", slot * 8));
        }
        let mut open = Vec::new();
        let behind = self.labels;
        for _ in 0..self.rng.range(statements) {
            self.statement(index, &mut open);
            if self.is_wild && self.rng.chance(1, 16) {
                self.jump_back(behind);
            }
            if self.rng.chance(1, 3) && !open.is_empty() {
                let label: u32 = open.pop().expect("there is one");
                self.line(&format!("l{label}:"));
            }
        }
        for label in open {
            self.line(&format!("l{label}:"));
        }
        // Whatever went wrong shows in r0.
        for reg in &NUMBERS[1..] {
            self.line(&format!("r0 *= 31\nr0 += r{reg}"));
        }
        self.line("exit");
    }

    /// Jumps to a label of this function that is there: one after the label `behind`.
    fn jump_back(&mut self, behind: u32) {
        self.labels += 1;
        let label = self.labels;
        let defined: Vec<u32> = (behind + 1..label)
            .filter(|label| self.text.contains(&format!("\nl{label}:\n")))
            .collect();
        if defined.is_empty() {
            return self.line(&format!("l{label}:"));
        }
        let (op, target) = (*self.rng.pick(COMPARISONS), *self.rng.pick(&defined));
        let (width, lhs) = (self.width(), self.number());
        let rhs = self.operand(width);
        self.line(&format!("if {width}{lhs} {op} {rhs} goto l{target}"));
    }

    fn statement(&mut self, function: u32, open: &mut Vec<u32>) {
        let (dst, src) = (self.number(), self.number());
        let bytes = *self.rng.pick(&[1, 2, 4, 8]);
        let (bits, place) = (bytes * 8, self.place(bytes));
        let width = self.width();
        let line = match self.rng.range(0..20) {
            0..7 => {
                let (op, operand) = (*self.rng.pick(ALU), self.operand(width));
                format!("{width}{dst} {op} {operand}")
            }
            7 | 8 => {
                let operand = self.operand(width);
                format!("{width}{dst} = {operand}")
            }
            9 => format!("{width}{dst} = -{width}{dst}"),
            10 => {
                let from = *self.rng.pick(&["s8", "s16"]);
                format!("{width}{dst} = ({from}){width}{src}")
            }
            11 => {
                let op = *self.rng.pick(&["be16", "be32", "be64", "le16", "le32", "bswap64"]);
                format!("r{dst} = {op} r{dst}")
            }
            12 => format!("r{dst} = *(u{bits} *)({place})"),
            13 if bytes < 8 => format!("r{dst} = *(s{bits} *)({place})"),
            13 => format!("r{dst} = load_acquire((u64 *)({place}))"),
            14 => {
                let operand = self.operand('r');
                format!("*(u{bits} *)({place}) = {operand}")
            }
            15 | 16 => self.atomic(src),
            17 => {
                self.labels += 1;
                open.push(self.labels);
                let (op, operand) = (*self.rng.pick(COMPARISONS), self.operand(width));
                format!("if {width}{dst} {op} {operand} goto l{}", self.labels)
            }
            18 => {
                let beyond = if self.is_wild { 4 } else { 0 };
                let offset = self.rng.range(0..BLOCK - 4 + beyond);
                let indexed = format!("r0 = *(u32 *)skb[r7 + {offset}]");
                let absolute = format!("r0 = *(u16 *)skb[{offset}]");
                let load = if self.rng.chance(1, 2) { absolute } else { indexed };
                self.line(&format!("r7 = 1\n{load}"));
                return self.set(&[1, 2, 3, 4, 5]);
            }
            _ if function + 1 < FUNCTIONS || self.is_wild => {
                // Of wild programs, the last function calls itself.
                let callee = (function + 1).min(FUNCTIONS - 1);
                self.line(&format!("r1 = r9\ncall f{callee}"));
                return self.set(&[1, 2, 3, 4, 5]);
            }
            _ => {
                let value = self.value();
                format!("r{dst} = {value:#x} ll")
            }
        };
        self.line(&line);
    }

    fn atomic(&mut self, src: u8) -> String {
        let (bytes, name) = *self.rng.pick(&[(4, "atomic"), (8, "atomic64")]);
        let (bits, place) = (bytes * 8, self.place(bytes));
        match self.rng.range(0..5) {
            0 => format!("r0 = {name}_cmpxchg((u{bits} *)({place}), r0, r{src})"),
            1 => format!("r{src} = {name}_xchg((u{bits} *)({place}), r{src})"),
            2 => {
                let op = *self.rng.pick(ATOMIC);
                format!("r{src} = {name}_fetch_{op}((u{bits} *)({place}), r{src})")
            }
            3 => format!("store_release((u{bits} *)({place}), r{src})"),
            _ => format!("lock *(u{bits} *)({place}) += r{src}"),
        }
    }
}

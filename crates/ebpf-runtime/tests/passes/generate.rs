//! Random programs that end and never trap, so that every engine may run them.

use ebpf_isa::Program;
use ebpf_isa::text::assemble;
use ebpf_testkit::Rng;

/// Bytes of the block that the programs work on.
pub(crate) const BLOCK: usize = 64;
/// `r9` keeps the block's address, `r6` is what packet loads ask for.
const NUMBERS: [u8; 8] = [0, 1, 2, 3, 4, 5, 7, 8];
const ALU: &[&str] =
    &["+=", "-=", "*=", "/=", "s/=", "%=", "s%=", "|=", "&=", "^=", "<<=", ">>=", "s>>="];
const COMPARISONS: &[&str] = &["==", "!=", ">", ">=", "<", "<=", "s>", "s>=", "s<", "s<=", "&"];
const ATOMIC: &[&str] = &["add", "or", "and", "xor"];

struct Generator {
    rng: Rng,
    text: String,
    labels: u32,
}

/// A program of three functions, the same for the same seed.
pub(crate) fn program(seed: u64) -> Program {
    let mut generator = Generator { rng: Rng::seed(seed), text: String::new(), labels: 0 };
    for function in 0..3 {
        generator.function(function);
    }
    assemble(&generator.text).unwrap_or_else(|error| panic!("{error}, in\n{}", generator.text))
}

impl Generator {
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
        let offset = self.rng.range(0..BLOCK as u64 / bytes) * bytes;
        match self.rng.chance(1, 2) {
            true => format!("r9 +{offset}"),
            false => format!("r10 -{}", BLOCK as u64 - offset),
        }
    }

    fn set(&mut self, regs: &[u8]) {
        for reg in regs {
            let value = self.rng.next_u64();
            self.line(&format!("r{reg} = {value:#x} ll"));
        }
    }

    fn function(&mut self, index: u32) {
        self.line(&format!("f{index}:\nr9 = r1\nr6 = r1"));
        self.set(&NUMBERS);
        for slot in 1..=BLOCK / 8 {
            let imm = self.imm();
            self.line(&format!("*(u64 *)(r10 -{}) = {imm}", slot * 8));
        }
        let mut open = Vec::new();
        for _ in 0..self.rng.range(5..40) {
            self.statement(index, &mut open);
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
                let offset = self.rng.range(0..BLOCK as u64 - 4);
                let indexed = format!("r0 = *(u32 *)skb[r7 + {offset}]");
                let absolute = format!("r0 = *(u16 *)skb[{offset}]");
                let load = if self.rng.chance(1, 2) { absolute } else { indexed };
                self.line(&format!("r7 = 1\n{load}"));
                return self.set(&[1, 2, 3, 4, 5]);
            }
            _ if function < 2 => {
                self.line(&format!("r1 = r9\ncall f{}", function + 1));
                return self.set(&[1, 2, 3, 4, 5]);
            }
            _ => {
                let value = self.rng.next_u64();
                format!("r{dst} = {value:#x} ll")
            }
        };
        self.line(&line);
    }

    fn atomic(&mut self, src: u8) -> String {
        let (bytes, name) = *self.rng.pick(&[(4, "atomic"), (8, "atomic64")]);
        let (bits, place) = (bytes * 8, self.place(bytes));
        match self.rng.range(0..4) {
            0 => format!("r0 = {name}_cmpxchg((u{bits} *)({place}), r0, r{src})"),
            1 => format!("r{src} = {name}_xchg((u{bits} *)({place}), r{src})"),
            2 => {
                let op = *self.rng.pick(ATOMIC);
                format!("r{src} = {name}_fetch_{op}((u{bits} *)({place}), r{src})")
            }
            _ => format!("lock *(u{bits} *)({place}) += r{src}"),
        }
    }
}

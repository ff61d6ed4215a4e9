//! Statements about numbers.

use super::{Generator, Kind};

const COMPARISONS: [&str; 11] = ["==", "!=", ">", ">=", "<", "<=", "s>", "s>=", "s<", "s<=", "&"];

impl Generator {
    pub(super) fn arithmetic(&mut self) {
        let (dst, width) = (self.number(), self.width());
        let op = *self.rng.pick(&[
            "+=", "+=", "-=", "-=", "*=", "/=", "%=", "s/=", "s%=", "|=", "&=", "^=", "<<=", ">>=",
            "s>>=", "&=", "|=",
        ]);
        let line = match self.rng.range(0..12) {
            0 => format!("{width}{dst} = -{width}{dst}"),
            1 => {
                let swap = *self.rng.pick(&["be16", "be32", "be64", "le16", "le32", "le64"]);
                let swap = *self.rng.pick(&[swap, "bswap16", "bswap32", "bswap64"]);
                format!("r{dst} = {swap} r{dst}")
            }
            2..7 => {
                let src = self.number();
                format!("{width}{dst} {op} {width}{src}")
            }
            _ => {
                let imm = self.operand_of(op, width);
                format!("{width}{dst} {op} {imm}")
            }
        };
        self.line(line);
        self.set(dst, Kind::Number);
    }

    /// An immediate that the operation allows, nearly always.
    fn operand_of(&mut self, op: &str, width: char) -> i32 {
        let (imm, bits) = (self.imm(), if width == 'w' { 32 } else { 64 });
        match op {
            _ if self.rng.chance(1, 100) => imm,
            "<<=" | ">>=" | "s>>=" => imm.rem_euclid(bits),
            "/=" | "%=" | "s/=" | "s%=" if imm == 0 => -1,
            _ => imm,
        }
    }

    pub(super) fn move_number(&mut self) {
        let (src, dst) = (self.readable(), self.destination());
        let (line, is_same) = match self.rng.range(0..6) {
            0 => (format!("w{dst} = w{src}"), false),
            1 => {
                let from = *self.rng.pick(&["s8", "s16", "s32"]);
                (format!("r{dst} = ({from})r{src}"), false)
            }
            2 => {
                let from = *self.rng.pick(&["s8", "s16"]);
                (format!("w{dst} = ({from})w{src}"), false)
            }
            _ => (format!("r{dst} = r{src}"), true),
        };
        self.line(line);
        let kind = if is_same { self.registers[src] } else { Kind::Number };
        self.set(dst, kind);
    }

    pub(super) fn bound(&mut self) {
        let reg = self.number();
        self.bound_register(reg);
    }

    /// Makes a number small, in one of many ways.
    pub(super) fn bound_register(&mut self, reg: usize) {
        let most = *self.rng.pick(&[1, 3, 4, 7, 8, 12, 15, 16, 24, 31, 63]);
        let width = self.width();
        match self.rng.range(0..9) {
            0..3 => self.line(format!("{width}{reg} &= {most}")),
            3..5 => {
                let (op, label) = (*self.rng.pick(&[">", ">="]), self.ahead());
                self.line(format!("if {width}{reg} {op} {most} goto l{label}"));
            }
            5 => {
                let (least, label) = (*self.rng.pick(&[0, 0, 1, -1, -4]), self.ahead());
                self.line(format!("if {width}{reg} s> {most} goto l{label}"));
                self.line(format!("if {width}{reg} s< {least} goto l{label}"));
            }
            6 => {
                let bits = *self.rng.pick(&[56, 58, 60, 61]);
                self.line(format!("r{reg} >>= {bits}"));
            }
            7 => {
                let divisor = *self.rng.pick(&[2, 3, 8, 16]);
                self.line(format!("{width}{reg} %= {divisor}\n{width}{reg} &= {most}"));
            }
            _ => {
                let bits = *self.rng.pick(&[-8, -16, -4, !12, 0x7fff_fff0, -1]);
                let label = self.ahead();
                self.line(format!("if {width}{reg} & {bits} goto l{label}"));
            }
        }
        self.set(reg, Kind::Small);
    }

    /// A comparison: `w1 s> 5`.
    pub(super) fn condition(&mut self) -> String {
        let (op, width, lhs) = (*self.rng.pick(&COMPARISONS), self.width(), self.number());
        if self.rng.chance(1, 2) {
            let rhs = self.number();
            return format!("{width}{lhs} {op} {width}{rhs}");
        }
        let imm = self.imm();
        format!("{width}{lhs} {op} {imm}")
    }

    /// Copies of a number, some of them changed, of which one is learnt something.
    pub(super) fn link(&mut self) {
        let src = self.number();
        for _ in 0..self.rng.range(1..6) {
            let dst = self.fresh();
            if dst == src {
                continue;
            }
            let slot = self.slot();
            let line = match self.rng.range(0..8) {
                0 => format!("w{dst} = w{src}"),
                1 => format!("*(u64 *)(r10 {slot:+}) = r{src}\nr{dst} = *(u64 *)(r10 {slot:+})"),
                2 => format!("*(u32 *)(r10 {slot:+}) = r{src}\nr{dst} = *(u32 *)(r10 {slot:+})"),
                3 => format!("r{dst} = (s32)r{src}"),
                _ => format!("r{dst} = r{src}"),
            };
            self.line(line);
            self.set(dst, Kind::Number);
            if self.rng.chance(1, 3) {
                let width = self.width();
                let distance = *self.rng.pick(&[1, 2, 4, -1, -4, 100, i32::MAX, 0]);
                let op = *self.rng.pick(&["+=", "+=", "-="]);
                self.line(format!("{width}{dst} {op} {distance}"));
            }
        }
        self.branch();
    }
}

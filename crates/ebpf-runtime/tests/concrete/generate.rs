//! Random programs that a verifier mostly accepts, made of what it keeps track of: numbers and what
//! comparisons tell of them, copies, the stack, values of maps, packets, calls, loops.

use std::collections::BTreeSet;

use ebpf_testkit::Rng;

/// Bytes of the maps' values.
const VALUE: u32 = 32;
/// How deep blocks of the main program are nested, at most.
const OUTERMOST: u32 = 2;
/// The registers that hold numbers; `r9` counts loops.
const NUMBERS: [u8; 3] = [6, 7, 8];
/// Slots of the stack that hold numbers. The context is at -8, a key at -16.
const SLOTS: [i32; 4] = [-24, -32, -40, -48];
const ALU: [&str; 11] = ["+=", "-=", "*=", "/=", "%=", "s/=", "s%=", "|=", "&=", "^=", "+="];
const SHIFTS: [&str; 3] = ["<<=", ">>=", "s>>="];
const COMPARISONS: [&str; 11] = ["==", "!=", ">", ">=", "<", "<=", "s>", "s>=", "s<", "s<=", "&"];
/// Numbers that are compared with, and masks.
const EDGES: [i32; 12] = [0, 1, -1, 7, 15, 31, 63, 255, 0x7fff, i32::MAX, i32::MIN, -4096];

/// A program, and what it is verified against as fixtures say it.
pub(crate) fn program(rng: &mut Rng) -> (String, String) {
    let functions = BTreeSet::new();
    let mut writer = Writer { rng, text: String::new(), labels: 0, in_main: true, functions };
    writer.main();
    let Writer { text, functions, .. } = writer;
    let maps = format!("map array 4 {VALUE} 4\nmap hash 4 {VALUE} 4\n");
    let typed = if functions.is_empty() { "" } else { "function global int\n" };
    (text, maps + typed + &"function static int\n".repeat(functions.len()))
}

/// A function besides the main program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Function {
    Callee,
    /// What `bpf_loop` calls back.
    Round,
    /// What `bpf_for_each_map_elem` calls back.
    Element,
}

struct Writer<'r> {
    rng: &'r mut Rng,
    text: String,
    labels: u32,
    /// Whether it is the main program, which has the context.
    in_main: bool,
    /// The functions that it calls, or has called back.
    functions: BTreeSet<Function>,
}

impl Writer<'_> {
    fn line(&mut self, line: &str) {
        self.text.push_str(line);
        self.text.push('\n');
    }

    fn label(&mut self) -> String {
        self.labels += 1;
        format!("l{}", self.labels)
    }

    fn main(&mut self) {
        self.line("*(u64 *)(r10 -8) = r1\n*(u32 *)(r10 -16) = 1");
        self.fill_stack();
        for reg in NUMBERS {
            self.line(&format!("call 7\nr{reg} = r0"));
        }
        let statements = self.rng.range(4..16);
        self.block(statements, OUTERMOST);
        self.line("r0 = r6\nexit");
        self.in_main = false;
        for function in self.functions.clone() {
            self.function(function);
        }
    }

    fn function(&mut self, function: Function) {
        let (label, enter, leave) = match function {
            Function::Callee => ("sub", "r6 = r1\nr7 = r2\nr8 = 0", "r0 = r7"),
            // Both get the address of a slot of the main program's stack.
            Function::Round => (
                "round",
                "r6 = r1\nr7 = *(u64 *)(r2 +0)\nr8 = 0\nr9 = r2",
                "*(u64 *)(r9 +0) = r7\nr0 = r6\nr0 &= 1",
            ),
            Function::Element => (
                "element",
                "r6 = *(u32 *)(r2 +0)\nr7 = *(u64 *)(r3 +8)\nr8 = *(u64 *)(r4 +0)\nr9 = r4\n\
                 *(u64 *)(r3 +16) = r8",
                "*(u64 *)(r9 +0) = r7\nr0 = r8\nr0 &= 1",
            ),
        };
        self.line(&format!("{label}:"));
        self.fill_stack();
        self.line(enter);
        let statements = self.rng.range(1..5);
        self.block(statements, 1);
        self.line(leave);
        self.line("exit");
    }

    fn fill_stack(&mut self) {
        for slot in SLOTS {
            self.line(&format!("*(u64 *)(r10 {slot}) = {}", slot & 1));
        }
    }

    fn block(&mut self, statements: u64, nested: u32) {
        for _ in 0..statements {
            self.statement(nested);
        }
    }

    fn number(&mut self) -> u8 {
        *self.rng.pick(&NUMBERS)
    }

    fn imm(&mut self) -> i32 {
        match self.rng.chance(1, 2) {
            true => *self.rng.pick(&EDGES),
            false => self.rng.range(0..64) as i32,
        }
    }

    /// A register, or an immediate that may stand in its place.
    fn operand(&mut self, file: char) -> String {
        match self.rng.chance(1, 2) {
            true => format!("{file}{}", self.number()),
            false => self.imm().to_string(),
        }
    }

    fn file(&mut self) -> char {
        if self.rng.chance(1, 3) { 'w' } else { 'r' }
    }

    fn statement(&mut self, nested: u32) {
        match self.rng.range(0..21) {
            0..5 => self.arithmetic(),
            5..7 => self.conversion(),
            7..9 => self.stack(),
            9 => self.stack_somewhere(),
            10..13 if nested > 0 => self.branch(nested),
            13 if nested > 0 => self.relation(nested),
            14 if nested > 0 && self.in_main => self.repeat(),
            15 if self.in_main => {
                self.functions.insert(Function::Callee);
                self.line("r1 = r6\nr2 = r7\ncall sub\nr8 = r0");
            }
            16..18 if self.in_main => self.map(),
            18 if self.in_main => self.packet(),
            19 if self.in_main && nested == OUTERMOST => self.call_back(),
            _ => {
                let (to, from) = (self.number(), self.number());
                self.line(&format!("r{to} = r{from}"));
            }
        }
    }

    fn arithmetic(&mut self) {
        let (file, dst) = (self.file(), self.number());
        if self.rng.chance(1, 5) {
            let bits = if file == 'w' { 32 } else { 64 };
            let (op, count) = (*self.rng.pick(&SHIFTS), self.rng.range(0..bits));
            return self.line(&format!("{file}{dst} {op} {count}"));
        }
        let (op, operand) = (*self.rng.pick(&ALU), self.operand(file));
        let operand = match operand.as_str() {
            "0" if op.ends_with("/=") || op.ends_with("%=") => "3".to_owned(),
            _ => operand,
        };
        self.line(&format!("{file}{dst} {op} {operand}"));
    }

    fn conversion(&mut self) {
        let (dst, src) = (self.number(), self.number());
        let line = match self.rng.range(0..7) {
            0 => format!("w{dst} = w{src}"),
            1 => format!("r{dst} = (s8)r{src}"),
            2 => format!("r{dst} = (s32)r{src}"),
            3 => format!("w{dst} = (s16)w{src}"),
            4 => format!("r{dst} = be16 r{dst}"),
            5 => format!("r{dst} = bswap32 r{dst}"),
            _ => format!("r{dst} = -r{dst}"),
        };
        self.line(&line);
    }

    /// A register, or a number as it is often stored.
    fn stored(&mut self) -> String {
        match self.rng.range(0..4) {
            0 | 1 => format!("r{}", self.number()),
            2 => "0".to_owned(),
            _ => self.imm().to_string(),
        }
    }

    /// A store or a load, of any part of a slot.
    fn stack(&mut self) {
        let (slot, reg, stored) = (*self.rng.pick(&SLOTS), self.number(), self.stored());
        let bits = *self.rng.pick(&[64, 64, 32, 16, 8]);
        let off = slot + (self.rng.range(0..64 / bits) * bits / 8) as i32;
        let sign = if bits < 64 && self.rng.chance(1, 3) { 's' } else { 'u' };
        let line = match self.rng.chance(1, 2) {
            true => format!("*(u{bits} *)(r10 {off}) = {stored}"),
            false => format!("r{reg} = *({sign}{bits} *)(r10 {off})"),
        };
        self.line(&line);
    }

    /// The same at a place that is known in part.
    fn stack_somewhere(&mut self) {
        let (index, reg) = (self.number(), self.number());
        let (slot, mask) = (*self.rng.pick(&SLOTS), *self.rng.pick(&[1, 7, 8]));
        self.line(&format!("r2 = r{index}\nr2 &= {mask}\nr1 = r10\nr1 += {slot}\nr1 += r2"));
        let stored = self.stored();
        let line = match self.rng.chance(2, 3) {
            true => format!("*(u8 *)(r1 +0) = {stored}"),
            false => format!("r{reg} = *(u8 *)(r1 +0)"),
        };
        self.line(&line);
    }

    fn branch(&mut self, nested: u32) {
        let (file, lhs, label) = (self.file(), self.number(), self.label());
        let (op, rhs) = (*self.rng.pick(&COMPARISONS), self.operand(file));
        self.line(&format!("if {file}{lhs} {op} {rhs} goto {label}"));
        let statements = self.rng.range(1..4);
        self.block(statements, nested - 1);
        self.line(&format!("{label}:"));
    }

    /// A branch that tells something of another register, too.
    fn relation(&mut self, nested: u32) {
        let (dst, src, by) = (self.number(), self.number(), self.rng.range(0..12) as i32 - 4);
        let file = self.file();
        self.line(&format!("{file}{dst} = {file}{src}\n{file}{dst} += {by}"));
        self.branch(nested);
    }

    fn repeat(&mut self) {
        let (label, times) = (self.label(), self.rng.range(2..5));
        self.line(&format!("r9 = 0\n{label}:"));
        let statements = self.rng.range(1..3);
        self.block(statements, 0);
        self.line(&format!("r9 += 1\nif r9 < {times} goto {label}"));
    }

    /// A helper that calls back, with the address of a slot.
    fn call_back(&mut self) {
        let slot = *self.rng.pick(&SLOTS);
        let rounds = match self.rng.chance(1, 2) {
            true => self.rng.range(0..4).to_string(),
            false => format!("r{}", self.number()),
        };
        let (function, first, call) = match self.rng.range(0..3) {
            0 => (Function::Element, "map[0] ll".to_owned(), "element ll\nr4 = 0"),
            1 => (Function::Element, "map[1] ll".to_owned(), "element ll\nr4 = 0"),
            _ => (Function::Round, rounds, "round ll\nr4 = 0"),
        };
        let helper = if function == Function::Round { 181 } else { 164 };
        self.functions.insert(function);
        self.line(&format!(
            "r1 = {first}\nr3 = r10\nr3 += {slot}\nr2 = func {call}\ncall {helper}"
        ));
        let dst = self.number();
        self.line(&format!("r{dst} = r0"));
    }

    /// An access to an element of a map, at an index that was cut.
    fn map(&mut self) {
        let (map, dst, label) = (self.rng.range(0..2), self.number(), self.label());
        let bits = *self.rng.pick(&[64, 32, 8]);
        let room = VALUE as u64 - bits / 8;
        let (index, off) = (self.number(), self.rng.range(0..room / 2 + 1) / 8 * 8);
        let key = self.rng.range(0..4);
        self.line(&format!("*(u32 *)(r10 -16) = {key}\nr2 = r10\nr2 += -16\nr1 = map[{map}] ll"));
        self.line(&format!("call 1\nif r0 == 0 goto {label}"));
        if self.rng.chance(1, 2) {
            let cut = self.rng.chance(1, 2);
            let limit = (room - off) / 8 * 8;
            match cut {
                true => self.line(&format!("r{index} &= {}", limit.min(8))),
                false => self.line(&format!("if r{index} > {} goto {label}", limit / 2)),
            }
            self.line(&format!("r0 += r{index}"));
        }
        match self.rng.chance(1, 2) {
            true => self.line(&format!("r{dst} = *(u{bits} *)(r0 +{off})")),
            false => self.line(&format!("*(u{bits} *)(r0 +{off}) = r{dst}")),
        }
        self.line(&format!("{label}:"));
    }

    /// An access to the packet, after a comparison with its end.
    fn packet(&mut self) {
        let (dst, index, label) = (self.number(), self.number(), self.label());
        let (bytes, mask) = (self.rng.range(4..40), *self.rng.pick(&[7, 31, 60]));
        self.line("r1 = *(u64 *)(r10 -8)\nr2 = *(u32 *)(r1 +0)\nr3 = *(u32 *)(r1 +4)");
        if self.rng.chance(1, 2) {
            self.line(&format!("r{index} &= {mask}\nr2 += r{index}"));
        }
        self.line(&format!("r4 = r2\nr4 += {bytes}\nif r4 > r3 goto {label}"));
        let off = self.rng.range(0..bytes - 3);
        self.line(&format!("r{dst} = *(u32 *)(r2 +{off})\n{label}:"));
    }
}

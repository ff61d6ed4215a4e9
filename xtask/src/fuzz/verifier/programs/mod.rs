//! Programs for two verifiers to judge: most of them valid, and all of them with something in them
//! that is easily judged wrong.
//!
//! A program is text, a line a statement or more. While it is written, a rough idea of what each
//! register holds is kept, so that most statements make sense. It need not be right: a program that
//! is refused is a case, too.

mod control;
mod memory;
mod numbers;
mod objects;

use ebpf_runtime::isa::uapi::ProgramType;
use ebpf_testkit::Rng;

use super::maps::{MAPS, WITH_VALUES};

/// What a register holds, as far as the generator knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Unset,
    Number,
    /// A number that was bounded, and so may be added to a pointer.
    Small,
    /// What a loop counts with, and nothing but the loop may change.
    Counter,
    Context,
    Frame,
    /// The value of a map, by its index.
    Value(usize),
    /// The same or null.
    ValueOrNull(usize),
    Packet,
    PacketEnd,
    /// A record of a ring buffer, of so many bytes.
    Record(i16),
    Socket,
}

impl Kind {
    const fn is_number(self) -> bool {
        matches!(self, Self::Number | Self::Small)
    }

    /// Bytes of the memory that it points to, for what may be read and written anywhere.
    const fn len(self) -> Option<i16> {
        match self {
            Self::Value(map) => Some(MAPS[map].value_size as i16),
            Self::Record(size) => Some(size),
            _ => None,
        }
    }
}

/// What the ten registers and the frame pointer hold.
type Registers = [Kind; 11];

/// A label that is still to be placed.
struct Open {
    label: u32,
    /// After so many statements, or at the end of the function.
    after: Option<u64>,
    /// What the registers hold where it is jumped to.
    registers: Registers,
}

/// A function that is called and still to be written.
struct Callee {
    label: u32,
    /// What it is called with.
    registers: Registers,
}

struct Generator {
    rng: Rng,
    program_type: ProgramType,
    text: String,
    labels: u32,
    registers: Registers,
    /// Slots of eight bytes that something was stored to, by offset, and what.
    spilled: Vec<(i16, Kind)>,
    open: Vec<Open>,
    callees: Vec<Callee>,
    /// Branches and loops of this function: more would take the verifiers too long.
    forks: u32,
    loops: u32,
}

/// A kind of statement, and how often it occurs, by theme.
struct Statement {
    write: fn(&mut Generator),
    weights: [u64; THEMES],
}

const THEMES: usize = 9;

/// Themes: numbers, links between them, stack, loops, calls, maps, packets, objects, all alike.
const STATEMENTS: [Statement; 24] = [
    row(Generator::arithmetic, [30, 10, 6, 12, 5, 6, 5, 5, 5]),
    row(Generator::move_number, [8, 8, 3, 3, 4, 3, 3, 3, 5]),
    row(Generator::bound, [8, 6, 6, 5, 5, 8, 5, 4, 5]),
    row(Generator::branch, [14, 14, 5, 6, 5, 4, 2, 5, 5]),
    row(Generator::link, [3, 22, 4, 2, 6, 4, 2, 2, 5]),
    row(Generator::spill, [3, 5, 20, 5, 6, 4, 3, 4, 5]),
    row(Generator::fill, [3, 5, 20, 5, 6, 4, 3, 4, 5]),
    row(Generator::variable_stack, [0, 1, 14, 2, 2, 1, 0, 1, 3]),
    row(Generator::atomic, [1, 1, 5, 1, 1, 3, 1, 2, 4]),
    row(Generator::bounded_loop, [1, 1, 2, 14, 2, 2, 2, 2, 3]),
    row(Generator::call_function, [1, 2, 3, 3, 16, 2, 2, 3, 4]),
    row(Generator::call_helper, [3, 3, 3, 3, 4, 4, 3, 4, 5]),
    row(Generator::look_up, [1, 1, 2, 1, 2, 10, 1, 2, 4]),
    row(Generator::compare_with_null, [0, 0, 1, 1, 2, 8, 1, 2, 3]),
    row(Generator::access_value, [1, 4, 1, 2, 3, 14, 1, 5, 5]),
    row(Generator::address_of_value, [2, 4, 0, 2, 2, 8, 0, 2, 4]),
    row(Generator::access_packet, [0, 1, 1, 2, 2, 1, 24, 4, 5]),
    row(Generator::load_context, [2, 2, 2, 1, 2, 1, 5, 3, 5]),
    row(Generator::acquire, [0, 0, 1, 1, 1, 1, 1, 16, 3]),
    row(Generator::release_any, [0, 0, 0, 0, 0, 0, 0, 1, 1]),
    row(Generator::tail_call, [0, 0, 0, 0, 1, 0, 0, 3, 1]),
    row(Generator::call_with_memory, [0, 0, 2, 1, 1, 1, 1, 6, 3]),
    row(Generator::move_packet, [0, 0, 0, 0, 1, 0, 3, 3, 2]),
    row(Generator::nonsense, [1, 1, 1, 1, 1, 1, 1, 1, 1]),
];

const fn row(write: fn(&mut Generator), weights: [u64; THEMES]) -> Statement {
    Statement { write, weights }
}

/// The program of a seed, in the text form of `ebpf_isa`.
pub(in super::super) fn program(seed: u64, program_type: ProgramType) -> String {
    let mut rng = Rng::seed(seed);
    let theme = rng.range(0..THEMES as u64) as usize;
    let mut generator = Generator {
        rng,
        program_type,
        text: String::new(),
        labels: 0,
        registers: [Kind::Unset; 11],
        spilled: Vec::new(),
        open: Vec::new(),
        callees: Vec::new(),
        forks: 0,
        loops: 0,
    };
    generator.line("r6 = r1");
    let mut entry = [Kind::Unset; 11];
    (entry[1], entry[6]) = (Kind::Context, Kind::Context);
    let len = if generator.rng.chance(1, 12) { 15..40 } else { 2..15 };
    let len = generator.rng.range(len);
    generator.function(theme, entry, len);
    while let Some(Callee { label, registers }) = generator.callees.pop() {
        generator.place(label);
        let len = generator.rng.range(1..7);
        generator.function(theme, registers, len);
    }
    generator.text
}

impl Generator {
    fn line(&mut self, line: impl AsRef<str>) {
        self.text.push_str(line.as_ref());
        self.text.push('\n');
    }

    fn label(&mut self) -> u32 {
        self.labels += 1;
        self.labels
    }

    fn place(&mut self, label: u32) {
        self.line(format!("l{label}:"));
    }

    fn function(&mut self, theme: usize, registers: Registers, len: u64) {
        self.registers = registers;
        self.registers[10] = Kind::Frame;
        self.spilled.clear();
        (self.forks, self.loops) = (0, 0);
        for _ in 0..len {
            self.statement(theme);
        }
        while let Some(open) = self.open.pop() {
            self.join(&open);
        }
        if self.rng.chance(19, 20) {
            let result = *self.rng.pick(&[0, 1, 2]);
            self.line(format!("r0 = {result}"));
        }
        self.line("exit");
    }

    fn statement(&mut self, theme: usize) {
        let before = self.open.len();
        let total = STATEMENTS.iter().map(|statement| statement.weights[theme]).sum();
        let mut drawn = self.rng.range(0..total);
        for statement in &STATEMENTS {
            let weight = statement.weights[theme];
            if drawn < weight {
                (statement.write)(self);
                break;
            }
            drawn -= weight;
        }
        self.place_labels(before);
    }

    /// Places those of the first `waiting` labels whose time has come.
    fn place_labels(&mut self, waiting: usize) {
        let (now, later): (Vec<_>, Vec<_>) = std::mem::take(&mut self.open)
            .into_iter()
            .enumerate()
            .map(|(index, open)| match open.after {
                Some(after) if index < waiting => Open { after: Some(after.max(1) - 1), ..open },
                _ => open,
            })
            .partition(|open| open.after == Some(0));
        self.open = later;
        now.iter().for_each(|open| self.join(open));
    }

    /// Places a label: from here on, registers hold what they hold on both ways.
    fn join(&mut self, open: &Open) {
        self.place(open.label);
        for (here, there) in self.registers.iter_mut().zip(open.registers) {
            if here.is_number() && there.is_number() && *here != there {
                *here = Kind::Number;
            } else if *here != there {
                *here = Kind::Unset;
            }
        }
    }

    /// A label to jump forward to.
    fn ahead(&mut self) -> u32 {
        let after = if self.rng.chance(3, 5) { None } else { Some(self.rng.range(1..5)) };
        self.forks += 1;
        let label = self.label();
        self.open.push(Open { label, after, registers: self.registers });
        label
    }

    /// A register that holds something of this kind.
    fn find(&mut self, is_wanted: impl Fn(Kind) -> bool) -> Option<usize> {
        let found: Vec<usize> =
            (0..self.registers.len()).filter(|&reg| is_wanted(self.registers[reg])).collect();
        (!found.is_empty()).then(|| *self.rng.pick(&found))
    }

    /// A register to write.
    fn destination(&mut self) -> usize {
        // The context stays in r6 most of the time.
        let kept = |reg: usize, kind: Kind| kind == Kind::Counter || reg == 6;
        let any = self.rng.range(0..10) as usize;
        if kept(any, self.registers[any]) && self.rng.chance(30, 31) { any % 6 } else { any }
    }

    /// A register to write that holds nothing of use.
    fn fresh(&mut self) -> usize {
        let unset = self.find(|kind| kind == Kind::Unset);
        unset.unwrap_or_else(|| self.destination())
    }

    /// A register that may be read; rarely any.
    fn readable(&mut self) -> usize {
        if self.rng.chance(1, 60) {
            return self.rng.range(0..11) as usize;
        }
        self.find(|kind| kind != Kind::Unset).unwrap_or(10)
    }

    fn set(&mut self, reg: usize, kind: Kind) {
        if reg < 10 {
            self.registers[reg] = if kind == Kind::Counter { Kind::Small } else { kind };
        }
    }

    /// A register with a number in it, which is made where there is none.
    fn number(&mut self) -> usize {
        self.find(Kind::is_number).unwrap_or_else(|| self.new_number())
    }

    /// A number that the verifiers know nothing about, or a constant.
    fn new_number(&mut self) -> usize {
        let reg = self.fresh();
        match self.rng.range(0..6) {
            0 => {
                let imm = self.imm();
                self.line(format!("r{reg} = {imm}"));
            }
            1 => {
                let value = self.value();
                self.line(format!("r{reg} = {value:#x} ll"));
            }
            2 => {
                self.line("call bpf_get_prandom_u32#7");
                self.registers[..6].fill(Kind::Unset);
                self.line(format!("r{reg} = r0"));
                self.set(0, Kind::Number);
            }
            3 if self.registers[6] == Kind::Context => {
                let offset = self.context_number();
                self.line(format!("r{reg} = *(u32 *)(r6 +{offset})"));
            }
            _ => {
                let slot = self.slot();
                self.line(format!("r{reg} = *(u64 *)(r10 {slot:+})"));
            }
        }
        self.set(reg, Kind::Number);
        reg
    }

    /// A number that may be added to a pointer.
    fn small(&mut self) -> usize {
        if let Some(reg) = self.find(|kind| kind == Kind::Small).filter(|_| self.rng.chance(1, 2)) {
            return reg;
        }
        let reg = self.number();
        self.bound_register(reg);
        reg
    }

    fn imm(&mut self) -> i32 {
        let power = 1_i32.wrapping_shl(self.rng.range(0..32) as u32);
        match self.rng.range(0..8) {
            0 => *self.rng.pick(&[255, 256, 0xffff, 0x10000, i32::MIN, i32::MAX, -2, i32::MIN + 1]),
            1..=4 => *self.rng.pick(&[0, 1, 2, 3, 4, 5, 7, 8, 15, 16, 31, 32, 63, -1, -4, -8]),
            5 => self.rng.range(0..64) as i32,
            6 => power.wrapping_sub(self.rng.range(0..3) as i32),
            _ => self.rng.next_u64() as i32,
        }
    }

    fn value(&mut self) -> u64 {
        let edge = *self.rng.pick(&[0, 1, 8, 0x7fff_ffff, 0x8000_0000, 1 << 63, u64::MAX]);
        let low = self.imm() as u32;
        *self.rng.pick(&[edge, edge.wrapping_neg(), edge << 32 | u64::from(low), low.into()])
    }

    /// `r` or `w`.
    fn width(&mut self) -> char {
        if self.rng.chance(1, 3) { 'w' } else { 'r' }
    }

    /// The size of an access in bytes.
    fn size(&mut self) -> i16 {
        *self.rng.pick(&[1, 2, 4, 8, 8])
    }

    /// One of a few slots of eight bytes on the stack.
    fn slot(&mut self) -> i16 {
        -8 * (self.rng.range(1..6) as i16)
    }

    /// A map, nearly always one with values.
    fn map(&mut self) -> usize {
        let end = if self.rng.chance(1, 60) { MAPS.len() } else { WITH_VALUES };
        self.rng.range(0..end as u64) as usize
    }
}

#[cfg(test)]
mod tests {
    use ebpf_runtime::isa::text::assemble;

    use super::*;

    #[test]
    fn programs_assemble() {
        for seed in 0..500 {
            let text = program(seed, ProgramType::Xdp);
            assert!(assemble(&text).is_ok(), "{}\n{text}", assemble(&text).unwrap_err());
        }
    }

    #[test]
    fn a_seed_is_a_program() {
        let of = |seed| program(seed, ProgramType::SchedCls);
        assert_eq!(of(3), of(3));
        assert_ne!(of(3), of(4));
    }
}

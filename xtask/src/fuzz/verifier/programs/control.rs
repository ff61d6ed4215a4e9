//! Statements that lead elsewhere: branches, loops, calls.

use super::{Callee, Generator, Kind};

/// More forks than this in a function take the verifiers too long.
const MOST_FORKS: u32 = 10;
const MOST_LOOPS: u32 = 2;
const MOST_FUNCTIONS: usize = 4;

/// What loops do. Each statement must make sense in the next round, too.
const IN_LOOPS: [fn(&mut Generator); 9] = [
    Generator::arithmetic,
    Generator::spill,
    Generator::fill,
    Generator::access_value,
    Generator::access_packet,
    Generator::branch,
    Generator::move_number,
    Generator::bound,
    Generator::call_helper,
];

impl Generator {
    pub(super) fn branch(&mut self) {
        if self.forks >= MOST_FORKS {
            return;
        }
        let condition = self.condition();
        let label = self.ahead();
        self.line(format!("if {condition} goto l{label}"));
        if self.rng.chance(1, 12) {
            // The other way leads on over a jump.
            let label = self.ahead();
            let jump = *self.rng.pick(&["goto", "gotol"]);
            let next = self.label();
            let condition = self.condition();
            self.line(format!("if {condition} goto l{next}\n{jump} l{label}"));
            self.place(next);
        }
    }

    /// A loop that ends, nearly always.
    pub(super) fn bounded_loop(&mut self) {
        if self.loops >= MOST_LOOPS {
            return;
        }
        self.loops += 1;
        let counter = *self.rng.pick(&[7, 8, 9]);
        let (times, width) = (*self.rng.pick(&[1, 2, 3, 4, 7, 20, 100]), self.width());
        let is_down = self.rng.chance(1, 4);
        let is_unknown = is_down && self.rng.chance(1, 2);
        let step = if is_down { 1 } else { *self.rng.pick(&[1, 1, 1, 2, 3]) };
        if is_unknown {
            let reg = self.number();
            self.line(format!("r{counter} = r{reg}\nr{counter} &= 7"));
        } else {
            self.line(format!("r{counter} = {}", if is_down { times } else { 0 }));
        }
        // No other statement stores there.
        let slot = -8 * self.rng.range(8..10) as i16;
        let is_spilled = self.rng.chance(1, 4);
        self.registers[counter] = Kind::Counter;
        let head = self.label();
        self.place(head);
        if is_spilled {
            self.line(format!("*(u64 *)(r10 {slot:+}) = r{counter}"));
        }
        self.inside(&IN_LOOPS, 4, true);
        if is_spilled {
            self.line(format!("r{counter} = *(u64 *)(r10 {slot:+})"));
        }
        let op = if is_down { "-=" } else { "+=" };
        let end = match (is_down, self.rng.range(0..4)) {
            (true, 0..2) if !is_unknown => "!= 0".into(),
            (true, _) => "s> 0".into(),
            (false, 0) => format!("!= {}", times * step),
            (false, 1) => format!("s< {times}"),
            (false, _) => format!("< {times}"),
        };
        if self.rng.chance(200, 201) {
            self.line(format!("{width}{counter} {op} {step}"));
        }
        self.line(format!("if {width}{counter} {end} goto l{head}"));
        self.set(counter, Kind::Small);
    }

    /// So many of these statements, or fewer. Branches among them lead to their end, or where that is
    /// allowed, further out.
    pub(super) fn inside(&mut self, statements: &[fn(&mut Self)], most: u64, may_leave: bool) {
        let before = self.open.len();
        for _ in 0..self.rng.range(0..most) {
            self.rng.pick(statements)(self);
        }
        let inside = self.open.split_off(before);
        for open in inside {
            if open.after.is_none() && may_leave {
                self.open.push(open);
            } else {
                self.join(&open);
            }
        }
    }

    pub(super) fn call_function(&mut self) {
        let is_new = self.callees.len() < MOST_FUNCTIONS && self.labels < 60;
        if !is_new && self.callees.is_empty() {
            return;
        }
        for argument in 1..=3 {
            if self.rng.chance(2, 3) {
                let src = self.readable();
                if src != argument {
                    self.line(format!("r{argument} = r{src}"));
                    self.set(argument, self.registers[src]);
                }
                if self.registers[argument] == Kind::Frame {
                    let slot = self.slot();
                    self.line(format!("r{argument} += {slot}"));
                }
            }
        }
        let label = if is_new && self.rng.chance(3, 4) || self.callees.is_empty() {
            let label = self.label();
            let mut registers = [Kind::Unset; 11];
            registers[1..6].copy_from_slice(&self.registers[1..6]);
            self.callees.push(Callee { label, registers });
            label
        } else {
            let which = self.rng.range(0..self.callees.len() as u64) as usize;
            self.callees[which].label
        };
        self.line(format!("call l{label}"));
        self.after_call(Kind::Number);
    }

    pub(super) fn call_helper(&mut self) {
        match self.rng.range(0..8) {
            0..3 => self.line("call bpf_get_prandom_u32#7"),
            3..5 => self.line("call bpf_ktime_get_ns#5"),
            5 => self.line("call bpf_get_smp_processor_id#8"),
            6 => {
                let (map, flags) = (self.map(), self.imm());
                self.pointer_to_memory(3);
                self.pointer_to_memory(2);
                self.line(format!("r4 = {flags}\nr1 = map[{map}] ll\ncall bpf_map_update_elem#2"));
            }
            _ => {
                let map = self.map();
                self.pointer_to_memory(2);
                self.line(format!("r1 = map[{map}] ll\ncall bpf_map_delete_elem#3"));
            }
        }
        self.after_call(Kind::Number);
    }

    /// Puts an address of memory into an argument.
    pub(super) fn pointer_to_memory(&mut self, argument: usize) {
        let pointer = |kind: Kind| kind.len().is_some() || kind == Kind::Packet;
        match self.find(pointer).filter(|_| self.rng.chance(1, 3)) {
            Some(reg) => self.line(format!("r{argument} = r{reg}")),
            None => {
                let slot = *self.rng.pick(&[-8, -16, -24, -32, -48]);
                self.line(format!("r{argument} = r10\nr{argument} += {slot}"));
            }
        }
        self.set(argument, Kind::Frame);
    }

    /// The registers after a call that gives something.
    pub(super) fn after_call(&mut self, result: Kind) {
        self.registers[..6].fill(Kind::Unset);
        self.registers[0] = result;
    }

    /// Anything at all.
    pub(super) fn nonsense(&mut self) {
        let (a, b) = (self.rng.range(0..11), self.rng.range(0..11));
        let (imm, slot, size) = (self.imm(), self.slot(), self.size() * 8);
        let line = match self.rng.range(0..10) {
            0 => format!("r{a} += r{b}"),
            1 => format!("r{a} -= r{b}"),
            2 => format!("r{a} = r{b}"),
            3 => format!("r{a} = *(u{size} *)(r{b} {:+})", imm as i16),
            4 => format!("*(u{size} *)(r{a} {:+}) = r{b}", imm as i16),
            5 => format!("r{a} &= {imm}"),
            6 => format!("r{a} = *(u{size} *)(r10 {:+})", slot.wrapping_add(imm as i16 & 7)),
            7 => format!("call {}", self.rng.range(1..212)),
            8 => format!("w{a} *= w{b}"),
            _ => "exit".into(),
        };
        if line == "exit" {
            // What follows must be reached, or all that is said is that it is not.
            let condition = self.condition();
            let label = self.label();
            self.line(format!("if {condition} goto l{label}\nexit"));
            self.place(label);
        } else {
            self.line(line);
        }
    }
}

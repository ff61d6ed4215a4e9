//! Statements about memory: stack, values of maps, packets, contexts.

use ebpf_runtime::isa::uapi::ProgramType;

use super::super::maps::FROZEN;
use super::{Generator, Kind};

/// Where a context has the packet, its end, and plain numbers.
struct Context {
    packet: Option<(u32, u32)>,
    numbers: &'static [u32],
}

const fn context(program_type: ProgramType) -> Context {
    match program_type {
        ProgramType::Xdp => Context { packet: Some((0, 4)), numbers: &[12, 16] },
        ProgramType::SchedCls => Context { packet: Some((76, 80)), numbers: &[0, 8, 48, 52, 68] },
        _ => Context { packet: None, numbers: &[0, 4, 16, 48, 52] },
    }
}

impl Generator {
    /// The offset of a field of the context that is a number of 32 bits.
    pub(super) fn context_number(&mut self) -> u32 {
        *self.rng.pick(context(self.program_type).numbers)
    }

    pub(super) fn load_context(&mut self) {
        let Some(base) = self.find(|kind| kind == Kind::Context) else { return };
        let (dst, offset) = (self.destination(), self.context_number());
        let size = if self.rng.chance(1, 15) { self.size() * 8 } else { 32 };
        self.line(format!("r{dst} = *(u{size} *)(r{base} +{offset})"));
        self.set(dst, Kind::Number);
    }

    pub(super) fn spill(&mut self) {
        let src = if self.rng.chance(1, 3) { self.number() } else { self.readable() };
        let kind = self.registers[src];
        let size = if kind.is_number() || self.rng.chance(1, 40) { self.size() } else { 8 };
        let offset = self.in_slot(size);
        if self.rng.chance(1, 4) {
            let imm = if self.rng.chance(1, 2) { 0 } else { self.imm() };
            return self.line(format!("*(u{} *)(r10 {offset:+}) = {imm}", size * 8));
        }
        self.line(format!("*(u{} *)(r10 {offset:+}) = r{src}", size * 8));
        if size == 8 {
            self.spilled.retain(|&(spilled, _)| spilled != offset);
            self.spilled.push((offset, kind));
        }
    }

    pub(super) fn fill(&mut self) {
        let dst = self.destination();
        if !self.spilled.is_empty() && self.rng.chance(2, 3) {
            let (slot, kind) = *self.rng.pick(&self.spilled);
            let size = if kind.is_number() { self.size() } else { 8 };
            let offset = match self.rng.chance(1, 3) {
                true => slot + size * (self.rng.range(0..8) as i16 / size),
                false => slot,
            };
            self.load(dst, "r10", offset, size);
            return self.set(dst, if size == 8 { kind } else { Kind::Number });
        }
        let size = self.size();
        let offset = self.in_slot(size);
        self.load(dst, "r10", offset, size);
        self.set(dst, Kind::Number);
    }

    /// An offset from the frame pointer of so many bytes, nearly always inside of it and aligned.
    fn in_slot(&mut self, size: i16) -> i16 {
        if self.rng.chance(1, 60) {
            return *self.rng.pick(&[0, 1, -512, -513, -520, -504, 8, -7]);
        }
        -size * (self.rng.range(1..40 / size as u64 + 1) as i16)
    }

    fn load(&mut self, dst: usize, base: &str, offset: i16, size: i16) {
        let sign = if size < 8 && self.rng.chance(1, 4) { 's' } else { 'u' };
        self.line(format!("r{dst} = *({sign}{} *)({base} {offset:+})", size * 8));
    }

    /// A load or store through a register.
    fn access(&mut self, base: usize, offset: i16, size: i16) {
        let is_frozen = self.registers[base] == Kind::Value(FROZEN);
        match self.rng.range(0..7) {
            0..3 if is_frozen && self.rng.chance(15, 16) => {}
            0 | 1 => {
                let src = if self.rng.chance(9, 10) { self.number() } else { self.readable() };
                self.line(format!("*(u{} *)(r{base} {offset:+}) = r{src}", size * 8));
            }
            2 => {
                let imm = self.imm();
                self.line(format!("*(u{} *)(r{base} {offset:+}) = {imm}", size * 8));
            }
            _ => {
                let dst = self.destination();
                self.load(dst, &format!("r{base}"), offset, size);
                self.set(dst, Kind::Number);
            }
        }
    }

    /// An access to the stack at an offset that is not known.
    pub(super) fn variable_stack(&mut self) {
        let index = self.small();
        let (base, size) = (self.fresh(), self.size());
        if base == index {
            return;
        }
        if self.rng.chance(5, 6) {
            let mask = *self.rng.pick(&[8_i16, 16, 24, 12, 4, 7, 15, 31]) & -size;
            self.line(format!("r{index} &= {mask}"));
        }
        let lowest = *self.rng.pick(&[-8, -16, -24, -32, -40, -48]);
        self.line(format!("r{base} = r10\nr{base} += {lowest}\nr{base} += r{index}"));
        self.set(base, Kind::Frame);
        let offset = *self.rng.pick(&[0, 0, 0, 0, 8, -8, 1]);
        self.access(base, offset, size);
    }

    pub(super) fn atomic(&mut self) {
        let pointer = self.find(|kind| kind.len().is_some());
        let base = pointer.filter(|_| self.rng.chance(1, 2)).unwrap_or(10);
        let (src, size) = (self.number(), *self.rng.pick(&[4, 8, 8]));
        let offset = match base {
            10 => self.in_slot(size),
            _ => *self.rng.pick(&[0, 0, 4, 8]),
        };
        let name = if size == 4 { "atomic" } else { "atomic64" };
        let place = format!("(u{} *)(r{base} {offset:+})", size * 8);
        let line = match self.rng.range(0..7) {
            0 => format!("lock *{place} += r{src}"),
            1 => format!("r{src} = {name}_fetch_add({place}, r{src})"),
            2 => format!("r{src} = {name}_fetch_and({place}, r{src})"),
            3 => format!("r{src} = {name}_xchg({place}, r{src})"),
            4 => format!("r0 = {name}_cmpxchg({place}, r0, r{src})"),
            5 => format!("store_release({place}, r{src})"),
            _ => format!("r{src} = load_acquire({place})"),
        };
        if line.contains("cmpxchg") && !self.registers[0].is_number() {
            self.line("r0 = 1");
            self.set(0, Kind::Number);
        }
        self.line(line);
        self.set(src, Kind::Number);
    }

    pub(super) fn look_up(&mut self) {
        let map = self.map();
        let slot = self.slot();
        match self.rng.range(0..4) {
            0 => {
                let src = self.number();
                self.line(format!("*(u64 *)(r10 {slot:+}) = r{src}"));
            }
            1 => {}
            _ => {
                let key = self.rng.range(0..6);
                self.line(format!("*(u64 *)(r10 {slot:+}) = {key}"));
            }
        }
        self.line(format!("r2 = r10\nr2 += {slot}\nr1 = map[{map}] ll"));
        self.line("call bpf_map_lookup_elem#1");
        self.after_call(Kind::ValueOrNull(map));
        if self.rng.chance(1, 2) {
            let copy = *self.rng.pick(&[7, 8, 9]);
            self.line(format!("r{copy} = r0"));
            self.set(copy, Kind::ValueOrNull(map));
        }
        if self.rng.chance(3, 5) {
            self.compare_with_null();
        }
    }

    pub(super) fn compare_with_null(&mut self) {
        let Some(reg) = self.find(|kind| matches!(kind, Kind::ValueOrNull(_))) else { return };
        let Kind::ValueOrNull(map) = self.registers[reg] else { return };
        let label = self.ahead();
        match self.rng.range(0..12) {
            0 => self.line(format!("if r{reg} > 0 goto l{label}")),
            1 => self.line(format!("if w{reg} == 0 goto l{label}")),
            2 => self.line(format!("if r{reg} != 0 goto l{label}")),
            _ => {
                self.line(format!("if r{reg} == 0 goto l{label}"));
                let known = |kind: &mut Kind| {
                    if *kind == Kind::ValueOrNull(map) {
                        *kind = Kind::Value(map);
                    }
                };
                self.registers.iter_mut().for_each(known);
                self.spilled.iter_mut().map(|(_, kind)| kind).for_each(known);
            }
        }
    }

    pub(super) fn address_of_value(&mut self) {
        let single = *self.rng.pick(&[2, 2, FROZEN]);
        let map = if self.rng.chance(30, 31) { single } else { self.map() };
        let (dst, offset) = (self.destination(), *self.rng.pick(&[0, 0, 4, 8, 12]));
        self.line(format!("r{dst} = map[{map}][0]+{offset} ll"));
        self.set(dst, Kind::Value(map));
    }

    pub(super) fn access_value(&mut self) {
        let Some(base) = self.find(|kind| kind.len().is_some()) else {
            return self.address_of_value();
        };
        let kind = self.registers[base];
        let Some(len) = kind.len() else { return };
        let size = self.size();
        if self.rng.chance(1, 2) {
            let (index, sum) = (self.small(), self.fresh());
            if index != base && sum != index && sum != base {
                let (first, second) =
                    *self.rng.pick(&[(base, index), (base, index), (index, base)]);
                self.line(format!("r{sum} = r{first}\nr{sum} += r{second}"));
                self.set(sum, kind);
                let offset = *self.rng.pick(&[0, 0, 0, 1, -1, 4, 8]);
                return self.access(sum, offset, size);
            }
        }
        let offset = match self.rng.chance(1, 8) {
            true => *self.rng.pick(&[len, len - 1, -1, len - 4, len - 8]),
            false => size * (self.rng.range(0..(len / size).max(1) as u64) as i16),
        };
        self.access(base, offset, size);
    }

    pub(super) fn access_packet(&mut self) {
        let Some(packet) = self.find(|kind| kind == Kind::Packet) else {
            return self.load_packet();
        };
        let moved = if self.rng.chance(1, 2) { packet } else { self.fresh() };
        if moved != packet {
            self.line(format!("r{moved} = r{packet}"));
            self.set(moved, Kind::Packet);
        }
        if self.rng.chance(1, 4) {
            let index = self.small();
            if index != moved {
                self.line(format!("r{moved} += r{index}"));
            }
        }
        let (distance, size) =
            (*self.rng.pick(&[1, 2, 4, 8, 14, 20, -4, 0xffff]), i32::from(self.size()));
        self.line(format!("r{moved} += {distance}"));
        let end = self.find(|kind| kind == Kind::PacketEnd);
        if let Some(end) = end.filter(|_| self.rng.chance(7, 8)) {
            let label = self.ahead();
            let line = match self.rng.range(0..4) {
                0 => format!("if r{moved} > r{end} goto l{label}"),
                1 => format!("if r{moved} >= r{end} goto l{label}"),
                2 => format!("if r{end} < r{moved} goto l{label}"),
                _ => format!("if r{end} <= r{moved} goto l{label}"),
            };
            self.line(line);
        }
        let offset = match distance {
            1..100 if size <= distance && self.rng.chance(9, 10) => {
                self.rng.range(0..(distance - size + 1) as u64) as i16 - distance as i16
            }
            _ => *self.rng.pick(&[0, 1, -1, -2, -4, -8, -14]),
        };
        self.access(moved, offset, size as i16);
    }

    fn load_packet(&mut self) {
        let Some((start, end)) = context(self.program_type).packet else { return };
        if self.registers[6] != Kind::Context {
            return;
        }
        let (packet, limit) = (*self.rng.pick(&[2, 3, 7, 8]), *self.rng.pick(&[1, 5, 9]));
        self.line(format!("r{packet} = *(u32 *)(r6 +{start})\nr{limit} = *(u32 *)(r6 +{end})"));
        self.set(packet, Kind::Packet);
        self.set(limit, Kind::PacketEnd);
    }
}

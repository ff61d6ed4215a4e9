//! Statements about what is acquired and released, and calls of helpers that take memory, move packets
//! or end the program.

use ebpf_runtime::isa::uapi::ProgramType;

use super::super::maps::{PROGRAMS, RING_BUFFER};
use super::{Generator, Kind};

/// What may be done with something while it is held.
const WHILE_HELD: [fn(&mut Generator); 9] = [
    Generator::access_value,
    Generator::access_value,
    Generator::look_into_socket,
    Generator::look_into_socket,
    Generator::arithmetic,
    Generator::spill,
    Generator::fill,
    Generator::branch,
    Generator::call_helper,
];

/// Where sockets have numbers of 32 bits.
const SOCKET_FIELDS: [i16; 6] = [0, 4, 8, 12, 24, 72];

impl Generator {
    /// Acquires something, uses it and releases it, most of the time.
    pub(super) fn acquire(&mut self) {
        let kind = self.ask_for_object();
        self.after_call(Kind::Number);
        let held = *self.rng.pick(&[7, 8, 9]);
        self.line(format!("r{held} = r0"));
        self.set(held, Kind::Number);
        if self.rng.chance(1, 4) {
            let slot = self.slot();
            self.line(format!("*(u64 *)(r10 {slot:+}) = r0"));
            self.spilled.retain(|&(spilled, _)| spilled != slot);
            self.spilled.push((slot, kind));
        }
        if self.rng.chance(31, 32) {
            let label = self.ahead();
            let tested = *self.rng.pick(&[0, held]);
            self.line(format!("if r{tested} == 0 goto l{label}"));
        }
        self.set(0, kind);
        self.set(held, kind);
        self.inside(&WHILE_HELD, 4, false);
        if self.rng.chance(31, 32) {
            self.release(held, kind);
        }
    }

    /// Writes the call that gives an object or null, and says what it gives.
    fn ask_for_object(&mut self) -> Kind {
        let has_sockets = matches!(self.program_type, ProgramType::Xdp | ProgramType::SchedCls);
        let context = self.find(|kind| kind == Kind::Context);
        let Some(context) = context.filter(|_| has_sockets && self.rng.chance(1, 2)) else {
            let size = *self.rng.pick(&[1, 8, 8, 16, 20]);
            let (size, flags) = (size, *self.rng.pick(&[0, 0, 0, 1]));
            self.line(format!("r1 = map[{RING_BUFFER}] ll\nr2 = {size}\nr3 = {flags}"));
            self.line("call bpf_ringbuf_reserve#131");
            return Kind::Record(size);
        };
        let slot = self.slot() - 8;
        self.line(format!("*(u64 *)(r10 {slot:+}) = 0\n*(u64 *)(r10 {:+}) = 0", slot + 8));
        self.line(format!("r1 = r{context}\nr2 = r10\nr2 += {slot}\nr3 = 12\nr4 = -1\nr5 = 0"));
        let lookup = *self.rng.pick(&["sk_lookup_tcp#84", "sk_lookup_udp#85", "skc_lookup_tcp#99"]);
        self.line(format!("call bpf_{lookup}"));
        Kind::Socket
    }

    /// Releases what some register holds.
    pub(super) fn release_any(&mut self) {
        let is_object = |kind| matches!(kind, Kind::Record(_) | Kind::Socket);
        if let Some(reg) = self.find(is_object) {
            self.release(reg, self.registers[reg]);
        }
    }

    fn release(&mut self, reg: usize, kind: Kind) {
        if reg != 1 {
            self.line(format!("r1 = r{reg}"));
        }
        if kind == Kind::Socket {
            self.line("call bpf_sk_release#86");
        } else {
            let end = *self.rng.pick(&["ringbuf_submit#132", "ringbuf_discard#133"]);
            self.line(format!("r2 = 0\ncall bpf_{end}"));
        }
        let is_kept = self.rng.chance(1, 60);
        self.after_call(Kind::Unset);
        if is_kept {
            return;
        }
        for held in &mut self.registers {
            if *held == kind {
                *held = Kind::Unset;
            }
        }
        self.spilled.retain(|&(_, spilled)| spilled != kind);
    }

    /// Reads a field of a socket, or asks for another view of it.
    pub(super) fn look_into_socket(&mut self) {
        let Some(socket) = self.find(|kind| kind == Kind::Socket) else { return };
        if self.rng.chance(1, 5) {
            let (view, copy) = (*self.rng.pick(&["sk_fullsock#95", "tcp_sock#96"]), 6);
            self.line(format!("r1 = r{socket}\ncall bpf_{view}"));
            self.after_call(Kind::Number);
            let label = self.ahead();
            self.line(format!("if r0 == 0 goto l{label}"));
            if self.rng.chance(1, 8) {
                self.line(format!("r{copy} = r0"));
                self.set(copy, Kind::Socket);
            }
            return;
        }
        let (field, dst) = (*self.rng.pick(&SOCKET_FIELDS), self.destination());
        let size = if self.rng.chance(1, 8) { self.size() * 8 } else { 32 };
        self.line(format!("r{dst} = *(u{size} *)(r{socket} {field:+})"));
        self.set(dst, Kind::Number);
    }

    pub(super) fn tail_call(&mut self) {
        let Some(context) = self.find(|kind| kind == Kind::Context) else { return };
        let index = if self.rng.chance(1, 2) { self.number() } else { 0 };
        match index {
            0 => self.line(format!("r3 = {}", self.text.len() & 3)),
            3 => {}
            _ => self.line(format!("r3 = r{index}")),
        }
        if context != 1 {
            self.line(format!("r1 = r{context}"));
        }
        let map = if self.rng.chance(1, 60) { self.map() } else { PROGRAMS };
        self.line(format!("r2 = map[{map}] ll\ncall bpf_tail_call#12"));
        self.after_call(Kind::Unset);
    }

    /// A helper that reads or fills memory of a size.
    pub(super) fn call_with_memory(&mut self) {
        let context = self.find(|kind| kind == Kind::Context);
        let of_packet = self.program_type != ProgramType::Xdp && self.rng.chance(1, 2);
        if let Some(context) = context.filter(|_| of_packet) {
            self.size_argument(4);
            self.pointer_to_memory(3);
            let offset = self.imm();
            self.line(format!("r2 = {offset}\nr1 = r{context}\ncall bpf_skb_load_bytes#26"));
        } else if self.rng.chance(1, 2) {
            self.size_argument(2);
            self.pointer_to_memory(1);
            self.line("call bpf_get_current_comm#16");
        } else {
            self.size_argument(2);
            self.pointer_to_memory(1);
            self.pointer_to_memory(4);
            self.line("r3 = 0\ncall bpf_strtol#105");
        }
        self.after_call(Kind::Number);
    }

    /// Puts a size into an argument: mostly a constant.
    fn size_argument(&mut self, argument: usize) {
        match self.find(|kind| kind == Kind::Small).filter(|_| self.rng.chance(1, 3)) {
            Some(reg) => self.line(format!("r{argument} = r{reg}")),
            None => {
                let size = *self.rng.pick(&[1, 2, 4, 8, 8, 16, 0, -1]);
                self.line(format!("r{argument} = {size}"));
            }
        }
        self.set(argument, Kind::Small);
    }

    /// A helper after which packet pointers are void.
    pub(super) fn move_packet(&mut self) {
        let mover = match self.program_type {
            ProgramType::Xdp => *self.rng.pick(&["xdp_adjust_head#44", "xdp_adjust_meta#54"]),
            ProgramType::SchedCls => "skb_pull_data#39",
            _ => return,
        };
        let Some(context) = self.find(|kind| kind == Kind::Context) else { return };
        let by = self.imm();
        self.line(format!("r1 = r{context}\nr2 = {by}\ncall bpf_{mover}"));
        self.after_call(Kind::Number);
        if self.rng.chance(1, 30) {
            return;
        }
        let is_packet = |kind: Kind| matches!(kind, Kind::Packet | Kind::PacketEnd);
        for held in &mut self.registers {
            if is_packet(*held) {
                *held = Kind::Unset;
            }
        }
        self.spilled.retain(|&(_, kind)| !is_packet(kind));
    }
}

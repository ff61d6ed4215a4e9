//! A first look at the whole program, before anything is emitted.

use ebpf_image::CodeOffset;
use ebpf_isa::uapi::HelperId;
use ebpf_isa::{CallTarget, Insn, Pc, Program, Reg, RegSet, Subprog, SubprogIdx, WideSource, abi};

use super::entry::Entry;
use super::frame::Frame;
use super::leaders::Leaders;
use super::length::{self, max_len};
use super::source::Source;
use crate::Options;
use crate::positions::Positions;

/// What is known about a program when its first instruction is emitted.
pub(super) struct Plan {
    /// By subprogram.
    pub(super) frames: Vec<Frame>,
    pub(super) entry: Entry,
    /// Whether there are tail calls.
    pub(super) tail_calls: bool,
    /// Whether addresses of subprograms are taken.
    pub(super) callbacks: bool,
    pub(super) leaders: Leaders,
    /// Where instructions would be if all took the most bytes they can.
    pub(super) positions: Positions,
}

impl Plan {
    pub(super) fn new(source: &Source<'_>, options: &Options) -> Self {
        let (program, facts) = (&*source.program, source.facts.as_deref());
        let subprogs = program.subprogs();
        let mut positions = Positions::with_capacity(program.slots().len(), subprogs.len());
        let mut leaders = Leaders::new(program.slots().len(), options.fuel);
        let scan = |subprog| Scan::new(source, subprog, options, &mut positions, &mut leaders);
        let mut scans: Vec<_> = subprogs.iter().map(scan).collect();
        if options.checks_memory() {
            spread_touches(program, &mut scans);
        }
        let any = |holds: fn(&Scan) -> bool| scans.iter().any(holds);
        let (needs_env, tail_calls) = (any(|scan| scan.needs_env), any(|scan| scan.tail_calls));
        let main_is_called = any(|scan| scan.refers_to_main);
        let may_end = any(|scan| scan.calls_ending_helper)
            || tail_calls && !options.ending_helpers.is_empty();
        let callbacks = any(|scan| scan.takes_address);
        let entry = if may_end || options.fuel || options.checks_memory() {
            Entry::Unwindable
        } else if needs_env && main_is_called {
            Entry::Thunk
        } else {
            Entry::Direct
        };
        let frame = |(index, scan): (u32, &Scan)| {
            let known = facts.and_then(|facts| facts.subprog(SubprogIdx(index)));
            let depth = known.map_or(abi::STACK_SIZE as u32, |facts| facts.stack_depth.into());
            let takes_env = index == 0 && needs_env && entry == Entry::Direct;
            Frame::new(scan, depth, takes_env, options)
        };
        let frames = (0..).zip(&scans).map(frame).collect();
        positions.reserve(scans.iter().map(|scan| scan.jumps).max().unwrap_or(0));
        Self { frames, entry, tail_calls, callbacks, leaders, positions }
    }
}

/// Whether the instruction accesses memory, or may have somebody else do so.
fn touches_memory(insn: Insn) -> bool {
    match insn {
        Insn::Load { .. }
        | Insn::Store { .. }
        | Insn::Atomic { .. }
        | Insn::LoadAcquire { .. }
        | Insn::StoreRelease { .. }
        | Insn::LoadPacket { .. } => true,
        Insn::Call(target) => !matches!(target, CallTarget::Subprog(_)),
        _ => insn.reads().contains(Reg::FP),
    }
}

/// Who calls a subprogram that touches memory touches memory.
fn spread_touches(program: &Program, scans: &mut [Scan]) {
    let mut callers: Vec<Vec<SubprogIdx>> = vec![Vec::new(); scans.len()];
    for (caller, subprog) in (0..).map(SubprogIdx).zip(program.subprogs()) {
        for insn in program.slots()[subprog.start.index()..subprog.end.index()].iter().flatten() {
            if let Some(callee) = insn.subprog_ref() {
                callers[program.subprog_of(callee).index()].push(caller);
            }
        }
    }
    let touching = |&index: &usize| scans[index].touches_memory;
    let mut open: Vec<usize> = (0..scans.len()).filter(touching).collect();
    while let Some(callee) = open.pop() {
        for caller in core::mem::take(&mut callers[callee]) {
            let caller = caller.index();
            if !scans[caller].touches_memory {
                scans[caller].touches_memory = true;
                open.push(caller);
            }
        }
    }
}

/// What the instructions of a subprogram do that matters to its frame.
#[derive(Debug, Default)]
pub(super) struct Scan {
    /// The registers that are read, or more.
    reads: RegSet,
    /// Whether the frame pointer is read.
    pub(super) reads_fp: bool,
    /// The registers that are written.
    pub(super) writes: RegSet,
    /// Whether anything is called.
    pub(super) calls: bool,
    /// Whether the environment is read, or handed to a native function.
    needs_env: bool,
    calls_ending_helper: bool,
    tail_calls: bool,
    refers_to_main: bool,
    takes_address: bool,
    /// With checked memory: whether the instructions, or any that are called, can tell that there
    /// is a stack.
    pub(super) touches_memory: bool,
    /// How many jumps there are.
    jumps: usize,
}

impl Scan {
    /// Scans a subprogram, and estimates how long its code gets.
    fn new(
        source: &Source<'_>,
        subprog: &Subprog,
        options: &Options,
        positions: &mut Positions,
        leaders: &mut Leaders,
    ) -> Self {
        let mut scan = Self::default();
        let mut estimate = 0;
        let slots = &source.program.slots()[subprog.start.index()..subprog.end.index()];
        let plain = length::is_plain(options);
        let mut estimates = (subprog.start.0..).map(Pc).zip(slots).map(|(pc, slot)| {
            let here = CodeOffset(estimate);
            if let Some(insn) = slot {
                estimate += if plain {
                    scan.insn(insn, options, leaders)
                } else {
                    leaders.mark_loop(pc, insn.jump_target());
                    scan.other(*insn, options, leaders)
                };
            }
            here
        });
        positions.add_subprog(subprog.start, source.origin(subprog.start));
        if source.is_given() {
            positions.add_slots(subprog.start, estimates);
        } else {
            for pc in (subprog.start.0..subprog.end.0).map(Pc) {
                positions.add_slots(source.origin(pc), estimates.by_ref().take(1));
            }
        }
        scan.reads_fp = scan.reads.contains(Reg::FP);
        scan
    }

    /// Gives the most bytes that the code of the instruction takes, without options. What is common
    /// comes first, and the kind of instruction is looked at once: this is a good part of the time
    /// of a compilation.
    #[inline]
    fn insn(&mut self, insn: &Insn, options: &Options, leaders: &mut Leaders) -> u32 {
        let (writes, reads, len) = match *insn {
            Insn::Mov { dst, src, .. } => (dst, src.reg().unwrap_or(Reg::R0), length::mov(src)),
            Insn::Alu { op, dst, src, .. } => {
                self.reads = self.reads.with(dst);
                (dst, src.reg().unwrap_or(dst), length::alu(op, src))
            }
            Insn::Load { dst, base, off, .. } => (dst, base, length::load(off)),
            Insn::Store { base, off, src, .. } => {
                self.reads = self.reads.with(base).with(src.reg().unwrap_or(base));
                return length::store(off, src);
            }
            Insn::Branch { op, lhs, rhs, target, .. } => {
                leaders.mark(target);
                self.reads = self.reads.with(lhs).with(rhs.reg().unwrap_or(lhs));
                self.jumps += 1;
                return length::branch(op, rhs);
            }
            _ => return self.other(*insn, options, leaders),
        };
        self.writes = self.writes.with(writes);
        self.reads = self.reads.with(reads);
        len
    }

    /// Gives the most bytes that the code of the instruction takes.
    #[inline(never)]
    fn other(&mut self, insn: Insn, options: &Options, leaders: &mut Leaders) -> u32 {
        self.reads = self.reads.union(insn.reads());
        self.writes = self.writes.union(insn.writes());
        match insn {
            Insn::Call(target) => self.call(target, options),
            Insn::LoadWide { source: WideSource::Func(_), .. } => self.takes_address = true,
            _ => {}
        }
        self.touches_memory |= touches_memory(insn);
        self.needs_env |= matches!(insn, Insn::LoadPacket { .. } | Insn::MayGoto { .. });
        if let Some(target) = insn.jump_target() {
            leaders.mark(target);
        }
        self.jumps += usize::from(insn.jump_target().is_some());
        self.refers_to_main |= insn.subprog_ref() == Some(Pc::ENTRY);
        max_len(insn, options)
    }

    fn call(&mut self, target: CallTarget, options: &Options) {
        self.calls = true;
        self.needs_env |= !matches!(target, CallTarget::Subprog(_));
        if let CallTarget::Helper(id) = target {
            self.tail_calls |= id == HelperId::TAIL_CALL;
            self.calls_ending_helper |= options.ending_helpers.contains(&id);
        }
    }
}

//! A first look at the whole program, before anything is emitted.

use ebpf_image::CodeOffset;
use ebpf_isa::uapi::HelperId;
use ebpf_isa::{CallTarget, Facts, Insn, Pc, Program, Reg, RegSet, Subprog, SubprogIdx, abi};

use super::entry::Entry;
use super::frame::Frame;
use super::length::max_len;
use crate::{MemoryMode, Options};

/// What is known about a program when its first instruction is emitted.
#[derive(Debug)]
pub(super) struct Plan {
    /// By subprogram.
    pub(super) frames: Vec<Frame>,
    pub(super) entry: Entry,
    /// Whether there are tail calls.
    pub(super) tail_calls: bool,
    /// By slot, where instructions would be if all took the most bytes they can.
    pub(super) estimates: Vec<CodeOffset>,
}

impl Plan {
    pub(super) fn new(program: &Program, facts: Option<&Facts>, options: &Options) -> Self {
        let mut estimates = Vec::with_capacity(program.slots().len());
        let scan = |subprog| Scan::new(program, subprog, options, &mut estimates);
        let scans: Vec<_> = program.subprogs().iter().map(scan).collect();
        let any = |holds: fn(&Scan) -> bool| scans.iter().any(holds);
        let (needs_env, tail_calls) = (any(|scan| scan.needs_env), any(|scan| scan.tail_calls));
        let main_is_called = any(|scan| scan.refers_to_main);
        let may_end = any(|scan| scan.calls_ending_helper)
            || tail_calls && !options.ending_helpers.is_empty();
        let entry = if may_end || options.memory == MemoryMode::Checked {
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
            Frame::new(scan, depth, takes_env, options.memory)
        };
        let frames = (0..).zip(&scans).map(frame).collect();
        Self { frames, entry, tail_calls, estimates }
    }
}

/// By slot, whether a jump leads there.
pub(super) fn jump_targets(program: &Program) -> Vec<bool> {
    let mut targets = vec![false; program.slots().len()];
    for target in program.insns().filter_map(|(_, insn)| insn.jump_target()) {
        targets[target.index()] = true;
    }
    targets
}

/// What the instructions of a subprogram do that matters to its frame.
#[derive(Debug, Default)]
pub(super) struct Scan {
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
}

impl Scan {
    /// Scans a subprogram and appends the estimates of its slots.
    fn new(
        program: &Program,
        subprog: &Subprog,
        options: &Options,
        estimates: &mut Vec<CodeOffset>,
    ) -> Self {
        let mut scan = Self::default();
        let mut estimate = 0;
        for pc in (subprog.start.0..subprog.end.0).map(Pc) {
            estimates.push(CodeOffset(estimate));
            let Some(insn) = program.get(pc) else { continue };
            estimate += max_len(insn, options);
            scan.reads_fp = scan.reads_fp || insn.reads().contains(Reg::FP);
            scan.writes = scan.writes.union(insn.writes());
            if let Insn::Call(target) = insn {
                scan.call(target, options);
            }
            scan.needs_env |= matches!(insn, Insn::LoadPacket { .. } | Insn::MayGoto { .. });
            scan.refers_to_main |= insn.subprog_ref() == Some(Pc::ENTRY);
        }
        scan
    }
    fn call(&mut self, target: CallTarget, options: &Options) {
        self.calls = true;
        if let CallTarget::Helper(id) = target {
            self.needs_env = true;
            self.tail_calls |= id == HelperId::TAIL_CALL;
            self.calls_ending_helper |= options.ending_helpers.contains(&id);
        }
    }
}

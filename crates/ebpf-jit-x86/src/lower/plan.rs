//! A first look at the whole program, before anything is emitted.

use ebpf_image::CodeOffset;
use ebpf_isa::{CallTarget, Facts, Insn, Pc, Program, Reg, RegSet, Subprog, SubprogIdx, abi};

use super::frame::Frame;
use super::length::max_len;

/// What is known about a program when its first instruction is emitted.
#[derive(Debug)]
pub(super) struct Plan {
    /// By subprogram.
    pub(super) frames: Vec<Frame>,
    /// Whether the entry is a [`thunk`](super::frame::thunk): the program needs its environment,
    /// and the main program is also called from within, where no environment arrives.
    pub(super) thunk: bool,
    /// By slot, where instructions would be if all took the most bytes they can.
    pub(super) estimates: Vec<CodeOffset>,
}

impl Plan {
    pub(super) fn new(program: &Program, facts: Option<&Facts>) -> Self {
        let mut estimates = Vec::with_capacity(program.slots().len());
        let scan = |subprog| Scan::new(program, subprog, &mut estimates);
        let scans: Vec<_> = program.subprogs().iter().map(scan).collect();
        let needs_env = scans.iter().any(|scan| scan.calls_helper);
        let thunk = needs_env && scans.iter().any(|scan| scan.refers_to_main);
        let frame = |(index, scan): (u32, &Scan)| {
            let known = facts.and_then(|facts| facts.subprog(SubprogIdx(index)));
            let depth = known.map_or(abi::STACK_SIZE as u32, |facts| facts.stack_depth.into());
            Frame::new(scan, depth, index == 0 && needs_env && !thunk)
        };
        let frames = (0..).zip(&scans).map(frame).collect();
        Self { frames, thunk, estimates }
    }
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
    calls_helper: bool,
    refers_to_main: bool,
}

impl Scan {
    /// Scans a subprogram and appends the estimates of its slots.
    fn new(program: &Program, subprog: &Subprog, estimates: &mut Vec<CodeOffset>) -> Self {
        let mut scan = Self::default();
        let mut estimate = 0;
        for pc in (subprog.start.0..subprog.end.0).map(Pc) {
            estimates.push(CodeOffset(estimate));
            let Some(insn) = program.get(pc) else { continue };
            estimate += max_len(insn);
            scan.reads_fp = scan.reads_fp || insn.reads().contains(Reg::FP);
            scan.writes = scan.writes.union(insn.writes());
            if let Insn::Call(target) = insn {
                scan.calls = true;
                scan.calls_helper |= matches!(target, CallTarget::Helper(_));
            }
            scan.refers_to_main |= insn.subprog_ref() == Some(Pc::ENTRY);
        }
        scan
    }
}

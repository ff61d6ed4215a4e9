//! Which stack slots are still read, as far as exploration has seen.
//!
//! Unlike registers, slots are reached through pointers, so that only paths tell who reads them.
//! For each chain of calls and each of its instructions we keep which slots of which frames it may
//! read, and which it wrote as a whole on every path so far. From these follow, against the flow of
//! control, the slots that are live before each instruction. All of that holds for a checkpoint
//! once no path from it is unfinished.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::vec;
use alloc::vec::Vec;

use ebpf_isa::{Pc, Program, SubprogIdx};

use super::marks as places;
use super::watch::{SlotsChange, Watch};
use crate::state::{FRAMES_MAX, SlotMask, SlotSets};
use crate::step::Effects;

/// A chain of calls: how the function being explored was reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ChainId(u32);

impl ChainId {
    /// The main program.
    pub(super) const MAIN: Self = Self(0);
}

/// Bytes that the marks of all chains may take. Beyond that, everything counts as live in chains
/// that are new.
const BYTES_MAX: usize = 256 << 20;

/// Passes through a function until everything counts as live in it.
const PASSES_MAX: u32 = 1000;

/// What is known of one instruction, for one frame.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Marks {
    /// Slots that it may read.
    read: SlotMask,
    /// Slots that it wrote every time.
    written: SlotMask,
    /// Slots that it and all ways from it write.
    written_from: SlotMask,
    /// Slots that it or some way from it may read before they are written.
    live: SlotMask,
}

/// What is known of a function as it is called by one chain.
#[derive(Debug)]
struct Chain {
    /// The chain that calls, and the call.
    caller: Option<(ChainId, Pc)>,
    subprog: SubprogIdx,
    /// First instruction.
    start: Pc,
    /// Frames, this function's included.
    depth: usize,
    /// By frame, then by slot of the program within the function; absent where there is nothing.
    marks: [Option<Box<[Marks]>>; FRAMES_MAX],
    /// Whether an instruction was seen, likewise.
    seen: Box<[bool]>,
    /// Whether something was marked since `live` was computed.
    stale: bool,
    /// Whether something is not written any more on every path.
    written_less: bool,
    /// Whether there was no room to remember anything.
    is_blind: bool,
}

/// The order in which a function's instructions are gone through, and where each leads.
#[derive(Debug)]
struct Flow {
    /// Each after those it leads to, as far as there are no loops; all relative to the start.
    order: Box<[Step]>,
    /// Slots of the function.
    len: usize,
}

#[derive(Debug, Clone, Copy)]
struct Step {
    at: u32,
    next: [Option<u32>; 2],
}

/// The marks of all chains.
#[derive(Debug)]
pub(super) struct LiveStack {
    chains: Vec<Chain>,
    callees: BTreeMap<(ChainId, Pc), ChainId>,
    /// By subprogram; absent where nothing reads the stack.
    flows: Vec<Option<Flow>>,
    bytes: usize,
}

impl LiveStack {
    pub(super) fn new(program: &Program) -> Self {
        let mut live = Self {
            chains: Vec::new(),
            callees: BTreeMap::new(),
            flows: program.subprogs().iter().map(|_| None).collect(),
            bytes: 0,
        };
        live.add(program, None, SubprogIdx::MAIN);
        live
    }

    /// The chain that goes on from `caller` through the call at `callsite`.
    pub(super) fn callee(
        &mut self,
        program: &Program,
        caller: ChainId,
        callsite: Pc,
        target: Pc,
    ) -> ChainId {
        if let Some(&chain) = self.callees.get(&(caller, callsite)) {
            return chain;
        }
        let chain = self.add(program, Some((caller, callsite)), program.subprog_of(target));
        self.callees.insert((caller, callsite), chain);
        chain
    }

    /// The chain without its last call.
    pub(super) fn caller(&self, chain: ChainId) -> Option<ChainId> {
        self.chain(chain).caller.map(|(caller, _)| caller)
    }

    /// The last call of the chain.
    pub(super) fn callsite(&self, chain: ChainId) -> Option<Pc> {
        self.chain(chain).caller.map(|(_, callsite)| callsite)
    }

    fn add(
        &mut self,
        program: &Program,
        caller: Option<(ChainId, Pc)>,
        subprog: SubprogIdx,
    ) -> ChainId {
        let function = &program.subprogs()[subprog.index()];
        let (start, len) = (function.start, function.end.index() - function.start.index());
        let depth = caller.map_or(0, |(caller, _)| self.chain(caller).depth) + 1;
        let has_room = self.bytes + len <= BYTES_MAX;
        let remembered = if has_room { len } else { 0 };
        self.bytes += remembered;
        self.chains.push(Chain {
            caller,
            subprog,
            start,
            depth,
            marks: [const { None }; FRAMES_MAX],
            seen: vec![false; remembered].into(),
            stale: false,
            written_less: false,
            is_blind: !has_room,
        });
        let id = ChainId(self.chains.len() as u32 - 1);
        if !has_room {
            self.tell_caller(id);
        }
        id
    }

    fn chain(&self, id: ChainId) -> &Chain {
        &self.chains[id.0 as usize]
    }

    /// Takes in what the instruction at `pc` did to the stacks.
    pub(super) fn take_in(&mut self, chain: ChainId, pc: Pc, effects: &Effects) {
        if effects.touches_stack {
            self.mark(chain, pc, &effects.read, &effects.written);
            return;
        }
        let chain = &mut self.chains[chain.0 as usize];
        if !chain.is_blind {
            chain.mark_written(pc.index() - chain.start.index(), &SlotSets::default());
        }
    }

    fn mark(&mut self, id: ChainId, pc: Pc, read: &SlotSets, written: &SlotSets) {
        let chain = &mut self.chains[id.0 as usize];
        if chain.is_blind {
            return;
        }
        let at = pc.index() - chain.start.index();
        for frame in 0..chain.depth {
            let (read, written) = (read.of(frame), written.of(frame));
            if chain.marks[frame].is_some() || (read | written) == 0 {
                continue;
            }
            let len = chain.seen.len();
            let bytes = len * size_of::<Marks>();
            if self.bytes + bytes > BYTES_MAX {
                chain.is_blind = true;
                self.tell_caller(id);
                return;
            }
            self.bytes += bytes;
            chain.marks[frame] = Some(vec![Marks::default(); len].into());
        }
        chain.mark_read(at, read);
        chain.mark_written(at, written);
    }

    /// Brings up to date what is live in a chain and its callers.
    pub(super) fn update(
        &mut self,
        program: &Program,
        places: &places::Marks,
        chain: ChainId,
        watch: &mut impl Watch,
    ) {
        let mut next = Some(chain);
        while let Some(id) = next {
            next = self.caller(id);
            if self.chain(id).stale && !self.chain(id).is_blind {
                let calls = self.calls(id);
                let chain = &mut self.chains[id.0 as usize];
                let flow = &mut self.flows[chain.subprog.index()];
                let (start, len) = (chain.start, chain.seen.len());
                chain.settle(
                    flow.get_or_insert_with(|| Flow::of(program, start, len)),
                    &calls,
                    places,
                    watch,
                );
                self.tell_caller(id);
            }
        }
    }

    /// The calls of a chain, from the main program on.
    fn calls(&self, chain: ChainId) -> Vec<Pc> {
        let callers = core::iter::successors(Some(chain), |&chain| self.caller(chain));
        let mut calls: Vec<Pc> = callers.filter_map(|chain| self.callsite(chain)).collect();
        calls.reverse();
        calls
    }

    /// Marks the call that leads to a chain with what the callee does to the frames of its callers.
    fn tell_caller(&mut self, id: ChainId) {
        let chain = self.chain(id);
        let Some((caller, callsite)) = chain.caller else {
            return;
        };
        let (mut read, mut written) = (SlotSets::default(), SlotSets::default());
        for frame in 0..chain.depth - 1 {
            match (&chain.marks[frame], chain.is_blind) {
                (_, true) => read.insert_all(frame, SlotMask::MAX),
                (Some(marks), false) => {
                    read.insert_all(frame, marks[0].live);
                    written.insert_all(frame, marks[0].written_from);
                }
                (None, false) => {}
            }
        }
        self.mark(caller, callsite, &read, &written);
    }

    /// The slots that are live before the instruction at `pc` of a chain: of each frame of it.
    pub(super) fn live(&self, chain: ChainId, pc: Pc) -> SlotSets {
        let mut live = SlotSets::default();
        let mut next = Some((chain, pc));
        while let Some((id, pc)) = next {
            let chain = self.chain(id);
            for frame in 0..chain.depth {
                live.insert_all(frame, chain.live_at(frame, pc));
            }
            // In callers, what is read after the call.
            next = chain.caller.map(|(caller, callsite)| (caller, Pc(callsite.0 + 1)));
        }
        live
    }
}

impl Chain {
    fn live_at(&self, frame: usize, pc: Pc) -> SlotMask {
        if self.is_blind {
            return SlotMask::MAX;
        }
        let at = pc.index() - self.start.index();
        self.marks[frame].as_ref().map_or(0, |marks| marks[at].live)
    }

    fn mark_read(&mut self, at: usize, read: &SlotSets) {
        for (frame, marks) in self.marks[..self.depth].iter_mut().enumerate() {
            let Some(marks) = marks else { continue };
            let mark = &mut marks[at];
            // What is live already changes nothing.
            self.stale |= read.of(frame) & !(mark.read | mark.live) != 0;
            mark.read |= read.of(frame);
        }
    }

    fn mark_written(&mut self, at: usize, written: &SlotSets) {
        let seen = core::mem::replace(&mut self.seen[at], true);
        for (frame, marks) in self.marks[..self.depth].iter_mut().enumerate() {
            let Some(marks) = marks else { continue };
            let known = &mut marks[at].written;
            let now = written.of(frame) & if seen { *known } else { SlotMask::MAX };
            self.stale |= now != *known;
            self.written_less |= *known & !now != 0;
            *known = now;
        }
    }

    /// Computes what is live, from what was live before.
    fn settle(
        &mut self,
        flow: &Flow,
        calls: &[Pc],
        places: &places::Marks,
        watch: &mut impl Watch,
    ) {
        self.stale = false;
        if core::mem::take(&mut self.written_less) {
            for mark in self.marks.iter_mut().flatten().flatten() {
                mark.written_from = 0;
            }
        }
        let settled = (1..=PASSES_MAX).find(|_| {
            let mut changed = false;
            for (frame, marks) in self.marks.iter_mut().enumerate() {
                let Some(marks) = marks else { continue };
                changed |= flow.pass(marks, |pc, before, now| {
                    let accesses = now.read | now.written != 0;
                    let now = [
                        (false, before.live, now.live),
                        (true, before.written_from, now.written_from),
                    ];
                    for (written, before, now) in now {
                        let start = self.start;
                        let pc = Pc(start.0 + pc);
                        let is_of_interest = accesses || pc == start || places.is_meeting(pc);
                        watch.slots_change(&SlotsChange {
                            calls,
                            start,
                            pc,
                            frame,
                            written,
                            is_of_interest,
                            before,
                            now,
                        });
                    }
                });
            }
            !changed
        });
        match settled {
            Some(passes) => watch.settles(calls, self.start, passes),
            None => self.is_blind = true,
        }
    }
}

impl Flow {
    fn of(program: &Program, start: Pc, len: usize) -> Self {
        let relative = |pc: Pc| pc.0 - start.0;
        let next = |at: u32| {
            let pc = Pc(start.0 + at);
            let Some(insn) = program.get(pc) else { return [None; 2] };
            let successors = insn.successors(pc);
            [successors.next.map(relative), successors.target.map(relative)]
        };
        let mut order = Vec::with_capacity(len);
        let mut found = vec![false; len];
        let mut finished = vec![false; len];
        let mut waiting = vec![0];
        found[0] = true;
        while let Some(&at) = waiting.last() {
            let next = next(at);
            if core::mem::replace(&mut finished[at as usize], true) {
                order.push(Step { at, next });
                waiting.pop();
                continue;
            }
            for at in next.into_iter().flatten() {
                if !core::mem::replace(&mut found[at as usize], true) {
                    waiting.push(at);
                }
            }
        }
        Self { order: order.into(), len }
    }

    /// Goes through the function once; says whether something changed, and what to `tell`.
    fn pass(&self, marks: &mut [Marks], mut tell: impl FnMut(u32, &Marks, &Marks)) -> bool {
        debug_assert_eq!(marks.len(), self.len, "marks are those of this function");
        let mut changed = false;
        for step in &self.order {
            let ways = step.next.into_iter().flatten();
            let Some((live, written)) = ways
                .map(|at| (marks[at as usize].live, marks[at as usize].written_from))
                .reduce(|a, b| (a.0 | b.0, a.1 & b.1))
            else {
                continue;
            };
            let mark = &mut marks[step.at as usize];
            let live = (live & !mark.written) | mark.read;
            let now = Marks { live, written_from: written | mark.written, ..*mark };
            if now != *mark {
                tell(step.at, mark, &now);
                *mark = now;
                changed = true;
            }
        }
        changed
    }
}

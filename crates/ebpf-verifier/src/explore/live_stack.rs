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

use super::flow::{Flow, Work};
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

impl Marks {
    /// Those of the end of a function.
    const NOTHING: Self = Self { read: 0, written: 0, written_from: 0, live: 0 };

    /// The same with what follows from where control goes from there, if it goes anywhere.
    fn after<'a>(&self, ways: impl Iterator<Item = &'a Self>) -> Option<Self> {
        let (live, written) = ways
            .map(|marks| (marks.live, marks.written_from))
            .reduce(|a, b| (a.0 | b.0, a.1 & b.1))?;
        let live = (live & !self.written) | self.read;
        Some(Self { live, written_from: written | self.written, ..*self })
    }
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
    /// What was marked since `live` was computed: frames, and slots within the function.
    stale: Vec<(u8, u32)>,
    /// Whether something is not written any more on every path.
    written_less: bool,
    /// Whether there was no room to remember anything.
    is_blind: bool,
}

/// The marks of all chains.
#[derive(Debug)]
pub(super) struct LiveStack {
    chains: Vec<Chain>,
    /// By caller, call, and function: helpers call back whatever function they are given.
    callees: BTreeMap<(ChainId, Pc, SubprogIdx), ChainId>,
    /// The chains that begin with a function.
    roots: BTreeMap<SubprogIdx, ChainId>,
    /// By subprogram; absent where nothing reads the stack.
    flows: Vec<Option<Flow>>,
    /// By frame, when nothing is being computed empty.
    work: [Work; FRAMES_MAX],
    bytes: usize,
    /// Whether functions count as left by exits alone, as Linux 6.18 has it.
    shares_mistakes: bool,
}

impl LiveStack {
    pub(super) fn new(program: &Program, shares_mistakes: bool) -> Self {
        let mut live = Self {
            chains: Vec::new(),
            callees: BTreeMap::new(),
            roots: BTreeMap::from([(SubprogIdx::MAIN, ChainId::MAIN)]),
            flows: program.subprogs().iter().map(|_| None).collect(),
            work: Default::default(),
            bytes: 0,
            shares_mistakes,
        };
        live.add(program, None, SubprogIdx::MAIN);
        live
    }

    /// The chain of a function that is explored for itself, or runs later.
    pub(super) fn root(&mut self, program: &Program, subprog: SubprogIdx) -> ChainId {
        if let Some(&chain) = self.roots.get(&subprog) {
            return chain;
        }
        let chain = self.add(program, None, subprog);
        self.roots.insert(subprog, chain);
        chain
    }

    /// The chain that goes on from `caller` through the call at `callsite`.
    pub(super) fn callee(
        &mut self,
        program: &Program,
        caller: ChainId,
        callsite: Pc,
        target: Pc,
    ) -> ChainId {
        let subprog = program.subprog_of(target);
        if let Some(&chain) = self.callees.get(&(caller, callsite, subprog)) {
            return chain;
        }
        let chain = self.add(program, Some((caller, callsite)), subprog);
        self.callees.insert((caller, callsite, subprog), chain);
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
            stale: Vec::new(),
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
    #[inline]
    pub(super) fn take_in(&mut self, id: ChainId, pc: Pc, effects: &Effects) {
        if effects.touches_stack {
            self.mark(id, pc, &effects.read, &effects.written);
            return;
        }
        let chain = &mut self.chains[id.0 as usize];
        if !chain.is_blind {
            let at = pc.index() - chain.start.index();
            let seen = core::mem::replace(&mut chain.seen[at], true);
            if seen {
                chain.mark_unwritten(at);
            }
        }
    }

    fn mark(&mut self, id: ChainId, pc: Pc, read: &SlotSets, written: &SlotSets) {
        if self.chain(id).is_blind || !self.make_room(id, read, written) {
            return;
        }
        let chain = &mut self.chains[id.0 as usize];
        let at = pc.index() - chain.start.index();
        let seen = core::mem::replace(&mut chain.seen[at], true);
        for frame in 0..chain.depth {
            chain.mark(frame, at, seen, read.of(frame), written.of(frame));
        }
    }

    /// Makes room for the marks of frames that were not accessed before; says whether there is any.
    fn make_room(&mut self, id: ChainId, read: &SlotSets, written: &SlotSets) -> bool {
        let chain = &mut self.chains[id.0 as usize];
        for frame in 0..chain.depth {
            if chain.marks[frame].is_some() || (read.of(frame) | written.of(frame)) == 0 {
                continue;
            }
            let len = chain.seen.len();
            let bytes = len * size_of::<Marks>();
            if self.bytes + bytes > BYTES_MAX {
                chain.is_blind = true;
                self.tell_caller(id);
                return false;
            }
            self.bytes += bytes;
            chain.marks[frame] = Some(vec![Marks::default(); len].into());
        }
        true
    }

    /// Brings up to date what is live in a chain and its callers.
    pub(super) fn update<W: Watch>(
        &mut self,
        program: &Program,
        places: &places::Marks,
        chain: ChainId,
        watch: &mut W,
    ) {
        let mut next = Some(chain);
        while let Some(id) = next {
            next = self.caller(id);
            if self.chain(id).stale.is_empty() || self.chain(id).is_blind {
                continue;
            }
            let calls = if W::EVERYTHING { self.calls(id) } else { Vec::new() };
            let chain = &mut self.chains[id.0 as usize];
            let (start, len) = (chain.start, chain.seen.len());
            let flow = self.flows[chain.subprog.index()]
                .get_or_insert_with(|| Flow::of(program, start, len, self.shares_mistakes));
            let tell = |frame, at, before: &Marks, now: &Marks| {
                if W::EVERYTHING {
                    report(watch, places, (&calls, start), (frame, at), before, now);
                }
            };
            match chain.settle(flow, &mut self.work, tell) {
                Some(passes) => watch.settles(&calls, start, passes),
                None => chain.is_blind = true,
            }
            self.tell_caller(id);
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
    pub(super) fn live(&self, chain: ChainId, pc: Pc, marks: &places::Marks) -> SlotSets {
        let mut live = SlotSets::default();
        let mut next = Some((chain, pc));
        while let Some((id, pc)) = next {
            let chain = self.chain(id);
            for frame in 0..chain.depth {
                live.insert_all(frame, chain.live_at(frame, pc));
            }
            // In callers, what is read after the call; where a helper calls back, that and what
            // another round reads.
            next = chain.caller.map(|(caller, callsite)| match marks.at(callsite).calls_back {
                true => (caller, callsite),
                false => (caller, Pc(callsite.0 + 1)),
            });
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

    /// Marks what an instruction did to a frame. If it was seen before, it may not always write what
    /// it wrote now.
    fn mark(&mut self, frame: usize, at: usize, seen: bool, read: SlotMask, written: SlotMask) {
        let Some(marks) = &mut self.marks[frame] else { return };
        let mark = &mut marks[at];
        let written = written & if seen { mark.written } else { SlotMask::MAX };
        // What is live already changes nothing.
        let is_stale = read & !(mark.read | mark.live) != 0 || written != mark.written;
        self.written_less |= mark.written & !written != 0;
        mark.read |= read;
        mark.written = written;
        if is_stale {
            self.stale.push((frame as u8, at as u32));
        }
    }

    /// An instruction that was seen before wrote nothing now.
    fn mark_unwritten(&mut self, at: usize) {
        (0..self.depth).for_each(|frame| self.mark(frame, at, true, 0, 0));
    }

    /// Computes what is live, from what was live before, in passes through the function; gives how
    /// many it took, or `None` if it would take too many. Only what may change is looked at: what was
    /// marked, and what leads to a change. `tell` is told of each change.
    fn settle(
        &mut self,
        flow: &Flow,
        work: &mut [Work; FRAMES_MAX],
        mut tell: impl FnMut(usize, usize, &Marks, &Marks),
    ) -> Option<u32> {
        for (frame, at) in self.stale.drain(..) {
            flow.look_at(at as usize, &mut work[usize::from(frame)]);
        }
        let mut frames: Vec<_> = self.marks.iter_mut().zip(work).enumerate().collect();
        if core::mem::take(&mut self.written_less) {
            for (_, (marks, work)) in &mut frames {
                let Some(marks) = marks else { continue };
                marks.iter_mut().for_each(|mark| mark.written_from = 0);
                flow.look_at_all(work);
            }
        }
        let settled = (1..=PASSES_MAX).find(|_| {
            let mut changed = false;
            for (frame, (marks, work)) in &mut frames {
                let Some(marks) = marks else { continue };
                changed |= flow.pass(work, |at, ways| {
                    let end = ways.may_return.then_some(const { &Marks::NOTHING });
                    let ways = ways.all().iter().map(|&to| &marks[to as usize]).chain(end);
                    let Some(now) = marks[at].after(ways) else {
                        return false;
                    };
                    let before = core::mem::replace(&mut marks[at], now);
                    if before != now {
                        tell(*frame, at, &before, &now);
                    }
                    before != now
                });
            }
            !changed
        });
        if settled.is_none() {
            frames.iter_mut().for_each(|(_, (_, work))| work.clear());
        }
        settled
    }
}

/// Tells `watch` what changed at an instruction of a function that was called through `calls`.
fn report(
    watch: &mut impl Watch,
    places: &places::Marks,
    (calls, start): (&[Pc], Pc),
    (frame, at): (usize, usize),
    before: &Marks,
    now: &Marks,
) {
    let pc = Pc(start.0 + at as u32);
    let accesses = now.read | now.written != 0;
    let is_of_interest = accesses || pc == start || places.at(pc).meeting;
    let changes = [(false, before.live, now.live), (true, before.written_from, now.written_from)];
    for (written, before, now) in changes {
        let change = SlotsChange { calls, start, pc, frame, written, is_of_interest, before, now };
        watch.slots_change(&change);
    }
}

#[cfg(test)]
mod tests {
    use ebpf_isa::text::assemble;
    use ebpf_testkit::Rng;

    use super::*;

    const TEXT: &str = "r0 = 0\nouter:\nr1 = 0\ninner:\nif r1 == 3 goto on\nr2 = 1\n\
        if r1 == 4 goto out\non:\nr1 += 1\nif r1 < 9 goto inner\nr0 += 1\n\
        if r0 < 9 goto outer\nr3 = 0\nout:\nexit";

    /// A chain in which the instructions that changed are looked at, or all of them; what it is told
    /// and how many passes it takes.
    struct Subject {
        chain: Chain,
        flow: Flow,
        looks_at_all: bool,
    }

    impl Subject {
        fn new(looks_at_all: bool) -> Self {
            let program = assemble(TEXT).expect("it is a program");
            let len = program.slots().len();
            let flow = Flow::of(&program, Pc::ENTRY, len, false);
            let mut chain = LiveStack::new(&program, false).chains.remove(0);
            chain.marks[0] = Some(vec![Marks::default(); len].into());
            Self { chain, flow, looks_at_all }
        }

        fn settle(&mut self) -> (Option<u32>, Vec<(usize, Marks, Marks)>) {
            if self.chain.stale.is_empty() {
                return (None, Vec::new());
            }
            let mut work = <[Work; FRAMES_MAX]>::default();
            if self.looks_at_all {
                self.flow.look_at_all(&mut work[0]);
            }
            let mut changes = Vec::new();
            let tell = |_, at, before: &Marks, now: &Marks| changes.push((at, *before, *now));
            (self.chain.settle(&self.flow, &mut work, tell), changes)
        }
    }

    #[test]
    fn what_is_looked_at_is_enough() {
        for seed in 0..200 {
            let mut rng = Rng::seed(seed);
            let (mut quick, mut plain) = (Subject::new(false), Subject::new(true));
            for _ in 0..20 {
                for _ in 0..rng.range(1..4) {
                    let at = rng.range(0..quick.chain.seen.len() as u64) as usize;
                    let read = 1 << rng.range(0..8) & rng.next_u64();
                    let written = rng.next_u64() & 0xff;
                    for chain in [&mut quick.chain, &mut plain.chain] {
                        let seen = core::mem::replace(&mut chain.seen[at], true);
                        chain.mark(0, at, seen, read, written);
                    }
                }
                assert_eq!(quick.settle(), plain.settle(), "seed {seed}");
                assert_eq!(quick.chain.marks, plain.chain.marks, "seed {seed}");
            }
        }
    }
}

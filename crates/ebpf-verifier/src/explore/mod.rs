//! Exploration: paths through the program, one after the other. Global functions that these call
//! are explored afterwards, each for itself (`functions`).
//!
//! The order is the kernel's. At a fork the path goes on with the fall-through, and the other side
//! waits on a stack; when a path ends, the newest waiting side is next. Where paths may meet
//! (`marks`), states are kept (`checkpoint`), and a path ends early if an earlier one covers it
//! (`visit`, `equal`): one that was explored to the end, and differs only in what did not matter.
//! What mattered is found by walking back from decisions (`precision`, along the `history`), and
//! from what was read of the stack (`live_stack`).

mod callback;
mod checkpoint;
mod equal;
mod flow;
mod functions;
mod history;
mod ids;
mod live_stack;
mod loops;
mod marks;
mod memory;
mod precision;
mod visit;
mod watch;

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::vec;
use alloc::vec::Vec;

use ebpf_isa::Pc;

use self::callback::CoveredPaths;
use self::checkpoint::{Checkpoints, Way};
use self::equal::Telltale;
use self::history::History;
use self::ids::IdMap;
use self::live_stack::{ChainId, LiveStack};
use self::loops::Loops;
use self::marks::Marks;
use self::memory::Memory;
use self::precision::Explained;
use self::visit::{LastKept, Meetings, Visit};
use crate::error::{Checked, Payload};
use crate::outline::Outline;
use crate::rules::calls_back;
use crate::state::{CellSet, State};
use crate::step::{CallbackCall, ContextUse, Machine, Next};
use crate::verify::Subject;
use crate::{Exploration, Options, Stats};

/// What exploration found out about an acceptable program.
#[derive(Debug)]
pub(crate) struct Explored {
    /// By slot: whether some path comes here.
    pub(crate) reached: Vec<bool>,
    /// By slot: what a memory instruction accesses.
    pub(crate) context_use: Vec<ContextUse>,
    /// By subprogram: bytes of stack.
    pub(crate) stack_depth: Vec<u16>,
    /// Whether some path stores into the packet.
    pub(crate) writes_packet: bool,
    /// The calls of helpers that call back, as far as some path comes to them.
    pub(crate) callback_calls: BTreeMap<Pc, CallbackCall>,
    /// By subprogram: whether it is one that runs later.
    pub(crate) runs_later: Vec<bool>,
    /// The greatest distance of a jump, in slots.
    pub(crate) longest_jump: u32,
}

pub(crate) use self::checkpoint::CheckpointId;
pub(crate) use self::loops::{Entered, components, loop_of};
pub(crate) use self::watch::{SlotsChange, States, Watch};

/// Explores all paths, or all up to the first fault, and counts: on a machine with so many
/// processors, or with any number.
pub(crate) fn explore<W: Watch>(
    subject: Subject<'_>,
    processors: Option<u32>,
    options: &Options,
    watch: &mut W,
    stats: &mut Stats,
) -> Result<Explored, (Box<Payload>, Pc)> {
    let shares_mistakes = options.exploration.shares_mistakes;
    let machine = Machine::new(subject, processors, shares_mistakes);
    let mut explorer = Explorer::new(machine, subject.outline, options, watch);
    let explored = explorer.run_all();
    explorer.count(stats);
    let added = explorer.machine.stack_of_loops(&explorer.reached);
    explorer.watch.ends(&explorer.machine.stack_depth, &added);
    explored.map_err(|fault| (fault, explorer.machine.pc))?;
    let Explorer { reached, machine, marks, .. } = explorer;
    let Machine { context_use, stack_depth, writes_packet, callback_calls, runs_later, .. } =
        machine;
    let longest_jump = marks.longest_jump;
    Ok(Explored {
        reached,
        context_use,
        stack_depth,
        writes_packet,
        callback_calls,
        runs_later,
        longest_jump,
    })
}

/// A path that waits.
#[derive(Debug)]
struct Waiting {
    pc: Pc,
    state: State,
    way: Way,
    /// Length of the history at the fork.
    history: usize,
}

/// Exploration in progress.
struct Explorer<'a, W> {
    machine: Machine<'a>,
    watch: &'a mut W,
    options: Exploration,
    max_processed: u32,
    memory: Memory,
    marks: Marks,
    /// How the path being explored got here since its last checkpoint.
    way: Way,
    history: History,
    waiting: Vec<Waiting>,
    checkpoints: Checkpoints,
    meetings: Meetings,
    loops: Loops,
    covered: CoveredPaths,
    live_stack: LiveStack,
    last_kept: LastKept,
    explained: Explained,
    ids: IdMap,
    telltale: Telltale,
    reached: Vec<bool>,
    processed: u32,
    /// Of these, jumps, calls and returns.
    jumps: u32,
    paths: u64,
    peak_waiting: usize,
}

impl<'a, W: Watch> Explorer<'a, W> {
    fn new(machine: Machine<'a>, outline: &Outline, options: &Options, watch: &'a mut W) -> Self {
        let (program, limit) = (machine.program, machine.env.profile.max_processed);
        let way = Way {
            parent: None,
            first: Pc::ENTRY,
            last: None,
            history: 0,
            steps: 0,
            chain: ChainId::MAIN,
        };
        // What the kernel believes of loops of callbacks is looked at again in the end.
        let calls_back = outline.notable().iter().any(|(_, insn)| calls_back(insn));
        let marks = Marks::of(program, outline, machine.env);
        let loops = Loops::of(program, marks.end_early);
        let looks_again = loops.end_paths() || calls_back && !options.exploration.shares_mistakes;
        Self {
            options: options.exploration,
            max_processed: options.max_processed.map_or(limit, |max| max.min(limit)),
            memory: Memory::new(options.max_state_bytes),
            marks,
            way,
            history: History::default(),
            waiting: Vec::new(),
            checkpoints: Checkpoints::new(looks_again),
            loops,
            covered: CoveredPaths::default(),
            meetings: Meetings::new(program),
            live_stack: LiveStack::new(program, options.exploration.shares_mistakes),
            last_kept: LastKept::default(),
            explained: Explained::default(),
            ids: IdMap::default(),
            telltale: Telltale::default(),
            reached: vec![false; program.slots().len()],
            processed: 0,
            jumps: 0,
            paths: 1,
            peak_waiting: 0,
            machine,
            watch,
        }
    }

    /// Explores all paths from the current state.
    fn run(&mut self) -> Checked {
        loop {
            // At a fork, only one side may have left the function.
            let chain = self.way.chain;
            let next = match self.process()? {
                Next::Goto(next) => next,
                Next::Fork { fall_through, taken } => {
                    let state = self.machine.taken_state.take();
                    let mut state = state.expect("invariant: forks leave the other state");
                    let ends_rounds = self.marks.at(self.machine.pc).may_goto;
                    if ends_rounds || self.machine.effects.call.got_next {
                        self.widen_round(&mut state);
                    }
                    self.wait(taken, state, chain)?;
                    fall_through
                }
                Next::End => {
                    if !self.take_up()? {
                        return self.look_again();
                    }
                    continue;
                }
            };
            let Machine { pc, state, effects, .. } = &self.machine;
            self.watch.after(*pc, state, effects);
            let left_callback = effects.call.left_callback;
            self.go_on(next);
            if left_callback {
                self.widen_callback();
            }
        }
    }

    /// Processes the instruction that the path is at, unless the path ends before it.
    fn process(&mut self) -> Checked<Next> {
        let pc = self.machine.pc;
        self.processed += 1;
        if self.processed > self.max_processed {
            return Err(Payload::LimitProcessed { processed: self.processed }.into());
        }
        let mark = self.marks.at(pc);
        if mark.meeting && self.visit()? == Visit::Covered {
            self.watch.covered(pc, self.way.last);
            return Ok(Next::End);
        }
        if mark.jumped_to {
            self.history.arrive(pc, self.way.last);
        }
        self.jumps += u32::from(mark.jump);
        self.reached[pc.index()] = true;
        self.watch.before(pc, self.way.last, &self.machine.state);
        let depth = self.machine.state.depth();
        if depth > 1 && mark.exit {
            self.update_live_stack();
        }
        let next = self.machine.step();
        self.history.take_in(pc, self.way.last, mark.jumped_to, &self.machine.effects);
        let relied_on = &self.machine.effects.relied_on;
        if W::EVERYTHING {
            for cell in relied_on.clone() {
                self.rely_on(&CellSet::from_iter([cell]), depth - 1)?;
            }
        } else if !relied_on.is_empty() {
            self.rely_on(&relied_on.iter().copied().collect(), depth - 1)?;
        }
        let next = next?;
        if self.machine.state.depth() < depth && !mark.exit {
            self.update_live_stack();
        }
        self.follow_calls(depth, &next);
        Ok(next)
    }

    /// Keeps track of the chain of calls over an instruction before which there were `depth` frames.
    fn follow_calls(&mut self, depth: usize, next: &Next) {
        let (pc, chain) = (self.machine.pc, self.way.chain);
        let now = self.machine.state.depth();
        match next {
            Next::Goto(target) if now > depth => {
                self.way.chain = self.live_stack.callee(self.machine.program, chain, pc, *target);
            }
            _ if now < depth => {
                self.way.chain = self.live_stack.caller(chain).unwrap_or(chain);
            }
            _ => self.live_stack.take_in(chain, pc, &self.machine.effects),
        }
    }

    fn update_live_stack(&mut self) {
        let (program, chain) = (self.machine.program, self.way.chain);
        self.live_stack.update(program, &self.marks, chain, self.watch);
    }

    fn go_on(&mut self, next: Pc) {
        self.way.last = Some(self.machine.pc);
        self.way.steps += 1;
        self.machine.pc = next;
    }

    /// Lets the other side of a fork wait.
    fn wait(&mut self, pc: Pc, state: State, chain: ChainId) -> Checked {
        self.hold(&state)?;
        let (from, steps) = (self.machine.pc, self.way.steps + 1);
        let call = &self.machine.effects.call;
        let (is_round, is_later) = (call.called_back.is_some(), call.runs_later);
        let way = if is_later {
            self.way_later(pc)
        } else {
            self.checkpoints.branch_off(self.way.parent);
            // A callback is one more call.
            let chain = match is_round {
                true => self.live_stack.callee(self.machine.program, chain, from, pc),
                false => chain,
            };
            Way { last: Some(from), steps, chain, ..self.way }
        };
        self.watch.waits();
        self.waiting.push(Waiting { pc, state, way, history: self.history.len() });
        let pending = self.waiting.len();
        self.peak_waiting = self.peak_waiting.max(pending);
        if pending > self.machine.env.profile.max_pending as usize {
            return Err(match is_round || self.marks.at(from).may_goto {
                _ if is_later => Payload::LimitLater { pending },
                true => Payload::LimitRounds { pending },
                false => Payload::LimitPending { pending },
            }
            .into());
        }
        Ok(())
    }

    /// The way of a path that begins at a function which runs later: it goes on from nothing.
    fn way_later(&mut self, start: Pc) -> Way {
        let program = self.machine.program;
        let chain = self.live_stack.root(program, program.subprog_of(start));
        let (last, history) = (Some(self.machine.pc), self.history.len());
        // As far as the kernel knows.
        let first = Pc::ENTRY;
        Way { parent: None, first, last, history, steps: 0, chain }
    }

    /// The path has ended: takes up the newest one that waits, if there is one.
    fn take_up(&mut self) -> Checked<bool> {
        self.end_path()?;
        // After the last path nothing is compared any more.
        if W::EVERYTHING || !self.waiting.is_empty() {
            self.update_live_stack();
        }
        let Some(Waiting { pc, state, way, history }) = self.waiting.pop() else {
            return Ok(false);
        };
        self.paths += 1;
        self.watch.taken_up();
        self.machine.pc = pc;
        self.machine.state = state;
        self.way = way;
        self.history.truncate(history);
        self.explained.clear();
        Ok(true)
    }

    /// The path has ended; if it was the last one from a checkpoint, so has that to the checkpoint.
    fn end_path(&mut self) -> Checked {
        let mut next = self.way.parent;
        while let Some(id) = next {
            if !self.checkpoints.end_branch(id) {
                break;
            }
            self.watch.finishes(id);
            self.leave_loop(id)?;
            let checkpoint = self.checkpoints.get(id);
            next = checkpoint.way.parent;
            let is_open = self.loops.is_open(&checkpoint.state, checkpoint.pc);
            self.checkpoints.free_if_unused(id, is_open);
        }
        Ok(())
    }

    fn count(&self, stats: &mut Stats) {
        stats.processed = self.processed;
        stats.paths = self.paths;
        stats.peak_pending = self.peak_waiting as u32;
        stats.total_states = self.checkpoints.total;
        stats.peak_states = self.checkpoints.peak;
        stats.max_states_per_insn = self.meetings.longest;
    }
}

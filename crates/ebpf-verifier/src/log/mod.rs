//! The kernel's verifier log: what it prints at levels 1, 2 and 4.
//!
//! Level 1 shows each instruction of the path that was explored last, and the registers and slots
//! that it touched. Level 2 shows all paths, and besides which earlier numbers decisions rest on and
//! which slots are live. Level 4 adds the size of the stacks to the last lines.

mod state;
mod touched;

use alloc::format;
use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::{Display, Write as _};

use ebpf_isa::text::KernelText;
use ebpf_isa::uapi::HelperId;
use ebpf_isa::{CallTarget, Insn, Pc, Program, Reg, RegSet, SubprogIdx};

use self::state::{FrameText, Shown};
use crate::environment::Environment;
use crate::error::{ErrorCode, Payload, Rejection};
use crate::explore::{CheckpointId, Entered, SlotsChange, Watch, components, loop_of};
use crate::function::{Function, Functions, Unread};
use crate::liveness::LiveRegs;
use crate::outline::Outline;
use crate::state::{At, Cell, CellSet, Frame, SlotMask, State};
use crate::step::Effects;
use crate::{Stats, Verified};

/// Longest log, in bytes; what comes after is left out.
pub const LOG_BYTES_MAX: usize = 256 << 20;

/// What is logged: the kernel's `log_level`, a sum of 1 (the last path), 2 (all paths) and 4
/// (statistics).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogLevel(u32);

impl LogLevel {
    /// `None` unless it is a sum of 1, 2 and 4.
    #[must_use]
    pub const fn new(level: u32) -> Option<Self> {
        if level <= 7 { Some(Self(level)) } else { None }
    }

    const fn shows_paths(self) -> bool {
        self.0 & 3 != 0
    }

    const fn shows_all(self) -> bool {
        self.0 & 2 != 0
    }

    const fn shows_stacks(self) -> bool {
        self.0 & 4 != 0
    }
}

/// A verifier log, without the time that it took, which the kernel prints between the two parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    /// Paths and the reason of a rejection.
    pub text: String,
    /// The last lines: depths of stacks (level 4), and what was processed.
    pub statistics: String,
}

/// Columns of an instruction before what it touched.
const COMMENT_COLUMN: usize = 40;
const TAB: usize = 8;

/// Writes the log during exploration.
pub(crate) struct KernelLog<'a> {
    level: LogLevel,
    program: &'a Program,
    functions: &'a Functions,
    env: &'a Environment,
    text: String,
    /// By subprogram, and what is added to it in the end.
    stack_depth: Vec<(u16, u16)>,
    /// For each path that waits, the length of the text at its fork.
    waiting: Vec<usize>,
    /// What was touched since it was printed.
    touched: Shown,
    /// Whether the whole state is printed next.
    announces: bool,
    /// The line of an instruction to which what it touched is to be added: where it ends, and how
    /// long it is.
    line: (usize, usize),
    /// By slot, the number of the loop.
    loops: Vec<u32>,
    entered: Entered,
}

impl<'a> KernelLog<'a> {
    pub(crate) fn new(
        program: &'a Program,
        functions: &'a Functions,
        env: &'a Environment,
        level: LogLevel,
    ) -> Self {
        Self {
            level,
            program,
            functions,
            env,
            text: String::new(),
            stack_depth: alloc::vec![(0, 0); program.subprogs().len()],
            waiting: Vec::new(),
            touched: Shown::ALL,
            announces: false,
            line: (0, 0),
            loops: components(program),
            entered: Entered::default(),
        }
    }

    /// The log of a verdict.
    pub(crate) fn finish(
        mut self,
        verdict: &Result<Verified, alloc::boxed::Box<Rejection>>,
    ) -> Log {
        let stats = match verdict {
            Ok(verified) => verified.stats,
            Err(rejection) => {
                let is_printed =
                    rejection.code == ErrorCode::LoopInfinite && self.level.shows_paths();
                let lines = rejection.detail.iter().chain([&rejection.message]);
                for line in lines.filter(|_| !is_printed) {
                    self.print(format_args!("{line}\n"));
                }
                if !ends_line(&rejection.payload) {
                    self.text.pop();
                }
                rejection.stats
            }
        };
        let limit = self.env.profile.max_processed;
        let statistics =
            format!("{}{}\n", self.depths(verdict.as_ref().ok()), stats.kernel_line(limit));
        Log { text: self.text, statistics }
    }

    /// The line about the stack: the kernel prints it after it removed what is never reached, if it
    /// accepts the program.
    fn depths(&self, verified: Option<&Verified>) -> String {
        if !self.level.shows_stacks() {
            return String::new();
        }
        let subprogs = self.program.subprogs().iter().zip(&self.stack_depth);
        let is_left = |start| verified.is_none_or(|verified| verified.is_reached(start));
        let left = subprogs.filter(|(subprog, _)| is_left(subprog.start));
        let depth = |&(depth, added): &(u16, u16)| match verified {
            Some(_) => depth + added,
            None => depth,
        };
        let depths: Vec<String> = left.map(|(_, depths)| format!("{}", depth(depths))).collect();
        format!("stack depth {}\n", depths.join("+"))
    }

    fn print(&mut self, text: impl Display) {
        if self.text.len() < LOG_BYTES_MAX {
            write!(self.text, "{text}").expect("writing to a string does not fail");
        }
    }

    /// The text of an instruction; a call of a kernel function has its name.
    fn insn_text(&self, pc: Pc, insn: Insn) -> KernelText<'a> {
        let text = insn.kernel_text(pc);
        match insn {
            Insn::Call(CallTarget::Kfunc { btf_id, module }) => {
                let function = self.env.modules.function(module, btf_id);
                function.map_or(text, |function| text.with_kfunc_name(&function.name))
            }
            _ => text,
        }
    }

    fn frame<'s>(&self, state: &'s State, index: usize, shown: Shown) -> FrameText<'s>
    where
        'a: 's,
    {
        FrameText { env: self.env, state, index, shown, precise: const { &CellSet::EMPTY } }
    }

    /// Prints what was touched, behind the instruction if that is the last line.
    fn print_touched(&mut self, pc: Pc, state: &State) {
        if self.touched.is_nothing() {
            return;
        }
        let (end, len) = self.line;
        if len > 0 && end == self.text.len() {
            self.text.pop();
            let column = (len + TAB / 2).max(COMMENT_COLUMN).next_multiple_of(TAB);
            let blanks = column - len - 1;
            self.print(format_args!("{:blanks$};", ""));
        } else {
            self.print(format_args!("{pc}:"));
        }
        let text = self.frame(state, state.current(), self.touched);
        let text = format!("{text}\n");
        self.print(text);
        self.touched = Shown::NOTHING;
    }

    /// The states around a call.
    fn print_call(&mut self, state: &State) {
        let caller = self.frame(state, state.current() - 1, Shown::ALL);
        let callee = self.frame(state, state.current(), Shown::ALL);
        let text = format!("caller:\n{caller}\ncallee:\n{callee}\n");
        self.print(text);
        self.touched = Shown::ALL;
    }

    /// The states around a return to `state`.
    fn print_return(&mut self, callee: Rc<Frame>, state: &State) {
        let Some(to) = callee.leads_to() else { return };
        let mut before = state.clone();
        before.push_shared(callee);
        let callee = self.frame(&before, before.current(), Shown::ALL);
        let caller = self.frame(state, state.current(), Shown::ALL);
        let text = format!("returning from callee:\n{callee}\nto caller at {to}:\n{caller}\n");
        self.print(text);
    }

    fn after_helper(&mut self, state: &State, effects: &Effects) {
        // The kernel notes slots without their frame.
        self.touched.slots |= effects.filled;
        if effects.call.called_back.is_some() {
            self.touched = Shown::ALL;
        }
        if effects.call.was_last_round && self.level.shows_all() {
            let frame = state.current();
            self.print(format_args!("frame{frame} bpf_loop iteration limit reached\n"));
        }
    }

    fn print_loop(&mut self, what: &str, places: Option<Vec<u32>>) {
        if let (true, Some(places)) = (self.level.shows_all(), places) {
            // The kernel takes a call at position 0 for the end of the list.
            let (calls, number) = places.split_at(places.len() - 1);
            let shown = calls.iter().take_while(|&&call| call != 0).chain(number);
            let places: Vec<String> = shown.map(|place| format!("{place}")).collect();
            self.print(format_args!("SCC {what} ({})\n", places.join(",")));
        }
    }

    /// The functions.
    pub(crate) fn print_functions(&mut self) {
        if self.level.shows_all() {
            for (index, function) in self.program.subprogs().iter().enumerate() {
                self.print(format_args!("func#{index} @{}\n", function.start));
            }
        }
    }

    /// The registers that are live before each instruction.
    fn print_live_registers(&mut self) {
        self.print("Live regs before insn:\n");
        let live = LiveRegs::of(self.program, &Outline::of(self.program, self.env), self.env);
        for (pc, insn) in self.program.insns() {
            let live = live.before(pc);
            let letter = |reg: Reg| match live.contains(reg) {
                true => char::from(b'0' + reg.number()),
                false => '.',
            };
            let regs: String = Reg::ALL[..10].iter().map(|&reg| letter(reg)).collect();
            match self.loops[pc.index()] {
                0 => self.print("    "),
                number => self.print(format_args!("{number:>3} ")),
            }
            self.print(format_args!("{:>3}: {regs} {}\n", pc.0, self.insn_text(pc, insn)));
        }
    }
}

/// Whether a call led into the function at `target`, not past it.
fn is_entered(state: &State, target: Pc, program: &Program) -> bool {
    state.current() > 0 && state.frame().subprog == program.subprog_of(target)
}

/// Whether the kernel ends the line of this message: some lack their newline.
fn ends_line(payload: &Payload) -> bool {
    match payload {
        Payload::HelperReferences { .. } => false,
        Payload::HelperMap { helper, .. } => *helper != HelperId::TAIL_CALL,
        _ => true,
    }
}

impl Watch for KernelLog<'_> {
    const EVERYTHING: bool = true;

    fn starts(&mut self) {
        if self.level.shows_all() {
            self.print_live_registers();
        }
    }

    fn begins(&mut self, function: SubprogIdx) {
        let Function { name, prototype, .. } = self.functions.get(function);
        match (function, prototype) {
            (SubprogIdx::MAIN, Err(Unread::Refused(fault))) => {
                self.print(format_args!("{fault}\n"));
            }
            (SubprogIdx::MAIN, _) => {}
            _ => self.print(format_args!("Validating {name}() func#{}...\n", function.index())),
        }
        (self.touched, self.line) = (Shown::ALL, (0, 0));
        self.announces = false;
        self.entered = Entered::default();
    }

    fn validates(&mut self, function: SubprogIdx) {
        if !self.level.shows_all() {
            self.text.clear();
        }
        if function != SubprogIdx::MAIN && self.level.shows_paths() {
            let (index, name) = (function.index(), &self.functions.get(function).name);
            self.print(format_args!(
                "Func#{index} ('{name}') is safe for any args that match its prototype\n"
            ));
        }
    }

    fn before(&mut self, pc: Pc, from: Option<Pc>, state: &State) {
        if !self.level.shows_paths() {
            return;
        }
        if core::mem::take(&mut self.announces) && self.level.shows_all() {
            let frame = self.frame(state, state.current(), Shown::ALL);
            let text = format!("\nfrom {} to {pc}:{frame}\n", PcOrNone(from));
            self.print(text);
        }
        self.print_touched(pc, state);
        let Some(insn) = self.program.get(pc) else { return };
        let start = self.text.len();
        self.print(format_args!("{pc}: {}\n", self.insn_text(pc, insn)));
        self.line = (self.text.len(), self.text.len() - start);
        self.touched = touched::by(insn, state);
    }

    fn after(&mut self, pc: Pc, state: &State, effects: &Effects) {
        let Some(insn) = self.program.get(pc) else { return };
        effects.call.note.iter().for_each(|note| self.print(format_args!("{note}\n")));
        effects.call.remark.iter().for_each(|remark| self.print(format_args!("{remark}\n")));
        match insn {
            Insn::Call(CallTarget::Subprog(target)) if !is_entered(state, target, self.program) => {
                let subprog = self.program.subprog_of(target);
                let (index, name) = (subprog.index(), &self.functions.get(subprog).name);
                self.print(format_args!("Func#{index} ('{name}') is global and assumed valid.\n"));
            }
            _ if !self.level.shows_paths() => {}
            Insn::Branch { .. } => self.print_touched(pc, state),
            Insn::Call(CallTarget::Subprog(_)) => self.print_call(state),
            _ => {
                self.after_helper(state, effects);
                if let Some(callee) = &effects.call.left {
                    self.print_return(callee.clone(), state);
                    self.announces = insn == Insn::Exit && self.level.shows_all();
                }
            }
        }
    }

    fn waits(&mut self) {
        self.waiting.push(self.text.len());
    }

    fn repeats(&mut self, pc: Pc, state: &State, earlier: &State, precise: &CellSet) {
        if !self.level.shows_paths() {
            return;
        }
        let current = self.frame(state, state.current(), Shown::ALL);
        let earlier = FrameText { precise, ..self.frame(earlier, state.current(), Shown::ALL) };
        let text = format!(
            "infinite loop detected at insn {pc}\ncur state:{current}\nold state:{earlier}\n"
        );
        self.print(text);
    }

    fn covered(&mut self, pc: Pc, from: Option<Pc>) {
        if !self.level.shows_paths() {
            return;
        }
        match self.announces {
            true => self.print(format_args!("\nfrom {} to {pc}: safe\n", PcOrNone(from))),
            false => self.print(format_args!("{pc}: safe\n")),
        }
    }

    fn taken_up(&mut self) {
        let length = self.waiting.pop().unwrap_or(0);
        if !self.level.shows_all() {
            self.text.truncate(length);
        }
        self.announces = true;
        self.touched = Shown::ALL;
    }

    fn keeps(&mut self, checkpoint: CheckpointId, places: &[Pc]) {
        let entered = loop_of(places.iter().copied(), &self.loops);
        let entered = entered.filter(|place| self.entered.enter(checkpoint, place));
        self.print_loop("enter", entered);
    }

    fn ends_in_loop(&mut self, places: &[Pc]) {
        self.print_loop("backedge", loop_of(places.iter().copied(), &self.loops));
    }

    fn finishes(&mut self, checkpoint: CheckpointId) {
        let left = self.entered.leave(checkpoint);
        self.print_loop("exit", left);
    }

    fn hands_over(&mut self, depth: usize, wanted: &CellSet) {
        if !self.level.shows_all() {
            return;
        }
        for frame in (0..depth).rev() {
            for (index, cell) in wanted.cells(frame).enumerate() {
                match index {
                    0 => self.print(format_args!("frame {frame}: propagating {}", cell.at)),
                    _ => self.print(format_args!(",{}", cell.at)),
                }
            }
            if wanted.cells(frame).next().is_some() {
                self.print("\n");
            }
        }
    }

    fn walks(&mut self, frame: usize, last: Option<Pc>, first: Pc, behind: Option<Pc>) {
        if self.level.shows_all() {
            self.print(format_args!(
                "mark_precise: frame{frame}: last_idx {} first_idx {first} subseq_idx {} \n",
                PcOrNone(last),
                PcOrNone(behind)
            ));
        }
    }

    fn walks_over(&mut self, frame: usize, wanted: &CellSet, pc: Pc, insn: Insn) {
        if self.level.shows_all() {
            let (regs, slots) = cells_text(wanted, frame);
            self.print(format_args!(
                "mark_precise: frame{frame}: regs={regs} stack={slots} before {pc}: {}\n",
                self.insn_text(pc, insn)
            ));
        }
    }

    fn marks(&mut self, frame: usize, left: &CellSet, state: &State, precise: &CellSet) {
        if !self.level.shows_all() {
            return;
        }
        let (regs, slots) = cells_text(left, frame);
        let text = FrameText { env: self.env, state, index: frame, shown: Shown::ALL, precise };
        self.print(format_args!(
            "mark_precise: frame{frame}: parent state regs={regs} stack={slots}: {text}\n"
        ));
    }

    fn gives_up(&mut self, frame: usize) {
        if self.level.shows_all() {
            let what = "falling back to forcing all scalars precise";
            self.print(format_args!("mark_precise: frame{frame}: {what}\n"));
        }
    }

    fn forces(&mut self, cell: Cell) {
        if self.level.shows_all() {
            let (frame, at) = (cell.frame, cell.at);
            self.print(format_args!("force_precise: frame{frame}: forcing {at} to be precise\n"));
        }
    }

    fn slots_change(&mut self, change: &SlotsChange<'_>) {
        let (on, off) = (change.now & !change.before, change.before & !change.now);
        if !self.level.shows_all() || on | off == 0 || !change.is_of_interest {
            return;
        }
        let SlotsChange { calls, start, pc, frame, written, .. } = *change;
        let what = if written { "written" } else { "live" };
        self.print(format_args!("{} frame {frame} insn {pc} ", Chain(calls, start)));
        if on != 0 {
            self.print(format_args!("+{what} {} ", slots_text(on)));
        }
        if off != 0 {
            self.print(format_args!("-{what} {}", slots_text(off)));
        }
        self.print("\n");
    }

    fn settles(&mut self, calls: &[Pc], start: Pc, passes: u32) {
        if self.level.shows_all() {
            let chain = Chain(calls, start);
            self.print(format_args!("{chain} live stack update done in {passes} iterations\n"));
        }
    }

    fn ends(&mut self, stack_depth: &[u16], added: &[u16]) {
        self.stack_depth = stack_depth.iter().copied().zip(added.iter().copied()).collect();
    }
}

impl Stats {
    /// The last line of the kernel's log, where it stops after `limit` instructions:
    /// `processed 2 insns (limit 1000000) max_states_per_insn 0 …`.
    #[must_use]
    pub fn kernel_line(&self, limit: u32) -> String {
        format!(
            "processed {} insns (limit {limit}) max_states_per_insn {} total_states {} \
             peak_states {} mark_read 0",
            self.processed, self.max_states_per_insn, self.total_states, self.peak_states
        )
    }
}

/// A position; -1 for none.
struct PcOrNone(Option<Pc>);

impl Display for PcOrNone {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self.0 {
            Some(pc) => pc.fmt(f),
            None => f.write_str("-1"),
        }
    }
}

/// A function and the calls that lead there: `(6,18)`.
struct Chain<'a>(&'a [Pc], Pc);

impl Display for Chain<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("(")?;
        self.0.iter().try_for_each(|call| write!(f, "{call},"))?;
        write!(f, "{})", self.1)
    }
}

/// The registers (`r1,r2`) and the slots (`-8,-16`) of a frame that are in a set.
fn cells_text(cells: &CellSet, frame: usize) -> (String, String) {
    let regs: RegSet = cells
        .cells(frame)
        .filter_map(|cell| match cell.at {
            At::Reg(reg) => Some(reg),
            At::Slot(_) => None,
        })
        .collect();
    let regs: Vec<String> = regs.iter().map(|reg| format!("r{}", reg.number())).collect();
    (regs.join(","), slots_text(cells.slots(frame)))
}

fn slots_text(slots: SlotMask) -> String {
    let slots = (0..SlotMask::BITS).filter(|slot| slots & 1 << slot != 0);
    let slots: Vec<String> = slots.map(|slot| format!("-{}", (slot + 1) * 8)).collect();
    slots.join(",")
}

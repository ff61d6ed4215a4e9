//! Watching a run, instruction by instruction.

use alloc::vec;
use alloc::vec::Vec;

use ebpf_isa::{Pc, Program, Reg};

use crate::state::State;
use crate::vm::Vm;

/// Where a run is: the instruction that is next, and what it finds.
pub struct Moment<'r> {
    pc: Pc,
    regs: &'r [u64; Reg::COUNT],
    depth: usize,
    vm: &'r Vm,
}

impl core::fmt::Debug for Moment<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let regs = Reg::ALL.map(|reg| self.reg(reg));
        f.debug_struct("Moment").field("pc", &self.pc()).field("regs", &regs).finish()
    }
}

impl<'r> Moment<'r> {
    pub(crate) fn new(state: &'r State<'_>) -> Self {
        Self { pc: state.pc, regs: &state.regs, depth: state.depth, vm: state.vm }
    }

    /// The instruction that is next.
    #[must_use]
    pub fn pc(&self) -> Pc {
        self.pc
    }

    /// What a register holds.
    #[must_use]
    pub fn reg(&self, reg: Reg) -> u64 {
        self.regs[usize::from(self.vm.slots.of(reg))]
    }

    /// Frames there are besides the main program's.
    #[must_use]
    pub fn depth(&self) -> usize {
        self.depth
    }

    /// The program that is running: after a tail call, another one than at the start.
    #[must_use]
    pub fn vm(&self) -> &'r Vm {
        self.vm
    }
}

/// Sees each instruction of a run before it is run: [`Run::resume_observed`](crate::Run).
pub trait Observer {
    /// The instruction at [`Moment::pc`] is next.
    fn before(&mut self, moment: &Moment<'_>);
}

impl<F: FnMut(&Moment<'_>)> Observer for F {
    fn before(&mut self, moment: &Moment<'_>) {
        self(moment);
    }
}

/// How often each instruction of a program was run, in any number of runs.
#[derive(Debug, Clone)]
pub struct Coverage<'p> {
    vm: &'p Vm,
    program: &'p Program,
    counts: Vec<u64>,
}

impl<'p> Coverage<'p> {
    /// Nothing was run yet. `vm` is made of `program`.
    #[must_use]
    pub fn new(vm: &'p Vm, program: &'p Program) -> Self {
        Self { vm, program, counts: vec![0; program.slots().len()] }
    }

    /// How often the instruction at `pc` was run.
    #[must_use]
    pub fn count(&self, pc: Pc) -> u64 {
        self.counts.get(pc.index()).copied().unwrap_or(0)
    }

    /// How often each source line was run: as often as that instruction of the line that was run
    /// most often. Lines ascend by file and number.
    #[must_use]
    pub fn lines(&self) -> Vec<LineCoverage<'p>> {
        let mut lines: Vec<LineCoverage<'p>> = Vec::new();
        for (pc, _) in self.program.insns() {
            let Some(line) = self.program.lines().at(pc) else { continue };
            lines.push(LineCoverage { file: line.file, line: line.line, count: self.count(pc) });
        }
        // The highest count of a line comes first, and stays.
        lines.sort_by(|a, b| (a.file, a.line, b.count).cmp(&(b.file, b.line, a.count)));
        lines.dedup_by_key(|line| (line.file, line.line));
        lines
    }
}

impl Observer for Coverage<'_> {
    fn before(&mut self, moment: &Moment<'_>) {
        if core::ptr::eq(moment.vm(), self.vm)
            && let Some(count) = self.counts.get_mut(moment.pc().index())
        {
            *count += 1;
        }
    }
}

/// How often a source line was run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LineCoverage<'p> {
    /// Name of the file.
    pub file: &'p str,
    /// Number of the line, from 1.
    pub line: u32,
    /// How often.
    pub count: u64,
}

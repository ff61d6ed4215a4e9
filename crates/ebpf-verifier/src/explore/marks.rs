//! Where paths may meet, and where they do not go straight on.

use alloc::vec;
use alloc::vec::Vec;

use ebpf_isa::{CallTarget, Insn, Pc, Program, WideSource};

use crate::environment::Environment;
use crate::kfunc::IterUse;
use crate::outline::Outline;
use crate::rules::{calls_back, calls_later};

/// What is special about an instruction.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Mark {
    /// Other paths may be compared with this one before the instruction, and states kept.
    pub(super) meeting: bool,
    /// Control may come from elsewhere than the instruction before: the way is recorded.
    pub(super) jumped_to: bool,
    /// It is of one of the two jump classes, which calls and returns belong to.
    pub(super) jump: bool,
    /// The function ends.
    pub(super) exit: bool,
    /// A helper that calls back: the state is kept each time, to be compared with that of later
    /// rounds.
    pub(super) calls_back: bool,
    /// `may_goto`: likewise.
    pub(super) may_goto: bool,
    /// The next thing of an iterator is got: likewise.
    pub(super) gets_next: bool,
}

impl Mark {
    /// Whether the state is kept each time.
    pub(super) fn keeps(self) -> bool {
        self.calls_back || self.may_goto || self.gets_next
    }
}

/// The marks of all instructions.
#[derive(Debug)]
pub(super) struct Marks {
    /// By slot.
    marks: Vec<Mark>,
    /// The greatest distance of a jump, in slots.
    pub(super) longest_jump: u32,
    /// Whether there is a `may_goto`, or the next thing of an iterator is got: loops with these end paths
    /// early.
    pub(super) end_early: bool,
}

impl Marks {
    pub(super) fn of(program: &Program, outline: &Outline, env: &Environment) -> Self {
        let marks = vec![Mark::default(); program.slots().len()];
        let mut marks = Self { marks, longest_jump: 0, end_early: false };
        for &(pc, insn) in outline.notable() {
            marks.take_in(pc, insn);
            if gets_next(insn, env) {
                marks.marks[pc.index()].meeting = true;
                marks.marks[pc.index()].gets_next = true;
                marks.end_early = true;
            }
        }
        marks
    }

    fn take_in(&mut self, pc: Pc, insn: Insn) {
        match insn {
            Insn::Branch { target, .. } => {
                self.marks[pc.index()].meeting = true;
                self.jump(pc, target);
            }
            Insn::MayGoto { target } => {
                let mark = &mut self.marks[pc.index()];
                (mark.meeting, mark.may_goto) = (true, true);
                self.end_early = true;
                self.jump(pc, target);
            }
            Insn::Jump { target, .. } => self.jump(pc, target),
            Insn::LoadWide { source: WideSource::Func(target), .. } => {
                self.marks[pc.index()].meeting = true;
                self.arrive(target);
                self.arrive(Pc(pc.0 + insn.slots()));
                return;
            }
            Insn::Call(callee) => {
                if calls_back(&insn) {
                    self.arrive(pc);
                    self.marks[pc.index()].calls_back = true;
                }
                self.marks[pc.index()].meeting |= calls_later(&insn);
                if let CallTarget::Subprog(target) = callee {
                    self.marks[pc.index()].meeting = true;
                    self.arrive(target);
                }
                // Also behind calls of helpers, though they return where they were called.
                if let Some(next) = insn.successors(pc).next {
                    self.arrive(next);
                }
            }
            Insn::Exit => self.marks[pc.index()].exit = true,
            _ => return,
        }
        self.marks[pc.index()].jump = true;
    }

    fn jump(&mut self, pc: Pc, target: Pc) {
        self.longest_jump = self.longest_jump.max(pc.0.abs_diff(target.0));
        self.arrive(target);
    }

    fn arrive(&mut self, pc: Pc) {
        let mark = &mut self.marks[pc.index()];
        mark.meeting = true;
        mark.jumped_to = true;
    }

    pub(super) fn at(&self, pc: Pc) -> Mark {
        self.marks[pc.index()]
    }
}

fn gets_next(insn: Insn, env: &Environment) -> bool {
    let Insn::Call(CallTarget::Kfunc { btf_id, module }) = insn else { return false };
    let function = env.modules.function(module, btf_id);
    function.is_ok_and(|function| function.iter_use() == Some(IterUse::Next))
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use ebpf_isa::text::assemble;

    use super::*;
    use crate::rules::program_types;

    fn pcs(text: &str, holds: impl Fn(Mark) -> bool) -> Vec<u32> {
        let program = assemble(text).expect("it is a program");
        let env = Environment::new(program_types::xdp());
        let outline = Outline::of(&program, &env);
        let marks = Marks::of(&program, &outline, &env);
        program.insns().map(|(pc, _)| pc).filter(|&pc| holds(marks.at(pc))).map(|pc| pc.0).collect()
    }

    #[test]
    fn paths_meet_at_branches_their_targets_and_around_calls() {
        let text = "r0 = 0\nif r0 == 1 goto out\ncall bpf_get_prandom_u32#7\nr0 = 0\ncall f\nr0 = 1\n\
                    goto out\nout:\nexit\nf:\nr0 = 2\nexit";
        assert_eq!(pcs(text, |mark| mark.meeting), [1, 3, 4, 5, 7, 8]);
        assert_eq!(pcs(text, |mark| mark.jumped_to), [3, 5, 7, 8]);
        assert_eq!(pcs(text, |mark| mark.jump), [1, 2, 4, 6, 7, 9]);
    }
}

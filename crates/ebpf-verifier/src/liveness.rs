//! Which registers are live: read on some way from an instruction, before they are written.

use alloc::vec;
use alloc::vec::Vec;
use core::ops::Range;

use ebpf_isa::{CallTarget, Insn, Operands, Pc, Program, Reg, RegSet, Successors};

use crate::environment::Environment;
use crate::outline::Outline;

/// The live registers before each instruction, function by function. It does not matter which
/// conditions can hold.
#[derive(Debug)]
pub(crate) struct LiveRegs {
    /// By slot.
    before: Vec<RegSet>,
}

impl LiveRegs {
    pub(crate) fn of(program: &Program, outline: &Outline, env: &Environment) -> Self {
        let mut live = Self { before: vec![RegSet::EMPTY; program.slots().len()] };
        // From the last instruction back, so that a program without loops is done at once.
        let mut pending = Vec::new();
        let mut next = RegSet::EMPTY;
        let mut end = program.slots().len();
        for &(pc, insn) in outline.notable().iter().rev() {
            next = live.go_straight(outline, pc.index() + 1..end, next);
            end = pc.index();
            if insn.is_terminator() {
                next = RegSet::EMPTY;
            }
            if let Some(target) = insn.jump_target() {
                next = next.union(live.before(target));
                if target <= pc {
                    pending.push(pc);
                }
            }
            next = through(insn, next, env);
            live.before[pc.index()] = next;
        }
        live.go_straight(outline, 0..end, next);
        if pending.is_empty() {
            return live;
        }
        let jumps = Jumps::of(program);
        while let Some(pc) = pending.pop() {
            let Some(insn) = program.get(pc) else { continue };
            if live.visit(pc, insn, env) {
                pending.extend(jumps.to(pc));
                pending.extend(falling_into(program, pc));
            }
        }
        live
    }

    /// Goes back through ordinary instructions, from what is live behind them.
    fn go_straight(&mut self, outline: &Outline, at: Range<usize>, behind: RegSet) -> RegSet {
        let slots = self.before[at.clone()].iter_mut().zip(&outline.operands()[at]);
        slots.rev().fold(behind, |behind, (before, &Operands { reads, writes })| {
            *before = behind.difference(writes).union(reads);
            *before
        })
    }

    /// Registers that are live before the instruction.
    pub(crate) fn before(&self, pc: Pc) -> RegSet {
        self.before[pc.index()]
    }

    fn at(&self, pc: Option<Pc>) -> RegSet {
        pc.map_or(RegSet::EMPTY, |pc| self.before(pc))
    }

    /// Takes in what is live behind an instruction; says whether that was news.
    fn visit(&mut self, pc: Pc, insn: Insn, env: &Environment) -> bool {
        let Successors { next, target } = insn.successors(pc);
        let behind = self.at(next).union(self.at(target));
        let live = through(insn, behind, env);
        core::mem::replace(&mut self.before[pc.index()], live) != live
    }
}

/// The instruction before `pc`, if control may fall through from it.
fn falling_into(program: &Program, pc: Pc) -> Option<Pc> {
    let is_before = |&at: &Pc| program.get(at).is_some_and(|i| i.successors(at).next == Some(pc));
    (1..=2).filter_map(|slots| pc.0.checked_sub(slots)).map(Pc).find(is_before)
}

/// Where jumps come from.
struct Jumps {
    /// Target and source, in order.
    edges: Vec<(Pc, Pc)>,
}

impl Jumps {
    fn of(program: &Program) -> Self {
        let edge = |(pc, insn): (Pc, Insn)| Some((insn.successors(pc).target?, pc));
        let mut edges: Vec<_> = program.insns().filter_map(edge).collect();
        edges.sort_unstable();
        Self { edges }
    }

    fn to(&self, target: Pc) -> impl Iterator<Item = Pc> {
        let first = self.edges.partition_point(|edge| edge.0 < target);
        let edges = self.edges[first..].iter().take_while(move |edge| edge.0 == target);
        edges.map(|edge| edge.1)
    }
}

/// What is live before an instruction, from what is live behind it.
#[inline]
fn through(insn: Insn, behind: RegSet, env: &Environment) -> RegSet {
    let Operands { reads, writes } = insn.operands();
    let reads = match insn {
        Insn::Call(callee) => arguments(callee, env).unwrap_or(reads),
        // For all that the kernel knows, they may read any.
        Insn::LoadPacket { .. } => Reg::ALL.into_iter().collect::<RegSet>().without(Reg::FP),
        _ => reads,
    };
    behind.difference(writes).union(reads)
}

/// What a helper that may be called, or a kernel function, reads: its arguments alone.
fn arguments(callee: CallTarget, env: &Environment) -> Option<RegSet> {
    let count = match callee {
        CallTarget::Helper(id) if env.may_call(id) => match env.program_type.helper(id) {
            Some(proto) => proto.arguments(),
            None => id.arguments()?.into(),
        },
        CallTarget::Kfunc { btf_id, module } => {
            env.modules.function(module, btf_id).ok()?.args.len()
        }
        _ => return None,
    };
    Some(Reg::ARGS.into_iter().take(count).collect())
}

#[cfg(test)]
mod tests {
    use alloc::format;
    use alloc::string::String;

    use super::*;
    use crate::rules::program_types;
    use ebpf_isa::text::assemble;

    fn live_before(text: &str, pc: u32) -> Vec<Reg> {
        let program = assemble(text).expect("it is a program");
        let env = Environment::new(program_types::xdp());
        LiveRegs::of(&program, &Outline::of(&program, &env), &env).before(Pc(pc)).iter().collect()
    }

    #[test]
    fn what_is_read_before_it_is_written_is_live() {
        let text = "r3 = r2\nr2 = 5\nr0 = r3\nexit";
        assert_eq!(live_before(text, 0), [Reg::R2]);
        assert_eq!(live_before(text, 2), [Reg::R3]);
    }

    #[test]
    fn loops_carry_liveness_back() {
        // r7 is read in the next round only.
        let text = "again:\nr0 = r7\nr1 = 0\nif r6 != 0 goto again\nexit";
        assert_eq!(live_before(text, 1), [Reg::R0, Reg::R6, Reg::R7]);
    }

    #[test]
    fn helpers_read_their_arguments_alone() {
        let text = "call bpf_get_prandom_u32#7\nexit";
        assert_eq!(live_before(text, 0), []);
        let text = "call bpf_map_lookup_elem#1\nexit";
        assert_eq!(live_before(text, 0), [Reg::R1, Reg::R2]);
        let text = "call f\nexit\nf:\nr0 = r6\nexit";
        assert_eq!(live_before(text, 0), Reg::ARGS);
    }

    #[test]
    fn many_loops_take_no_more_than_their_number() {
        // Each block jumps back to the one before it, which the search meets last.
        let blocks: String = (1..100_000)
            .map(|n| format!("b{n}:\nr1 = 0\nif r0 == {n} goto b{}\n", n - 1))
            .collect();
        let text = format!("b0:\nr0 = r9\n{blocks}exit");
        assert!(live_before(&text, 150_000).contains(&Reg::R9));
    }
}

//! Which registers calls must save.

use alloc::vec::Vec;

use ebpf_isa::uapi::HelperId;
use ebpf_isa::{CallTarget, Insn, Program, Reg, RegSet, Subprog, SubprogIdx};
use ebpf_lower::{Effect, Outline};

/// By subprogram: which of `r6` to `r9`, which its callers find as they left them, it or a
/// subprogram below it writes.
///
/// Subprograms are closed under jumps, so this holds for any program. Helpers write none of them. A
/// tail call goes on in a program that nobody has seen, which may write all; so may what is called
/// through a register.
pub(crate) struct Clobbers(Vec<RegSet>);

/// What a callee preserves.
pub(crate) fn preserved() -> RegSet {
    [Reg::R6, Reg::R7, Reg::R8, Reg::R9].into_iter().collect()
}

impl Clobbers {
    /// In time linear in the length of `program`, but for the sorting of its calls.
    pub(crate) fn new(program: &Program, outline: &Outline) -> Self {
        let effects = outline.effects().by_slot();
        let written = |subprog: &Subprog| {
            let slots = &effects[subprog.start.index()..subprog.end.index()];
            let all = |all: RegSet, effect: &Effect| all.union(effect.writes);
            among_preserved(slots.iter().fold(RegSet::EMPTY, all))
        };
        let mut sets: Vec<RegSet> = program.subprogs().iter().map(written).collect();
        // Callee and caller.
        let mut calls = Vec::new();
        for pc in outline.special().iter() {
            let caller = program.subprog_of(pc);
            match program.get(pc) {
                Some(Insn::Call(CallTarget::Subprog(target))) => {
                    calls.push((program.subprog_of(target).0, caller.0));
                }
                Some(Insn::Call(CallTarget::Helper(HelperId::TAIL_CALL) | CallTarget::Reg(_))) => {
                    sets[caller.index()] = preserved();
                }
                _ => {}
            }
        }
        calls.sort_unstable();
        calls.dedup();
        Self(closed(sets, &calls))
    }

    pub(crate) fn of(&self, subprog: SubprogIdx) -> RegSet {
        self.0[subprog.index()]
    }
}

fn among_preserved(set: RegSet) -> RegSet {
    preserved().difference(preserved().difference(set))
}

/// What callees write, their callers write. Each set grows at most as often as it has registers.
fn closed(mut sets: Vec<RegSet>, calls: &[(u32, u32)]) -> Vec<RegSet> {
    let mut work: Vec<u32> = (0..sets.len() as u32).collect();
    while let Some(callee) = work.pop() {
        let written = sets[callee as usize];
        let first = calls.partition_point(|&(other, _)| other < callee);
        for &(_, caller) in calls[first..].iter().take_while(|&&(other, _)| other == callee) {
            let set = &mut sets[caller as usize];
            let grown = set.union(written);
            if grown != *set {
                *set = grown;
                work.push(caller);
            }
        }
    }
    sets
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use ebpf_isa::text::assemble;

    use super::*;

    fn clobbers(asm: &str) -> Vec<RegSet> {
        let program = assemble(asm).unwrap();
        Clobbers::new(&program, &Outline::new(&program)).0
    }

    fn set(regs: &[Reg]) -> RegSet {
        regs.iter().copied().collect()
    }

    #[test]
    fn what_a_callee_writes_is_saved() {
        let found = clobbers("r9 = 1\ncall f\nexit\nf:\nr7 = r6\nr0 = 0\nr1 = 0\nexit");
        assert_eq!(found, [set(&[Reg::R7, Reg::R9]), set(&[Reg::R7])]);
    }

    #[test]
    fn what_is_written_further_below_is_saved_too() {
        let found = clobbers(
            "call f\nexit\nf:\nr6 = 1\ncall g\nexit\ng:\nr7 = 1\ncall h\nexit\nh:\nr8 = 1\nexit",
        );
        let expected: [&[Reg]; 4] = [
            &[Reg::R6, Reg::R7, Reg::R8],
            &[Reg::R6, Reg::R7, Reg::R8],
            &[Reg::R7, Reg::R8],
            &[Reg::R8],
        ];
        assert_eq!(found, expected.map(set));
    }

    #[test]
    fn functions_that_call_each_other_write_the_same() {
        let found = clobbers("call f\nexit\nf:\nr6 = 1\ncall g\nexit\ng:\nr9 = 1\ncall f\nexit");
        assert_eq!(found[1..], [set(&[Reg::R6, Reg::R9]); 2]);
    }

    #[test]
    fn a_program_may_call_itself() {
        assert_eq!(clobbers("r6 = 1\ncall -2\nexit"), [set(&[Reg::R6])]);
    }

    #[test]
    fn a_tail_call_and_a_call_through_a_register_may_write_all() {
        for call in ["call 12", "callx r1"] {
            let found = clobbers(&format!("call f\nexit\nf:\n{call}\nr0 = 0\nexit"));
            assert_eq!(found[1], preserved(), "{call}");
        }
    }
}

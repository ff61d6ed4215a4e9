//! A program in outline: what is asked of every instruction before exploration, found in one pass.

use alloc::vec::Vec;

use ebpf_isa::{Insn, Operands, Pc, Program, Reg, RegSet, WideSource};

use crate::environment::Environment;
use crate::profile::Feature;

/// Most instructions are ordinary: control goes on to the next one, and no check before exploration
/// has anything to say of them. Of these, all that matters then is which registers they use. The
/// others are listed apart, to be looked at one by one.
#[derive(Debug)]
pub(crate) struct Outline {
    /// By slot.
    operands: Vec<Operands>,
    notable: Vec<(Pc, Insn)>,
}

impl Outline {
    pub(crate) fn of(program: &Program, env: &Environment) -> Self {
        const NONE: Operands = Operands { reads: RegSet::EMPTY, writes: RegSet::EMPTY };
        let slots = || program.slots().iter();
        let operands: Vec<_> = slots().map(|slot| slot.map_or(NONE, Insn::operands)).collect();
        let mut notable = Vec::new();
        for ((pc, slot), &operands) in (0..).map(Pc).zip(slots()).zip(&operands) {
            if let Some(insn) = slot
                && (is_always_notable(insn)
                    || uses_auxiliary(operands)
                    || lacks_feature(insn, env).is_some())
            {
                notable.push((pc, *insn));
            }
        }
        Self { operands, notable }
    }

    /// All but the ordinary instructions, in order.
    pub(crate) fn notable(&self) -> &[(Pc, Insn)] {
        &self.notable
    }

    /// By slot: the registers that an instruction uses; none for the second slot of a wide load.
    pub(crate) fn operands(&self) -> &[Operands] {
        &self.operands
    }
}

/// Whether an instruction is notable whatever it uses and whatever the kernel knows.
#[inline]
fn is_always_notable(insn: &Insn) -> bool {
    match insn {
        Insn::Jump { .. } | Insn::Branch { .. } | Insn::MayGoto { .. } => true,
        Insn::Call(_) | Insn::Exit | Insn::LoadPacket { .. } => true,
        Insn::LoadWide { source: WideSource::Imm(_), .. } => false,
        Insn::LoadWide { .. } => true,
        _ => false,
    }
}

pub(crate) fn uses_auxiliary(Operands { reads, writes }: Operands) -> bool {
    reads.union(writes).contains(Reg::Ax)
}

/// What this kernel would need to know the instruction, and does not have.
#[inline]
pub(crate) fn lacks_feature(insn: &Insn, env: &Environment) -> Option<Feature> {
    Feature::of_insn(insn).filter(|&feature| !env.profile.features.has(feature))
}

#[cfg(test)]
mod tests {
    use ebpf_isa::text::assemble;

    use super::*;
    use crate::rules::program_types;

    #[test]
    fn what_goes_elsewhere_or_may_be_refused_is_notable() {
        let text = "r1 = 5 ll\nr2 = map[0] ll\nr0 = (s8)r1\nif r1 == 5 goto out\ncall f\n\
                    call bpf_get_prandom_u32#7\nr0 += r3\nout:\nexit\nf:\nr0 = 0\nexit";
        let program = assemble(text).expect("it is a program");
        let mut env = Environment::new(program_types::xdp());
        let notable = |env: &Environment| {
            let outline = Outline::of(&program, env);
            outline.notable().iter().map(|(pc, _)| pc.0).collect::<Vec<_>>()
        };
        assert_eq!(notable(&env), [2, 5, 6, 7, 9, 11]);
        env.profile.features = crate::Features::NONE;
        assert_eq!(notable(&env), [2, 4, 5, 6, 7, 9, 11]);
        let outline = Outline::of(&program, &env);
        let uses = |pc: usize| (outline.operands()[pc].reads, outline.operands()[pc].writes);
        assert_eq!(uses(8), (RegSet::of(Reg::R0).with(Reg::R3), RegSet::of(Reg::R0)));
        assert_eq!(uses(1), (RegSet::EMPTY, RegSet::EMPTY));
    }
}

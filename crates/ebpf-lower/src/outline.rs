//! What one pass over a program finds.

use alloc::vec::Vec;

use ebpf_isa::{Insn, Pc, Program, RegSet};

use crate::blocks::Blocks;
use crate::effects::{Effect, Effects};
use crate::slots::{SlotMarks, SlotSet};

/// What there is to know about a program's instructions one by one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outline {
    effects: Effects,
    blocks: Blocks,
    ends: Vec<End>,
    special: SlotSet,
    holes: SlotSet,
}

/// An instruction that ends a block: a jump, a branch or an `exit`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct End {
    pub(crate) at: Pc,
    /// Where it jumps.
    pub(crate) target: Option<Pc>,
    /// Whether control may go on behind it.
    pub(crate) falls_through: bool,
}

impl Outline {
    /// That of `program`.
    #[must_use]
    pub fn new(program: &Program) -> Self {
        // Where the main program ends, if nobody calls it: its `exit` ends the run.
        let main_end = program.subprogs()[0].end;
        match Scan::run(program, main_end) {
            Scan { calls_main: true, .. } => Scan::run(program, Pc::ENTRY).finish(program),
            scan => scan.finish(program),
        }
    }

    /// What each instruction does to registers.
    #[must_use]
    pub fn effects(&self) -> &Effects {
        &self.effects
    }

    /// The basic blocks.
    #[must_use]
    pub fn blocks(&self) -> &Blocks {
        &self.blocks
    }

    /// The instructions that end blocks, ascending.
    pub(crate) fn ends(&self) -> &[End] {
        &self.ends
    }

    /// Where calls, wide loads, atomic operations and packet loads are: what engines may have to
    /// resolve, or may not have.
    #[must_use]
    pub fn special(&self) -> &SlotSet {
        &self.special
    }

    /// The second slots of wide loads.
    #[must_use]
    pub fn holes(&self) -> &SlotSet {
        &self.holes
    }
}

/// The pass.
struct Scan {
    effects: Vec<Effect>,
    leads: SlotMarks,
    ends: Vec<End>,
    special: SlotMarks,
    holes: SlotMarks,
    calls_main: bool,
}

impl Scan {
    /// The first `main_end` slots return to nobody.
    fn run(program: &Program, main_end: Pc) -> Self {
        let marks = || SlotMarks::new(program.len());
        let mut scan = Self {
            effects: Vec::with_capacity(program.slots().len()),
            leads: marks(),
            ends: Vec::new(),
            special: marks(),
            holes: marks(),
            calls_main: false,
        };
        for (slot, pc) in program.slots().iter().zip((0..).map(Pc)) {
            match slot {
                Some(insn) => scan.insn(pc, insn, Effect::returned(pc < main_end)),
                None => {
                    scan.holes.mark(pc);
                    scan.effects.push(Effect::NONE);
                }
            }
        }
        scan
    }

    fn insn(&mut self, pc: Pc, insn: &Insn, returned: RegSet) {
        self.effects.push(Effect::of(*insn, returned));
        match insn {
            Insn::Jump { .. } | Insn::Branch { .. } | Insn::MayGoto { .. } | Insn::Exit => {
                let target = insn.jump_target();
                if let Some(target) = target {
                    self.leads.mark(target);
                }
                self.leads.mark(Pc(pc.0 + 1));
                self.ends.push(End { at: pc, target, falls_through: !insn.is_terminator() });
            }
            Insn::Call(_)
            | Insn::LoadWide { .. }
            | Insn::Atomic { .. }
            | Insn::LoadPacket { .. } => {
                self.special.mark(pc);
                self.calls_main |= insn.subprog_ref() == Some(Pc::ENTRY);
            }
            _ => {}
        }
    }

    fn finish(mut self, program: &Program) -> Outline {
        for subprog in program.subprogs() {
            self.leads.mark(subprog.start);
        }
        Outline {
            effects: Effects(self.effects),
            blocks: Blocks::new(self.leads, program.len()),
            ends: self.ends,
            special: self.special.into_set(),
            holes: self.holes.into_set(),
        }
    }
}

#[cfg(test)]
mod tests {
    use ebpf_isa::text::assemble;

    use super::*;

    #[test]
    fn what_engines_look_at_is_found() {
        let asm =
            "r1 = 7 ll\nlock *(u64 *)(r10 -8) += r1\nr2 = 1\ncall 1\nr0 = *(u8 *)skb[0]\nexit";
        let outline = Outline::new(&assemble(asm).unwrap());
        let slots = |set: &SlotSet| set.iter().map(|pc| pc.0).collect::<Vec<_>>();
        assert_eq!(slots(outline.special()), [0, 2, 4, 5]);
        assert_eq!(slots(outline.holes()), [1]);
    }
}

//! The host's code in the place of the main program's exits.
//!
//! The context is saved in a stack slot below all that the program uses. The first exit is replaced by
//! the code, later ones by jumps to it. Subprograms return as they did.

use alloc::vec::Vec;

use ebpf_isa::{Insn, Operand, Pc, Reg, Size, SubprogIdx};
use ebpf_patch::{PatchInsn, Target};

use super::code::{Step, saved_context};
use super::{Hook, HookCode, HookFault, RewriteError, Rewriter, scan};

/// Bytes of the slot for the context.
pub(super) const SLOT: u16 = 8;

pub(super) fn run(rewriter: &mut Rewriter<'_>) -> Result<(), RewriteError> {
    let Rewriter { hooks, target, modules, .. } = rewriter;
    let mut code = HookCode::new(Hook::Epilogue, *hooks, target, modules);
    hooks.gen_epilogue(&mut code);
    let steps = code.finish()?;
    if steps.is_empty() {
        return Ok(());
    }
    scan::check(Hook::Epilogue, &steps)?;
    let saved_at = rewriter.save_context()?;
    let end = steps.last().map_or(0, |step| step.slot + step.insn.slots());
    let body = steps.iter().map(|step| placed(step, saved_at, end));
    rewriter.replace_exits(body.chain([Insn::Exit.into()]))
}

impl Rewriter<'_> {
    /// Saves the context at the entry, behind the prologue; gives where, from the frame pointer.
    fn save_context(&mut self) -> Result<i16, RewriteError> {
        let main = &mut self.facts.subprogs[SubprogIdx::MAIN.index()];
        main.stack_depth = main.stack_depth.next_multiple_of(SLOT) + SLOT;
        let off = -i16::try_from(main.stack_depth).expect("invariant: at most 560 bytes");
        let (size, base) = (Size::Dw, Reg::FP);
        let save = Insn::Store { size, base, off, src: Operand::Reg(Reg::R1) };
        self.put_in_front([save.into()])?;
        Ok(off)
    }

    /// Puts `body` in the place of the main program's first exit, and jumps to it in that of the others.
    fn replace_exits(
        &mut self,
        body: impl Iterator<Item = PatchInsn> + Clone,
    ) -> Result<(), RewriteError> {
        let end = self.verified.program.subprogs()[SubprogIdx::MAIN.index()].end;
        let of_main = self.patch.control_flow().take_while(|&(pc, _)| pc < end);
        let ends = |&(_, insn): &(Pc, Insn)| matches!(insn, Insn::Exit | Insn::LoadPacket { .. });
        let mut first = None;
        for (pc, insn) in of_main.filter(ends).collect::<Vec<_>>() {
            match (insn, first) {
                (Insn::LoadPacket { .. }, _) => {
                    return Err(Hook::Epilogue.error(HookFault::PacketLoad { pc }));
                }
                (_, Some(target)) => self.patch.replace(pc, [goto(target)])?,
                (_, None) => {
                    self.patch.replace(pc, body.clone())?;
                    first = Some(pc);
                }
            }
        }
        Ok(())
    }
}

/// The long form: however far the exits of a program are apart, no jump has to be made longer.
const fn goto(target: Pc) -> Insn {
    Insn::Jump { target, long: true }
}

/// An instruction of the code, which finds the context at `saved_at`, and at the slot `end` the exit.
fn placed(step: &Step, saved_at: i16, end: u32) -> PatchInsn {
    match (step.insn.insn(), step.insn.target()) {
        (Insn::Load { dst, .. }, _) if step.loads_saved => saved_context(dst, saved_at).into(),
        (jump, Some(Target::Next)) => PatchInsn::jump(jump, Target::Local(end)),
        _ => step.insn,
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::{String, ToString};

    use ebpf_isa::text::assemble;
    use ebpf_isa::{AluOp, Width};
    use ebpf_patch::HostField;

    use super::*;
    use crate::rewrite::{ContextAccessInsn, RewriteHooks};
    use crate::verify::Verified;

    struct Both;

    const fn add(dst: Reg, imm: i32) -> Insn {
        Insn::Alu { op: AluOp::Add, width: Width::W64, dst, src: Operand::Imm(imm) }
    }

    impl RewriteHooks for Both {
        fn context_field(&self, access: &ContextAccessInsn) -> Result<HostField, RewriteError> {
            Err(access.unsupported())
        }

        fn gen_prologue(&self, _: bool, code: &mut HookCode<'_>) {
            code.push(Insn::Mov { width: Width::W64, dst: Reg::R0, src: Operand::Imm(0) });
        }

        fn gen_epilogue(&self, code: &mut HookCode<'_>) {
            code.push(add(Reg::R0, 1));
        }
    }

    fn rewritten(asm: &str) -> Vec<String> {
        let program = assemble(asm).unwrap();
        let done = Verified::assumed(program).rewrite(&Both).unwrap();
        done.program.insns().map(|(pc, insn)| insn.text(pc).to_string()).collect()
    }

    /// What the verifier accepts sets `r0` first, so it has no such program.
    #[test]
    fn an_exit_may_be_the_first_instruction() {
        let entry = ["r0 = 0", "*(u64 *)(r10 -8) = r1"];
        assert_eq!(rewritten("exit"), [&entry[..], &["r0 += 1", "exit"]].concat());
        // A jump to that exit leads to the epilogue, past the prologue and the saving.
        let twice = rewritten("exit\nr0 = 5\ngoto -3");
        assert_eq!(twice, [&entry[..], &["r0 += 1", "exit", "r0 = 5", "goto pc-4"]].concat());
    }

    #[test]
    fn a_jump_may_be_the_first_instruction() {
        let done = rewritten("goto +1\nr0 = 5\nexit");
        let expected =
            ["r0 = 0", "*(u64 *)(r10 -8) = r1", "goto pc+1", "r0 = 5", "r0 += 1", "exit"];
        assert_eq!(done, expected);
        // It is no instruction any more, but what was behind it is.
        let done = rewritten("goto +0\nr1 = 5\nexit");
        let expected = ["r0 = 0", "*(u64 *)(r10 -8) = r1", "r1 = 5", "r0 += 1", "exit"];
        assert_eq!(done, expected);
    }
}

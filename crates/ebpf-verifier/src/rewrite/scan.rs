//! Whether a hook's code does what it may: one walk from its first instruction to the last, since it
//! has no loops.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use ebpf_isa::uapi::HelperId;
use ebpf_isa::{CallTarget, Insn, Operand, Reg, RegSet, WideSource, Width};
use ebpf_patch::Target;

use super::code::Step;
use super::{Hook, HookFault, RewriteError};

/// Checks the code of a hook.
pub(super) fn check(hook: Hook, steps: &[Step]) -> Result<(), RewriteError> {
    walk(hook, steps).map_err(|fault| hook.error(fault))
}

/// What registers hold at some place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Registers {
    defined: RegSet,
    /// Those that hold the context.
    context: RegSet,
}

impl Registers {
    /// What is known where code of the hook begins.
    const fn at_start(hook: Hook) -> Self {
        match hook {
            Hook::Prologue => Self { defined: RegSet::of(Reg::R1), context: RegSet::of(Reg::R1) },
            Hook::Epilogue => Self { defined: RegSet::of(Reg::R0), context: RegSet::EMPTY },
        }
    }

    /// What holds on either of two ways.
    fn meet(self, other: Self) -> Self {
        let both = |a: RegSet, b: RegSet| a.difference(a.difference(b));
        Self {
            defined: both(self.defined, other.defined),
            context: both(self.context, other.context),
        }
    }

    /// What they hold behind an instruction.
    fn after(self, insn: Insn) -> Self {
        let Self { mut defined, mut context } = self;
        let copied = match insn {
            Insn::Mov { width: Width::W64, dst, src: Operand::Reg(src) } => {
                context.contains(src).then_some(dst)
            }
            _ => None,
        };
        let written = insn.writes();
        context = context.difference(written);
        // A call leaves nothing in the argument registers.
        defined = match insn {
            Insn::Call(_) => defined.difference(RegSet::ARGS).with(Reg::R0),
            _ => defined.union(written),
        };
        Self { defined, context: copied.map_or(context, |dst| context.with(dst)) }
    }
}

fn walk(hook: Hook, steps: &[Step]) -> Result<(), HookFault> {
    let end = steps.last().map_or(0, |step| step.slot + step.insn.slots());
    let slots: Vec<u32> = steps.iter().map(|step| step.slot).chain([end]).collect();
    let mut known = BTreeMap::from([(0, Registers::at_start(hook))]);
    for step in steps {
        let &Step { slot, insn: patch_insn, .. } = step;
        let insn = patch_insn.insn();
        let registers = *known.get(&slot).ok_or(HookFault::Unreached { slot })?;
        check_insn(hook, step, registers.defined)?;
        let after = registers.after(insn);
        let mut lead = |to: u32| {
            known.entry(to).and_modify(|known| *known = known.meet(after)).or_insert(after);
        };
        if insn.jump_target().is_some() {
            lead(jump_target(step, &slots, end)?);
        }
        if !insn.is_terminator() {
            lead(slot + insn.slots());
        }
    }
    match (hook, known.get(&end)) {
        (Hook::Prologue, None) => Err(HookFault::NeverEnds),
        (Hook::Prologue, Some(last)) if !last.context.contains(Reg::R1) => {
            Err(HookFault::ContextLost)
        }
        _ => Ok(()),
    }
}

/// The slot that a jump leads to: a later one of the code, or its end.
fn jump_target(step: &Step, slots: &[u32], end: u32) -> Result<u32, HookFault> {
    let slot = step.slot;
    let target = match step.insn.target() {
        Some(Target::Local(target)) => target,
        Some(Target::Over(over)) => over.saturating_add(slot + 1),
        Some(Target::Next) => end,
        Some(Target::Pc(_)) | None => return Err(HookFault::JumpsOut { slot }),
    };
    if target <= slot {
        return Err(HookFault::JumpsBack { slot });
    }
    match slots.binary_search(&target) {
        Ok(_) => Ok(target),
        Err(_) => Err(HookFault::JumpsOut { slot }),
    }
}

/// Checks an instruction that finds these registers defined.
fn check_insn(hook: Hook, step: &Step, defined: RegSet) -> Result<(), HookFault> {
    let (slot, insn) = (step.slot, step.insn.insn());
    if let Some(what) = not_allowed(hook, insn) {
        return Err(HookFault::NotAllowed { slot, what });
    }
    let operands = insn.operands();
    if step.loads_saved {
        return Ok(());
    }
    if operands.reads.union(operands.writes).contains(Reg::FP) {
        return Err(HookFault::FramePointer { slot });
    }
    match step.reads.difference(defined).iter().next() {
        Some(reg) => Err(HookFault::Undefined { slot, reg }),
        None => Ok(()),
    }
}

/// What an instruction is that a hook must not give.
fn not_allowed(hook: Hook, insn: Insn) -> Option<&'static str> {
    Some(match insn {
        Insn::Exit if hook == Hook::Epilogue => "an exit (the epilogue's comes behind it)",
        Insn::Call(CallTarget::Subprog(_)) => "a call of the program's functions",
        Insn::Call(CallTarget::Reg(_)) => "a call through a register",
        Insn::Call(CallTarget::Helper(HelperId::TAIL_CALL)) => "a tail call",
        Insn::LoadWide { source: WideSource::Func(_), .. } => "the address of a function",
        Insn::LoadPacket { .. } => "a packet load, which can end the program,",
        Insn::MayGoto { .. } => "may_goto",
        _ if insn.operands().reads.union(insn.writes()).contains(Reg::Ax) => {
            "the auxiliary register"
        }
        _ => return None,
    })
}

//! The code that a hook gives, as it is written.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;

use ebpf_isa::uapi::HelperId;
use ebpf_isa::{CallTarget, CmpOp, Extend, Insn, Operand, Pc, Reg, RegSet, Size, Width};
use ebpf_patch::{PatchInsn, Target as JumpTarget};

use crate::kfunc::ModuleTable;

use super::{ContextAccessInsn, Hook, HookFault, RewriteError, RewriteHooks, Target};

/// Code that a hook gives: written from the first instruction to the last.
///
/// What is wrong with it is found when the hook returns, so writing it needs no error handling; see
/// [`HookFault`] for the rules.
#[derive(Debug)]
pub struct HookCode<'a> {
    hook: Hook,
    hooks: Hooks<'a>,
    target: &'a Target,
    modules: &'a mut ModuleTable,
    steps: Vec<Step>,
    slots: u32,
    /// What was wrong first.
    fault: Option<HookFault>,
}

/// As the code has them to convert accesses.
struct Hooks<'a>(&'a dyn RewriteHooks);

impl core::fmt::Debug for Hooks<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("RewriteHooks")
    }
}

/// An instruction of a hook's code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Step {
    /// With its slot.
    pub(super) slot: u32,
    pub(super) insn: PatchInsn,
    /// The registers that must be defined.
    pub(super) reads: RegSet,
    /// Whether it loads the context that was saved.
    pub(super) loads_saved: bool,
}

/// A jump ahead, of which it is not said yet where it leads: to the end of the code, unless
/// [`HookCode::land`] says otherwise.
#[derive(Debug)]
#[must_use = "a jump leads to the end of the code unless it lands before"]
pub struct Forward {
    /// The place of the jump among the steps; `None` if the code was over its budget already.
    step: Option<usize>,
}

impl<'a> HookCode<'a> {
    /// The most slots that the code of one hook may have: what Linux has room for.
    pub const BUDGET: u32 = 31;

    pub(super) fn new(
        hook: Hook,
        hooks: &'a dyn RewriteHooks,
        target: &'a Target,
        modules: &'a mut ModuleTable,
    ) -> Self {
        let (hooks, steps) = (Hooks(hooks), Vec::new());
        Self { hook, hooks, target, modules, steps, slots: 0, fault: None }
    }

    /// Adds an instruction. A jump is given by [`Self::branch`] and [`Self::goto`], or leads to a later slot of
    /// this code ([`JumpTarget::Local`]), over some, or to its end ([`JumpTarget::Next`]). A call is
    /// taken to read all argument registers; [`Self::call_helper`] and [`Self::call_native`] know better.
    pub fn push(&mut self, insn: impl Into<PatchInsn>) {
        let insn = insn.into();
        if let Insn::Call(CallTarget::Kfunc { btf_id, module }) = insn.insn()
            && let Err(error) = self.modules.hook_function(module, btf_id)
        {
            self.refuse_with(HookFault::Kfunc { slot: self.slots, error });
        }
        self.add(insn, insn.insn().reads());
    }

    /// Adds a call of a helper with so many arguments, from `r1` on.
    pub fn call_helper(&mut self, id: HelperId, args: usize) {
        if self.target.helpers.as_ref().is_some_and(|helpers| !helpers.contains(&id)) {
            self.refuse_with(HookFault::NoHelper { slot: self.slots, id });
        }
        self.call(CallTarget::Helper(id), args);
    }

    /// Adds a call of a native function of the host, by its number, with so many arguments, from `r1` on.
    pub fn call_native(&mut self, number: u32, args: usize) {
        if number >= self.target.natives.min(CallTarget::MAX_NATIVES) {
            self.refuse_with(HookFault::NoNative { slot: self.slots, number });
        }
        self.call(CallTarget::Native(number), args);
    }

    /// Adds a call of a kernel function by the names of its module and its own, with the arguments that its
    /// prototype has. The module gets an index in the program's table, if it has none yet.
    pub fn call_kfunc(&mut self, module: &str, function: &str) {
        match self.modules.hook_call(&self.target.modules, module, function) {
            Ok(call) => {
                let arguments = self.kfunc_arguments(call);
                self.add(call.into(), arguments);
            }
            Err(error) => self.refuse_with(HookFault::Kfunc { slot: self.slots, error }),
        }
    }

    /// Adds a load of a field of the context as programs see it: what the same load of a program
    /// becomes. `context` holds the context.
    pub fn load_context(&mut self, dst: Reg, context: Reg, offset: i16, size: Size) {
        let extend = Extend::Zero;
        self.convert(Insn::Load { size, extend, dst, base: context, off: offset });
    }

    /// Adds a store to a field of the context as programs see it, as [`Self::load_context`].
    pub fn store_context(&mut self, context: Reg, offset: i16, size: Size, src: Operand) {
        self.convert(Insn::Store { size, base: context, off: offset, src });
    }

    /// Adds a load of the context that the program was entered with: for epilogues.
    pub fn load_saved_context(&mut self, dst: Reg) {
        if self.hook != Hook::Epilogue {
            self.refuse_with(HookFault::NoSavedContext { slot: self.slots });
        }
        // Where it is saved is known when the code is placed.
        self.add(saved_context(dst, 0).into(), RegSet::EMPTY);
        if let Some(step) = self.steps.last_mut() {
            step.loads_saved = true;
        }
    }

    /// Adds `if lhs op rhs goto`.
    pub fn branch(&mut self, op: CmpOp, width: Width, lhs: Reg, rhs: Operand) -> Forward {
        self.forward(Insn::Branch { op, width, lhs, rhs, target: Pc::ENTRY })
    }

    /// Adds `goto`.
    pub fn goto(&mut self) -> Forward {
        self.forward(Insn::Jump { target: Pc::ENTRY, long: false })
    }

    /// Says that a jump leads to what is added next.
    pub fn land(&mut self, jump: Forward) {
        let Some(step) = jump.step.and_then(|step| self.steps.get_mut(step)) else { return };
        step.insn = PatchInsn::jump(step.insn.insn(), JumpTarget::Local(self.slots));
    }

    /// Refuses the program: loading it fails with this reason.
    pub fn refuse(&mut self, reason: impl Into<String>) {
        self.refuse_with(HookFault::Refused { reason: reason.into() });
    }

    /// The code, if nothing is wrong with it so far.
    pub(super) fn finish(self) -> Result<Vec<Step>, RewriteError> {
        match self.fault {
            Some(fault) => Err(self.hook.error(fault)),
            None => Ok(self.steps),
        }
    }

    fn forward(&mut self, jump: Insn) -> Forward {
        let before = self.steps.len();
        self.push(PatchInsn::jump(jump, JumpTarget::Next));
        Forward { step: (self.steps.len() > before).then_some(before) }
    }

    /// The registers that a call of a kernel function reads: by its prototype, where that is known.
    fn kfunc_arguments(&self, call: Insn) -> RegSet {
        let Insn::Call(CallTarget::Kfunc { btf_id, module }) = call else { return call.reads() };
        match self.modules.hook_function(module, btf_id) {
            Ok(proto) => Reg::ARGS.into_iter().take(proto.args.len()).collect(),
            Err(_) => call.reads(),
        }
    }

    fn call(&mut self, target: CallTarget, args: usize) {
        self.add(Insn::Call(target).into(), Reg::ARGS.into_iter().take(args).collect());
    }

    fn convert(&mut self, access: Insn) {
        match self.converted(access) {
            Ok(insns) => insns.into_iter().for_each(|insn| self.push(insn)),
            Err(error) => self.refuse_with(HookFault::Context(Box::new(error))),
        }
    }

    fn converted(&self, access: Insn) -> Result<Vec<Insn>, RewriteError> {
        let pc = Pc(self.slots);
        let query = ContextAccessInsn::new(pc, access).ok_or(
            // What is in front of the context is no field.
            RewriteError::Context(ebpf_patch::ContextError::NoAccess { pc, seen_at: 0 }),
        )?;
        let field = self.hooks.0.context_field(&query)?;
        Ok(field.converted(pc, access)?.collect())
    }

    fn add(&mut self, insn: PatchInsn, reads: RegSet) {
        if self.slots + insn.slots() > Self::BUDGET {
            return self.refuse_with(HookFault::OverBudget);
        }
        self.steps.push(Step { slot: self.slots, insn, reads, loads_saved: false });
        self.slots += insn.slots();
    }

    fn refuse_with(&mut self, fault: HookFault) {
        self.fault.get_or_insert(fault);
    }
}

impl Hook {
    pub(super) const fn error(self, fault: HookFault) -> RewriteError {
        RewriteError::Hook { hook: self, fault }
    }
}

/// The load of the context from where it was saved.
pub(super) const fn saved_context(dst: Reg, off: i16) -> Insn {
    Insn::Load { size: Size::Dw, extend: Extend::Zero, dst, base: Reg::FP, off }
}

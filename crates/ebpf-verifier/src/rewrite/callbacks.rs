//! Helpers that call back become loops of ordinary instructions, as the kernel makes one of `bpf_loop`: so
//! engines need not be entered from native functions, and charge, stop and resume as they always do.
//!
//! What a loop keeps over the calls lies in `r6` to `r8`. What these hold, and the cursor of a walk over
//! a map, lies in the stack below all that the program uses: no two loops of one frame run at the
//! same time, so they share the place.

use alloc::vec::Vec;

use ebpf_isa::abi::{ElementCursor, REWRITER_STACK};
use ebpf_isa::uapi::HelperId;
use ebpf_isa::{AluOp, CallTarget, CmpOp, Extend, Insn, Operand, Pc, Reg, Size, WideSource, Width};
use ebpf_patch::{PatchInsn, Target};

use super::epilogue::SLOT;
use super::{RewriteError, Rewriter};
use crate::step::CallbackCall;

/// The most rounds of `bpf_loop`.
const MAX_LOOPS: i32 = 8 << 20;
const E2BIG: i32 = 7;
const EINVAL: i32 = 22;

/// The cursor of a walk.
const CURSOR: u16 = size_of::<ElementCursor>() as u16;
/// Bytes of stack that a walk takes: two registers and the cursor.
const WALK: u16 = 2 * SLOT + CURSOR;
/// Bytes of stack that `bpf_loop` takes: three registers.
const LOOP: u16 = 3 * SLOT;
const _: () = assert!((if WALK > LOOP { WALK } else { LOOP } + SLOT) as usize <= REWRITER_STACK);

pub(super) fn run(rewriter: &mut Rewriter<'_>) -> Result<(), RewriteError> {
    let verified = rewriter.verified;
    if verified.callback_calls.is_empty() {
        return Ok(());
    }
    rewriter.forget_functions_never_called()?;
    let used = verified.facts.subprogs.iter().map(|facts| facts.stack_depth);
    let used: Vec<u16> = used.map(|depth| depth.next_multiple_of(SLOT)).collect();
    for (&pc, &call) in &verified.callback_calls {
        let Some(Insn::Call(CallTarget::Helper(helper))) = verified.program.get(pc) else {
            unreachable!("invariant: only helpers call back");
        };
        let CallbackCall { function, kernel_inlines } = call;
        let function = function.ok_or(RewriteError::VariousCallbacks { pc, helper })?;
        let function = verified.program.subprogs()[function.index()].start;
        let caller = verified.program.subprog_of(pc).index();
        let mut code = Loop { insns: Vec::new(), below: used[caller] };
        let taken = match helper {
            HelperId::LOOP if !verified.is_reached(function) => {
                code.no_rounds();
                0
            }
            HelperId::LOOP => {
                code.rounds(function, kernel_inlines);
                LOOP
            }
            _ => {
                let next = rewriter.target.next_element.ok_or(RewriteError::NoElements { pc })?;
                code.walk(function, next);
                WALK
            }
        };
        let depth = &mut rewriter.facts.subprogs[caller].stack_depth;
        *depth = (*depth).max(used[caller] + taken);
        rewriter.patch.replace(pc, code.insns)?;
    }
    Ok(())
}

impl Rewriter<'_> {
    /// Functions that no path comes to are gone; where their addresses were taken, some number will do.
    fn forget_functions_never_called(&mut self) -> Result<(), RewriteError> {
        let verified = self.verified;
        for (pc, insn) in verified.program.insns() {
            if let Insn::LoadWide { dst, source: WideSource::Func(start) } = insn
                && verified.is_reached(pc)
                && !verified.is_reached(start)
            {
                self.patch.replace(pc, [mov(dst, Operand::Imm(1))])?;
            }
        }
        Ok(())
    }
}

/// The code of a loop, as it is written. Every instruction of it takes one slot.
struct Loop {
    insns: Vec<PatchInsn>,
    /// Where the stack begins that it may use, in bytes below the frame pointer.
    below: u16,
}

impl Loop {
    /// `bpf_loop`, in the kernel's order of looking at its arguments.
    ///
    /// ```text
    /// if r1 > 8388608 goto too many
    /// save r6 to r8
    /// r6 = r1
    /// r7 = 0
    /// r8 = r3
    /// again: if r7 >= r6 goto end
    /// r1 = r7
    /// r2 = r8
    /// call function
    /// r7 += 1
    /// if r0 == 0 goto again
    /// end: r0 = r7
    /// restore r6 to r8
    /// ```
    fn rounds(&mut self, function: Pc, kernel_inlines: bool) {
        if !kernel_inlines {
            self.refuse_flags(Reg::R4);
            // The helper takes 32 bits.
            let (dst, src) = (Reg::R1, Operand::Reg(Reg::R1));
            self.push(Insn::Mov { width: Width::W32, dst, src });
        }
        self.refuse_unless(CmpOp::Le, Reg::R1, MAX_LOOPS, E2BIG);
        const KEPT: [Reg; 3] = [Reg::R6, Reg::R7, Reg::R8];
        let [rounds, round, context] = KEPT;
        self.save(&KEPT);
        self.push(mov(rounds, Operand::Reg(Reg::R1)));
        self.push(mov(round, Operand::Imm(0)));
        self.push(mov(context, Operand::Reg(Reg::R3)));
        let again = self.here();
        self.jump(CmpOp::Ge, round, Operand::Reg(rounds), Target::Over(5));
        self.push(mov(Reg::R1, Operand::Reg(round)));
        self.push(mov(Reg::R2, Operand::Reg(context)));
        self.push(Insn::Call(CallTarget::Subprog(function)));
        self.push(add(round, 1));
        self.jump(CmpOp::Eq, Reg::R0, Operand::Imm(0), again);
        self.push(mov(Reg::R0, Operand::Reg(round)));
        self.restore(&KEPT);
    }

    /// `bpf_loop` where no path has it call back.
    fn no_rounds(&mut self) {
        self.refuse_flags(Reg::R4);
        self.push(mov(Reg::R0, Operand::Imm(0)));
    }

    /// `bpf_for_each_map_elem`.
    ///
    /// ```text
    /// if r4 != 0 goto no flags
    /// save r6 and r7
    /// cursor = 0
    /// r6 = r1
    /// r7 = r3
    /// again: r1 = r6
    /// r2 = &cursor
    /// call next
    /// if r0 == 0 goto end
    /// r1 = r6
    /// r2 = cursor.key
    /// r3 = r0
    /// r4 = r7
    /// call function
    /// if r0 == 0 goto again
    /// end: r0 = cursor.count
    /// restore r6 and r7
    /// ```
    fn walk(&mut self, function: Pc, next: u32) {
        const KEPT: [Reg; 2] = [Reg::R6, Reg::R7];
        let [map, context] = KEPT;
        let cursor = self.stack(WALK);
        let field = |offset: usize| cursor + offset as i16;
        self.refuse_flags(Reg::R4);
        self.save(&KEPT);
        for at in (0..CURSOR).step_by(SLOT.into()) {
            self.push(store(cursor + at as i16, Operand::Imm(0)));
        }
        self.push(mov(map, Operand::Reg(Reg::R1)));
        self.push(mov(context, Operand::Reg(Reg::R3)));
        let again = self.here();
        self.push(mov(Reg::R1, Operand::Reg(map)));
        self.push(mov(Reg::R2, Operand::Reg(Reg::FP)));
        self.push(add(Reg::R2, cursor.into()));
        self.push(Insn::Call(CallTarget::Native(next)));
        self.jump(CmpOp::Eq, Reg::R0, Operand::Imm(0), Target::Over(6));
        self.push(mov(Reg::R1, Operand::Reg(map)));
        self.push(load(Reg::R2, field(core::mem::offset_of!(ElementCursor, key))));
        self.push(mov(Reg::R3, Operand::Reg(Reg::R0)));
        self.push(mov(Reg::R4, Operand::Reg(context)));
        self.push(Insn::Call(CallTarget::Subprog(function)));
        self.jump(CmpOp::Eq, Reg::R0, Operand::Imm(0), again);
        self.push(load(Reg::R0, field(core::mem::offset_of!(ElementCursor, count))));
        self.restore(&KEPT);
    }

    fn refuse_flags(&mut self, flags: Reg) {
        self.refuse_unless(CmpOp::Eq, flags, 0, EINVAL);
    }

    /// The helper's result is an error unless the comparison holds.
    fn refuse_unless(&mut self, op: CmpOp, reg: Reg, than: i32, errno: i32) {
        self.jump(op, reg, Operand::Imm(than), Target::Over(2));
        self.push(mov(Reg::R0, Operand::Imm(-errno)));
        self.insns
            .push(PatchInsn::jump(Insn::Jump { target: Pc::ENTRY, long: false }, Target::Next));
    }

    /// Registers are saved at the top of what the loop may use.
    fn save(&mut self, regs: &[Reg]) {
        for (slot, &reg) in (1..).zip(regs) {
            self.push(store(self.stack(slot * SLOT), Operand::Reg(reg)));
        }
    }

    fn restore(&mut self, regs: &[Reg]) {
        for (slot, &reg) in (1..).zip(regs) {
            self.push(load(reg, self.stack(slot * SLOT)));
        }
    }

    /// The offset from the frame pointer at which so many bytes of the loop's stack lie above.
    fn stack(&self, bytes: u16) -> i16 {
        -((self.below + bytes) as i16)
    }

    fn here(&self) -> Target {
        Target::Local(self.insns.len() as u32)
    }

    fn push(&mut self, insn: Insn) {
        self.insns.push(insn.into());
    }

    fn jump(&mut self, op: CmpOp, lhs: Reg, rhs: Operand, target: Target) {
        let jump = Insn::Branch { op, width: Width::W64, lhs, rhs, target: Pc::ENTRY };
        self.insns.push(PatchInsn::jump(jump, target));
    }
}

const fn mov(dst: Reg, src: Operand) -> Insn {
    Insn::Mov { width: Width::W64, dst, src }
}

const fn add(dst: Reg, imm: i32) -> Insn {
    Insn::Alu { op: AluOp::Add, width: Width::W64, dst, src: Operand::Imm(imm) }
}

const fn load(dst: Reg, off: i16) -> Insn {
    Insn::Load { size: Size::Dw, extend: Extend::Zero, dst, base: Reg::FP, off }
}

const fn store(off: i16, src: Operand) -> Insn {
    Insn::Store { size: Size::Dw, base: Reg::FP, off, src }
}

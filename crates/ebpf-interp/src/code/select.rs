//! Which handler does an operation, and what it needs to know.
//!
//! Handlers are chosen by kind, operation, width and so on, which are constants of the handler, and
//! by the places of the operands. Only what real programs do often has handlers of its own (`cargo
//! xtask stats` tells); single instructions without one are run by [`Plain`], and fused operations
//! without one as their instructions.

use ebpf_isa::{
    AluOp, ByteOrder, CmpOp, Extend, Insn, Operand, Pc, Program, Reg, RegSet, Size, Width,
};
use ebpf_lower::{Fused, FusedOp, Shift};

use super::constants::{by_mode, with_constants};
use super::{Cell, HOT, Op, SAVED, Slots};
use crate::clobbers::preserved;
use crate::dispatch::{Dispatcher, Handler};
use crate::link::{Linked, LinkedProgram};
use crate::ops::alu::{
    Alu, Alu3, Alu3Imm, AluImm, AluShifted, Mov, MovImm, MovWide, Rotate, ShiftAlu, SignExtend,
    Swap,
};
use crate::ops::branch::{
    AddBranch, AddBranchImm, BACKWARD, Branch, BranchImm, FORWARD, FREE, Goto, LoadBranch,
    SumBranch,
};
use crate::ops::call::{
    CallNative, CallSubprog, Exit, ExitWith, FastCall, FastEnd, FastExit, Landed, Landing,
};
use crate::ops::memory::{
    CheckedMode, Load, LoadAlu, LoadIndexed, LoadMasked, LoadPair, LoadSwapped, Store, StoreImm,
    UncheckedMode,
};
use crate::ops::plain::Plain;
use crate::ops::value::{RegA, SecondImm, Truncated};

/// What operations are selected for.
pub(crate) struct Selector<'a> {
    pub(crate) dispatcher: Dispatcher,
    pub(crate) is_metered: bool,
    /// One past the main program.
    pub(crate) main_end: Pc,
    pub(crate) slots: Slots,
    pub(crate) linked: &'a LinkedProgram,
}

/// The cells of an operation.
pub(super) struct Selected {
    pub(super) checked: Cell,
    pub(super) unchecked: Cell,
    pub(super) second: Second,
}

/// The handlers of an operation, for checked and for unchecked runs.
struct Handlers {
    checked: Handler,
    unchecked: Handler,
}

impl From<Handler> for Handlers {
    fn from(both: Handler) -> Self {
        Self { checked: both, unchecked: both }
    }
}

/// The second cell of an operation.
pub(super) enum Second {
    None,
    Value(u64),
    Jump {
        /// `None` where only a run tells.
        target: Option<Pc>,
        imm: i32,
    },
}

/// How a jump is charged: see [`crate::ops::branch`].
#[derive(Clone, Copy, PartialEq)]
enum Charge {
    Free = FREE as isize,
    Forward = FORWARD as isize,
    Backward = BACKWARD as isize,
}

impl Selector<'_> {
    /// The cells of `op`; `None` for a fused operation that no handler does.
    pub(super) fn select(&self, program: &Program, op: &FusedOp) -> Option<Selected> {
        // A jump is the last instruction of its window, and has one slot.
        let last = Pc(op.end().0 - 1);
        match op.op {
            Fused::Insn(insn) => Some(self.insn(op.pc, insn)),
            Fused::Alu3 { op, width, dst, lhs, rhs: Operand::Reg(rhs) } => {
                self.alu3(op, width, dst, lhs, rhs)
            }
            Fused::Alu3 { op, width, dst, lhs, rhs: Operand::Imm(imm) } => {
                self.alu3_imm(op, width, dst, lhs, imm)
            }
            Fused::Rotate { width, dst, src, by } => self.rotate(width, dst, src, by),
            Fused::Shifted { op, width, dst, lhs, src, shift, by } => {
                self.shifted(op, width, [dst, lhs, src], shift, by)
            }
            Fused::LoadSwapped { size, dst, base, off } => {
                let slots = self.both(dst, base);
                let handlers = with_constants!(SIZE: Size = size,
                    => by_mode!(self.two(slots), LoadSwapped, SIZE));
                Some(plain_operands(handlers?, slots, off, 0))
            }
            Fused::LoadPair { first, second, base, offs } => {
                Some(self.load_pair([first, second, base], offs))
            }
            Fused::LoadMasked { size, dst, base, off, mask } => {
                let slots = self.both(dst, base);
                let handlers = with_constants!(SIZE: Size [B H W] = size,
                    => by_mode!(self.two(slots), LoadMasked, SIZE));
                Some(plain_operands(handlers?, slots, off, mask))
            }
            Fused::LoadAlu { op, width, dst, size, base, off } => {
                self.load_alu(op, width, dst, (size, base, off))
            }
            Fused::LoadIndexed { size, dst, lhs, rhs, off } => {
                let Some(Insn::Load { base: sum, .. }) = program.get(last) else { return None };
                self.load_indexed(size, [dst, lhs, rhs, sum], off)
            }
            Fused::LoadBranch { size, dst, base, off, op, width, rhs, target } => {
                let charge = self.charge(last, target);
                self.load_branch((size, dst, base, off), (op, width, rhs), charge, target)
            }
            Fused::AddBranch { dst, add, op, width, rhs, target } => {
                let charge = self.charge(last, target);
                self.add_branch((dst, add), (op, width, rhs), charge, target)
            }
            Fused::SumBranch { lhs, add, op, rhs, target } => {
                self.sum_branch((lhs, add), (op, rhs), self.charge(last, target), target)
            }
            Fused::ExitWith { width, value } => self.exit_with(last, width, value),
        }
    }

    fn charge(&self, from: Pc, target: Pc) -> Charge {
        match (self.is_metered, target <= from) {
            (false, _) => Charge::Free,
            (true, false) => Charge::Forward,
            (true, true) => Charge::Backward,
        }
    }

    fn slot(&self, reg: Reg) -> u8 {
        self.slots.of(reg)
    }

    fn both(&self, a: Reg, b: Reg) -> [u8; 2] {
        [self.slot(a), self.slot(b)]
    }

    fn plain(&self) -> Selected {
        plain_operands(self.dispatcher.cold::<Plain>(), [0, 0], 0, 0)
    }

    fn insn(&self, pc: Pc, insn: Insn) -> Selected {
        let selected = match insn {
            Insn::Alu { op, width, dst, src: Operand::Reg(src) } => self.alu(op, width, dst, src),
            Insn::Alu { op, width, dst, src: Operand::Imm(imm) } => {
                self.alu_imm(op, width, dst, imm)
            }
            Insn::Mov { width, dst, src } => self.mov(width, dst, src),
            Insn::MovSx { width: Width::W64, dst, src, from } => self.extend(dst, src, from),
            Insn::Swap { order: ByteOrder::Be | ByteOrder::Swap, size, dst } => {
                self.swap(size, dst)
            }
            Insn::Load { size, extend: Extend::Zero, dst, base, off } => {
                self.load(size, dst, base, off)
            }
            Insn::Store { size, base, off, src } => self.store(size, base, off, src),
            Insn::Jump { target, .. } => self.goto(self.charge(pc, target), target),
            Insn::Branch { op, width, lhs, rhs, target } => {
                self.branch(op, width, lhs, rhs, self.charge(pc, target), target)
            }
            Insn::Exit => Some(self.exit(pc)),
            Insn::LoadWide { .. } | Insn::Call(_) => self.linked(pc),
            _ => None,
        };
        selected.unwrap_or_else(|| self.plain())
    }

    fn exit(&self, pc: Pc) -> Selected {
        let slot = self.slot(Reg::R0);
        let unchecked = match pc < self.main_end {
            true => with_constants!(METERED: bool [false true] = self.is_metered,
                => self.dispatcher.ending::<Exit, FastEnd<RegA, METERED>>(slot))
            .expect("both are listed"),
            false => self.dispatcher.either::<Exit, FastExit>(),
        };
        let handlers = Handlers { checked: self.dispatcher.cold::<Exit>(), unchecked };
        plain_operands(handlers, [slot, 0], 0, pc.0 as i32).jumping(None, 0)
    }

    /// `r0 = value`, and the `exit` at `pc` behind it, of a main program.
    fn exit_with(&self, pc: Pc, width: Width, value: i32) -> Option<Selected> {
        if pc >= self.main_end {
            return None;
        }
        let slot = self.slot(Reg::R0);
        let handlers = with_constants!(
        METERED: bool [false true] = self.is_metered, WIDE: Width = width,
        => Handlers {
            checked: self.dispatcher.cold::<ExitWith<WIDE>>(),
            unchecked: self.dispatcher.ending::<
                ExitWith<WIDE>,
                FastEnd<Truncated<SecondImm, WIDE>, METERED>,
            >(slot),
        });
        Some(plain_operands(handlers?, [slot, 0], 0, pc.0 as i32).jumping(None, value))
    }

    fn linked(&self, pc: Pc) -> Option<Selected> {
        match self.linked.linked(pc) {
            Linked::LoadWide { dst, value } => {
                let slot = self.slot(dst);
                let op = plain_operands(self.dispatcher.one::<MovWide>(slot), [slot, 0], 0, 0);
                Some(Selected { second: Second::Value(value), ..op })
            }
            Linked::CallNative(index) => {
                let handler = self.dispatcher.cold::<CallNative>();
                Some(plain_operands(handler, [0, 0], 0, index as i32))
            }
            Linked::CallSubprog { callee, saved } => {
                let saves = Saves::new(self.slots, saved);
                let handlers = Handlers {
                    checked: self.dispatcher.cold::<CallSubprog>(),
                    unchecked: self.fast_call(saves),
                };
                let call = saves.call(handlers, callee.frame as i16, pc);
                Some(call.jumping(Some(callee.start), saves.slots()))
            }
            // Which subprogram that is, only the instruction itself knows.
            Linked::CallReg(_) => {
                let saves = Saves::new(self.slots, preserved());
                let call = saves.call(self.dispatcher.cold::<Plain>().into(), 0, pc);
                Some(call.jumping(None, saves.slots()))
            }
            Linked::CallEnding(_) | Linked::TailCall | Linked::Insn => None,
        }
    }

    fn fast_call(&self, Saves { count, is_hot, .. }: Saves) -> Handler {
        let handler = with_constants!(COUNT: usize [0 1 2 3 4] = count, HOT: bool [false true] = is_hot,
            => self.dispatcher.either::<CallSubprog, FastCall<COUNT, HOT>>());
        handler.expect("calls save at most four registers")
    }

    /// The operation behind the one that calls a subprogram, which saves `saved`.
    pub(super) fn landing(&self, saved: RegSet) -> Cell {
        let Saves { count, is_hot, .. } = Saves::new(self.slots, saved);
        let handler = with_constants!(COUNT: usize [0 1 2 3 4] = count, HOT: bool [false true] = is_hot,
            => self.dispatcher.either::<Landed, Landing<COUNT, HOT>>());
        let handler = handler.expect("calls save at most four registers");
        plain_operands(handler, [0, 0], 0, 0).checked
    }

    /// The registers that the call of a subprogram at `pc` saves, if it is one.
    pub(super) fn saved(&self, pc: Pc) -> Option<RegSet> {
        match self.linked.linked(pc) {
            Linked::CallSubprog { saved, .. } => Some(saved),
            Linked::CallReg(_) => Some(preserved()),
            _ => None,
        }
    }

    fn alu(&self, op: AluOp, width: Width, dst: Reg, src: Reg) -> Option<Selected> {
        let slots = self.both(dst, src);
        let handler = with_constants!(
            OP: AluOp [Add Sub Mul Div Mod Or And Xor Lsh Rsh Arsh] = op, WIDE: Width = width,
            => self.dispatcher.two::<Alu<OP, WIDE>>(slots));
        Some(plain_operands(handler?, slots, 0, 0))
    }

    fn alu_imm(&self, op: AluOp, width: Width, dst: Reg, imm: i32) -> Option<Selected> {
        let slot = self.slot(dst);
        let handler = with_constants!(
            OP: AluOp [Add Sub Mul Div Mod Or And Xor Lsh Rsh Arsh] = op, WIDE: Width = width,
            => self.dispatcher.one::<AluImm<OP, WIDE>>(slot));
        Some(plain_operands(handler?, [slot, 0], 0, imm))
    }

    fn alu3(&self, op: AluOp, width: Width, dst: Reg, lhs: Reg, rhs: Reg) -> Option<Selected> {
        let [a, b, c] = [dst, lhs, rhs].map(|reg| self.slot(reg));
        let handler = with_constants!(OP: AluOp [Add Sub Or And Xor] = op, WIDE: Width = width,
            => self.dispatcher.three::<Alu3<OP, WIDE>>([a, b, c]));
        Some(plain_operands(handler?, [a, b], c.into(), 0))
    }

    fn alu3_imm(&self, op: AluOp, width: Width, dst: Reg, lhs: Reg, imm: i32) -> Option<Selected> {
        let slots = self.both(dst, lhs);
        let handler = with_constants!(
            OP: AluOp [Add Mul Or And Xor Lsh Rsh Arsh] = op, WIDE: Width = width,
            => self.dispatcher.two::<Alu3Imm<OP, WIDE>>(slots));
        Some(plain_operands(handler?, slots, 0, imm))
    }

    fn mov(&self, width: Width, dst: Reg, src: Operand) -> Option<Selected> {
        match src {
            Operand::Reg(src) => {
                let slots = self.both(dst, src);
                let handler = with_constants!(WIDE: Width = width,
                    => self.dispatcher.two::<Mov<WIDE>>(slots));
                Some(plain_operands(handler?, slots, 0, 0))
            }
            Operand::Imm(imm) => {
                let slot = self.slot(dst);
                let handler = with_constants!(WIDE: Width = width,
                    => self.dispatcher.one::<MovImm<WIDE>>(slot));
                Some(plain_operands(handler?, [slot, 0], 0, imm))
            }
        }
    }

    fn extend(&self, dst: Reg, src: Reg, from: Size) -> Option<Selected> {
        let slots = self.both(dst, src);
        let handler = with_constants!(FROM: Size = from,
            => self.dispatcher.two::<SignExtend<FROM>>(slots));
        Some(plain_operands(handler?, slots, 0, 0))
    }

    fn swap(&self, size: Size, dst: Reg) -> Option<Selected> {
        let slot = self.slot(dst);
        let handler = with_constants!(SIZE: Size = size,
            => self.dispatcher.one::<Swap<SIZE>>(slot));
        Some(plain_operands(handler?, [slot, 0], 0, 0))
    }

    fn rotate(&self, width: Width, dst: Reg, src: Reg, by: u8) -> Option<Selected> {
        let slots = self.both(dst, src);
        let handler = with_constants!(WIDE: Width = width,
            => self.dispatcher.two::<Rotate<WIDE>>(slots));
        Some(plain_operands(handler?, slots, 0, by.into()))
    }

    /// `regs` are destination, first operand, and what is shifted.
    fn shifted(
        &self,
        op: AluOp,
        width: Width,
        [dst, lhs, src]: [Reg; 3],
        shift: Shift,
        by: u8,
    ) -> Option<Selected> {
        let (slots, into) = match dst {
            _ if dst == lhs => (self.both(dst, src), true),
            _ if dst == src => (self.both(dst, lhs), false),
            _ => return None,
        };
        let handler = with_constants!(
        OP: AluOp [Add Or Xor] = op, SHIFT: Shift [Left Right Rotate] = shift,
        WIDE: Width = width,
        => match into {
            true => self.dispatcher.two::<AluShifted<OP, SHIFT, WIDE>>(slots),
            false => self.dispatcher.two::<ShiftAlu<OP, SHIFT, WIDE>>(slots),
        });
        Some(plain_operands(handler?, slots, 0, by.into()))
    }

    fn load(&self, size: Size, dst: Reg, base: Reg, off: i16) -> Option<Selected> {
        let slots = self.both(dst, base);
        let handlers = with_constants!(SIZE: Size = size, => by_mode!(self.two(slots), Load, SIZE));
        Some(plain_operands(handlers?, slots, off, 0))
    }

    fn load_alu(
        &self,
        op: AluOp,
        width: Width,
        dst: Reg,
        (size, base, off): (Size, Reg, i16),
    ) -> Option<Selected> {
        let slots = self.both(dst, base);
        let handlers = with_constants!(
            OP: AluOp [Add Xor] = op, SIZE: Size = size, WIDE: Width = width,
            => by_mode!(self.two(slots), LoadAlu, SIZE, OP, WIDE));
        Some(plain_operands(handlers?, slots, off, 0))
    }

    /// `regs` are destination, the two parts of the address, and the load's own base.
    fn load_indexed(&self, size: Size, regs: [Reg; 4], off: i16) -> Option<Selected> {
        let [a, b, c, base] = regs.map(|reg| self.slot(reg));
        let handlers = with_constants!(SIZE: Size = size,
            => by_mode!(self.three([a, b, c]), LoadIndexed, SIZE));
        let registers = i16::from(c) | i16::from(base) << 8;
        Some(plain_operands(handlers?, [a, b], registers, off.into()))
    }

    /// `regs` are the two destinations, and the base.
    fn load_pair(&self, regs: [Reg; 3], offs: [i16; 2]) -> Selected {
        let [a, c, b] = regs.map(|reg| self.slot(reg));
        let handlers = by_mode!(self.three([a, b, c]), LoadPair);
        let [first, second] = offs.map(i32::from);
        plain_operands(handlers, [a, b], c.into(), first & 0xffff | second << 16)
    }

    fn store(&self, size: Size, base: Reg, off: i16, src: Operand) -> Option<Selected> {
        match src {
            Operand::Reg(src) => {
                let slots = self.both(base, src);
                let handlers = with_constants!(SIZE: Size = size,
                    => by_mode!(self.two(slots), Store, SIZE));
                Some(plain_operands(handlers?, slots, off, 0))
            }
            Operand::Imm(imm) => {
                let slot = self.slot(base);
                let handlers = with_constants!(SIZE: Size = size,
                    => by_mode!(self.one(slot), StoreImm, SIZE));
                Some(plain_operands(handlers?, [slot, 0], off, imm))
            }
        }
    }

    fn goto(&self, charge: Charge, target: Pc) -> Option<Selected> {
        let handler = with_constants!(CHARGE: Charge [Free Forward Backward] = charge,
            => self.dispatcher.none::<Goto<CHARGE>>());
        Some(plain_operands(handler?, [0, 0], 0, 0).jumping(target, 0))
    }

    fn branch(
        &self,
        op: CmpOp,
        width: Width,
        lhs: Reg,
        rhs: Operand,
        charge: Charge,
        target: Pc,
    ) -> Option<Selected> {
        let selected = match rhs {
            Operand::Reg(rhs) => self.branch_reg(op, width, lhs, rhs, charge),
            Operand::Imm(rhs) => self.branch_imm(op, width, lhs, rhs, charge),
        };
        Some(selected?.jumping(target, 0))
    }

    fn branch_imm(
        &self,
        op: CmpOp,
        width: Width,
        lhs: Reg,
        rhs: i32,
        charge: Charge,
    ) -> Option<Selected> {
        let slot = self.slot(lhs);
        let handler = with_constants!(
            CMP: CmpOp [Eq Gt Ge Set Ne Sgt Sge Lt Le Slt Sle] = op, WIDE: Width = width,
            CHARGE: Charge [Free Forward Backward] = charge,
            => self.dispatcher.one::<BranchImm<CMP, WIDE, CHARGE>>(slot));
        Some(plain_operands(handler?, [slot, 0], 0, rhs))
    }

    fn branch_reg(
        &self,
        op: CmpOp,
        width: Width,
        lhs: Reg,
        rhs: Reg,
        charge: Charge,
    ) -> Option<Selected> {
        // The other way round there are fewer of them.
        let (op, lhs, rhs) = match op {
            CmpOp::Lt | CmpOp::Le | CmpOp::Slt | CmpOp::Sle => (op.mirrored(), rhs, lhs),
            op => (op, lhs, rhs),
        };
        let slots = self.both(lhs, rhs);
        let handler = with_constants!(
            CMP: CmpOp [Eq Gt Ge Set Ne Sgt Sge] = op, WIDE: Width = width,
            CHARGE: Charge [Free Forward Backward] = charge,
            => self.dispatcher.two::<Branch<CMP, WIDE, CHARGE>>(slots));
        Some(plain_operands(handler?, slots, 0, 0))
    }

    /// A comparison of 64 bits will do where the number is not negative, as no loaded value is.
    fn load_branch(
        &self,
        (size, dst, base, off): (Size, Reg, Reg, i16),
        (op, width, rhs): (CmpOp, Width, i32),
        charge: Charge,
        target: Pc,
    ) -> Option<Selected> {
        if width == Width::W32 && (rhs < 0 || size == Size::Dw) {
            return None;
        }
        let slots = self.both(dst, base);
        let handlers = with_constants!(
            CMP: CmpOp [Eq Set Ne] = op, SIZE: Size = size, CHARGE: Charge [Free Forward] = charge,
            => by_mode!(self.two(slots), LoadBranch, SIZE, CMP, CHARGE));
        Some(plain_operands(handlers?, slots, off, rhs).jumping(target, 0))
    }

    fn add_branch(
        &self,
        (dst, add): (Reg, i32),
        (op, width, rhs): (CmpOp, Width, Operand),
        charge: Charge,
        target: Pc,
    ) -> Option<Selected> {
        let (slots, second) = match rhs {
            Operand::Reg(rhs) => (self.both(dst, rhs), 0),
            Operand::Imm(imm) => ([self.slot(dst), 0], imm),
        };
        let handler = with_constants!(
        CMP: CmpOp [Ne Gt Lt Slt] = op, WIDE: Width = width,
        CHARGE: Charge [Free Forward Backward] = charge,
        => match rhs {
            Operand::Reg(_) => self.dispatcher.two::<AddBranch<CMP, WIDE, CHARGE>>(slots),
            Operand::Imm(_) => {
                self.dispatcher.one::<AddBranchImm<CMP, WIDE, CHARGE>>(slots[0])
            }
        });
        Some(plain_operands(handler?, slots, 0, add).jumping(target, second))
    }

    fn sum_branch(
        &self,
        (lhs, add): (Reg, i32),
        (op, rhs): (CmpOp, Reg),
        charge: Charge,
        target: Pc,
    ) -> Option<Selected> {
        let slots = self.both(lhs, rhs);
        let handler = with_constants!(
            CMP: CmpOp [Gt Le] = op, CHARGE: Charge [Free Forward] = charge,
            => self.dispatcher.two::<SumBranch<CMP, CHARGE>>(slots));
        Some(plain_operands(handler?, slots, 0, add).jumping(target, 0))
    }
}

impl Selected {
    /// The same, leading to `target`, if that is known, with another number.
    fn jumping(self, target: impl Into<Option<Pc>>, imm: i32) -> Self {
        Self { second: Second::Jump { target: target.into(), imm }, ..self }
    }
}

/// What a call of a subprogram saves besides `r10`.
#[derive(Clone, Copy)]
struct Saves {
    slots: [u8; SAVED],
    count: usize,
    /// Whether one of them, or `r10`, is in the first places.
    is_hot: bool,
}

impl Saves {
    fn new(slots: Slots, saved: RegSet) -> Self {
        let mut saves = Self { slots: [0; SAVED], count: 0, is_hot: false };
        for (to, reg) in saves.slots.iter_mut().zip(saved.iter()) {
            *to = slots.of(reg);
            saves.count += 1;
        }
        let is_hot = |slot: u8| usize::from(slot) < HOT;
        let all = saves.slots[..saves.count].iter().copied();
        saves.is_hot = all.chain([slots.of(Reg::FP)]).any(is_hot);
        saves
    }

    /// The first cell of the call at `pc`, with `off` bytes of stack.
    fn call(self, handlers: Handlers, off: i16, pc: Pc) -> Selected {
        plain_operands(handlers, [self.count as u8, 0], off, pc.0 as i32 + 1)
    }

    fn slots(self) -> i32 {
        u32::from_le_bytes(self.slots) as i32
    }
}

fn plain_operands(handlers: impl Into<Handlers>, [a, b]: [u8; 2], off: i16, imm: i32) -> Selected {
    let Handlers { checked, unchecked } = handlers.into();
    let cell = |handler| Cell { op: Op { handler, a, b, off, imm } };
    Selected { checked: cell(checked), unchecked: cell(unchecked), second: Second::None }
}
